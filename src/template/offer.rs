//! What a source has to mine on.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};

use crate::mining::{Coinbase, Tip};
use crate::wire::U256;

/// All that a source has to mine on at one moment. A later one supersedes it.
#[derive(Debug, Clone)]
pub struct Offer {
    /// The block to build on.
    pub tip: Arc<Tip>,
    /// What to put into the next block.
    pub draft: Arc<Draft>,
    /// What may be put into the block after the next one.
    pub future: Vec<Arc<Draft>>,
    /// Whether better is on its way, so that it is not to be held back when it comes: a block
    /// without transactions, on a tip that is new.
    pub makeshift: bool,
}

/// A block as its source wants it, still without payout, extranonce and nonce. Two that are not
/// the same `Arc` are two, whatever they contain.
#[derive(Debug)]
pub struct Draft {
    /// The header's version.
    pub version: u32,
    /// Whether the miner may roll the version's BIP323 bits.
    pub version_rolling: bool,
    /// The coinbase.
    pub coinbase: Coinbase,
    /// The hashes that lead from the coinbase's txid to the merkle root, deepest first.
    pub merkle_path: Vec<U256>,
    /// The other transactions.
    pub body: Arc<Body>,
}

/// The transactions of a block behind its coinbase, as the network serialises them. A source may
/// have them later than the draft, or never.
#[derive(Debug, Default)]
pub struct Body(OnceLock<Vec<Arc<[u8]>>>);

impl Body {
    /// They are there.
    #[must_use]
    pub fn known(transactions: Vec<Arc<[u8]>>) -> Self {
        Self(OnceLock::from(transactions))
    }

    /// They have come. If they were there before, this changes nothing.
    pub fn set(&self, transactions: Vec<Arc<[u8]>>) {
        let _ = self.0.set(transactions);
    }

    /// The transactions, if they are there.
    #[must_use]
    pub fn get(&self) -> Option<&[Arc<[u8]>]> {
        self.0.get().map(Vec::as_slice)
    }
}

/// Keeps transactions once that are in many drafts: one draft is much like the one before.
#[derive(Debug, Default)]
pub struct Transactions(HashSet<Arc<[u8]>>);

impl Transactions {
    /// The transaction, shared with the drafts that have it already.
    pub fn intern(&mut self, transaction: &[u8]) -> Arc<[u8]> {
        if let Some(known) = self.0.get(transaction) {
            return known.clone();
        }
        let new: Arc<[u8]> = transaction.into();
        self.0.insert(new.clone());
        new
    }

    /// Forgets those that no draft has any more.
    pub fn tidy(&mut self) {
        self.0.retain(|transaction| Arc::strong_count(transaction) > 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transactions_are_kept_once_and_while_needed() {
        let mut transactions = Transactions::default();
        let first = transactions.intern(&[1, 2, 3]);
        assert!(Arc::ptr_eq(&first, &transactions.intern(&[1, 2, 3])));
        let other = transactions.intern(&[1, 2]);
        drop(first);
        transactions.tidy();
        assert_eq!(transactions.0.len(), 1);
        assert!(Arc::ptr_eq(&other, &transactions.intern(&[1, 2])));
    }
}
