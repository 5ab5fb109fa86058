//! What a coinbase commits to in the place of a block's witnesses (BIP141).

use bitcoin::{Amount, ScriptBuf, TxOut};

use super::hash::sha256d_pair;
use super::merkle;

/// How the script starts: OP_RETURN, a push of 36 bytes, and BIP141's mark.
const START: [u8; 6] = [0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];

/// What the coinbase's own witness holds in all of today's blocks.
pub const RESERVED_VALUE: [u8; 32] = [0; 32];

/// The commitment to the other transactions, which have these wtxids. The coinbase's own counts
/// as zero.
#[must_use]
pub fn commitment(wtxids: &[[u8; 32]]) -> [u8; 32] {
    let root = merkle::fold([0; 32], &merkle::path(wtxids));
    sha256d_pair(&root, &RESERVED_VALUE)
}

/// The output that carries a commitment.
#[must_use]
pub fn output(commitment: [u8; 32]) -> TxOut {
    let script = [&START[..], &commitment].concat();
    TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::from_bytes(script) }
}

/// The commitment that a coinbase with these outputs makes, if it does: the last one counts.
#[must_use]
pub fn find(outputs: &[TxOut]) -> Option<[u8; 32]> {
    let of = |output: &TxOut| output.script_pubkey.as_bytes().strip_prefix(&START)?.first_chunk().copied();
    outputs.iter().rev().find_map(of)
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::Hash;
    use bitcoin::{Block, WitnessMerkleNode};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn agrees_with_the_bitcoin_crate(wtxids in prop::collection::vec(any::<[u8; 32]>(), 0..20)) {
            let all: Vec<_> = std::iter::once([0; 32]).chain(wtxids.iter().copied()).collect();
            let root = WitnessMerkleNode::from_byte_array(merkle::root(&all).unwrap());
            let oracle = Block::compute_witness_commitment(&root, &RESERVED_VALUE);
            prop_assert_eq!(commitment(&wtxids), oracle.to_byte_array());
        }
    }

    #[test]
    fn the_last_commitment_counts() {
        let other = TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::from_bytes(vec![0x6a; 40]) };
        let outputs = [other.clone(), output([1; 32]), output([2; 32]), other.clone()];
        assert_eq!(find(&outputs), Some([2; 32]));
        assert_eq!(find(&outputs[..2]), Some([1; 32]));
        assert_eq!(find(&[other]), None);
        let mut short = output([1; 32]);
        short.script_pubkey = ScriptBuf::from_bytes(short.script_pubkey.as_bytes()[..37].to_vec());
        assert_eq!(find(&[short]), None);
    }
}
