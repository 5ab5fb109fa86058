//! Puts blocks together; whether they are valid is for [`Chain::connect`](super::Chain) to say.

use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash;
use bitcoin::{Amount, Block, BlockHash, CompactTarget, Transaction, TxMerkleNode, TxOut};

use super::coins::spendable_script;
use super::rules::{BITS, subsidy};
use crate::mining::{Coinbase, TemplateSerial, merkle, witness};
use crate::wire::U256;

/// A header's version that signals nothing (BIP9).
pub(super) const VERSION: u32 = 0x2000_0000;

/// What goes into a block at one height, before it has a payout, a parent and a nonce.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) coinbase: Coinbase,
    pub(super) merkle_path: Vec<U256>,
    /// All but the coinbase.
    pub(super) transactions: Vec<Transaction>,
}

impl Draft {
    pub(super) fn new(height: u32, transactions: Vec<Transaction>, fees: u64) -> Self {
        let txids: Vec<_> = transactions.iter().map(|tx| tx.compute_txid().to_byte_array()).collect();
        let wtxids: Vec<_> = transactions.iter().map(|tx| tx.compute_wtxid().to_byte_array()).collect();
        Self {
            coinbase: Coinbase::at(height, subsidy(height) + fees, Some(witness::commitment(&wtxids))),
            merkle_path: merkle::path(&txids),
            transactions,
        }
    }

    /// The block around a finished coinbase.
    pub(super) fn block(&self, coinbase: Transaction, header: PartialHeader) -> Block {
        let root = merkle::fold(coinbase.compute_txid().to_byte_array(), &self.merkle_path);
        Block {
            header: Header {
                version: Version::from_consensus(header.version as i32),
                prev_blockhash: header.prev_hash,
                merkle_root: TxMerkleNode::from_byte_array(root),
                time: header.time,
                bits: CompactTarget::from_consensus(BITS),
                nonce: header.nonce,
            },
            txdata: std::iter::once(coinbase).chain(self.transactions.iter().cloned()).collect(),
        }
    }

    /// A solved block for a chain that mines for itself: its reward is anyone's.
    pub(super) fn solve(&self, height: u32, prev_hash: BlockHash, time: u32) -> Block {
        let reward =
            TxOut { value: Amount::from_sat(self.coinbase.value), script_pubkey: spendable_script() };
        let extranonce = [0];
        let coinbase = self
            .coinbase
            .assemble(TemplateSerial(height.into()), 0, &[], &[reward], extranonce.len())
            .and_then(|parts| parts.transaction(&extranonce))
            .expect("an extranonce of one byte always fits");
        let mut block = self.block(coinbase, PartialHeader { version: VERSION, prev_hash, time, nonce: 0 });
        while block.header.validate_pow(block.header.target()).is_err() {
            block.header.nonce += 1;
        }
        block
    }
}

/// The fields of a header that the block's content does not determine.
#[derive(Debug, Clone, Copy)]
pub(super) struct PartialHeader {
    pub(super) version: u32,
    pub(super) prev_hash: BlockHash,
    pub(super) time: u32,
    pub(super) nonce: u32,
}
