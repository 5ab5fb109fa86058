//! Which tables and keys there are, as the types that are read say themselves.

use std::fmt;
use std::sync::LazyLock;

use serde::de::{self, Deserialize, Deserializer, Visitor, value};
use serde::forward_to_deserialize_any;

use super::hints::{self, Hint};
use super::{Blvm, Log, Noise, Pair, Quic, Regtest, Source, StratumV2, Tls, Work};

/// The table whose keys may stand without a table.
pub(super) const SERVER: &str = "stratum_v2";
/// `[[source]]`.
pub(super) const SOURCE: &str = "source";
/// `[[tls.certificate]]`: a key of `[tls]` by its place, and tables by its nature.
pub(super) const CERTIFICATE: &str = "tls.certificate";

/// A table, or several of the same kind.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) keys: Vec<&'static str>,
    /// Whether it is written `[[name]]`.
    pub(super) repeats: bool,
}

impl Table {
    /// The key of this name.
    pub(super) fn key(&self, name: &str) -> Option<&'static str> {
        self.keys.iter().copied().find(|key| *key == name)
    }

    /// As it is written.
    pub(super) fn header(&self) -> String {
        if self.repeats { format!("[[{}]]", self.name) } else { format!("[{}]", self.name) }
    }
}

/// One key of one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) table: &'static str,
    /// Which of the tables, from 1, if it repeats.
    pub(super) entry: Option<usize>,
    pub(super) name: &'static str,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", place(self.table, self.entry), self.name)
    }
}

/// `table`, or `table[entry]`.
pub(super) fn place(table: &str, entry: Option<usize>) -> String {
    entry.map_or_else(|| table.to_owned(), |entry| format!("{table}[{entry}]"))
}

/// All tables.
pub(super) fn tables() -> &'static [Table] {
    static TABLES: LazyLock<Vec<Table>> = LazyLock::new(|| {
        let table = |name, keys: &[&'static str]| Table {
            name,
            // a table of its own
            keys: keys.iter().copied().filter(|key| format!("{name}.{key}") != CERTIFICATE).collect(),
            repeats: [SOURCE, CERTIFICATE].contains(&name),
        };
        vec![
            table(SERVER, fields::<StratumV2>()),
            table("log", fields::<Log>()),
            table("tls", fields::<Tls>()),
            table(CERTIFICATE, fields::<Pair>()),
            table("quic", fields::<Quic>()),
            table("noise", fields::<Noise>()),
            table("work", fields::<Work>()),
            table(SOURCE, fields::<Source>()),
            table("regtest", fields::<Regtest>()),
            table("blvm", fields::<Blvm>()),
        ]
    });
    &TABLES
}

/// The table of this name.
pub(super) fn table(name: &str) -> Option<&'static Table> {
    tables().iter().find(|table| table.name == name)
}

/// What a name outside of the file means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// A key.
    Key(Key),
    /// A whole table, which does not fit into a variable; what would.
    Table(String),
    /// Nothing that there is; what may have been meant.
    Nothing(Hint),
}

/// What `[listen_addr]`, `[quic, idle_timeout]` or `[source, 1, url]` stands for.
pub(super) fn named(parts: &[&str]) -> Named {
    let in_table = |of: &'static Table, entry, name: &str| match of.key(name) {
        Some(name) => Named::Key(Key { table: of.name, entry, name }),
        None => Named::Nothing(hints::key(of, name)),
    };
    let (of, rest) = match parts {
        ["tls", "certificate", rest @ ..] => (table(CERTIFICATE), rest),
        [first, rest @ ..] if table(first).is_some() => (table(first), rest),
        [_] => (table(SERVER), parts),
        _ => (None, parts),
    };
    match (of, rest) {
        (None, _) => Named::Nothing(hints::table(parts.first().unwrap_or(&""))),
        (Some(of), [name]) if !of.repeats => in_table(of, None, name),
        (Some(of), [number, name]) if of.repeats => match number.parse() {
            Ok(number @ 1..) => in_table(of, Some(number), name),
            _ => Named::Table("its entries are numbered from 1".to_owned()),
        },
        (Some(of), _) if of.repeats => {
            Named::Table(format!("a key of {} takes the entry's number from 1 before its name", of.header()))
        }
        (Some(_), []) => Named::Table("a table does not fit into a variable: set its keys".to_owned()),
        (Some(of), [name, ..]) => Named::Nothing(hints::key(of, name)),
    }
}

/// The names of a struct's fields, as serde has them.
pub(super) fn fields<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    let mut found: &[&str] = &[];
    // it reads nothing: it only says what it would read
    let _ = T::deserialize(Asked(&mut found));
    found
}

struct Asked<'f>(&'f mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Asked<'_> {
    type Error = value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(de::Error::custom("not a struct"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Self::Error> {
        *self.0 = fields;
        Err(de::Error::custom("that is all"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn all_tables_are_there() {
        let top = tables().iter().filter(|table| table.name != CERTIFICATE).map(|table| table.name);
        let mut top = top.collect::<Vec<_>>();
        let mut known = fields::<Config>().to_vec();
        top.sort_unstable();
        known.sort_unstable();
        assert_eq!(top, known);
        assert!(tables().iter().all(|table| !table.keys.is_empty()));
    }

    #[test]
    fn names_from_outside() {
        let key = |table, entry, name| Named::Key(Key { table, entry, name });
        assert_eq!(named(&["listen_addr"]), key(SERVER, None, "listen_addr"));
        assert_eq!(named(&["quic", "idle_timeout"]), key("quic", None, "idle_timeout"));
        assert_eq!(named(&["source", "2", "url"]), key(SOURCE, Some(2), "url"));
        assert_eq!(named(&["tls", "certificate", "1", "key_path"]), key(CERTIFICATE, Some(1), "key_path"));
        for table in
            [&["quic"][..], &["source"], &["source", "url"], &["source", "0", "url"], &["tls", "certificate"]]
        {
            assert!(matches!(named(table), Named::Table(_)), "{table:?}");
        }
        for nothing in
            [&["version"][..], &["quic", "x"], &["blvm", "x", "y"], &["other", "url"], &["source", "1", "x"]]
        {
            assert!(matches!(named(nothing), Named::Nothing(_)), "{nothing:?}");
        }
    }
}
