//! `examples/config.toml` lists every key with its default.

use std::collections::BTreeSet;

use blvm_stratum_v2::config::Config;

use crate::support::{Place, example, keys};

#[test]
fn the_example_is_the_default() {
    let place = Place::new();
    let config = place.load(&example()).unwrap();
    assert_eq!(config, Config::default());
    assert_eq!(config.path, Some(place.file()));
    config.options().unwrap();
}

#[test]
fn it_has_every_key_once() {
    let (mut listed, known) = (BTreeSet::new(), Config::keys());
    for key in keys() {
        assert!(listed.insert(key.path()), "{} stands there twice", key.path());
    }
    assert_eq!(listed, known.into_iter().collect());
}

#[test]
fn each_key_that_is_commented_out_can_be_used() {
    let place = Place::new();
    for key in keys().into_iter().filter(|key| key.off) {
        let config =
            place.load(&key.in_example(&key.name, &key.value)).unwrap_or_else(|error| panic!("{error}"));
        assert_ne!(config, Config::default(), "{}", key.path());
    }
}

#[test]
fn each_key_that_is_removed_has_its_default() {
    let place = Place::new();
    for key in keys().into_iter().filter(|key| !key.off) {
        let config = place.load(&key.in_example("# not", "there")).unwrap();
        assert_eq!(config, Config::default(), "{}", key.path());
        let changed = place.load(&key.in_example(&key.name, &key.other())).unwrap();
        assert_ne!(changed, Config::default(), "{}", key.path());
    }
}
