//! Templates in SRI's words, and blocks made of what the source makes of them.

use std::sync::Arc;

use bitcoin::absolute::LockTime;
use bitcoin::block::{Block, Header, Version};
use bitcoin::consensus::encode;
use bitcoin::hashes::Hash;
use bitcoin::transaction;
use bitcoin::{
    Amount, CompactTarget, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode, TxOut, Witness,
};
use blvm_stratum_v2::mining::merkle::fold;
use blvm_stratum_v2::mining::{Target, TemplateSerial};
use blvm_stratum_v2::template::{FoundBlock, Offer};
use stratum_core::parsers_sv2::TemplateDistributionOwned;
use stratum_core::template_distribution_sv2::{
    NewTemplateOwned, RequestTransactionDataSuccessOwned, SetNewPrevHashOwned,
};

pub(crate) const REGTEST: u32 = 0x207f_ffff;
pub(crate) const HEIGHT: u32 = 101;
pub(crate) const NOW: u32 = 1_800_000_000;

/// What a template is of.
#[derive(Clone)]
pub(crate) struct Contents {
    pub(crate) height: u32,
    pub(crate) value: u64,
    pub(crate) transactions: Vec<Transaction>,
}

impl Contents {
    pub(crate) fn empty(height: u32) -> Self {
        Self { height, value: 5_000_000_000, transactions: Vec::new() }
    }

    pub(crate) fn full(height: u32, count: u32, len: usize) -> Self {
        let transactions: Vec<_> = (0..count).map(|i| transaction(i, len)).collect();
        Self { transactions, value: 5_000_000_000 + u64::from(count), ..Self::empty(height) }
    }

    /// The block of a coinbase and the transactions, as far as a template decides it.
    fn block(&self) -> Block {
        let prefix = bitcoin::script::Builder::new().push_int(self.height.into()).into_script();
        let input = TxIn { script_sig: prefix, witness: Witness::from_slice(&[[0; 32]]), ..TxIn::default() };
        let coinbase = Transaction {
            version: transaction::Version::TWO,
            lock_time: LockTime::from_consensus(self.height - 1),
            input: vec![TxIn { sequence: Sequence::ENABLE_LOCKTIME_NO_RBF, ..input }],
            output: Vec::new(),
        };
        let header = Header {
            version: Version::from_consensus(0x2000_0000),
            prev_blockhash: bitcoin::BlockHash::all_zeros(),
            merkle_root: TxMerkleNode::all_zeros(),
            time: NOW,
            bits: CompactTarget::from_consensus(REGTEST),
            nonce: 0,
        };
        let txdata = [&[coinbase], &self.transactions[..]].concat();
        let mut block = Block { header, txdata };
        let commitment =
            Block::compute_witness_commitment(&block.witness_root().unwrap(), &[0; 32]).to_byte_array();
        let script = [&[0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed], &commitment[..]].concat();
        block.txdata[0].output =
            vec![TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::from_bytes(script) }];
        block
    }

    pub(crate) fn new_template(&self, template_id: u64, future_template: bool) -> TemplateDistributionOwned {
        let block = self.block();
        let coinbase = &block.txdata[0];
        let txids: Vec<_> = self.transactions.iter().map(|tx| tx.compute_txid().to_byte_array()).collect();
        let path: Vec<_> =
            blvm_stratum_v2::mining::merkle::path(&txids).iter().map(|hash| hash.0.into()).collect();
        TemplateDistributionOwned::NewTemplate(NewTemplateOwned {
            template_id,
            future_template,
            version: 0x2000_0000,
            coinbase_tx_version: 2,
            coinbase_prefix: coinbase.input[0].script_sig.to_bytes().try_into().unwrap(),
            coinbase_tx_input_sequence: coinbase.input[0].sequence.to_consensus_u32(),
            coinbase_tx_value_remaining: self.value,
            coinbase_tx_outputs_count: 1,
            coinbase_tx_outputs: encode::serialize(&coinbase.output[0]).try_into().unwrap(),
            coinbase_tx_locktime: coinbase.lock_time.to_consensus_u32(),
            merkle_path: stratum_core::binary_sv2::Seq0255Owned::new(path).unwrap(),
        })
    }

    pub(crate) fn transaction_data(&self, template_id: u64) -> TemplateDistributionOwned {
        let list = self.transactions.iter().map(|tx| encode::serialize(tx).try_into().unwrap()).collect();
        TemplateDistributionOwned::RequestTransactionDataSuccess(RequestTransactionDataSuccessOwned {
            template_id,
            excess_data: Vec::new().try_into().unwrap(),
            transaction_list: stratum_core::binary_sv2::Seq064KOwned::new(list).unwrap(),
        })
    }
}

fn transaction(number: u32, len: usize) -> Transaction {
    let input = TxIn {
        previous_output: OutPoint { vout: number, ..OutPoint::default() },
        witness: Witness::from_slice(&[vec![number as u8; len]]),
        ..TxIn::default()
    };
    Transaction {
        version: transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![input],
        output: vec![TxOut { value: Amount::from_sat(1), script_pubkey: ScriptBuf::new() }],
    }
}

pub(crate) fn new_prev_hash(template_id: u64, prev_hash: u8) -> TemplateDistributionOwned {
    let target = bitcoin::Target::from_compact(CompactTarget::from_consensus(REGTEST)).to_le_bytes();
    with_target(template_id, prev_hash, REGTEST, target)
}

pub(crate) fn with_target(
    template_id: u64,
    prev_hash: u8,
    n_bits: u32,
    target: [u8; 32],
) -> TemplateDistributionOwned {
    TemplateDistributionOwned::SetNewPrevHash(SetNewPrevHashOwned {
        template_id,
        prev_hash: [prev_hash; 32].into(),
        header_timestamp: NOW,
        n_bits,
        target: target.into(),
    })
}

/// A block of what is offered, mined as a pool would have it mined.
pub(crate) fn solve(offer: &Offer) -> FoundBlock {
    let payout = TxOut {
        value: Amount::from_sat(offer.draft.coinbase.value),
        script_pubkey: ScriptBuf::from_bytes(vec![0x51]),
    };
    let parts = offer.draft.coinbase.assemble(TemplateSerial(1), 0, b"/test/", &[payout], 20).unwrap();
    let merkle_root = fold(parts.txid(&[7; 20]), &offer.draft.merkle_path);
    let mut header = Header {
        version: Version::from_consensus(offer.draft.version as i32),
        prev_blockhash: offer.tip.prev_hash,
        merkle_root: TxMerkleNode::from_byte_array(merkle_root),
        time: offer.tip.min_ntime,
        bits: CompactTarget::from_consensus(offer.tip.nbits),
        nonce: 0,
    };
    let met = |header: &Header, target: &Target| target.is_met_by(&header.block_hash().to_byte_array());
    while !met(&header, &offer.tip.report_target) {
        header.nonce += 1;
    }
    FoundBlock {
        hash: header.block_hash(),
        height: offer.tip.height,
        header,
        coinbase: parts.transaction(&[7; 20]).unwrap(),
        body: offer.draft.body.clone(),
        draft: Some(Arc::clone(&offer.draft)),
    }
}
