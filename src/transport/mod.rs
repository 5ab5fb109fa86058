//! Connections: what carries a session's frames, on either side.

mod admission;
pub mod client;
mod drive;
mod identity;
mod noise_tcp;
mod pipe;
pub mod quic;
pub mod tls;

use std::fmt;
use std::net::SocketAddr;

pub use admission::{Admission, Permit};
pub use identity::NoiseIdentity;
pub use noise_tcp::{NoiseLimits, NoiseListener};

use crate::session::{CloseReason, Lane};
use crate::wire::Header;
use crate::wire::noise::NoiseError;
use crate::wire::plain::RefusedFrame;

/// What has arrived, and on which lane.
#[derive(Debug)]
pub(crate) enum Arrived<'a> {
    /// A frame.
    Frame(Lane, Header, &'a [u8]),
    /// Nothing more will come on this lane.
    End(Lane),
}

/// What carries a connection's frames. The transport decides what a lane is.
pub(crate) trait Link {
    /// What has arrived next, without waiting.
    fn next_arrived(&mut self) -> Result<Option<Arrived<'_>>, LinkError>;

    /// Queues a frame. On a lane that has ended it is dropped.
    fn send(&mut self, lane: Lane, frame: &[u8]) -> Result<(), LinkError>;

    /// The connection is set up: other lanes than control can be used.
    fn set_up(&mut self) {}

    /// Nothing more will be sent on this lane.
    fn finish(&mut self, _: Lane) {}

    /// Writes what is queued, as far as that is possible without waiting.
    fn flush(&mut self);

    /// How many bytes are queued.
    fn backlog(&self) -> usize;

    /// Waits until something can be done and does it: one read, if `read`, and one write, if
    /// anything is queued. Nothing is lost if it is dropped while it waits.
    async fn progress(&mut self, read: bool) -> Result<(), LinkError>;

    /// Where the peer is now, if it has moved.
    fn moved(&mut self) -> Option<SocketAddr> {
        None
    }

    /// Ends the connection. Unless the link itself has failed, the peer receives what is queued
    /// first.
    async fn close(self, ending: &Ending);
}

/// Why this side ends a connection.
#[derive(Debug)]
pub(crate) enum Ending {
    /// There is nothing more to do.
    Finished,
    /// The server stops.
    Draining,
    /// The session has had enough.
    Session(CloseReason),
    /// The connection is no good any more.
    Link(LinkError),
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished => f.write_str("there is nothing more to do"),
            Self::Draining => f.write_str("the server stops"),
            Self::Session(reason) => reason.fmt(f),
            Self::Link(error) => error.fmt(f),
        }
    }
}

/// Why a connection ended without anyone wanting it to.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The peer ended it.
    #[error("the peer closed the connection")]
    Closed,
    /// The peer ended it and said why.
    #[error("the peer closed the connection with {code}{}{reason}", if reason.is_empty() { "" } else { ": " })]
    ClosedFor {
        /// What its code means.
        code: quic::Code,
        /// Its own words, if it had any.
        reason: String,
    },
    /// The peer has lost the connection's state.
    #[error("the peer does not know the connection any more: it was restarted")]
    Reset,
    /// Nothing has come from the peer for so long that it must be gone.
    #[error("the peer has fallen silent")]
    Silent,
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// What arrived is not what the cipher or the message table allows.
    #[error(transparent)]
    Noise(#[from] NoiseError),
    /// What arrived is not what QUIC allows.
    #[error("{0}")]
    Quic(String),
    /// The peer refused the handshake, or this side's certificate after it, by a TLS alert.
    #[error("{text}")]
    Alert {
        /// The alert's number (RFC 8446 §6).
        number: u8,
        /// What QUIC says about it.
        text: String,
    },
    /// What arrived is not what the message table allows.
    #[error(transparent)]
    Refused(#[from] RefusedFrame),
    /// A message came on a stream that is not for it.
    #[error("a message of type {0:#04x} came on a stream that is not for it")]
    Misplaced(u8),
    /// Too many frames have begun to come, and not ended.
    #[error("the peer leaves too many frames unfinished")]
    Unfinished,
    /// The peer does not let a stream be opened, or does not take what comes on it.
    #[error("the peer takes no stream with work")]
    NoPush,
    /// The peer does not read.
    #[error("the peer takes nothing of what it is sent")]
    NotReading,
    /// Accepted shares could not be kept.
    #[error("accepted shares could not be kept")]
    SharesLost,
}
