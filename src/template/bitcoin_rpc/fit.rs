//! Which of a template's transactions have room beside our coinbase.

use bitcoin::Transaction;
use bitcoin::consensus::encode;
use bitcoin::hashes::Hash;
use bitcoin::hex::FromHex;

use super::draft::TemplateError;
use super::error::fit_for_log;
use super::template::Entry;
use crate::mining::payout::Room;

/// The most that a block may weigh, and the most signature operations it may have.
const LIMITS: Size = Size { weight: 4_000_000, sigops: 80_000 };
/// What a block weighs without transactions and payout outputs, if its coinbase has a scriptSig of
/// 100 bytes and a witness commitment (§7.1).
const FRAME_WEIGHT: u64 = 1_168;

/// A transaction that may go into the block.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) bytes: Vec<u8>,
    pub(super) txid: [u8; 32],
    pub(super) wtxid: [u8; 32],
    fee: Option<u64>,
    size: Size,
}

/// What a block has only so much of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    weight: u64,
    sigops: u64,
}

impl Candidate {
    /// Reads the transaction at this `index` of a template.
    ///
    /// Its ids come from its bytes and not from the node: those are what is going to be in the block.
    pub(super) fn read(index: usize, entry: &Entry<'_>) -> Result<Self, TemplateError> {
        let wrong = |error: &dyn std::fmt::Display| {
            TemplateError::Transaction(index, fit_for_log(&error.to_string()))
        };
        let bytes = Vec::from_hex(&entry.data).map_err(|error| wrong(&error))?;
        let transaction: Transaction = encode::deserialize(&bytes).map_err(|error| wrong(&error))?;
        // What the outputs that it spends add, only the node knows. blvm-node leaves out more than that.
        let sigops_at_least = transaction.total_sigop_cost(|_| None) as u64;
        // no sum of these overflows
        let sigops = entry.sigops.unwrap_or(0).max(sigops_at_least).min(u32::MAX.into());
        Ok(Self {
            txid: transaction.compute_txid().to_byte_array(),
            wtxid: transaction.compute_wtxid().to_byte_array(),
            fee: entry.fee,
            size: Size { weight: transaction.weight().to_wu(), sigops },
            bytes,
        })
    }
}

impl Size {
    /// A node's limits, as far as they are stricter than the network's.
    pub(super) fn limits(weight: Option<u64>, sigops: Option<u64>) -> Self {
        Self {
            weight: weight.unwrap_or(LIMITS.weight).min(LIMITS.weight),
            sigops: sigops.unwrap_or(LIMITS.sigops).min(LIMITS.sigops),
        }
    }

    fn exceeds(self, limits: Self) -> bool {
        self.weight > limits.weight || self.sigops > limits.sigops
    }
}

/// Leaves out the last transactions, on which no other depends, until our coinbase has its place
/// beside the others; answers what is then left of `value`.
pub(super) fn fit(
    value: u64,
    room: Room,
    limits: Size,
    candidates: &mut Vec<Candidate>,
) -> Result<u64, TemplateError> {
    let frame = Size { weight: FRAME_WEIGHT + 4 * u64::from(room.size), sigops: room.sigops.into() };
    let mut size = candidates.iter().fold(frame, |sum, candidate| Size {
        weight: sum.weight + candidate.size.weight,
        sigops: sum.sigops + candidate.size.sigops,
    });
    let mut left = value;
    while size.exceeds(limits) {
        let Some(last) = candidates.pop() else { break };
        let fee = last.fee.ok_or(TemplateError::NoFee(candidates.len()))?;
        left = left.checked_sub(fee).ok_or(TemplateError::Fees(value))?;
        size = Size { weight: size.weight - last.size.weight, sigops: size.sigops - last.size.sigops };
    }
    Ok(left)
}
