//! What a server is known by, on disk: `authority.key`, `tls.key` and `tls.pem`, `endpoint.key`.
//!
//! Whatever is missing is made; whatever is there and damaged is left alone, with an error that
//! says what to do.

pub mod authority;
pub mod endpoint;
mod private;
pub mod tls;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::transport::tls::TlsError;
use crate::wire::keys::KeyError;

/// Where a server's keys and certificates are, and what they must be like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The authority key, the endpoint's secret, and whatever is not said to be elsewhere.
    pub directory: PathBuf,
    /// The TLS certificate for all who do not ask for another by name.
    pub first: Pair,
    /// Further ones, by the names that are in them.
    pub more: Vec<Pair>,
    /// DNS names and IP addresses that the first must be for.
    pub names: Vec<String>,
    /// The CA, PEM, whose certificates clients must show.
    pub client_ca: Option<PathBuf>,
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
    /// It holds something else than an endpoint secret.
    #[error(
        "{0} is not 64 hex digits; restore it from a backup, or move it away to have a new one made, which costs miners a reconnection"
    )]
    NotEndpoint(PathBuf),
    /// One of `tls.pem` and `tls.key` is there without the other.
    #[error(
        "{missing} is missing, which belongs to {present}; restore it, or move {present} away to have both made anew"
    )]
    Half {
        /// The file that is not there.
        missing: PathBuf,
        /// The file that is.
        present: PathBuf,
    },
    /// `tls.pem` and `tls.key` are not a certificate and its key.
    #[error(
        "{certificate} and {key} cannot be used: {error}; restore them from a backup, or move both away to have new ones made"
    )]
    Tls {
        /// The chain's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What is wrong.
        error: TlsError,
    },
    /// Another authority key, or none, signed what `tls.pem` carries.
    #[error(
        "{certificate} is signed by another authority key than the one in {authority}; restore {authority} from a backup, or move {certificate} and {key} away to have new ones made"
    )]
    OtherAuthority {
        /// The chain's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// The authority key's file.
        authority: PathBuf,
    },
    /// A certificate cannot be made.
    #[error("cannot make {0}: {1}; move it and its key away to have both made anew")]
    Issue(PathBuf, TlsError),
}
