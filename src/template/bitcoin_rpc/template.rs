//! The answer to `getblocktemplate` (BIP22, BIP23, BIP145), as far as it is of use.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// A transaction weighs 4 * 60 units at least, so no block has more.
const MAX_TRANSACTIONS: usize = 4_000_000 / (4 * 60);

/// What the node would mine. Hashes are in the order in which people read them.
#[derive(Deserialize)]
pub(super) struct Template<'a> {
    pub(super) version: i64,
    #[serde(borrow)]
    pub(super) previousblockhash: Cow<'a, str>,
    #[serde(borrow, deserialize_with = "bounded")]
    pub(super) transactions: Vec<Entry<'a>>,
    pub(super) coinbasevalue: u64,
    pub(super) longpollid: Option<String>,
    pub(super) target: Option<String>,
    pub(super) mintime: Option<u32>,
    pub(super) curtime: u32,
    #[serde(borrow)]
    pub(super) bits: Cow<'a, str>,
    pub(super) height: u32,
    pub(super) rules: Option<Rules>,
    pub(super) sigoplimit: Option<u64>,
    pub(super) weightlimit: Option<u64>,
    pub(super) signet_challenge: Option<String>,
    /// Core has it, blvm-node has not.
    pub(super) default_witness_commitment: Option<String>,
}

/// A transaction. What else is said of it follows from its bytes, and those are what counts.
#[derive(Deserialize)]
pub(super) struct Entry<'a> {
    #[serde(borrow)]
    pub(super) data: Cow<'a, str>,
    /// In satoshis.
    pub(super) fee: Option<u64>,
    /// As the block's limit counts them.
    pub(super) sigops: Option<u64>,
}

/// The soft forks that are in force (BIP9).
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Rules {
    pub(super) segwit: bool,
    /// One that must be understood to mine, and is not.
    pub(super) unknown: Option<String>,
}

impl Rules {
    fn add(&mut self, rule: &str) {
        match rule {
            "segwit" | "!segwit" => self.segwit = true,
            // what makes a signet is for the node's challenge to say
            "!signet" => {}
            _ if rule.starts_with('!') => self.unknown = Some(rule.to_owned()),
            _ => {}
        }
    }
}

impl<'de> Deserialize<'de> for Rules {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = Rules;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of soft forks")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut names: A) -> Result<Rules, A::Error> {
                let mut rules = Rules::default();
                while let Some(name) = names.next_element::<Cow<'de, str>>()? {
                    rules.add(&name);
                }
                Ok(rules)
            }
        }
        deserializer.deserialize_seq(Names)
    }
}

/// A list that is refused before it takes more memory than a block's would.
fn bounded<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Bounded<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Bounded<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of transactions")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
            let mut items = Vec::new();
            while items.len() < MAX_TRANSACTIONS {
                match list.next_element()? {
                    Some(item) => items.push(item),
                    None => return Ok(items),
                }
            }
            match list.next_element::<IgnoredAny>()? {
                Some(_) => Err(A::Error::custom("more transactions than fit into a block")),
                None => Ok(items),
            }
        }
    }
    deserializer.deserialize_seq(Bounded(PhantomData))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(json: &str) -> Rules {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn rules_that_matter() {
        assert_eq!(rules(r#"["csv","!segwit","taproot"]"#), Rules { segwit: true, unknown: None });
        assert_eq!(rules(r#"["csv","segwit"]"#), Rules { segwit: true, unknown: None });
        assert_eq!(rules(r#"["csv"]"#), Rules { segwit: false, unknown: None });
        assert_eq!(rules(r#"["!signet","!segwit"]"#), Rules { segwit: true, unknown: None });
        assert_eq!(rules(r#"["later","!next"]"#), Rules { segwit: false, unknown: Some("!next".into()) });
        assert!(serde_json::from_str::<Rules>(r#"[7]"#).is_err());
    }

    #[test]
    fn no_more_transactions_than_fit() {
        let list = |count: usize| {
            let entries = vec![r#"{"data":""}"#; count].join(",");
            let json = format!("[{entries}]");
            bounded::<_, Entry>(&mut serde_json::Deserializer::from_str(&json)).map(|list| list.len())
        };
        assert_eq!(list(0).unwrap(), 0);
        assert_eq!(list(MAX_TRANSACTIONS).unwrap(), MAX_TRANSACTIONS);
        let error = list(MAX_TRANSACTIONS + 1).unwrap_err().to_string();
        assert!(error.contains("more transactions than fit"), "{error}");
    }
}
