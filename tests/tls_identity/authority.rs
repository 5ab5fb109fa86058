//! With an authority key in the URL.

use blvm_stratum_v2::transport::tls::{IdentityError, OID, Proof, TlsIdentity};
use blvm_stratum_v2::wire::certificate::{Certificate, Subject};
use rcgen::{CustomExtension, KeyPair};
use rustls::AlertDescription;

use super::support::*;

const BETWEEN: &str = "check the key at the end of the URL, or somebody is between you and the pool";
const CLOCK: &str = "check this device's clock, else tell the pool's operator";

#[test]
fn the_right_key() {
    let server = identity().server_config().unwrap();
    connect(&server, &trust(&authority(1)), NOW).accepted_by(Proof::AuthorityKey, FROM, UNTIL);
}

#[test]
fn another_authoritys_key() {
    let server = identity().server_config().unwrap();
    connect(&server, &trust(&authority(2)), NOW).refused(IdentityError::WrongAuthority, BETWEEN);
}

#[test]
fn names_issuers_and_x509_dates_do_not_matter() {
    let key = KeyPair::generate().unwrap();
    let server = server_with(&key, vec![extension(word(&authority(1), &key))]);
    connect(&server, &trust(&authority(1)), NOW).accepted_by(Proof::AuthorityKey, FROM, UNTIL);
}

#[test]
fn the_window_and_its_leeway() {
    let server = identity().server_config().unwrap();
    let at = |now: u64| connect(&server, &trust(&authority(1)), now);
    let (from, until) = (u64::from(FROM), u64::from(UNTIL));
    for now in [from - 10, from, until, until + 10] {
        at(now).accepted();
    }
    for now in [0, 10, from - 11] {
        at(now).refused(IdentityError::NotYetValid(FROM), CLOCK);
    }
    // the last of them does not fit into 32 bits
    for now in [until + 11, u64::from(u32::MAX), (1 << 32) + NOW] {
        at(now).refused(IdentityError::Expired(UNTIL), CLOCK);
    }
    let text = IdentityError::Expired(UNTIL).to_string();
    assert!(text.contains("expired at 2027-01-26 21:46:40 UTC"), "{text}");
}

#[test]
fn every_byte_counts() {
    let key = KeyPair::generate().unwrap();
    let word = word(&authority(1), &key);
    for at in 0..Certificate::LEN {
        for flip in [0x01, 0x80] {
            let mut changed = word.clone();
            changed[2 + at] ^= flip;
            let outcome = connect(&server_with(&key, vec![extension(changed)]), &trust(&authority(1)), NOW);
            match at {
                0 | 1 => {
                    let version = u16::from(flip) << (8 * at);
                    outcome.refused(IdentityError::UnknownVersion(version), "update this miner's software");
                }
                _ => outcome.refused(IdentityError::WrongAuthority, BETWEEN),
            }
        }
    }
}

#[test]
fn the_word_for_another_key() {
    let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let server = server_with(&key, vec![extension(word(&authority(1), &other))]);
    connect(&server, &trust(&authority(1)), NOW).refused(IdentityError::WrongAuthority, BETWEEN);
}

#[test]
fn the_word_for_a_noise_key() {
    // the server's Noise key happens to be the hash of the TLS key: found by trial
    let (key, hash) = loop {
        let key = KeyPair::generate().unwrap();
        let hash = spki_hash(&key);
        if let Ok(point) = bitcoin::secp256k1::XOnlyPublicKey::from_slice(&hash) {
            break (key, point);
        }
    };
    let noise = Certificate::issue(&authority(1), Subject::NoiseKey(&hash), FROM, UNTIL);
    let value = blvm_stratum_v2::transport::tls::extension_value(&noise).to_vec();
    let server = server_with(&key, vec![extension(value)]);
    connect(&server, &trust(&authority(1)), NOW).refused(IdentityError::WrongAuthority, BETWEEN);
}

#[test]
fn no_extension() {
    let key = KeyPair::generate().unwrap();
    let word = word(&authority(1), &key);
    let neighbour = CustomExtension::from_oid_content(&[OID[0], OID[1], OID[2] + 1], word);
    for extensions in [vec![], vec![neighbour]] {
        connect(&server_with(&key, extensions), &trust(&authority(1)), NOW)
            .refused(IdentityError::NoExtension, "check the host and the port in the URL");
    }
}

#[test]
fn a_malformed_extension() {
    let key = KeyPair::generate().unwrap();
    let word = word(&authority(1), &key);
    let bare = word[2..].to_vec();
    let longer = [&[0x04, 0x4b], &word[2..], &[0]].concat();
    let shorter = [&[0x04, 0x49], &word[2..75]].concat();
    let trailing = [&word[..], &[0]].concat();
    let long_form = [&[0x04, 0x81, 0x4a], &word[2..]].concat();
    let another_tag = [&[0x03], &word[1..]].concat();
    let cut = word[..75].to_vec();
    for value in [bare, longer, shorter, trailing, long_form, another_tag, cut, vec![0x05, 0x00]] {
        connect(&server_with(&key, vec![extension(value.clone())]), &trust(&authority(1)), NOW)
            .refused(IdentityError::MalformedExtension, "tell the pool's operator");
    }
    let twice = vec![extension(word.clone()), extension(word)];
    connect(&server_with(&key, twice), &trust(&authority(1)), NOW)
        .refused(IdentityError::MalformedExtension, "tell the pool's operator");
}

#[test]
fn a_malformed_certificate() {
    let key = KeyPair::generate().unwrap();
    let whole = leaf(&key, vec![extension(word(&authority(1), &key))]);
    let cut = whole[..whole.len() - 1].to_vec();
    let trailing = [&whole[..], &[0]].concat();
    for der in [cut, trailing, b"no certificate".to_vec()] {
        connect(&server(vec![der.into()], signing_key(&key)), &trust(&authority(1)), NOW)
            .refused(IdentityError::MalformedCertificate, "check the host and the port in the URL");
    }
}

#[test]
fn our_certificate_with_another_key() {
    let identity = identity();
    let mut pem = std::io::Cursor::new(identity.chain_pem());
    let chain: Result<Vec<_>, _> = rustls::pki_types::pem::PemObject::pem_reader_iter(&mut pem).collect();
    let thief = server(chain.unwrap(), signing_key(&KeyPair::generate().unwrap()));
    connect(&thief, &trust(&authority(1)), NOW)
        .refused(IdentityError::NotItsKey, "somebody is between you and the pool");
}

#[test]
fn a_renewed_certificate() {
    let later = UNTIL + 1_000_000;
    let renewed: TlsIdentity = identity().renewed(&authority(1), UNTIL, later).unwrap();
    let server = renewed.server_config().unwrap();
    connect(&server, &trust(&authority(1)), u64::from(later)).accepted_by(Proof::AuthorityKey, UNTIL, later);
}

#[test]
fn the_server_learns_why() {
    let server = identity().server_config().unwrap();
    connect(&server, &trust(&authority(2)), NOW).alerted(AlertDescription::UnknownCA);
    for now in [0, u64::from(UNTIL) + 11] {
        connect(&server, &trust(&authority(1)), now).alerted(AlertDescription::CertificateExpired);
    }
}
