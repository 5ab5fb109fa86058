//! How a client makes sure of a server.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::leaf::Leaf;
use super::{ALPN, IdentityError, Proof, TlsError, TlsIdentity, Verdict, Verified, provider};
use crate::wire::keys::AuthorityPublicKey;
use crate::wire::url::Trust;

/// Which CAs a client believes, where the web's CAs are what counts.
#[derive(Debug, Clone)]
pub enum Roots {
    /// Those of the operating system.
    System,
    /// These.
    Given(RootCertStore),
}

impl Roots {
    /// The roots themselves. Those of the system are read from its files.
    pub(crate) fn load(self) -> RootCertStore {
        match self {
            Self::Given(roots) => roots,
            Self::System => {
                let mut roots = RootCertStore::empty();
                // a root that cannot be read vouches for nobody; the others still do
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                roots
            }
        }
    }
}

/// A configuration for one connection at a time to a server with this `trust`, and where to read
/// afterwards what came out. `roots` matter for [`Trust::WebPki`] only.
///
/// TLS 1.3, [`ALPN`], no resumption and no early data: a resumed handshake shows no certificate.
pub fn client_config(trust: &Trust, roots: Roots) -> Result<(ClientConfig, Arc<Verdict>), TlsError> {
    client_config_with(trust, roots, None)
}

/// As [`client_config`], with a certificate for a server that wants to see one.
///
/// Who trusts an authority key asks for no name: its certificate is the one for all who do not.
pub fn client_config_with(
    trust: &Trust,
    roots: Roots,
    own: Option<&TlsIdentity>,
) -> Result<(ClientConfig, Arc<Verdict>), TlsError> {
    let provider = provider();
    let rule = match trust {
        Trust::Authority(key) => Rule::Authority(*key),
        Trust::Pins(pins) => Rule::Pins(pins.clone()),
        Trust::WebPki => Rule::WebPki(web_pki(roots, &provider)?),
    };
    let verdict = Arc::new(Verdict::default());
    let verifier = Verifier { rule, provider: provider.clone(), verdict: verdict.clone() };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous() // as rustls calls every verifier but its own
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match own.map(TlsIdentity::parts) {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key)?,
        None => builder.with_no_client_auth(),
    };
    config.enable_sni = !matches!(trust, Trust::Authority(_));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Ok((config, verdict))
}

fn web_pki(roots: Roots, provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>, TlsError> {
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots.load()), provider.clone())
        .build()
        .map_err(|_| TlsError::NoRoots)
}

#[derive(Debug)]
enum Rule {
    Authority(AuthorityPublicKey),
    Pins(Vec<[u8; 32]>),
    WebPki(Arc<WebPkiServerVerifier>),
}

#[derive(Debug)]
struct Verifier {
    rule: Rule,
    provider: Arc<CryptoProvider>,
    verdict: Arc<Verdict>,
}

impl Verifier {
    fn judge(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<Verified, IdentityError> {
        let leaf = Leaf::read(end_entity)?;
        let by_x509 = |by| Verified { by, valid_from: leaf.not_before, not_valid_after: leaf.not_after };
        match &self.rule {
            Rule::Authority(key) => {
                let now = u32::try_from(now.as_secs()).unwrap_or(u32::MAX);
                leaf.vouched_by(key, now).map(|certificate| Verified {
                    by: Proof::AuthorityKey,
                    valid_from: certificate.valid_from(),
                    not_valid_after: certificate.not_valid_after(),
                })
            }
            Rule::Pins(pins) if pins.contains(&leaf.spki_hash) => Ok(by_x509(Proof::Pin)),
            Rule::Pins(_) => Err(IdentityError::NotPinned { seen: leaf.spki_hash }),
            Rule::WebPki(web_pki) => web_pki
                .verify_server_cert(end_entity, intermediates, name, &[], now)
                .map(|_| by_x509(Proof::WebPki))
                .map_err(|error| IdentityError::WebPki(web_pki_reason(&error, &leaf))),
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.judge(end_entity, intermediates, server_name, now) {
            Ok(verified) => {
                self.verdict.shown(verified);
                Ok(ServerCertVerified::assertion())
            }
            Err(error) => {
                let alert = alert(&error);
                self.verdict.refused(error);
                Err(alert.into())
            }
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        let checked = verify_tls13_signature(message, cert, dss, algorithms);
        match &checked {
            Ok(_) => self.verdict.signed(),
            Err(_) => self.verdict.refused(IdentityError::NotItsKey),
        }
        checked
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is never offered".to_owned()))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// What the server's side learns: the alert that goes with it.
fn alert(error: &IdentityError) -> CertificateError {
    match error {
        IdentityError::MalformedExtension | IdentityError::MalformedCertificate => {
            CertificateError::BadEncoding
        }
        IdentityError::NotYetValid(_) => CertificateError::NotValidYet,
        IdentityError::Expired(_) => CertificateError::Expired,
        IdentityError::NoExtension
        | IdentityError::WrongAuthority
        | IdentityError::UnknownVersion(_)
        | IdentityError::NotPinned { .. }
        | IdentityError::WebPki(_) => CertificateError::UnknownIssuer,
        IdentityError::NotItsKey => CertificateError::BadSignature,
    }
}

/// What is wrong, in words for the owner of a miner, and what to do.
fn web_pki_reason(error: &rustls::Error, leaf: &Leaf) -> String {
    use CertificateError as E;
    let rustls::Error::InvalidCertificate(error) = error else {
        return format!("{error}; tell the pool's operator");
    };
    match error {
        E::UnknownIssuer if leaf.certificate.is_ok() => {
            "an authority key vouches for it instead; ask the pool for its URL with the key at the end".into()
        }
        // the latter if a stranger has given itself the name of a known CA
        E::UnknownIssuer | E::BadSignature => {
            "no certificate authority that this machine knows has signed it; check the host in the URL, or ask the pool for its URL with a key or a pin".into()
        }
        E::NotValidForName | E::NotValidForNameContext { .. } => {
            format!("{error}; check the host in the URL")
        }
        E::Expired | E::ExpiredContext { .. } | E::NotValidYet | E::NotValidYetContext { .. } => {
            format!("{error}; check this device's clock, else tell the pool's operator")
        }
        _ => format!("{error}; tell the pool's operator"),
    }
}
