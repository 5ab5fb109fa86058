//! What can go wrong between here and the node, told to an operator.

use std::io;
use std::path::PathBuf;

use bitcoin::Network;
use bitcoin_capnp_types_v31::capnp;

/// How Cap'n Proto marks what the other side says, and not our own side of it.
const REMOTE: &str = "remote exception: ";

/// Why there is no work from the node.
#[derive(Debug, thiserror::Error)]
pub(super) enum IpcError {
    #[error("{}: {error}: the server keeps a link to the node's socket there, so it must be able to write there", .path.display())]
    Scratch { path: PathBuf, error: io::Error },
    #[error(
        "{}: {len} bytes, and no socket's path may have more than {max}: choose a shorter data_dir",
        .path.display()
    )]
    TooLong { path: PathBuf, len: usize, max: usize },
    #[error(
        "{}: no such file: check the path, and start the node as `bitcoin-node -ipcbind=unix`",
        .0.display()
    )]
    NoSocket(PathBuf),
    #[error("{}: permission denied: run the server as the user that the node runs as", .0.display())]
    Denied(PathBuf),
    #[error("{}: nobody listens there: the node has stopped, start it", .0.display())]
    NotListening(PathBuf),
    #[error("{}: {error}", .path.display())]
    Socket { path: PathBuf, error: io::Error },
    #[error("{}: whoever listens there hangs up: check that it is the node's socket", .0.display())]
    HungUp(PathBuf),
    #[error("{}: whoever listens there is no Bitcoin Core ({reason}): check that it is the node's socket", .path.display())]
    NotANode { path: PathBuf, reason: String },
    #[error("it has not answered for {0} s: does its process still run?")]
    NoAnswer(u64),
    #[error(
        "the node does not have the mining interface of Bitcoin Core {version} ({reason}): is version = {version} right? It can be 30 or 31"
    )]
    Version { version: u8, reason: String },
    #[error("the node is still downloading the chain, it is at height {0}: wait")]
    Syncing(i32),
    #[error(
        "the node is on {}, but the network is {network}: check which of them is wrong",
        if *.test_chain { "a test network" } else { "the main network" }
    )]
    WrongNetwork { test_chain: bool, network: Network },
    #[error("no thread for the node's interface: {0}")]
    Thread(io::Error),
    #[error("no connection to its mining interface: {0}")]
    Interface(String),
    #[error("it has closed the connection: if it still runs, its log says why")]
    Closed,
    #[error("a message of type {0:#04x} cannot be converted: {1}")]
    Conversion(u8, String),
}

impl IpcError {
    /// What an answer of the interface means, at the node's `path`.
    pub(super) fn from_capnp(error: capnp::Error, path: PathBuf, version: u8) -> Self {
        use capnp::ErrorKind::{Disconnected, PrematureEndOfFile, Unimplemented};
        match (error.kind, error.extra.strip_prefix(REMOTE)) {
            (Disconnected | PrematureEndOfFile, _) => Self::HungUp(path),
            // what a node says to a client that is too old or too new for it
            (_, Some(reason)) => Self::Version { version, reason: reason.to_owned() },
            (Unimplemented, None) => Self::Version { version, reason: error.extra },
            (kind, None) => Self::NotANode { path, reason: format!("{kind:?} {}", error.extra) },
        }
    }
}
