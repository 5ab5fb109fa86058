//! A chain of valid blocks, from regtest's genesis to one tip.

use std::collections::HashSet;

use bitcoin::constants::genesis_block;
use bitcoin::{Block, BlockHash, Network, OutPoint};

use super::RejectReason;
use super::coins::{Coins, Undo, spendable_script};
use super::rules::{check_body, check_header};

/// How many blocks the median time is taken over.
const MEDIAN_TIME_SPAN: usize = 11;

/// A regtest chain without branches: a block connects to the tip or is refused. Every connected
/// block is one that any regtest node accepts.
///
/// It is held in memory with all of its blocks.
#[derive(Debug)]
pub struct Chain {
    /// Starts with genesis, and is never empty.
    blocks: Vec<Connected>,
    hashes: HashSet<BlockHash>,
    coins: Coins,
}

#[derive(Debug)]
struct Connected {
    block: Block,
    hash: BlockHash,
    undo: Undo,
}

impl Default for Chain {
    fn default() -> Self {
        let block = genesis_block(Network::Regtest);
        let hash = block.block_hash();
        // Nobody can spend what genesis pays: it never was among the coins.
        let genesis = Connected { block, hash, undo: Undo::default() };
        Self { blocks: vec![genesis], hashes: HashSet::from([hash]), coins: Coins::default() }
    }
}

impl Chain {
    /// The tip's height: 0 for genesis.
    #[must_use]
    pub fn height(&self) -> u32 {
        self.blocks.len() as u32 - 1
    }

    /// The tip's hash.
    #[must_use]
    pub fn tip(&self) -> BlockHash {
        self.top().hash
    }

    /// All blocks, genesis first.
    pub fn blocks(&self) -> impl DoubleEndedIterator<Item = &Block> + ExactSizeIterator {
        self.blocks.iter().map(|connected| &connected.block)
    }

    /// The median time of the last 11 blocks: the next one's must exceed it.
    #[must_use]
    pub fn median_time_past(&self) -> u32 {
        let mut times: Vec<_> =
            self.blocks().rev().take(MEDIAN_TIME_SPAN).map(|block| block.header.time).collect();
        times.sort_unstable();
        times[times.len() / 2]
    }

    /// Makes `block` the tip, by a clock that shows `now` in unix seconds.
    ///
    /// # Errors
    ///
    /// It breaks a rule, or does not build on the tip. The chain is then as it was.
    pub fn connect(&mut self, block: Block, now: u32) -> Result<BlockHash, RejectReason> {
        let hash = block.block_hash();
        if self.hashes.contains(&hash) {
            return Err(RejectReason::Duplicate);
        }
        let parent = block.header.prev_blockhash;
        if parent != self.tip() {
            return Err(if self.hashes.contains(&parent) {
                RejectReason::Stale
            } else {
                RejectReason::UnknownParent
            });
        }
        let height = self.height() + 1;
        let median_time_past = self.median_time_past();
        check_header(&block.header, median_time_past, now)?;
        check_body(&block, height, median_time_past)?;
        let undo = self.coins.apply(&block, height)?;

        self.hashes.insert(hash);
        self.blocks.push(Connected { block, hash, undo });
        Ok(hash)
    }

    /// Takes the tip off. Genesis stays.
    pub fn disconnect(&mut self) -> Option<Block> {
        if self.height() == 0 {
            return None;
        }
        let Connected { block, hash, undo } = self.blocks.pop()?;
        self.hashes.remove(&hash);
        self.coins.revert(undo);
        Some(block)
    }

    /// What the next block may spend without a signature, with its value in satoshis, in no order.
    pub(super) fn spendable(&self) -> impl Iterator<Item = (OutPoint, u64)> {
        let height = self.height() + 1;
        let script = spendable_script();
        self.coins
            .iter()
            .filter(move |(_, coin)| coin.is_mature(height) && coin.output.script_pubkey == script)
            .map(|(point, coin)| (*point, coin.output.value.to_sat()))
    }

    /// The tip.
    pub(super) fn last(&self) -> &Block {
        &self.top().block
    }

    fn top(&self) -> &Connected {
        self.blocks.last().expect("genesis stays")
    }
}
