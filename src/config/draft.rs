//! A configuration in the making: what the file says, and what comes over it, key by key.
//!
//! Each value is tried alone as soon as it is there, so that all that do not fit are known at once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, Deserializer};

use super::keys::{self, CERTIFICATE, Key, Named, SERVER, Table};
use super::problem::{self, Place, Places, Problem, sorted};
use super::{Config, ConfigError, Overrides, hints, secrets};

/// What has been said so far.
#[derive(Debug, Default)]
pub(super) struct Draft<'i> {
    file: Option<PathBuf>,
    /// Those that are known and fit.
    values: BTreeMap<Key, (DeValue<'i>, Place)>,
    /// The tables and entries that are there, be it without a key.
    tables: BTreeMap<(&'static str, Option<usize>), Place>,
    wrong: Vec<Problem>,
    /// What is not there though it was meant to be.
    out: Vec<String>,
}

impl<'i> Draft<'i> {
    /// Takes what a file says.
    pub(super) fn file(&mut self, path: &Path, text: &'i str) -> Result<(), ConfigError> {
        let top = DeTable::parse(text).map_err(|error| ConfigError::syntax(path, text, &error))?;
        self.file = Some(path.to_owned());
        let source = Lines { path, text };
        // what stands at the top comes last: it may be in its table as well
        let (tables, flat): (Vec<_>, Vec<_>) =
            top.into_inner().into_iter().partition(|(name, _)| keys::table(name.get_ref()).is_some());
        for (name, value) in tables.into_iter().chain(flat) {
            let place = source.place(&name);
            let name = name.into_inner();
            match keys::table(&name) {
                Some(of) => self.table(&source, of, place, value.into_inner()),
                None if holds_tables(value.get_ref()) => {
                    self.unknown(place, format!("[{name}]"), hints::table(&name));
                }
                None => self.flat(&name, place, value.into_inner()),
            }
        }
        Ok(())
    }

    fn table(&mut self, source: &Lines<'_>, of: &'static Table, place: Place, value: DeValue<'i>) {
        match (value, of.repeats) {
            (DeValue::Table(keys), false) => self.entry(source, of, None, place, keys),
            (DeValue::Array(entries), true) if entries.iter().all(|entry| entry.get_ref().is_table()) => {
                for (number, entry) in entries.into_iter().enumerate() {
                    let span = entry.span().start;
                    let DeValue::Table(keys) = entry.into_inner() else { continue };
                    let place = Place::File(source.path.to_owned(), Some(source.line(span)));
                    self.entry(source, of, Some(number + 1), place, keys);
                }
            }
            _ => {
                self.out.push(of.name.to_owned());
                let text = format!("must be a table, and is written {}", of.header());
                self.wrong.push(Problem::new(Some(place), of.name, text));
            }
        }
    }

    fn entry(
        &mut self,
        source: &Lines<'_>,
        of: &'static Table,
        entry: Option<usize>,
        place: Place,
        keys: DeTable<'i>,
    ) {
        self.tables.insert((of.name, entry), place);
        for (name, value) in keys {
            let (place, name, value) = (source.place(&name), name.into_inner(), value.into_inner());
            let inner = keys::table(CERTIFICATE).filter(|inner| format!("{}.{name}", of.name) == inner.name);
            if let Some(inner) = inner {
                self.table(source, inner, place, value);
            } else if let Some(name) = of.key(&name) {
                self.value(Key { table: of.name, entry, name }, place, value);
            } else {
                let hint = hints::key(of, &name);
                self.unknown(place, format!("{}.{name}", keys::place(of.name, entry)), hint);
            }
        }
    }

    /// A key without a table is one of the server's.
    fn flat(&mut self, name: &str, place: Place, value: DeValue<'i>) {
        let Some(known) = keys::table(SERVER).and_then(|server| server.key(name)) else {
            self.unknown(place, name.to_owned(), hints::flat(name));
            return;
        };
        let key = Key { table: SERVER, entry: None, name: known };
        if let Some((_, other)) = self.values.get(&key) {
            let text = format!("stands at the top and as {key} ({other}): remove one of them");
            self.wrong.push(Problem::new(Some(place), name, text));
            self.out.push(key.to_string());
        } else {
            self.value(key, place, value);
        }
    }

    fn unknown(&mut self, place: Place, shown: String, hint: hints::Hint) {
        self.out.extend(hint.meant.into_iter().chain([shown.clone()]));
        self.wrong.push(Problem::new(Some(place), shown, hint.text));
    }

    fn value(&mut self, key: Key, place: Place, value: DeValue<'i>) {
        match fits(key, value.clone()) {
            Ok(()) => drop(self.values.insert(key, (value, place))),
            Err(must) => {
                self.out.push(key.to_string());
                self.wrong.push(Problem::new(Some(place), key.to_string(), must));
            }
        }
    }

    /// Lays variables over it. One that names nothing is a mistake.
    pub(super) fn overrides(&mut self, overrides: &'i Overrides) {
        for (variable, parts, value) in overrides.iter() {
            let place = Place::Variable(variable.to_owned());
            let parts = parts.iter().map(String::as_str).collect::<Vec<_>>();
            match keys::named(&parts) {
                Named::Key(key) => self.set(key, variable, value),
                Named::Table(text) => self.wrong.push(Problem::new(Some(place), parts.join("."), text)),
                Named::Nothing(hint) => self.unknown(place, parts.join("."), hint),
            }
        }
    }

    /// Sets a key to the text in a variable, in the first of the types that the key takes. A text comes first, so that
    /// a text of digits stays one.
    pub(super) fn set(&mut self, key: Key, variable: &str, value: &'i str) {
        let place = Place::Variable(variable.to_owned());
        if let Some(number) = key.entry {
            let there = self.entries(key.table);
            if number > there + 1 {
                let text = format!("there are {there} of them, so that the next is number {}", there + 1);
                self.wrong.push(Problem::new(Some(place), key.to_string(), text));
                return;
            }
        }
        self.tables.entry((key.table, key.entry)).or_insert_with(|| place.clone());
        let mut unfit = String::new();
        for candidate in candidates(value) {
            match fits(key, candidate.clone()) {
                Ok(()) => {
                    self.values.insert(key, (candidate, place));
                    return;
                }
                Err(must) => unfit = must,
            }
        }
        self.out.push(key.to_string());
        self.wrong.push(Problem::new(Some(place), key.to_string(), unfit));
    }

    fn entries(&self, table: &str) -> usize {
        self.tables.keys().filter(|(name, entry)| *name == table && entry.is_some()).count()
    }

    /// Whether it says what this key is.
    pub(super) fn says(&self, table: &str, name: &str) -> bool {
        self.values.keys().any(|key| key.table == table && key.name == name)
    }

    /// What has come of it, if all fits. `adjust` has a word before passwords are read.
    pub(super) fn finish(self, adjust: impl FnOnce(&mut Config)) -> Result<Config, ConfigError> {
        let Self { file, values, tables, mut wrong, mut out } = self;
        let tables_at =
            tables.iter().map(|((name, entry), place)| (keys::place(name, *entry), place.clone()));
        let keys_at = values.iter().map(|(key, (_, place))| (key.to_string(), place.clone()));
        let places = Places { file: file.clone(), of: tables_at.chain(keys_at).collect() };
        let top = assemble(tables.into_keys(), values.into_iter().map(|(key, (value, _))| (key, value)));
        let mut config = Config::deserialize(Deserializer::from(spanned(top))).unwrap_or_else(|error| {
            wrong.push(Problem::new(None, "all together", must(&error)));
            Config::default()
        });
        adjust(&mut config);
        config.path = file;
        for problem in secrets::read(&mut config) {
            out.push(problem.key.clone());
            wrong.push(Problem { place: places.find(&problem.key), ..problem });
        }
        config.places = places;
        if wrong.is_empty() {
            return Ok(config);
        }
        let more = config.check().err().unwrap_or_default();
        wrong.extend(more.into_iter().filter(|problem| !out.iter().any(|out| problem.follows(out))));
        Err(ConfigError::Wrong(sorted(wrong)))
    }
}

/// A file's text, to tell lines by.
struct Lines<'t> {
    path: &'t Path,
    text: &'t str,
}

