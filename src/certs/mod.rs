//! What a server is known by, on disk: `authority.key` or `authority.pub`, `tls.key` and `tls.pem`,
//! `noise.pem`, `endpoint.key`; and whatever else TLS is to serve.
//!
//! What is missing is made, if the authority's secret is at hand; what is there and damaged is left
//! alone, with an error that says what to do. [`Rotation`] serves it all, and notices changes.

pub mod authority;
mod check;
pub mod endpoint;
pub mod make;
pub mod noise;
mod private;
mod report;
mod rotation;
mod set;
#[cfg(test)]
mod tests;
pub mod tls;

pub use report::{CaReport, NoiseReport, PairReport, Report};
pub use rotation::{Look, Parts, Rotation, Started, Swap};

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::transport::tls::TlsError;
use crate::wire::certificate::CertificateError;
use crate::wire::keys::KeyError;

/// Where a server's keys and certificates are, and what they must be like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The authority key, the endpoint's secret, and whatever is not said to be elsewhere.
    pub directory: PathBuf,
    /// The TLS certificate for all who do not ask for another by name, unless the authority vouches
    /// for one of the others alone.
    pub first: Pair,
    /// Further ones, by the names that are in them.
    pub more: Vec<Pair>,
    /// DNS names and IP addresses that the first must be for.
    pub names: Vec<String>,
    /// The CA, PEM, whose certificates clients must show.
    pub client_ca: Option<PathBuf>,
    /// Whether Noise is spoken, for which there must be a certificate.
    pub noise: bool,
    /// For how long the Noise key is certified at a time.
    pub noise_validity: Duration,
}

/// A TLS certificate's file and its key's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// A chain in PEM, leaf first.
    pub certificate: PathBuf,
    /// The leaf's key, in PEM.
    pub key: PathBuf,
}

impl Options {
    /// The pair that is made if it is not there.
    #[must_use]
    pub fn usual_pair(directory: &Path) -> Pair {
        Pair { certificate: directory.join(tls::CERTIFICATE_FILE), key: directory.join(tls::KEY_FILE) }
    }
}

/// What is wrong with a file, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum CertsError {
    /// It cannot be read.
    #[error("cannot read {0}: {1}; the server's user must be allowed to")]
    Read(PathBuf, io::Error),
    /// It cannot be written.
    #[error("cannot write {0}: {1}; the server's user must be allowed to write to its directory")]
    Write(PathBuf, io::Error),
    /// There is one already.
    #[error("{0} exists and is left alone: miners know the server by it; move it away to have a new one")]
    Exists(PathBuf),
    /// It holds something else than an authority key.
    #[error(
        "{0} is not an authority key ({1}); restore it from a backup, or move it away to have a new one made, which every miner must then be told"
    )]
    NotAuthority(PathBuf, KeyError),
    /// It holds something else than an authority's public key.
    #[error("{0} is not an authority's public key ({1}); copy it again from where its secret is")]
    NotAuthorityPublic(PathBuf, KeyError),
    /// The authority's secret is needed, and not there.
    #[error(
        "{0} is missing: name the file with the authority's secret by --authority, or make one with keygen"
    )]
    NoSecret(PathBuf),
    /// `authority.key` and `authority.pub` are not of one key.
    #[error(
        "{key} and {public} do not belong together: restore the one that is wrong from a backup; if it is {public}, remove it to have it made anew from {key}"
    )]
    TwoAuthorities {
        /// The secret's file.
        key: PathBuf,
        /// The public half's file.
        public: PathBuf,
    },
    /// It holds something else than an endpoint secret.
    #[error(
        "{0} is not 64 hex digits; restore it from a backup, or move it away to have a new one made, which costs miners a reconnection"
    )]
    NotEndpoint(PathBuf),
    /// It is too large to be a key or a certificate.
    #[error("{0} is larger than 1 MiB: that is no key and no certificate; check the path")]
    TooLarge(PathBuf),
    /// A file that the configuration names is not there.
    #[error("{path} is missing ({key}): put it there, or correct the path")]
    Missing {
        /// The file.
        path: PathBuf,
        /// The key of the configuration.
        key: String,
    },
    /// There is no TLS certificate, and nothing to make it with.
    #[error(
        "{certificate} and {key} are missing, and without the authority's secret they cannot be made here: make them where it is, with cert new, and copy them here; or name others by tls.cert_path and tls.key_path"
    )]
    NoPair {
        /// The chain's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// One of `tls.pem` and `tls.key` is there without the other.
    #[error("{missing} is missing, which belongs to {present}; restore it, or move {present} away {}", anew(*.makes))]
    Half {
        /// The file that is not there.
        missing: PathBuf,
        /// The file that is.
        present: PathBuf,
        /// Whether the server makes both if neither is there.
        makes: bool,
    },
    /// There is a key, for which the server makes the certificate when it starts.
    #[error(
        "{certificate} is missing, which belongs to {key}; restore it, or restart the server to have it made anew for this key"
    )]
    NoCertificate {
        /// The chain's file, which is not there.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// A certificate and its key cannot be used.
    #[error(
        "{certificate} and {key} cannot be used: {error}; restore them from a backup, or move both away {}",
        anew(*.makes)
    )]
    Tls {
        /// The chain's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What is wrong.
        error: TlsError,
        /// Whether the server makes both if neither is there.
        makes: bool,
    },
    /// Another authority key signed what a certificate carries.
    #[error(
        "{certificate} is signed by another authority key than the one in {authority}; restore {authority} from a backup, or move {certificate} and {key} away {}",
        anew(*.makes)
    )]
    OtherAuthority {
        /// The chain's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// The authority key's file.
        authority: PathBuf,
        /// Whether the server makes both if neither is there.
        makes: bool,
    },
    /// A certificate cannot be made.
    #[error("cannot make {0}: {1}; move it and its key away to have both made anew")]
    Issue(PathBuf, TlsError),
    /// Clients cannot be verified by what is in it.
    #[error(
        "{0} cannot be used as the CA of client certificates (tls.client_ca_path): {1}; put its certificate there, in PEM"
    )]
    ClientCa(PathBuf, TlsError),
    /// There is no certificate for Noise, and nothing to make it with.
    #[error(
        "{0} is missing, and without the authority's secret it cannot be made here: make it where that is, with cert new, and copy it here; or set noise.enabled = false to serve no miners over TCP"
    )]
    NoNoise(PathBuf),
    /// It holds something else than a key for Noise and its certificate.
    #[error("{0} is not a key for Noise and its certificate: copy it again from where cert new has made it")]
    NotNoise(PathBuf),
    /// Another authority key, or none, signed it.
    #[error(
        "{0} is not vouched for by the authority key beside it ({1}): make it with cert new where that key's secret is, and copy it here"
    )]
    OtherNoise(PathBuf, CertificateError),
    /// A certificate cannot be made for what was asked.
    #[error("cannot make a certificate: {0}")]
    Asked(String),
    /// What would be served is worse than what is: it is not.
    #[error("{}", .0.join("; "))]
    Refused(Vec<String>),
    /// TLS cannot be set up.
    #[error(transparent)]
    Serving(#[from] TlsError),
}

fn anew(makes: bool) -> &'static str {
    if makes { "to have both made anew" } else { "and put a certificate and its key in their place" }
}
