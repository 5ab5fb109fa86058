//! What makes a block valid, as far as the block and its place in the chain tell.
//!
//! Written against the rules of regtest, where all soft forks are in force from the first block
//! after genesis, and on purpose without a line of the code that builds templates. What takes the
//! unspent outputs is in [`coins`](super::coins).

use std::collections::HashSet;

use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash;
use bitcoin::script::Builder;
use bitcoin::{Amount, Block, CompactTarget, Script, Sequence, Transaction, WitnessCommitment};

use super::RejectReason;

/// Regtest's compact target. It never changes.
pub const BITS: u32 = 0x207f_ffff;
/// How many blocks it takes the subsidy to halve.
const HALVING_INTERVAL: u32 = 150;
/// How far a block's time may be ahead of the clock, in seconds.
const MAX_FUTURE: u64 = 2 * 60 * 60;
/// The most that a block may weigh.
const MAX_WEIGHT: u64 = 4_000_000;
/// A byte outside of a witness weighs this much.
const WITNESS_SCALE: u64 = 4;
/// From this value on, a lock time is a time and not a height.
const LOCK_TIME_THRESHOLD: u32 = 500_000_000;
/// Starts the script of a witness commitment (BIP141).
const COMMITMENT_MARK: [u8; 6] = [0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];

/// What a block at `height` creates, in satoshis.
#[must_use]
pub fn subsidy(height: u32) -> u64 {
    (50 * Amount::ONE_BTC.to_sat()).checked_shr(height / HALVING_INTERVAL).unwrap_or(0)
}

/// Whether a header may follow blocks with this median time, by a clock that shows `now`.
pub(super) fn check_header(header: &Header, median_time_past: u32, now: u32) -> Result<(), RejectReason> {
    if header.bits != CompactTarget::from_consensus(BITS) {
        return Err(RejectReason::Bits);
    }
    if header.validate_pow(header.target()).is_err() {
        return Err(RejectReason::HighHash);
    }
    if header.time <= median_time_past {
        return Err(RejectReason::TimeTooOld);
    }
    if u64::from(header.time) > u64::from(now) + MAX_FUTURE {
        return Err(RejectReason::TimeTooNew);
    }
    // BIP34, BIP66 and BIP65 each retired the versions before theirs.
    if header.version < Version::from_consensus(4) {
        return Err(RejectReason::Version);
    }
    Ok(())
}

/// Whether a block's content is in order at this height, apart from what it spends.
pub(super) fn check_body(block: &Block, height: u32, median_time_past: u32) -> Result<(), RejectReason> {
    if !block.check_merkle_root() {
        // Of an empty block too: it has no root.
        return Err(if block.txdata.is_empty() { RejectReason::Length } else { RejectReason::MerkleRoot });
    }
    // The weight counts each byte outside of a witness three more times than the size does.
    let stripped = (block.weight().to_wu() - block.total_size() as u64) / (WITNESS_SCALE - 1);
    if stripped * WITNESS_SCALE > MAX_WEIGHT {
        return Err(RejectReason::Length);
    }
    check_coinbase(&block.txdata, height)?;
    for transaction in &block.txdata {
        check_transaction(transaction)?;
        if !is_final(transaction, height, median_time_past) {
            return Err(RejectReason::NotFinal);
        }
    }
    check_witnesses(block)?;
    if block.weight().to_wu() > MAX_WEIGHT {
        return Err(RejectReason::Weight);
    }
    Ok(())
}

fn check_coinbase(transactions: &[Transaction], height: u32) -> Result<(), RejectReason> {
    let Some((coinbase, others)) = transactions.split_first() else {
        return Err(RejectReason::CoinbaseMissing);
    };
    if !coinbase.is_coinbase() {
        return Err(RejectReason::CoinbaseMissing);
    }
    if others.iter().any(Transaction::is_coinbase) {
        return Err(RejectReason::SecondCoinbase);
    }
    let script = coinbase.input[0].script_sig.as_bytes();
    if !(2..=100).contains(&script.len()) {
        return Err(RejectReason::CoinbaseScriptLength);
    }
    if !script.starts_with(Builder::new().push_int(height.into()).as_bytes()) {
        return Err(RejectReason::CoinbaseHeight);
    }
    Ok(())
}

fn check_transaction(transaction: &Transaction) -> Result<(), RejectReason> {
    if transaction.input.is_empty() {
        return Err(RejectReason::NoInputs);
    }
    if transaction.output.is_empty() {
        return Err(RejectReason::NoOutputs);
    }
    let total = transaction.output.iter().try_fold(Amount::ZERO, |sum, output| sum.checked_add(output.value));
    if total.is_none_or(|total| total > Amount::MAX_MONEY) {
        return Err(RejectReason::OutputsTooLarge);
    }
    let mut seen = HashSet::new();
    if !transaction.input.iter().all(|input| seen.insert(input.previous_output)) {
        return Err(RejectReason::DuplicateInputs);
    }
    if !transaction.is_coinbase() && transaction.input.iter().any(|input| input.previous_output.is_null()) {
        return Err(RejectReason::NullInput);
    }
    Ok(())
}

/// Lock times are held against the median time (BIP113). Relative ones (BIP68) are not modelled:
/// a transaction that has one counts as never final, which refuses some valid blocks, but passes
/// no invalid one.
fn is_final(transaction: &Transaction, height: u32, median_time_past: u32) -> bool {
    let lock_time = transaction.lock_time.to_consensus_u32();
    let now = if lock_time < LOCK_TIME_THRESHOLD { height } else { median_time_past };
    let all_final = transaction.input.iter().all(|input| input.sequence == Sequence::MAX);
    let relative = transaction.version.0 as u32 >= 2
        && transaction.input.iter().any(|input| input.sequence.is_relative_lock_time());
    (lock_time < now || all_final) && (transaction.is_coinbase() || !relative)
}

/// BIP141: with a commitment, it must be right; without one, there must be no witness.
fn check_witnesses(block: &Block) -> Result<(), RejectReason> {
    let coinbase = &block.txdata[0];
    let Some(commitment) = coinbase.output.iter().rev().find_map(|output| commitment(&output.script_pubkey))
    else {
        let any = block.txdata.iter().flat_map(|tx| &tx.input).any(|input| !input.witness.is_empty());
        return if any { Err(RejectReason::UnexpectedWitness) } else { Ok(()) };
    };
    let witness = &coinbase.input[0].witness;
    let reserved = witness.nth(0).filter(|item| witness.len() == 1 && item.len() == 32);
    let reserved = reserved.ok_or(RejectReason::WitnessReservedValue)?;
    let root = block.witness_root().ok_or(RejectReason::Length)?;
    if Block::compute_witness_commitment(&root, reserved) != commitment {
        return Err(RejectReason::WitnessCommitment);
    }
    Ok(())
}

fn commitment(script: &Script) -> Option<WitnessCommitment> {
    let hash = script.as_bytes().strip_prefix(&COMMITMENT_MARK)?.first_chunk()?;
    Some(WitnessCommitment::from_byte_array(*hash))
}
