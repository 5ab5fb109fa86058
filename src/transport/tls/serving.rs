//! Which certificate is shown to whom, and who must show one.

use std::sync::Arc;

use rustls::client::verify_server_name;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};

use super::{ALPN, Facts, TlsError, TlsIdentity, provider};
use crate::wire::keys::AuthorityPublicKey;
use crate::wire::url::Trust;

/// What TLS is to serve to new connections, and how miners verify it. Never changed: another one
/// takes its place.
#[derive(Debug, Clone)]
pub struct Serving {
    /// For QUIC.
    pub config: Arc<ServerConfig>,
    /// How a miner that asks for no name verifies the server.
    pub trust: Trust,
}

impl Serving {
    /// The first that is for the name that a client asks for. Who asks for none, or for one that
    /// none is for, is shown the first that `authority` vouches for, if it does for any: miners that
    /// have its key ask for no name. With `client_ca`, clients must show a certificate of it.
    pub fn new(
        first: &TlsIdentity,
        more: &[&TlsIdentity],
        client_ca: Option<&ClientCa>,
        authority: &AuthorityPublicKey,
    ) -> Result<Self, TlsError> {
        let all: Vec<_> = [first].into_iter().chain(more.iter().copied()).collect();
        let vouched = all.iter().position(|identity| identity.signed_by(authority).is_ok());
        let trust = match vouched {
            Some(_) => Trust::Authority(*authority),
            // by name they may as well, but who knows by which
            None => Trust::Pins(vec![first.spki_hash()]),
        };
        Ok(Self { config: server_config(&all, vouched.unwrap_or(0), client_ca)?, trust })
    }
}

/// A configuration over TLS 1.3 for clients that offer [`ALPN`]: no tickets, no early data. The one
/// at `unasked` is for those who ask for no name that another is for.
pub(super) fn server_config(
    all: &[&TlsIdentity],
    unasked: usize,
    client_ca: Option<&ClientCa>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let by_name = ByName::new(all, unasked)?;
    let builder =
        ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&rustls::version::TLS13])?;
    let builder = match client_ca {
        Some(ca) => builder.with_client_cert_verifier(ca.verifier()?),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(by_name));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

/// Certificates and their keys: the first that is for the name, else the one for those who ask for none.
#[derive(Debug)]
struct ByName {
    all: Vec<Arc<CertifiedKey>>,
    unasked: usize,
}

impl ByName {
    fn new(all: &[&TlsIdentity], unasked: usize) -> Result<Self, TlsError> {
        let all = all.iter().map(|identity| identity.certified_key().map(Arc::new));
        Ok(Self { all: all.collect::<Result<_, _>>()?, unasked })
    }

    fn of(&self, name: Option<&str>) -> Option<&Arc<CertifiedKey>> {
        let named = name.and_then(|name| {
            let name = ServerName::try_from(name).ok()?;
            self.all.iter().find(|certified| certified.cert.first().is_some_and(|leaf| covers(leaf, &name)))
        });
        named.or(self.all.get(self.unasked))
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.of(hello.server_name()).cloned()
    }
}

/// Whether a client that verifies names would take this leaf for this one.
pub(super) fn covers(leaf: &CertificateDer<'_>, name: &ServerName<'_>) -> bool {
    ParsedCertificate::try_from(leaf).is_ok_and(|leaf| verify_server_name(&leaf, name).is_ok())
}

/// Who signs the certificates that clients must show: one or several CAs.
#[derive(Debug, Clone)]
pub struct ClientCa {
    roots: Arc<RootCertStore>,
    facts: Vec<Facts>,
}

impl ClientCa {
    /// Reads one certificate or several.
    pub fn from_pem(pem: &[u8]) -> Result<Self, TlsError> {
        let all: Result<Vec<CertificateDer<'static>>, _> = CertificateDer::pem_slice_iter(pem).collect();
        let all = all.ok().filter(|all| !all.is_empty()).ok_or(TlsError::NotPem("certificate"))?;
        let mut roots = RootCertStore::empty();
        let mut facts = Vec::with_capacity(all.len());
        for der in all {
            facts.push(Facts::read(&der)?);
            roots.add(der)?;
        }
        let ca = Self { roots: Arc::new(roots), facts };
        ca.verifier()?;
        Ok(ca)
    }

    /// What is said in them.
    #[must_use]
    pub fn facts(&self) -> &[Facts] {
        &self.facts
    }

    fn verifier(&self) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
        WebPkiClientVerifier::builder_with_provider(self.roots.clone(), provider())
            .build()
            .map_err(|error| TlsError::Config(rustls::Error::General(error.to_string())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::keys::AuthoritySecretKey;

    fn named(names: &[&str]) -> TlsIdentity {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        TlsIdentity::from_pem(made.cert.pem().as_bytes(), made.signing_key.serialize_pem().as_bytes())
            .unwrap()
    }

    #[test]
    fn the_first_that_is_for_the_name() {
        let identities = [
            named(&["one.example", "both.example"]),
            named(&["two.example", "both.example", "*.wild.example"]),
            named(&["*.wild.example", "three.example"]),
        ];
        let by_name = ByName::new(&identities.each_ref(), 2).unwrap();
        let at = |name: Option<&str>| {
            let found = by_name.of(name).unwrap();
            by_name.all.iter().position(|certified| Arc::ptr_eq(certified, found)).unwrap()
        };
        let expected = [
            (Some("one.example"), 0),
            (Some("both.example"), 0),
            (Some("two.example"), 1),
            (Some("TWO.example"), 1),
            (Some("a.wild.example"), 1),
            (Some("a.b.wild.example"), 2),
            (Some("wild.example"), 2),
            (Some("three.example"), 2),
            (Some("elsewhere.example"), 2),
            (Some("not a name"), 2),
            (None, 2),
        ];
        for (name, index) in expected {
            assert_eq!(at(name), index, "{name:?}");
        }
    }

    #[test]
    fn who_asks_for_no_name_may_have_the_authoritys_key() {
        let authority = AuthoritySecretKey::generate(&mut rand::rng());
        let key = authority.public_key();
        let own = named(&["pool.example"]);
        let issue = || TlsIdentity::issue(&authority, 0, 1000).unwrap();
        let (one, other) = (issue(), issue());
        let trust = |first, more: &[&TlsIdentity]| Serving::new(first, more, None, &key).unwrap().trust;
        assert_eq!(trust(&own, &[&one, &other]), Trust::Authority(key));
        assert_eq!(trust(&one, &[&own]), Trust::Authority(key));
        assert_eq!(trust(&own, &[]), Trust::Pins(vec![own.spki_hash()]));
        let stranger = AuthoritySecretKey::generate(&mut rand::rng()).public_key();
        let trust = Serving::new(&own, &[&one], None, &stranger).unwrap().trust;
        assert_eq!(trust, Trust::Pins(vec![own.spki_hash()]));
    }

    #[test]
    fn what_is_no_ca() {
        for pem in [&b""[..], b"damaged", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert!(ClientCa::from_pem(pem).is_err());
        }
        let (one, other) = (named(&["a.example"]), named(&["b.example"]));
        let two = one.chain_pem() + &other.chain_pem();
        assert_eq!(ClientCa::from_pem(two.as_bytes()).unwrap().facts().len(), 2);
    }
}
