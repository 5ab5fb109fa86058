//! What a node and its modules tell each other.

use std::fmt;

use bitcoin::BlockHash;
use bitcoin::hashes::Hash as _;

/// A hash, in the order in which its bytes are hashed (the one that is displayed backwards).
pub type Hash = [u8; 32];

/// An event, of the node's or for other modules of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A block of a peer's is connected. What the node's documents call ChainTipUpdated.
    NewBlock {
        /// Which.
        block_hash: Hash,
        /// Its height.
        height: u64,
    },
    /// A block is not in the chain any more.
    BlockDisconnected {
        /// Which.
        hash: Hash,
        /// Its height.
        height: u64,
    },
    /// The chain has another tip that does not build on the one before.
    ChainReorg {
        /// The tip before.
        old_tip: Hash,
        /// The tip now.
        new_tip: Hash,
    },
    /// A block that was submitted to the node, or made by it, is connected.
    BlockMined {
        /// Which.
        block_hash: Hash,
        /// Its height.
        height: u64,
        /// Whose it is.
        miner_id: Option<String>,
    },
    /// Somebody asked the node for a template.
    BlockTemplateUpdated {
        /// The block that the template builds on.
        prev_hash: Hash,
        /// The height of the block that it is for.
        height: u64,
        /// Transactions in it.
        tx_count: u64,
    },
    /// The network's difficulty is another.
    MiningDifficultyChanged {
        /// nBits before.
        old_difficulty: u32,
        /// nBits now.
        new_difficulty: u32,
        /// From this height on.
        height: u64,
    },
    /// Miners have new work.
    MiningJobCreated {
        /// The work's number.
        job_id: String,
        /// The block that it builds on.
        prev_hash: Hash,
        /// The height of the block that it is for.
        height: u64,
    },
    /// A share was accepted.
    ShareSubmitted {
        /// The job that it is for.
        job_id: String,
        /// The hash of its header.
        share_hash: Hash,
        /// Whose it is.
        miner_id: Option<String>,
    },
    /// A pool that this server mines for is connected.
    MiningPoolConnected {
        /// Where it is.
        pool_url: String,
        /// What it calls itself.
        pool_id: Option<String>,
    },
    /// A pool that this server mines for is not connected any more.
    MiningPoolDisconnected {
        /// Where it was.
        pool_url: String,
        /// Why.
        reason: String,
    },
    /// A miner is connected.
    StratumClientConnected {
        /// Where it is.
        endpoint: String,
        /// The version of Stratum that it speaks.
        protocol_version: u32,
    },
    /// A miner is not connected any more.
    StratumClientDisconnected {
        /// Where it was.
        endpoint: String,
        /// Why.
        reason: String,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let block = |hash: &Hash| BlockHash::from_byte_array(*hash);
        match self {
            Self::NewBlock { block_hash, height } => {
                write!(f, "new block {} of height {height}", block(block_hash))
            }
            Self::BlockDisconnected { hash, height } => {
                write!(f, "block {} of height {height} disconnected", block(hash))
            }
            Self::ChainReorg { old_tip, new_tip } => {
                write!(f, "tip {} instead of {}", block(new_tip), block(old_tip))
            }
            Self::BlockMined { block_hash, height, .. } => {
                write!(f, "block {} of height {height} mined", block(block_hash))
            }
            Self::BlockTemplateUpdated { prev_hash, height, tx_count } => {
                write!(f, "template of {tx_count} transactions for height {height} on {}", block(prev_hash))
            }
            Self::MiningDifficultyChanged { old_difficulty, new_difficulty, height } => {
                write!(
                    f,
                    "nBits {new_difficulty:08x} instead of {old_difficulty:08x} from height {height} on"
                )
            }
            Self::MiningJobCreated { job_id, .. } => write!(f, "job {job_id}"),
            Self::ShareSubmitted { job_id, .. } => write!(f, "share of job {job_id}"),
            Self::MiningPoolConnected { pool_url, .. } => write!(f, "pool {pool_url} connected"),
            Self::MiningPoolDisconnected { pool_url, .. } => write!(f, "pool {pool_url} disconnected"),
            Self::StratumClientConnected { endpoint, .. } => write!(f, "miner {endpoint} connected"),
            Self::StratumClientDisconnected { endpoint, .. } => write!(f, "miner {endpoint} disconnected"),
        }
    }
}