impl Lines<'_> {
    fn line(&self, byte: usize) -> usize {
        problem::line_of(self.text, byte)
    }

    fn place<T>(&self, of: &Spanned<T>) -> Place {
        Place::File(self.path.to_owned(), Some(self.line(of.span().start)))
    }
}

/// Whether it is `[table]` or `[[table]]`, and not a key.
fn holds_tables(value: &DeValue<'_>) -> bool {
    let entries =
        |array: &DeArray<'_>| !array.is_empty() && array.iter().all(|entry| entry.get_ref().is_table());
    value.is_table() || value.as_array().is_some_and(entries)
}

/// What a text may stand for, likeliest first.
fn candidates(text: &str) -> impl Iterator<Item = DeValue<'_>> {
    let parsed = DeValue::parse(text).ok().map(Spanned::into_inner);
    let parsed = parsed.filter(|value| !matches!(value, DeValue::String(_) | DeValue::Table(_)));
    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
    let list = words.map(|word| spanned(DeValue::String(word.into()))).collect();
    [Some(DeValue::String(text.into())), parsed, Some(DeValue::Array(list))].into_iter().flatten()
}

/// Whether the key takes the value; what it must be.
fn fits(key: Key, value: DeValue<'_>) -> Result<(), String> {
    let key = Key { entry: key.entry.map(|_| 1), ..key };
    let top = assemble([].into_iter(), [(key, value)].into_iter());
    Config::deserialize(Deserializer::from(spanned(top))).map(drop).map_err(|error| must(&error))
}

