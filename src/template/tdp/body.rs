//! Whether a list of transactions is what a template is made of.

use bitcoin::Transaction;
use bitcoin::consensus::encode;

use crate::mining::{merkle, witness};
use crate::template::Draft;

/// No block takes more bytes.
const MAX_BLOCK_LEN: usize = 4_000_000;

/// Why transactions make no block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(in crate::template) enum BodyError {
    /// A block would not hold them.
    #[error("they take more than the {MAX_BLOCK_LEN} bytes that a block has")]
    TooLarge,
    /// One is none. The first is number 1, behind the coinbase.
    #[error("transaction {0} cannot be read")]
    NotATransaction(usize),
    /// Others than those in the template.
    #[error("they do not lead to the template's merkle_path")]
    OtherTransactions,
    /// The same, with other witnesses.
    #[error("their witnesses are not those that the template's coinbase commits to")]
    OtherWitnesses,
}

/// Whether the transactions are the draft's: a block of them is valid if the template was.
pub(super) fn check<'t>(
    draft: &Draft,
    transactions: impl Iterator<Item = &'t [u8]>,
) -> Result<(), BodyError> {
    let (mut txids, mut wtxids) = (Vec::new(), Vec::new());
    let mut len = 0;
    for (index, bytes) in transactions.enumerate() {
        len += bytes.len();
        if len > MAX_BLOCK_LEN {
            return Err(BodyError::TooLarge);
        }
        let transaction: Transaction =
            encode::deserialize(bytes).map_err(|_| BodyError::NotATransaction(index + 1))?;
        txids.push(*transaction.compute_txid().as_ref());
        wtxids.push(*transaction.compute_wtxid().as_ref());
    }
    if merkle::path(&txids) != draft.merkle_path {
        return Err(BodyError::OtherTransactions);
    }
    let same = match witness::find(&draft.coinbase.trailing_outputs) {
        Some(commitment) => commitment == witness::commitment(&wtxids),
        None => txids == wtxids,
    };
    if same { Ok(()) } else { Err(BodyError::OtherWitnesses) }
}

#[cfg(test)]
mod tests {
    use bitcoin::absolute::LockTime;
    use bitcoin::transaction::Version;
    use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, TxIn, TxOut, Witness};

    use super::*;
    use crate::template::tdp::draft::draft;
    use crate::template::tdp::samples::Sample;

    fn transaction(value: u64, witness: &[u8]) -> Transaction {
        let witness = if witness.is_empty() { Witness::new() } else { Witness::from_slice(&[witness]) };
        let input = TxIn {
            previous_output: OutPoint { vout: 7, ..OutPoint::default() },
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness,
        };
        let output = TxOut { value: Amount::from_sat(value), script_pubkey: ScriptBuf::new() };
        Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: vec![input],
            output: vec![output],
        }
    }

    fn checked(sample: &Sample, transactions: &[Transaction]) -> Result<(), BodyError> {
        let (draft, _) = draft(&sample.message(1, false)).unwrap();
        let bytes: Vec<_> = transactions.iter().map(encode::serialize).collect();
        check(&draft, bytes.iter().map(Vec::as_slice))
    }

    #[test]
    fn only_the_transactions_themselves_will_do() {
        for count in 0..6 {
            let transactions: Vec<_> = (0..count).map(|i| transaction(i, b"signed")).collect();
            let sample = Sample::of(840_000, &transactions);
            assert_eq!(checked(&sample, &transactions), Ok(()), "{count}");
            let mut others = transactions.clone();
            others.push(transaction(99, b""));
            assert_eq!(checked(&sample, &others), Err(BodyError::OtherTransactions));
            for i in 0..transactions.len() {
                let mut others = transactions.clone();
                others[i] = transaction(i as u64, b"forged");
                assert_eq!(checked(&sample, &others), Err(BodyError::OtherWitnesses));
                others.remove(i);
                assert_eq!(checked(&sample, &others), Err(BodyError::OtherTransactions));
            }
        }
    }

    #[test]
    fn a_coinbase_without_commitment_has_no_witnesses_behind_it() {
        let bare = |transactions: &[Transaction]| {
            let sample = Sample::of(1, transactions);
            let mut m = sample.message(1, false);
            m.coinbase_tx_outputs_count = 0;
            m.coinbase_tx_outputs = Default::default();
            let (draft, _) = draft(&m).unwrap();
            let bytes: Vec<_> = transactions.iter().map(encode::serialize).collect();
            check(&draft, bytes.iter().map(Vec::as_slice))
        };
        assert_eq!(bare(&[transaction(1, b""), transaction(2, b"")]), Ok(()));
        assert_eq!(bare(&[transaction(1, b""), transaction(2, b"x")]), Err(BodyError::OtherWitnesses));
    }

    #[test]
    fn nonsense_is_named() {
        let good = encode::serialize(&transaction(1, b""));
        let (draft, _) = draft(&Sample::at(1).message(1, false)).unwrap();
        let long = [&good[..], &[0]].concat();
        for (list, error) in [
            (vec![&good[..], &[1, 2, 3]], BodyError::NotATransaction(2)),
            (vec![&[][..]], BodyError::NotATransaction(1)),
            (vec![&long[..]], BodyError::NotATransaction(1)),
            (vec![&vec![0; MAX_BLOCK_LEN + 1]], BodyError::TooLarge),
        ] {
            assert_eq!(check(&draft, list.into_iter()), Err(error));
        }
    }
}
