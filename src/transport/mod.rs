//! Connections: what carries a session's frames, on either side.

mod admission;
pub mod client;
mod drive;
mod identity;
mod noise_tcp;
mod pipe;
pub mod tls;

pub use admission::{Admission, Permit};
pub use identity::NoiseIdentity;
pub use noise_tcp::NoiseListener;

use crate::session::{CloseReason, Lane};
use crate::wire::Header;
use crate::wire::noise::NoiseError;

/// A frame that has arrived, and on which lane.
pub(crate) type Arrived<'a> = (Lane, Header, &'a [u8]);

/// What carries a connection's frames. The transport decides what a lane is.
pub(crate) trait Link {
    /// The next frame that has arrived, without waiting.
    fn next_frame(&mut self) -> Result<Option<Arrived<'_>>, LinkError>;

    /// Queues a frame.
    fn send(&mut self, lane: Lane, frame: &[u8]) -> Result<(), LinkError>;

    /// Writes what is queued, as far as that is possible without waiting.
    fn flush(&mut self) -> Result<(), LinkError>;

    /// How many bytes are queued.
    fn backlog(&self) -> usize;

    /// Waits until something can be done and does it: one read, if `read`, and one write, if
    /// anything is queued. Nothing is lost if it is dropped while it waits.
    async fn progress(&mut self, read: bool) -> Result<(), LinkError>;

    /// Has the peer receive what is queued, then ends the connection: for this reason, or because
    /// the server stops.
    async fn close(self, reason: Option<CloseReason>);
}

/// Why a connection ended without anyone wanting it to.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The peer ended it.
    #[error("the peer closed the connection")]
    Closed,
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// What arrived is not what the cipher or the message table allows.
    #[error(transparent)]
    Noise(#[from] NoiseError),
    /// The peer does not read.
    #[error("the peer takes nothing of what it is sent")]
    NotReading,
    /// Accepted shares could not be kept.
    #[error("accepted shares could not be kept")]
    SharesLost,
}