/// The tables as TOML has them. Entries are numbered without a gap.
fn assemble<'i>(
    tables: impl Iterator<Item = (&'static str, Option<usize>)>,
    values: impl Iterator<Item = (Key, DeValue<'i>)>,
) -> DeTable<'i> {
    let mut by_table: BTreeMap<(&str, Option<usize>), DeTable<'i>> = BTreeMap::new();
    for table in tables {
        by_table.entry(table).or_default();
    }
    for (key, value) in values {
        let table = by_table.entry((key.table, key.entry)).or_default();
        table.insert(spanned(key.name.into()), spanned(value));
    }
    let mut top = DeTable::new();
    for ((name, entry), keys) in by_table {
        let (outer, name) = match name.split_once('.') {
            Some((outer, name)) => (inner(&mut top, outer), name),
            None => (&mut top, name),
        };
        if entry.is_none() {
            // what is within may be there already
            inner(outer, name).extend(keys);
            continue;
        }
        let array =
            outer.entry(spanned(name.into())).or_insert_with(|| spanned(DeValue::Array(DeArray::new())));
        if let DeValue::Array(array) = array.get_mut() {
            array.push(spanned(DeValue::Table(keys)));
        }
    }
    top
}

/// The table `name` in another, made if it is not there.
fn inner<'t, 'i>(outer: &'t mut DeTable<'i>, name: &'static str) -> &'t mut DeTable<'i> {
    let table = outer.entry(spanned(name.into())).or_insert_with(|| spanned(DeValue::Table(DeTable::new())));
    match table.get_mut() {
        DeValue::Table(table) => table,
        _ => unreachable!("the names of tables are no names of keys"),
    }
}

/// serde says "invalid type: string "VALUE", expected ...": without the value, in an operator's words.
fn must(error: &toml::de::Error) -> String {
    let expected = match error.message().rsplit_once("expected ") {
        Some((_, expected)) => expected,
        // what toml says of one of several words
        None if error.message().starts_with("wanted string") => "a string",
        None => return "is not what this key takes".to_owned(),
    };
    let words = match expected {
        "a boolean" => "true or false",
        "u8" => "a whole number, 0 to 255",
        "u16" => "a whole number, 0 to 65535",
        "u32" => "a whole number, 0 to 4294967295",
        "u64" | "usize" => "a whole number, 0 or more",
        "f32" | "f64" => "a number",
        "a string" | "a borrowed string" => "a text in quotes",
        "path string" => "a path in quotes",
        "a sequence" => "a list, as [\"a\", \"b\"]",
        "socket address" => "ADDRESS:PORT in quotes, as \"0.0.0.0:3333\"",
        other => other,
    };
    format!("must be {words}")
}

