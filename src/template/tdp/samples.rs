//! Templates to test with.

use bitcoin::Transaction;
use bitcoin::consensus::encode;

use crate::mining::{Coinbase, merkle, witness};
use crate::wire::codec::{B064K, B0255, Seq255};
use crate::wire::template::{NewTemplate, SetNewPrevHash};
use crate::wire::{TemplateId, U256};

pub(super) const REGTEST_NBITS: u32 = 0x207f_ffff;

/// What a message about a template borrows from.
#[derive(Clone)]
pub(super) struct Sample {
    pub(super) prefix: Vec<u8>,
    pub(super) outputs: Vec<u8>,
    pub(super) path: Vec<U256>,
}

impl Sample {
    /// With transactions that nobody knows.
    pub(super) fn at(height: u32) -> Self {
        let outputs = encode::serialize(&witness::output([9; 32]));
        Self { prefix: Coinbase::bip34(height), outputs, path: vec![U256([7; 32]), U256([8; 32])] }
    }

    /// With these transactions.
    pub(super) fn of(height: u32, transactions: &[Transaction]) -> Self {
        let txids: Vec<[u8; 32]> = transactions.iter().map(|tx| *tx.compute_txid().as_ref()).collect();
        let wtxids: Vec<[u8; 32]> = transactions.iter().map(|tx| *tx.compute_wtxid().as_ref()).collect();
        let outputs = encode::serialize(&witness::output(witness::commitment(&wtxids)));
        Self { outputs, path: merkle::path(&txids), ..Self::at(height) }
    }

    pub(super) fn message(&self, id: u64, future_template: bool) -> NewTemplate<'_> {
        NewTemplate {
            template_id: TemplateId(id),
            future_template,
            version: 0x2000_0000,
            coinbase_tx_version: 2,
            coinbase_prefix: B0255::new(&self.prefix).unwrap(),
            coinbase_tx_input_sequence: 0xffff_fffe,
            coinbase_tx_value_remaining: 312_600_000,
            coinbase_tx_outputs_count: 1,
            coinbase_tx_outputs: B064K::new(&self.outputs).unwrap(),
            coinbase_tx_locktime: 839_999,
            merkle_path: Seq255::new(&self.path).unwrap(),
        }
    }
}

/// On a regtest chain.
pub(super) fn new_prev_hash(id: u64, prev_hash: u8) -> SetNewPrevHash {
    let mut target = [0; 32];
    target[29..].copy_from_slice(&[0xff, 0xff, 0x7f]);
    SetNewPrevHash {
        template_id: TemplateId(id),
        prev_hash: U256([prev_hash; 32]),
        header_timestamp: 1_800_000_000,
        n_bits: REGTEST_NBITS,
        target: U256(target),
    }
}
