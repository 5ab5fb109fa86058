//! Keys where they belong: those that stand without a table, and those of the environment.

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer, Error};

use super::Config;

/// The names of all tables. Whatever else stands at the top is a key of the first.
const TABLES: [&str; 6] = ["stratum_v2", "quic", "work", "source", "regtest", "blvm"];

/// Which key a variable of the environment sets.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// A key of a table.
    Key(&'static str, String),
    /// A whole table, which does not fit into a variable.
    Table,
    /// Nothing that there is.
    Nothing,
}

/// What `LISTEN_ADDR` or `QUIC.IDLE_TIMEOUT` stands for.
pub(super) fn named(variable: &str) -> Named {
    let name = variable.to_lowercase();
    let table = |name: &str| TABLES.into_iter().find(|table| *table == name);
    match name.split_once('.') {
        None if table(&name).is_some() => Named::Table,
        None => Named::Key(TABLES[0], name),
        Some(("source", _)) => Named::Table,
        Some((first, key)) => table(first).map_or(Named::Nothing, |table| Named::Key(table, key.to_owned())),
    }
}

/// Puts keys that stand at the top into `[stratum_v2]`. Those that stand there as well are
/// returned.
pub(super) fn settle(top: &mut DeTable<'_>) -> Vec<String> {
    let flat = top.keys().filter(|key| !TABLES.contains(&&**key.get_ref())).cloned().collect::<Vec<_>>();
    let mut twice = Vec::new();
    for key in flat {
        let Some(value) = top.remove(&key) else { continue };
        if value.get_ref().is_table() {
            top.insert(key, value); // an unknown table
            continue;
        }
        let Some(table) = table_mut(top, TABLES[0]) else { continue };
        if table.contains_key(&key) {
            twice.push(key.get_ref().to_string());
        } else {
            table.insert(key, value);
        }
    }
    twice
}

/// Whether `key` is in `table`.
pub(super) fn has(top: &DeTable<'_>, table: &str, key: &str) -> bool {
    top.get(table).and_then(|table| table.get_ref().as_table()).is_some_and(|table| table.contains_key(key))
}

/// What a text from the environment cannot be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// There is no such key.
    Unknown,
    /// The value is no good. What would be, without the value.
    Wrong(String),
}

/// Sets `table.key` to `value`, in the first of the types that the key takes. A text comes first,
/// so that a text of digits stays one.
pub(super) fn set<'i>(
    top: &mut DeTable<'i>,
    table: &'static str,
    key: &str,
    value: &'i str,
) -> Result<(), Unfit> {
    let text = DeValue::String(value.into());
    let scalar = DeValue::parse(value)
        .ok()
        .map(Spanned::into_inner)
        .filter(|value| matches!(value, DeValue::Boolean(_) | DeValue::Integer(_) | DeValue::Float(_)));
    let mut unfit = Unfit::Unknown;
    for candidate in [Some(text), scalar].into_iter().flatten() {
        let mut alone = DeTable::new();
        put(&mut alone, table, key, candidate.clone());
        match Config::deserialize(Deserializer::from(spanned(alone))) {
            Ok(_) => {
                put(top, table, key, candidate);
                return Ok(());
            }
            Err(error) if error.message().starts_with("unknown field") => return Err(Unfit::Unknown),
            Err(error) => unfit = Unfit::Wrong(without_value(&error)),
        }
    }
    Err(unfit)
}

/// serde says "invalid type: string "VALUE", expected ...".
pub(super) fn without_value(error: &Error) -> String {
    match error.message().rsplit_once("expected ") {
        Some((_, expected)) => format!("must be {expected}"),
        None => "is not what this key takes".to_owned(),
    }
}

fn put<'i>(top: &mut DeTable<'i>, table: &'static str, key: &str, value: DeValue<'i>) {
    if let Some(table) = table_mut(top, table) {
        table.remove(key);
        table.insert(spanned(key.to_owned().into()), spanned(value));
    }
}

