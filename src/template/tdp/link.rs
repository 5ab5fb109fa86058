//! What carries the protocol's messages: an encrypted socket, or a channel to a node's interface.

use std::error::Error;

use crate::wire::template::TemplateDistribution;

/// Somewhere to connect to.
pub(in crate::template) trait Provider {
    /// A connection.
    type Link: Link;
    /// Why there is none, for an operator to read.
    type Error: Error + Send;

    /// Connects, or fails within a time. The connection is ready for CoinbaseOutputConstraints.
    async fn connect(&mut self) -> Result<Self::Link, Self::Error>;
}

/// A connection. Dropping it ends it.
pub(in crate::template) trait Link {
    /// Why it has ended, for an operator to read.
    type Error: Error + Send;

    /// Waits for the next message of the core protocol: its type and its payload. Dropping this
    /// while it waits loses nothing.
    async fn next(&mut self) -> Result<(u8, &[u8]), Self::Error>;

    /// Sends a message.
    async fn send(&mut self, message: TemplateDistribution<'_>) -> Result<(), Self::Error>;

    /// Ends it, and returns when nothing is left of it.
    async fn close(self);
}
