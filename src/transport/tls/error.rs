//! What can be wrong with a server's identity, told to the owner of a miner.

use std::fmt;

use x509_parser::time::ASN1Time;

use crate::wire::certificate::CertificateError;
use crate::wire::url::pin_text;

/// Why a server is not taken for the one in the URL, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The leaf has no word of an authority: it is another server's, or from a public CA.
    #[error(
        "the server's certificate carries no word of an authority key: check the host and the port in the URL, and ask the pool whether its URL has a key at the end"
    )]
    NoExtension,
    /// The extension is there, but it is not 74 bytes in an OCTET STRING, or it is there twice.
    #[error(
        "the server's certificate carries an authority's signature that cannot be read: tell the pool's operator"
    )]
    MalformedExtension,
    /// Signed by another authority, for another TLS key, or tampered with: these look alike.
    #[error(
        "the server's certificate is not signed by the authority key in the URL: check the key at the end of the URL, or somebody is between you and the pool"
    )]
    WrongAuthority,
    /// The authority's certificate has a version that this client does not know.
    #[error(
        "the authority's signature in the server's certificate has the unknown version {0}: update this miner's software"
    )]
    UnknownVersion(u16),
    /// Its time has not come. In unix seconds.
    #[error(
        "the server's certificate is not valid before {}: check this device's clock, else tell the pool's operator",
        Date(*.0)
    )]
    NotYetValid(u32),
    /// Its time is over. In unix seconds.
    #[error(
        "the server's certificate expired at {}: check this device's clock, else tell the pool's operator",
        Date(*.0)
    )]
    Expired(u32),
    /// The server's key is none of those in the URL.
    #[error(
        "the server's key {} is none of the pins in the URL: ask the pool whether it has a new key, or somebody is between you and the pool",
        pin_text(seen)
    )]
    NotPinned {
        /// SHA-256 of the SubjectPublicKeyInfo that the server showed.
        seen: [u8; 32],
    },
    /// It does not pass as a web server's certificate does.
    #[error("the server's certificate does not prove that it is the host in the URL: {0}")]
    WebPki(String),
    /// It is not an X.509 certificate that can be read.
    #[error(
        "the server's certificate cannot be read: check the host and the port in the URL, else tell the pool's operator"
    )]
    MalformedCertificate,
    /// The handshake is not signed by the key in the certificate.
    #[error(
        "the server shows a certificate whose key it does not have: somebody is between you and the pool, or the pool's operator mixed up its files"
    )]
    NotItsKey,
}

impl From<CertificateError> for IdentityError {
    fn from(error: CertificateError) -> Self {
        match error {
            CertificateError::UnknownVersion(version) => Self::UnknownVersion(version),
            CertificateError::BadSignature => Self::WrongAuthority,
            CertificateError::NotYetValid(from) => Self::NotYetValid(from),
            CertificateError::Expired(at) => Self::Expired(at),
        }
    }
}

/// Why there is no TLS configuration or identity to be had.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A web server's certificate is to be verified, and no CA is known.
    #[error(
        "this machine has no root certificates to verify the server with: install them (the package ca-certificates), or ask the pool for its URL with a key or a pin"
    )]
    NoRoots,
    /// What should be PEM is not.
    #[error("there is no {0} in PEM form")]
    NotPem(&'static str),
    /// The key and the first certificate do not belong together, or are of an unknown kind.
    #[error("the key and the first certificate do not belong together: {0}")]
    Mismatch(rustls::Error),
    /// The leaf cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A certificate cannot be made with this key.
    #[error("a certificate cannot be made with this key, which must be in PKCS #8 form: {0}")]
    Issue(#[from] rcgen::Error),
    /// The configuration is refused.
    #[error("TLS cannot be configured: {0}")]
    Config(#[from] rustls::Error),
}

/// Unix seconds as a date and a time in UTC.
#[derive(Debug, Clone, Copy)]
pub struct Date(pub u32);

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = ASN1Time::from_timestamp(self.0.into()).map_err(|_| fmt::Error)?.to_datetime();
        let (hour, minute, second) = time.to_hms();
        write!(f, "{} {hour:02}:{minute:02}:{second:02} UTC", time.date())
    }
}