/// A table, made if it is not there; `None` if something else is.
fn table_mut<'t, 'i>(top: &'t mut DeTable<'i>, name: &'static str) -> Option<&'t mut DeTable<'i>> {
    let table = top.entry(spanned(name.into())).or_insert_with(|| spanned(DeValue::Table(DeTable::new())));
    match table.get_mut() {
        DeValue::Table(table) => Some(table),
        _ => None,
    }
}

/// From nowhere in a file.
fn spanned<T>(value: T) -> Spanned<T> {
    Spanned::new(0..0, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, variables: &[(&str, &str)]) -> Config {
        let mut top = DeTable::parse(text).unwrap();
        assert!(settle(top.get_mut()).is_empty());
        for (name, value) in variables {
            let Named::Key(table, key) = named(name) else { panic!("{name} is no key") };
            set(top.get_mut(), table, &key, value).unwrap();
        }
        Config::deserialize(Deserializer::from(top)).unwrap()
    }

    fn unfit(name: &str, value: &str) -> Unfit {
        let Named::Key(table, key) = named(name) else { panic!("{name} is no key") };
        set(&mut DeTable::new(), table, &key, value).unwrap_err()
    }

    #[test]
    fn keys_without_a_table_are_of_the_server() {
        let config = read("server_id = 7\n[quic]\nidle_timeout = 9\n[stratum_v2]\nsolo = true\n", &[]);
        assert_eq!((config.stratum_v2.server_id, config.quic.idle_timeout), (7, 9));
        assert!(config.stratum_v2.solo);
        let mut top = DeTable::parse("solo = true\n[stratum_v2]\nsolo = true\n").unwrap();
        assert_eq!(settle(top.get_mut()), ["solo"]);
    }

    #[test]
    fn variables_take_the_type_of_their_key() {
        let config = read(
            "server_id = 7\n[stratum_v2]\nsolo_fee = 5\n",
            &[
                ("SERVER_ID", "8"),
                ("STRATUM_V2.SOLO", "true"),
                ("POOL_SIGNATURE", "123"),
                ("LISTEN_ADDR", "[::1]:4000"),
                ("SHARES_PER_MINUTE", "12"),
                ("NETWORK", "regtest"),
                ("QUIC.IDLE_TIMEOUT", "30"),
                ("WORK.MIN_INTERVAL", "5"),
                ("REGTEST.FILE", "true"),
                ("BLVM.RPC_PASSWORD", "1.5"),
                ("BLVM.CONNECT", "false"),
            ],
        );
        let server = &config.stratum_v2;
        assert_eq!((server.server_id, server.solo, server.solo_fee), (8, true, 5));
        assert_eq!(server.pool_signature, "123");
        assert_eq!(server.listen_addr, "[::1]:4000".parse().unwrap());
        assert_eq!(server.shares_per_minute, 12.0);
        assert_eq!(server.network, Some(super::super::Chain::Regtest));
        assert_eq!((config.quic.idle_timeout, config.work.min_interval), (30, 5));
        assert_eq!(config.regtest.unwrap().file, Some("true".into()));
        assert!(config.blvm.rpc_password.is_some());
        assert_eq!(config.blvm.connect, Some(false));
    }

    #[test]
    fn what_does_not_fit_is_told_without_its_value() {
        let secret = "correct horse";
        for name in ["SOLO", "SERVER_ID", "LISTEN_ADDR", "NETWORK", "QUIC.KEEP_ALIVE", "SHARES_PER_MINUTE"] {
            let Unfit::Wrong(why) = unfit(name, secret) else { panic!("{name}") };
            assert!(!why.contains("horse"), "{why}");
        }
        assert_eq!(unfit("SERVER_ID", "256"), Unfit::Wrong("must be u8".to_owned()));
        for name in ["VERSION", "NODE_P2P_LISTEN_PORT", "QUIC.X", "BLVM.X.Y"] {
            assert_eq!(unfit(name, "1"), Unfit::Unknown, "{name}");
        }
        for name in TABLES {
            assert_eq!(named(&name.to_uppercase()), Named::Table);
        }
        assert_eq!(named("SOURCE.URL"), Named::Table);
        assert_eq!(named("OTHER.URL"), Named::Nothing);
    }
}
