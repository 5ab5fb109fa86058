//! What a running server is told of a newer configuration.

use blvm_stratum_v2::config::{Config, Overrides, Takes};

use crate::support::{Key, Place, keys};

/// Those that a running server does not take.
fn takes(key: &Key) -> Takes {
    match (&*key.table, &*key.name) {
        ("regtest", _) => Takes::Restart,
        ("blvm", name) if !name.starts_with("rpc_") => Takes::Restart,
        ("noise", "enabled") | ("quic", "socket_buffer") => Takes::Restart,
        (
            "stratum_v2",
            "enabled" | "listen_addr" | "network" | "certs_dir" | "data_dir" | "pool_url" | "server_id",
        ) => Takes::Restart,
        _ => Takes::Now,
    }
}

#[test]
fn each_key_is_known_to_take_effect_at_once_or_not() {
    let place = Place::new();
    for key in keys() {
        // without a word about it, the network comes of what there is to mine for
        let network = [("BLVM_STRATUM_V2__NETWORK", "regtest")];
        let overrides = if key.name == "network" { Overrides::default() } else { Overrides::new(network) };
        let load = |text: &str| Config::load(Some(&place.write(text)), &overrides).unwrap();
        let (before, after) = (load(""), load(&key.alone(&key.name, &key.other())));
        let changes = before.changes(&after);
        let expected = match &*key.table {
            table @ ("source" | "tls.certificate" | "regtest") => table.to_owned(),
            _ => key.path(),
        };
        // a password's file is told of with what is in it
        let with = key.name.strip_suffix("_file").map(|name| format!("{}.{name}", key.table));
        assert!(changes.iter().any(|change| change.key == expected), "{expected}: {changes:?}");
        for change in &changes {
            assert!(change.key == expected || Some(&change.key) == with.as_ref(), "{expected}: {changes:?}");
            assert_eq!(change.takes, takes(&key), "{change:?}");
        }
        let applied = after.with_restart_keys_of(&before);
        match takes(&key) {
            Takes::Now => assert_eq!(applied, after, "{expected}"),
            Takes::Restart => assert_eq!(applied, before, "{expected}"),
        }
        assert!(before.changes(&before.clone()).is_empty());
    }
}

#[test]
fn no_secret_is_shown() {
    let place = Place::new();
    let text =
        |secret: &str| format!("[blvm]\nrpc_password = \"{secret}\"\n[[source]]\npassword = \"{secret}\"\n");
    let (before, after) = (place.load(&text("hunter2")).unwrap(), place.load(&text("hunter3")).unwrap());
    let changes = before.changes(&after);
    let shown = changes.iter().map(|change| &*change.key).collect::<Vec<_>>();
    assert_eq!(shown, ["blvm.rpc_password", "source"]);
    assert!(!format!("{changes:?} {before:?}").contains("hunter"));
}
