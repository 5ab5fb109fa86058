//! As a web server: a CA of the test's own, with an intermediate.

use std::sync::Arc;

use blvm_stratum_v2::transport::tls::{IdentityError, Proof, Roots, TlsError, client_config};
use blvm_stratum_v2::wire::url::Trust;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::sign::SigningKey;
use rustls::{RootCertStore, ServerConfig};

use super::support::*;

struct Ca {
    roots: RootCertStore,
    chain: Vec<CertificateDer<'static>>,
    leaf: Arc<dyn SigningKey>,
}

impl Ca {
    fn new() -> Self {
        Self::named("test root")
    }

    fn named(name: &str) -> Self {
        let time = |unix: u32| rcgen::date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(unix.into());
        let params = |names: &[&str], is_ca| {
            let names: Vec<_> = names.iter().map(|name| name.to_string()).collect();
            let mut params = CertificateParams::new(names).unwrap();
            (params.not_before, params.not_after, params.is_ca) = (time(FROM), time(UNTIL), is_ca);
            params
        };
        let ca = || IsCa::Ca(BasicConstraints::Unconstrained);
        let keys: [KeyPair; 3] = std::array::from_fn(|_| KeyPair::generate().unwrap());
        let [root_key, middle_key, leaf_key] = keys;

        let mut root = params(&[], ca());
        root.distinguished_name.push(rcgen::DnType::OrganizationName, name);
        let root_der = root.self_signed(&root_key).unwrap();
        let root = Issuer::new(root, root_key);
        let mut middle = params(&[], ca());
        middle.distinguished_name.push(rcgen::DnType::OrganizationName, "intermediate");
        let middle_der = middle.signed_by(&middle_key, &root).unwrap();
        let middle = Issuer::new(middle, middle_key);
        let leaf = params(&[HOST, "192.0.2.1"], IsCa::NoCa).signed_by(&leaf_key, &middle).unwrap();

        let mut roots = RootCertStore::empty();
        roots.add(root_der.into()).unwrap();
        Self { roots, chain: vec![leaf.into(), middle_der.into()], leaf: signing_key(&leaf_key) }
    }

    fn server(&self) -> Arc<ServerConfig> {
        server(self.chain.clone(), self.leaf.clone())
    }
}

fn visit(server: &Arc<ServerConfig>, roots: &RootCertStore, host: &'static str, now: u64) -> Outcome {
    let (client, verdict) = client_at(&Trust::WebPki, Roots::Given(roots.clone()), now);
    let (client, server) = handshake(server, &Arc::new(client), host);
    Outcome { client, server, verdict: verdict.get() }
}

/// Refused as a web server, with a text that says this.
#[track_caller]
fn refused(outcome: &Outcome, advice: &str) {
    outcome.not_connected();
    let Some(Err(error @ IdentityError::WebPki(_))) = &outcome.verdict else {
        panic!("{:?}", outcome.verdict)
    };
    assert!(error.to_string().contains(advice), "{advice:?} in {error}");
}

#[test]
fn the_right_name() {
    let ca = Ca::new();
    for host in [HOST, "192.0.2.1"] {
        visit(&ca.server(), &ca.roots, host, NOW).accepted_by(Proof::WebPki, FROM, UNTIL);
    }
}

#[test]
fn another_name() {
    let ca = Ca::new();
    for host in ["elsewhere.example", "192.0.2.2"] {
        refused(&visit(&ca.server(), &ca.roots, host, NOW), "check the host in the URL");
    }
}

#[test]
fn out_of_its_time() {
    let ca = Ca::new();
    for now in [u64::from(FROM) - 1, u64::from(UNTIL) + 1] {
        let outcome = visit(&ca.server(), &ca.roots, HOST, now);
        refused(&outcome, "check this device's clock, else tell the pool's operator");
    }
}

#[test]
fn an_unknown_ca() {
    let ca = Ca::new();
    // also if it has given itself the name of a known one
    for other in [Ca::named("another root"), Ca::new()] {
        let outcome = visit(&ca.server(), &other.roots, HOST, NOW);
        refused(&outcome, "ask the pool for its URL with a key or a pin");
    }
}

#[test]
fn the_intermediate_is_missing() {
    let ca = Ca::new();
    let server = server(ca.chain[..1].to_vec(), ca.leaf.clone());
    refused(&visit(&server, &ca.roots, HOST, NOW), "no certificate authority that this machine knows");
}

#[test]
fn an_authority_key_that_is_not_in_the_url() {
    let server = identity().server_config().unwrap();
    refused(&visit(&server, &Ca::new().roots, HOST, NOW), "its URL with the key at the end");
}

#[test]
fn another_key_than_the_leafs() {
    let ca = Ca::new();
    let thief = server(ca.chain.clone(), signing_key(&KeyPair::generate().unwrap()));
    visit(&thief, &ca.roots, HOST, NOW)
        .refused(IdentityError::NotItsKey, "somebody is between you and the pool");
}

#[test]
fn a_machine_without_roots() {
    let error = client_config(&Trust::WebPki, Roots::Given(RootCertStore::empty())).unwrap_err();
    assert!(matches!(error, TlsError::NoRoots));
    assert!(error.to_string().contains("ca-certificates"), "{error}");
    // where no CA counts, none is needed
    let without = || Roots::Given(RootCertStore::empty());
    client_config(&trust(&authority(1)), without()).unwrap();
    client_config(&Trust::Pins(vec![[0; 32]]), without()).unwrap();
}
