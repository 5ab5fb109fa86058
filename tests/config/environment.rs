//! Keys that the environment sets, for a server and for a node's module.

use std::ffi::OsString;
use std::fs;

use blvm_stratum_v2::config::{Config, ConfigError, Environment, Overrides};

use crate::support::{Place, keys};

fn overrides(variables: &[(&str, &str)]) -> Overrides {
    Overrides::new(variables.iter().map(|(name, value)| (format!("BLVM_STRATUM_V2__{name}"), *value)))
}

/// What a node's module reads with these variables.
fn module(place: &Place, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let data = place.path().to_str().unwrap();
    let fixed = [("MODULE_ID", "n_1"), ("SOCKET_PATH", "/n/modules/node.sock"), ("DATA_DIR", data)];
    let all =
        fixed.iter().chain(variables).map(|(name, value)| (OsString::from(name), OsString::from(value)));
    Config::for_module(&Environment::new(all, None).unwrap())
}

#[test]
fn every_key_can_be_set() {
    let place = Place::new();
    for key in keys() {
        let in_file = place.load(&key.alone(&key.name, &key.other())).unwrap();
        let value = place.value(&key);
        let variable = key.parts().join("__");
        let set = Config::load(None, &overrides(&[(&variable, &value)])).unwrap();
        assert_eq!(set, in_file, "{variable}");
        assert_ne!(set, Config::default(), "{variable}");
        // over what the file says
        let over = Config::load(
            Some(&place.write(&key.alone(&key.name, &key.value))),
            &overrides(&[(&variable, &value)]),
        );
        assert_eq!(over.unwrap(), in_file, "{variable}");
        if key.table == "stratum_v2" {
            let flat = Config::load(None, &overrides(&[(&key.name.to_uppercase(), &value)])).unwrap();
            assert_eq!(flat, in_file, "{variable}");
        }
    }
}

#[test]
fn the_nodes_settings_do_the_same() {
    let place = Place::new();
    for key in keys() {
        let value = place.value(&key);
        place.write(&key.alone(&key.name, &key.other()));
        let in_file = module(&place, &[]).unwrap();
        place.write(&key.header());
        let ours =
            module(&place, &[(&format!("BLVM_STRATUM_V2__{}", key.parts().join("__")), &value)]).unwrap();
        let nodes = module(&place, &[(&format!("MODULE_CONFIG_{}", key.parts().join(".")), &value)]).unwrap();
        assert_eq!(ours, in_file, "{}", key.path());
        assert_eq!(nodes, in_file, "{}", key.path());
        if key.table == "stratum_v2" {
            let flat = format!("MODULE_CONFIG_{}", key.name.to_uppercase());
            assert_eq!(module(&place, &[(&flat, &value)]).unwrap(), in_file, "{flat}");
            fs::write(place.file(), format!("{} = {}\n", key.name, key.other())).unwrap();
            assert_eq!(module(&place, &[]).unwrap(), in_file, "{}", key.path());
        }
    }
}

#[test]
fn the_last_word_is_the_environments() {
    let place = Place::new();
    place.write("server_id = 1\nsolo_fee = 1\nshare_batch_size = 1\n");
    let (node, ours) = ("MODULE_CONFIG_SERVER_ID", "BLVM_STRATUM_V2__SERVER_ID");
    let variables = [(ours, "3"), (node, "2"), ("MODULE_CONFIG_SOLO_FEE", "2")];
    let server = module(&place, &variables).unwrap().stratum_v2;
    assert_eq!((server.server_id, server.solo_fee, server.share_batch_size), (3, 2, 1));
}

#[test]
fn a_variable_that_names_nothing_is_an_error() {
    for (name, words) in [
        ("LISTEN_ADR", "listen_adr: there is no such key: is listen_addr meant?"),
        ("QUIC__KEEPALIVE", "quic.keepalive: there is no such key: is keep_alive meant?"),
        ("QIUC__KEEP_ALIVE", "there is no such table: is [quic] meant?"),
        ("QUIC", "a table does not fit into a variable"),
        ("SOURCE__URL", "takes the entry's number"),
        ("SOURCE__1__ULR", "is url meant?"),
        ("SOURCE__2__URL", "the next is number 1"),
        ("KEEP_ALIVE", "keep_alive belongs into [quic]"),
        ("", "there is no such key"),
    ] {
        let error = Config::load(None, &overrides(&[(name, "hunter2")])).unwrap_err().to_string();
        assert!(error.contains(&format!("\n  BLVM_STRATUM_V2__{name}: ")), "{error}");
        assert!(error.contains(words) && !error.contains("hunter2"), "{words}: {error}");
        let place = Place::new();
        let error = module(&place, &[(&format!("BLVM_STRATUM_V2__{name}"), "hunter2")]).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn what_is_wrong_in_both_is_told_together() {
    let place = Place::new();
    let path = place.write("[quic]\nkeepalive = 3\n[work]\nmin_interval = 3\n");
    let variables = [("WORK__MIN_INTERVAL", "0"), ("SERVER_ID", "hunter2"), ("QUIC__KEEP_ALIVE", "5")];
    let error = Config::load(Some(&path), &overrides(&variables)).unwrap_err().to_string();
    let said = error.lines().collect::<Vec<_>>();
    assert!(
        said[1].ends_with("config.toml:2: quic.keepalive: there is no such key: is keep_alive meant?"),
        "{error}"
    );
    let server_id = "BLVM_STRATUM_V2__SERVER_ID: stratum_v2.server_id: must be a whole number, 0 to 255";
    let interval = "BLVM_STRATUM_V2__WORK__MIN_INTERVAL: work.min_interval: must be 1 to 50 seconds";
    assert_eq!(said[2..], [format!("  {server_id}"), format!("  {interval}")]);
}
