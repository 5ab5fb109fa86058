//! What a source offers to mine on.

use std::sync::Arc;

use bitcoin::BlockHash;

use super::{Coinbase, Target};
use crate::wire::U256;

/// Everything that can be mined on at one moment.
///
/// Works supersede each other: whoever sees only the newest has missed nothing that matters.
#[derive(Debug, Clone)]
pub struct Work {
    /// The block to build on.
    pub tip: Arc<Tip>,
    /// What to put into the next block.
    pub template: Arc<Template>,
    /// What may be put into the block after the next one, prepared before its `prev_hash` is
    /// known, so that announcing a new tip takes one small message.
    pub future: Vec<Arc<Template>>,
}

/// A block to build on, and what a header on top of it must satisfy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tip {
    /// Its hash.
    pub prev_hash: BlockHash,
    /// The height of the block to be found.
    pub height: u32,
    /// The smallest time that a header may carry (unix seconds).
    pub min_ntime: u32,
    /// The header's compact target.
    pub nbits: u32,
    /// The target below which a share is a block.
    pub network_target: Target,
    /// The target below which a share must be reported to where the work came from: a node's is
    /// the network target, a pool's is easier.
    pub report_target: Target,
}

/// Names a [`Template`]. Serials grow, and none is used twice while the process lives: the same
/// serial means the same search space. A source whose work was superseded by another's offers what
/// it had under new serials when it comes back: shares of the old ones have been forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TemplateSerial(pub u64);

/// What a block is to contain, apart from the link to its predecessor.
#[derive(Debug, Clone)]
pub struct Template {
    /// Unique in this process, and part of every coinbase built from the template.
    pub serial: TemplateSerial,
    /// The header's version.
    pub version: u32,
    /// Whether the miner may roll the version's BIP323 bits.
    pub version_rolling: bool,
    /// The coinbase, still without payout and extranonce.
    pub coinbase: Coinbase,
    /// The hashes that lead from the coinbase's txid to the merkle root, deepest first.
    pub merkle_path: Vec<U256>,
}
