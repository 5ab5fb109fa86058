//! What may have been meant by a key or a table that there is not.

use super::keys::{self, SERVER, Table};

/// What other programs' configurations call things, SRI's pool first of all, and what to do here.
const ELSEWHERE: [(&str, &str); 16] = [
    ("listen_address", "here it is listen_addr in [stratum_v2], for QUIC and for Noise over TCP"),
    ("authority_public_key", "it is not told here: it belongs to the secret in authority.key in certs_dir"),
    ("authority_secret_key", "it does not belong here: it is in the file authority.key in certs_dir"),
    ("cert_validity_sec", "here it is cert_validity in [noise]"),
    ("tp_address", "here it is a [[source]] of type \"template_provider\" with an address"),
    ("tp_authority_public_key", "here it is authority_key of a [[source]] of type \"template_provider\""),
    ("template_provider_type", "here it is the type of a [[source]]"),
    ("coinbase_outputs", "here it is coinbase_reward_script in [stratum_v2], an address or a descriptor"),
    (
        "min_individual_miner_hashrate",
        "it is not needed here: difficulty follows each miner, see shares_per_minute in [stratum_v2]",
    ),
    ("enable_vardiff", "it is not needed here: difficulty always follows each miner"),
    ("monitoring_address", "monitoring is not there yet"),
    ("monitoring_cache_refresh_secs", "monitoring is not there yet"),
    ("log_file", "the log goes to standard error, for the service manager to keep; see level in [log]"),
    ("supported_extensions", "there are no extensions to choose from"),
    ("required_extensions", "there are no extensions to choose from"),
    ("bind_address", "here it is listen_addr in [stratum_v2]"),
];

/// No name is so long, and to compare it would take long.
const MAX_NAME: usize = 64;
/// So much of a name is enough to know it by.
const LEAST_BEGINNING: usize = 4;

/// What to say of an unknown name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Hint {
    pub(super) text: String,
    /// What is likely to be meant: `table.key`, or a table.
    pub(super) meant: Option<String>,
}

/// Of a key that `table` does not have.
pub(super) fn key(table: &Table, name: &str) -> Hint {
    if let Some((_, word)) = ELSEWHERE.iter().find(|(theirs, _)| *theirs == name) {
        return Hint { text: format!("there is no such key: {word}"), meant: None };
    }
    let meant = |of: &Table, key: &str| Some(format!("{}.{key}", of.name));
    let others = || keys::tables().iter().filter(|other| other.name != table.name);
    if let Some(owner) = others().find(|other| other.key(name).is_some()) {
        let text =
            format!("there is no such key in {}: {name} belongs into {}", table.header(), owner.header());
        return Hint { text, meant: meant(owner, name) };
    }
    if let Some(near) = nearest(name, table.keys.iter().copied()) {
        return Hint { text: format!("there is no such key: is {near} meant?"), meant: meant(table, near) };
    }
    let elsewhere = nearest(name, others().flat_map(|other| other.keys.iter().copied()));
    let owner = elsewhere.and_then(|near| Some((near, others().find(|other| other.key(near).is_some())?)));
    match owner {
        Some((near, owner)) => Hint {
            text: format!("there is no such key: is {near} meant, which belongs into {}?", owner.header()),
            meant: meant(owner, near),
        },
        None => Hint { text: "there is no such key".to_owned(), meant: None },
    }
}

/// Of a table that there is not.
pub(super) fn table(name: &str) -> Hint {
    if let Some((_, word)) = ELSEWHERE.iter().find(|(theirs, _)| *theirs == name) {
        return Hint { text: format!("there is no such table: {word}"), meant: None };
    }
    let tables = || keys::tables().iter();
    if let Some(near) = nearest(name, tables().map(|table| table.name)) {
        let header = tables().find(|table| table.name == near).map_or_else(String::new, Table::header);
        return Hint {
            text: format!("there is no such table: is {header} meant?"),
            meant: Some(near.to_owned()),
        };
    }
    let owner = tables().find(|table| table.key(name).is_some());
    let text = match owner {
        Some(owner) => format!("there is no such table: {name} is a key of {}", owner.header()),
        None => format!("there is no such table; there are {}", all()),
    };
    Hint { text, meant: owner.map(|owner| format!("{}.{name}", owner.name)) }
}

fn all() -> String {
    keys::tables().iter().map(Table::header).collect::<Vec<_>>().join(" ")
}

/// The nearest name, if it is near enough to be meant.
fn nearest<'k>(name: &str, names: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    if name.len() > MAX_NAME {
        return None;
    }
    let far = (name.len() / 4).clamp(1, 3);
    let name = name.to_lowercase().replace('-', "_");
    let distance = |other: &str| match strsim::damerau_levenshtein(&name, other) {
        distance if distance <= far => Some(distance),
        // less likely than anything mistyped
        distance => (name.len() >= LEAST_BEGINNING && other.starts_with(&name)).then_some(far + distance),
    };
    names.filter_map(|other| Some((distance(other)?, other))).min().map(|(_, near)| near)
}

/// Of a key without a table.
pub(super) fn flat(name: &str) -> Hint {
    match keys::table(SERVER) {
        Some(server) => key(server, name),
        None => Hint { text: "there is no such key".to_owned(), meant: None },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_meant() {
        let hint = |table: &str, name: &str| key(keys::table(table).unwrap(), name);
        let near = hint("quic", "keepalive");
        assert!(near.text.contains("is keep_alive meant?"), "{near:?}");
        assert_eq!(near.meant.as_deref(), Some("quic.keep_alive"));
        let there = hint(SERVER, "keep_alive");
        assert!(there.text.contains("keep_alive belongs into [quic]"), "{there:?}");
        assert!(
            hint("quic", "listen_adr").text.contains("is listen_addr meant, which belongs into [stratum_v2]")
        );
        assert_eq!(hint("quic", "zebra"), Hint { text: "there is no such key".into(), meant: None });
        assert!(hint("quic", "keep").text.contains("is keep_alive meant?"));
        assert_eq!(hint("quic", &"keep_alive".repeat(1000)).meant, None);
        assert!(table("sources").text.contains("is [[source]] meant?"));
        assert!(table("level").text.contains("is a key of [log]"));
        assert!(table("zebra").text.contains("[[tls.certificate]]"));
    }

    #[test]
    fn nothing_that_is_here_is_called_something_else() {
        for (name, _) in ELSEWHERE {
            let here = keys::tables().iter().find(|table| table.key(name).is_some() || table.name == name);
            assert!(here.is_none(), "{name}");
            assert!(flat(name).text.len() > "there is no such key: ".len());
        }
    }
}
