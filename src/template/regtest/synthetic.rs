//! Transactions that nobody asked for, so that templates have a merkle path.
//!
//! They move coins that need no signature ([`spendable_script`]) to new coins of the same kind, so
//! they are valid on any regtest node and never run out: a transaction has one input and one
//! output, except that while there are too few coins, the largest is split into as many as are
//! missing. The first coins come from the blocks that the chain mines for itself at its start.

use std::cmp::Reverse;

use bitcoin::absolute::LockTime;
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};

use super::coins::{SPENDABLE_PROGRAM, spendable_script};

/// The most transactions in a template: they take less than half of a block, however they split.
pub const MAX_TRANSACTIONS: usize = 4_000;

/// Coins that would get smaller than this, in satoshis, are left alone.
const MIN_VALUE: u64 = 1_000;

/// Up to `count` transactions that spend the largest of `coins` and leave `fee` satoshis for each
/// output; and all fees together.
pub(super) fn transactions(
    coins: impl Iterator<Item = (OutPoint, u64)>,
    count: usize,
    fee: u64,
) -> (Vec<Transaction>, u64) {
    let count = count.min(MAX_TRANSACTIONS);
    let mut coins: Vec<_> = coins.filter(|(_, value)| *value >= MIN_VALUE + fee).collect();
    // The order of a hash map must not show: the same chain makes the same templates.
    coins.sort_unstable_by_key(|(point, value)| (Reverse(*value), *point));
    coins.truncate(count);

    let missing = count - coins.len();
    let transactions: Vec<_> = coins
        .iter()
        .enumerate()
        .map(|(nth, (point, value))| {
            let wanted = if nth == 0 { 1 + missing as u64 } else { 1 };
            spend(*point, *value, wanted.min(value / (MIN_VALUE + fee)), fee)
        })
        .collect();
    let paid: u64 = coins.iter().map(|(_, value)| value).sum();
    let kept: u64 = transactions.iter().flat_map(|tx| &tx.output).map(|output| output.value.to_sat()).sum();
    (transactions, paid - kept)
}

fn spend(coin: OutPoint, value: u64, outputs: u64, fee: u64) -> Transaction {
    let output = TxOut { value: Amount::from_sat(value / outputs - fee), script_pubkey: spendable_script() };
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: coin,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&[SPENDABLE_PROGRAM]),
        }],
        output: vec![output; outputs as usize],
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::Txid;
    use bitcoin::hashes::Hash;

    use super::*;

    fn coins(values: &[u64]) -> Vec<(OutPoint, u64)> {
        values.iter().zip(0..).map(|(value, vout)| (OutPoint::new(Txid::all_zeros(), vout), *value)).collect()
    }

    fn shape(values: &[u64], count: usize) -> (Vec<usize>, u64) {
        let (transactions, fees) = transactions(coins(values).into_iter(), count, 200);
        (transactions.iter().map(|tx| tx.output.len()).collect(), fees)
    }

    #[test]
    fn the_largest_coin_is_split_while_coins_are_missing() {
        assert_eq!(shape(&[], 3), (vec![], 0));
        assert_eq!(shape(&[9_000], 3), (vec![3], 600));
        assert_eq!(shape(&[5_000, 9_000], 3), (vec![2, 1], 600));
        assert_eq!(shape(&[5_000, 9_000, 7_000, 8_000], 3), (vec![1, 1, 1], 600));
        assert_eq!(
            transactions(coins(&[5_000, 9_000]).into_iter(), 1, 200).0[0].input[0].previous_output.vout,
            1
        );
    }

    #[test]
    fn small_coins_are_left_alone_and_nothing_is_lost() {
        assert_eq!(shape(&[1_199], 3), (vec![], 0));
        // Three outputs of 1,000 each do not fit; what does not divide by two is a fee.
        assert_eq!(shape(&[2_501], 3), (vec![2], 401));
    }

    #[test]
    fn the_most_that_is_made_takes_less_than_half_of_a_block() {
        let enough = coins(&[100_000; MAX_TRANSACTIONS + 1]);
        let (most, _) = transactions(enough.into_iter(), usize::MAX, 200);
        assert_eq!(most.len(), MAX_TRANSACTIONS);
        let (split, _) = transactions(coins(&[5_000_000_000]).into_iter(), usize::MAX, 200);
        assert_eq!(split[0].output.len(), MAX_TRANSACTIONS);
        for transactions in [most, split] {
            assert!(transactions.iter().map(|tx| tx.weight().to_wu()).sum::<u64>() < 2_000_000);
        }
    }
}
