//! What there is to know about a leaf certificate, on either side.

use ring::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;
use rustls::server::ParsedCertificate;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::{IdentityError, extension};
use crate::wire::certificate::{Certificate, Subject};
use crate::wire::keys::AuthorityPublicKey;

/// A leaf certificate, read but not judged.
#[derive(Debug, Clone)]
pub(super) struct Leaf {
    /// SHA-256 of the SubjectPublicKeyInfo in DER.
    pub(super) spki_hash: [u8; 32],
    /// What the extension says, or why it says nothing.
    pub(super) certificate: Result<Certificate, IdentityError>,
    /// X.509's own validity in unix seconds, as far as 32 bits reach.
    pub(super) not_before: u32,
    pub(super) not_after: u32,
}

impl Leaf {
    pub(super) fn read(der: &CertificateDer<'_>) -> Result<Self, IdentityError> {
        // The key comes from the reader by which rustls checks the handshake's signature: were
        // the two to differ on some crafted certificate, one key would be vouched for and another
        // one used.
        let parsed = ParsedCertificate::try_from(der).map_err(|_| IdentityError::MalformedCertificate)?;
        let spki = parsed.subject_public_key_info();
        let (_, x509) = X509Certificate::from_der(der).map_err(|_| IdentityError::MalformedCertificate)?;
        let seconds = |timestamp: i64| timestamp.clamp(0, u32::MAX.into()) as u32;
        Ok(Self {
            spki_hash: digest(&SHA256, &spki).as_ref().try_into().expect("SHA-256 is 32 bytes"),
            certificate: extension::find(&x509),
            not_before: seconds(x509.validity().not_before.timestamp()),
            not_after: seconds(x509.validity().not_after.timestamp()),
        })
    }

    /// What `authority` says about this leaf's key, if it holds at unix time `now`.
    pub(super) fn vouched_by(
        &self,
        authority: &AuthorityPublicKey,
        now: u32,
    ) -> Result<Certificate, IdentityError> {
        let certificate = self.certificate.clone()?;
        certificate.verify(authority, Subject::TlsKey(&self.spki_hash), now)?;
        Ok(certificate)
    }

    /// What `authority` says about this leaf's key, whether or not it is the time for it.
    pub(super) fn signed_by(&self, authority: &AuthorityPublicKey) -> Result<Certificate, IdentityError> {
        let certificate = self.certificate.clone()?;
        certificate.verify_signature(authority, Subject::TlsKey(&self.spki_hash))?;
        Ok(certificate)
    }
}