/// From nowhere in a file.
fn spanned<T>(value: T) -> Spanned<T> {
    Spanned::new(0..0, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
        let variables =
            variables.iter().map(|(name, value)| (format!("{}{name}", Overrides::PREFIX), *value));
        let overrides = Overrides::new(variables);
        let mut draft = Draft::default();
        draft.file(Path::new("file"), text).unwrap();
        draft.overrides(&overrides);
        draft.finish(|_| ()).map_err(|error| error.to_string())
    }

    #[test]
    fn keys_without_a_table_are_of_the_server() {
        let config =
            read("server_id = 7\n[quic]\nidle_timeout = 9\n[stratum_v2]\nsolo = true\n", &[]).unwrap();
        assert_eq!((config.stratum_v2.server_id, config.quic.idle_timeout), (7, 9));
        assert!(config.stratum_v2.solo);
        let twice = read("solo = true\n[stratum_v2]\n\nsolo = true\n", &[]).unwrap_err();
        assert!(twice.contains("file:1: solo: stands at the top and as stratum_v2.solo (file:4)"), "{twice}");
    }

    #[test]
    fn variables_take_the_type_of_their_key() {
        let config = read(
            "server_id = 7\n[stratum_v2]\nsolo_fee = 5\n[[source]]\nurl = 'x'\n",
            &[
                ("SERVER_ID", "8"),
                ("STRATUM_V2__SOLO", "true"),
                ("POOL_SIGNATURE", "123"),
                ("LISTEN_ADDR", "[::1]:4000"),
                ("SHARES_PER_MINUTE", "12"),
                ("NETWORK", "regtest"),
                ("QUIC__IDLE_TIMEOUT", "30"),
                ("REGTEST__FILE", "true"),
                ("BLVM__RPC_PASSWORD", "1.5"),
                ("BLVM__CONNECT", "false"),
                ("TLS__NAMES", "a.example, 10.0.0.1"),
                ("TLS__CERTIFICATE__1__CERT_PATH", "c"),
                ("SOURCE__2__TYPE", "bitcoin_ipc"),
                ("SOURCE__1__USER", "5"),
            ],
        );
        let config = config.unwrap();
        let server = &config.stratum_v2;
        assert_eq!((server.server_id, server.solo, server.solo_fee), (8, true, 5));
        assert_eq!(server.pool_signature, "123");
        assert_eq!(server.listen_addr, "[::1]:4000".parse().unwrap());
        assert_eq!(server.shares_per_minute, 12.0);
        assert_eq!(server.network, Some(crate::config::Chain::Regtest));
        assert_eq!(config.quic.idle_timeout, 30);
        assert_eq!(config.regtest.unwrap().file, Some("true".into()));
        assert!(config.blvm.rpc_password.is_some());
        assert_eq!(config.blvm.connect, Some(false));
        assert_eq!(config.tls.names, ["a.example", "10.0.0.1"]);
        assert_eq!(config.tls.certificate[0].cert_path, Path::new("c"));
        assert_eq!(
            (config.source[0].url.as_deref(), config.source[0].user.as_deref()),
            (Some("x"), Some("5"))
        );
        assert_eq!(config.source[1].kind, Some(crate::config::Kind::BitcoinIpc));
        let array = read("", &[("TLS__NAMES", "[\"a\", \"b\"]")]).unwrap();
        assert_eq!(array.tls.names, ["a", "b"]);
    }

    #[test]
    fn what_does_not_fit_is_told_without_its_value() {
        let secret = "correct horse";
        for name in ["SOLO", "SERVER_ID", "LISTEN_ADDR", "NETWORK", "QUIC__KEEP_ALIVE", "SHARES_PER_MINUTE"] {
            let said = read("", &[(name, secret)]).unwrap_err();
            assert!(
                said.contains(&format!("BLVM_STRATUM_V2__{name}: ")) && !said.contains("horse"),
                "{said}"
            );
        }
        let said = read("", &[("SERVER_ID", "256")]).unwrap_err();
        assert!(said.contains("stratum_v2.server_id: must be a whole number, 0 to 255"), "{said}");
    }

    #[test]
    fn an_entry_is_set_or_added_in_order() {
        let said = read("[[source]]\n", &[("SOURCE__3__URL", "x")]).unwrap_err();
        assert!(said.contains("source[3].url: there are 1 of them, so that the next is number 2"), "{said}");
        let two = read("", &[("SOURCE__2__URL", "b"), ("SOURCE__1__URL", "a"), ("SOURCE__10__URL", "j")]);
        assert!(two.unwrap_err().contains("SOURCE__10__URL: source[10].url: there are 2"));
    }

    #[test]
    fn follow_up_complaints_are_left_out() {
        let said = read("coinbase_reward_scrip = 'x'\n[quic]\nkeep_alive = 'x'\n[[source]]\ntype = 1\n", &[]);
        let said = said.unwrap_err();
        assert_eq!(said.lines().count(), 4, "{said}");
        let said = read("[[source]]\ntype = 'bitcoin_rpc'\nurl = 5\ncookie_fil = 'x'\n", &[]).unwrap_err();
        assert!(!said.contains("needs either") && !said.contains("is missing"), "{said}");
    }
}
