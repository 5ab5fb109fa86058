//! The module IPC of blvm-node: what goes over the Unix socket between the node and a module.
//!
//! [`Link`] carries messages. [`Handshake`], [`Request`] and [`InvocationResult`] are what a module
//! sends, [`Incoming`] is what it receives. The numbers that stand for kinds of messages differ from
//! one version of the node to the next: [`Table`] has them. The node tells its version in its answer to the
//! handshake, which is the same in all versions.

mod bincode;
mod events;
mod incoming;
mod indices;
mod link;
mod outgoing;
#[cfg(test)]
mod tests;

pub use bincode::Malformed;
pub use events::EventKind;
pub use incoming::{DecodeError, Incoming, Invocation, Reply};
pub use indices::{TABLES, Table};
pub use link::{Link, LinkError, MAX_FRAME};
pub use outgoing::{CliArg, CliSpec, CliSubcommand, Handshake, InvocationResult, Outcome, Request};
