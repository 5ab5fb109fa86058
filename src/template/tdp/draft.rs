//! What a NewTemplate makes (§7.2).

use std::sync::Arc;

use bitcoin::consensus::Decodable;
use bitcoin::{Amount, TxOut};

use crate::mining::{Coinbase, witness};
use crate::template::{Body, Draft};
use crate::wire::template::NewTemplate;

/// What §7.2 lets `coinbase_prefix` have.
const MAX_PREFIX: usize = 8;
/// Bitcoin Core counts no further.
const MAX_HEIGHT: u32 = i32::MAX as u32;
/// A block's tree cannot be nearly as deep.
const MAX_DEPTH: usize = 32;

/// Why a template cannot be mined on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(in crate::template) enum DraftError {
    /// The rest of the coinbase might not fit behind it.
    #[error("its coinbase_prefix has {0} bytes, more than {MAX_PREFIX}")]
    PrefixTooLong(usize),
    /// BIP34 wants it there.
    #[error("its coinbase_prefix does not start with a height")]
    NoHeight,
    /// Not as many outputs as it says, or something else.
    #[error("its coinbase_tx_outputs are not {0} outputs")]
    Outputs(u32),
    /// No block has so many transactions.
    #[error("its merkle_path has {0} hashes, more than {MAX_DEPTH}")]
    TooDeep(usize),
    /// There is not so much money.
    #[error("its coinbase may spend {0} satoshis, more than there are")]
    TooMuch(u64),
}

/// The draft and its height.
pub(super) fn draft(m: &NewTemplate<'_>) -> Result<(Draft, u32), DraftError> {
    let script_prefix = m.coinbase_prefix.as_bytes().to_vec();
    if script_prefix.len() > MAX_PREFIX {
        return Err(DraftError::PrefixTooLong(script_prefix.len()));
    }
    let height = Coinbase::height(&script_prefix).filter(|height| *height <= MAX_HEIGHT);
    let height = height.ok_or(DraftError::NoHeight)?;
    if m.coinbase_tx_value_remaining > Amount::MAX_MONEY.to_sat() {
        return Err(DraftError::TooMuch(m.coinbase_tx_value_remaining));
    }
    let trailing_outputs = outputs(m.coinbase_tx_outputs_count, m.coinbase_tx_outputs.as_bytes())?;
    if m.merkle_path.len() > MAX_DEPTH {
        return Err(DraftError::TooDeep(m.merkle_path.len()));
    }
    let coinbase = Coinbase {
        version: m.coinbase_tx_version,
        script_prefix,
        sequence: m.coinbase_tx_input_sequence,
        value: m.coinbase_tx_value_remaining,
        witness_commitment: witness::find(&trailing_outputs).is_some(),
        trailing_outputs,
        lock_time: m.coinbase_tx_locktime,
    };
    let draft = Draft {
        version: m.version,
        version_rolling: true,
        coinbase,
        merkle_path: m.merkle_path.iter().collect(),
        // a block with nothing behind its coinbase is whole from the start
        body: Arc::new(if m.merkle_path.is_empty() { Body::known(Vec::new()) } else { Body::default() }),
    };
    Ok((draft, height))
}

/// So many outputs and nothing else.
fn outputs(count: u32, mut bytes: &[u8]) -> Result<Vec<TxOut>, DraftError> {
    let mut outputs = Vec::new(); // grows with what there is, not with what is announced
    for _ in 0..count {
        outputs.push(TxOut::consensus_decode(&mut bytes).map_err(|_| DraftError::Outputs(count))?);
    }
    if bytes.is_empty() { Ok(outputs) } else { Err(DraftError::Outputs(count)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::tdp::samples::Sample;
    use crate::wire::U256;

    #[test]
    fn every_field_finds_its_place() {
        let (draft, height) = draft(&Sample::at(840_000).message(1, true)).unwrap();
        assert_eq!(height, 840_000);
        assert_eq!((draft.version, draft.version_rolling), (0x2000_0000, true));
        assert_eq!(draft.merkle_path, [U256([7; 32]), U256([8; 32])]);
        assert!(draft.body.get().is_none());
        let (empty, _) = super::draft(&Sample::of(840_000, &[]).message(1, true)).unwrap();
        assert_eq!(empty.body.get().map(<[_]>::len), Some(0));
        let expected = Coinbase {
            version: 2,
            script_prefix: vec![0x03, 0x40, 0xd1, 0x0c],
            sequence: 0xffff_fffe,
            value: 312_600_000,
            trailing_outputs: vec![witness::output([9; 32])],
            lock_time: 839_999,
            witness_commitment: true,
        };
        assert_eq!(draft.coinbase, expected);
    }

    #[test]
    fn what_is_no_template_is_refused() {
        let good = Sample::at(840_000);
        let refused = |sample: &Sample, change: fn(&mut NewTemplate<'_>)| {
            let mut m = sample.message(1, true);
            change(&mut m);
            draft(&m).map(drop).unwrap_err()
        };
        let prefix = |prefix: &[u8]| refused(&Sample { prefix: prefix.to_vec(), ..good.clone() }, |_| {});
        assert_eq!(prefix(&[3, 1, 1, 1, 0, 0, 0, 0, 0]), DraftError::PrefixTooLong(9));
        for no_height in [&[][..], &[5, 0xff, 0xff, 0xff, 0xff, 0], &[0x6a], &[3, 1, 1], &[1, 0x80]] {
            assert_eq!(prefix(no_height), DraftError::NoHeight, "{no_height:?}");
        }
        assert_eq!(refused(&good, |m| m.coinbase_tx_outputs_count = 0), DraftError::Outputs(0));
        assert_eq!(refused(&good, |m| m.coinbase_tx_outputs_count = 2), DraftError::Outputs(2));
        assert_eq!(refused(&good, |m| m.coinbase_tx_outputs_count = u32::MAX), DraftError::Outputs(u32::MAX));
        let (first, last) = (good.outputs[1..].to_vec(), [good.outputs.as_slice(), &[0]].concat());
        for outputs in [first, last, good.outputs[..20].to_vec()] {
            assert_eq!(refused(&Sample { outputs, ..good.clone() }, |_| {}), DraftError::Outputs(1));
        }
        let huge = |m: &mut NewTemplate<'_>| m.coinbase_tx_value_remaining = u64::MAX;
        assert_eq!(refused(&good, huge), DraftError::TooMuch(u64::MAX));
        let path = vec![U256([0; 32]); 33];
        assert_eq!(refused(&Sample { path, ..good }, |_| {}), DraftError::TooDeep(33));
    }
}
