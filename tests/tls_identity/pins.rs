//! With pins in the URL.

use blvm_stratum_v2::transport::tls::{IdentityError, Proof};
use blvm_stratum_v2::wire::url::{StratumUrl, Trust};
use rcgen::KeyPair;

use super::support::*;

const ADVICE: &str = "ask the pool whether it has a new key, or somebody is between you and the pool";

#[test]
fn the_pin_that_the_server_prints() {
    let identity = identity();
    let url: StratumUrl = format!("stratum2+quic://{HOST}?pin={}", identity.pin()).parse().unwrap();
    let server = identity.server_config().unwrap();
    // a pin does not expire
    for now in [NOW, 0, u64::from(UNTIL) * 2] {
        connect(&server, &url.trust, now).accepted_by(Proof::Pin, FROM, UNTIL);
    }
}

#[test]
fn one_of_two_is_enough() {
    let identity = identity();
    let server = identity.server_config().unwrap();
    let pins = vec![[7; 32], identity.spki_hash()];
    connect(&server, &Trust::Pins(pins), NOW).accepted_by(Proof::Pin, FROM, UNTIL);
}

#[test]
fn another_key() {
    let identity = identity();
    let server = identity.server_config().unwrap();
    let mut almost = identity.spki_hash();
    almost[31] ^= 1;
    let seen = identity.spki_hash();
    for pins in [vec![almost], vec![[0; 32], almost], vec![]] {
        connect(&server, &Trust::Pins(pins), NOW).refused(IdentityError::NotPinned { seen }, ADVICE);
    }
    let text = IdentityError::NotPinned { seen }.to_string();
    assert!(text.contains(&identity.pin()), "{text}");
}

#[test]
fn the_extension_does_not_matter() {
    let key = KeyPair::generate().unwrap();
    let pins = Trust::Pins(vec![spki_hash(&key)]);
    for extensions in [vec![], vec![extension(vec![0])], vec![extension(word(&authority(2), &key))]] {
        assert_eq!(connect(&server_with(&key, extensions), &pins, NOW).accepted().by, Proof::Pin);
    }
}

#[test]
fn the_pinned_certificate_with_another_key() {
    let key = KeyPair::generate().unwrap();
    let thief = server(vec![leaf(&key, vec![])], signing_key(&KeyPair::generate().unwrap()));
    connect(&thief, &Trust::Pins(vec![spki_hash(&key)]), NOW)
        .refused(IdentityError::NotItsKey, "somebody is between you and the pool");
}
