//! What can go wrong for a client, in words for a miner's owner.

use std::io;

use crate::transport::LinkError;
use crate::transport::tls::{IdentityError, TlsError};
use crate::wire::WireError;

/// Why a client is not connected, or not any more.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The host's name has no address.
    #[error("cannot find the host {host}: {error}")]
    UnknownHost {
        /// As the URL has it.
        host: String,
        /// What the resolver says.
        error: io::Error,
    },
    /// Over TCP a server is known by its authority key alone.
    #[error("a stratum2+tcp:// URL needs the pool's authority key")]
    NoKey,
    /// No connection to the address in the URL.
    #[error("cannot connect: {0}")]
    Unreachable(io::Error),
    /// The server did not answer in time.
    #[error(
        "the server did not answer in time: check the host and the port in the URL, and that no firewall is in between; stratum2+quic:// takes UDP"
    )]
    Timeout,
    /// There is a server, but it does not speak SV2 over Noise; or it is full, for which Noise has
    /// no word.
    #[error(
        "no Noise handshake with the server ({0}): either this is no Stratum V2 port, or the server is full"
    )]
    Handshake(io::Error),
    /// There is a QUIC server, but it does not speak SV2.
    #[error("the server speaks QUIC, but not sv2-quic/1: is this a Stratum V2 port, and of this version?")]
    NotStratum,
    /// There is a server, but it takes no more connections.
    #[error("the server refuses the connection: it is full, or has as many from this address as it takes")]
    Full,
    /// The server is not the one that the URL means.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// TLS cannot be set up on this machine.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The server wants a client certificate that it can accept.
    #[error(transparent)]
    Certificate(#[from] CertificateRefusal),
    /// The server refused SetupConnection.
    #[error("the server refused the connection: {code} (flags {flags:#x})")]
    Refused {
        /// Its `error_code`.
        code: String,
        /// The features that it does not have.
        flags: u32,
    },
    /// The server sent something that has no place here.
    #[error("the server sent an unexpected message of type {0:#04x}")]
    Unexpected(u8),
    /// A message cannot be read or written.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The connection ended.
    #[error(transparent)]
    Link(LinkError),
}

impl ClientError {
    /// Whether trying again soon is of no use: someone has to change something first.
    #[must_use]
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::NoKey
            | Self::NotStratum
            | Self::Identity(_)
            | Self::Tls(_)
            | Self::Certificate(_)
            | Self::Refused { .. } => true,
            Self::Link(LinkError::ClosedFor { code, .. }) => code.is_lasting(),
            _ => false,
        }
    }
}

impl From<LinkError> for ClientError {
    fn from(error: LinkError) -> Self {
        match &error {
            LinkError::Alert { number, .. } => {
                CertificateRefusal::of(*number).map_or(Self::Link(error), Self::Certificate)
            }
            _ => Self::Link(error),
        }
    }
}

/// What a server has against a client's certificate, as far as TLS tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateRefusal {
    /// None was shown.
    #[error(
        "the pool wants a client certificate from this miner: ask the pool for one and its key, and give them with --client-cert and --client-key"
    )]
    Missing,
    /// It is by somebody whom the pool does not know.
    #[error(
        "the pool does not know who has signed this miner's client certificate: ask the pool for one of its own"
    )]
    UnknownCa,
    /// Its time is over, or has not come.
    #[error(
        "the pool does not take this miner's client certificate, which has expired or is not valid yet: ask the pool for a new one"
    )]
    Expired,
    /// Something else.
    #[error(
        "the pool does not take this miner's client certificate (TLS alert {0}): ask the pool for another one"
    )]
    Other(u8),
}

impl CertificateRefusal {
    /// What an alert from a server says (RFC 8446 §6.2), if it is about the client's certificate.
    fn of(alert: u8) -> Option<Self> {
        match alert {
            116 => Some(Self::Missing),
            48 => Some(Self::UnknownCa),
            45 => Some(Self::Expired),
            // bad, unsupported, revoked, unknown; denied; not signed by its key
            42..=44 | 46 | 49 | 51 => Some(Self::Other(alert)),
            _ => None,
        }
    }
}
