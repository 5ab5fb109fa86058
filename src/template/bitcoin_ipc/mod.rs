//! Bitcoin Core's mining interface over IPC as a source of work.
//!
//! The crate `bitcoin_core_sv2` makes a Template Provider of it that lives in this process: what
//! there is to say to a node is said in the messages of §7, and [`tdp`](super::tdp) says it.
//!
//! ```text
//!  converse ──Link──> convert ──channel──> thread: preflight, then bitcoin_core_sv2 ──> node.sock
//! ```
//!
//! That crate logs much that is of no use to an operator: `bitcoin_core_sv2=error` is enough.

mod convert;
mod error;
mod preflight;
mod scratch;
mod thread;

use std::path::PathBuf;
use std::sync::Arc;

use bitcoin::Network;

use self::error::IpcError;
use self::scratch::Scratch;
use self::thread::{Order, Running};
use super::Pace;
use super::source::{Deliveries, Feed};
use super::tdp::converse::{self, Terms};
use super::tdp::link::{Link, Provider};
use crate::aside::aside;
use crate::mining::payout::Room;
use crate::wire::template::{CoinbaseOutputConstraints, TemplateDistribution};

/// What a block holds besides transactions and payout outputs: 1168 weight units (§7.1), in
/// bytes. `bitcoin_core_sv2` reserves 2000 weight units or four times the constraint, whichever is
/// more, so with large payouts it would leave no room for the rest.
const FIXED_SIZE: u32 = 1168 / 4;

/// What an operator can set about a node's mining interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The node's `node.sock`.
    pub socket: PathBuf,
    /// The node's major version, 30 or 31.
    pub version: u8,
    /// The network that the node must be on.
    pub network: Network,
    /// The room that payouts need in the coinbase.
    pub room: Room,
    /// How often the node is to have new work on the same tip.
    pub pace: Pace,
    /// A folder that is ours, with a path of at most 93 bytes. Several nodes can share it.
    pub scratch: PathBuf,
}

/// A client of a node's mining interface.
#[derive(Debug)]
pub struct BitcoinIpc {
    options: Options,
}

impl BitcoinIpc {
    /// Does nothing until it [runs](Self::run).
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self { options }
    }

    /// What the operator calls it.
    #[must_use]
    pub fn name(&self) -> Arc<str> {
        format!("bitcoin_ipc {}", self.options.socket.display()).into()
    }

    /// Feeds the generator and takes blocks, until dropped. A thread of its own ends within two
    /// seconds then.
    pub async fn run(self, feed: Feed, deliveries: Deliveries) {
        let Options { network, room, .. } = self.options;
        converse::run(Node { options: self.options }, Terms { network, room }, feed, deliveries).await;
    }
}

/// Where the node is.
struct Node {
    options: Options,
}

/// A connection to the node.
struct Channel {
    running: Running,
    scratch: Scratch,
    payload: Vec<u8>,
}

impl Provider for Node {
    type Link = Channel;
    type Error = IpcError;

    async fn connect(&mut self) -> Result<Channel, IpcError> {
        let Options { socket, version, network, pace, scratch, .. } = &self.options;
        let scratch = Scratch::open(scratch, socket)?;
        let running = Running::start(Order {
            socket: socket.clone(),
            link: scratch.link().to_owned(),
            version: *version,
            network: *network,
            // at zero the node would send a template a second, each the same
            fee_threshold: pace.fee_threshold.max(1),
            min_interval: u8::try_from(pace.min_interval.as_secs()).unwrap_or(u8::MAX),
        });
        Ok(Channel { running: running.await?, scratch, payload: Vec::new() })
    }
}

impl Link for Channel {
    type Error = IpcError;

    async fn next(&mut self) -> Result<(u8, &[u8]), IpcError> {
        let message = self.running.from_node.recv().await.map_err(|_| IpcError::Closed)?;
        let (msg_type, payload) = convert::to_payload(message)?;
        self.payload = payload;
        Ok((msg_type, &self.payload))
    }

    async fn send(&mut self, message: TemplateDistribution<'_>) -> Result<(), IpcError> {
        let message = match message {
            TemplateDistribution::CoinbaseOutputConstraints(m) => {
                TemplateDistribution::CoinbaseOutputConstraints(with_fixed_size(m))
            }
            other => other,
        };
        let solution = matches!(message, TemplateDistribution::SubmitSolution(_));
        let message = convert::from_ours(message)?;
        self.running.to_node.send(message).await.map_err(|_| IpcError::Closed)?;
        if solution {
            // those before it; what goes wrong there is no reason for anything
            let scratch = self.scratch.clone();
            tokio::spawn(aside(move || scratch.tidy()));
        }
        Ok(())
    }

    async fn close(self) {
        self.running.end().await;
    }
}

fn with_fixed_size(m: CoinbaseOutputConstraints) -> CoinbaseOutputConstraints {
    let size = m.coinbase_output_max_additional_size.saturating_add(FIXED_SIZE);
    CoinbaseOutputConstraints { coinbase_output_max_additional_size: size, ..m }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `bitcoin_core_sv2` computes it.
    fn reserved_weight(size: u32) -> u32 {
        let m = CoinbaseOutputConstraints {
            coinbase_output_max_additional_size: size,
            coinbase_output_max_additional_sigops: 4,
        };
        (4 * with_fixed_size(m).coinbase_output_max_additional_size).max(2000)
    }

    #[test]
    fn the_node_reserves_what_the_specification_says() {
        for size in [0, 51, 102, 208, 209, 500, 10_000] {
            assert!(reserved_weight(size) >= 1168 + 4 * size, "{size}");
        }
        assert_eq!(reserved_weight(10_000), 1168 + 4 * 10_000);
    }
}
