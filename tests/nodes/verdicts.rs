//! The embedded chain refuses what Bitcoin Core refuses, in the same words.

use bitcoin::absolute::LockTime;
use bitcoin::block::Version;
use bitcoin::hashes::Hash;
use bitcoin::{Amount, Block, CompactTarget, OutPoint, ScriptBuf, Sequence, TxMerkleNode, Txid, Witness};
use blvm_stratum_v2::clock::unix_now;
use blvm_stratum_v2::mining::TemplateSerial;
use blvm_stratum_v2::template::regtest::{Chain, Options, RegtestChain};

use crate::core::Core;
use crate::miner::solve as mine;

/// What is wrong with a block, and whether it has to be made to fit in all else.
type Fault = (fn(&mut Block), Fit);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fit {
    /// Commitment, merkle root and proof of work.
    All,
    /// Merkle root and proof of work.
    Root,
    /// Proof of work.
    Work,
    Nothing,
}

const FAULTS: &[Fault] = &[
    (|block| block.header.bits = CompactTarget::from_consensus(0x207f_fffe), Fit::Work),
    (unsolve, Fit::Nothing),
    (|block| block.header.time = 1_296_688_602, Fit::Work),
    (|block| block.header.time = unix_now() + 7_300, Fit::Work),
    (|block| block.header.version = Version::from_consensus(1), Fit::Work),
    (|block| block.header.merkle_root = TxMerkleNode::all_zeros(), Fit::Work),
    (clear, Fit::Work),
    (|block| drop(block.txdata.remove(0)), Fit::Root),
    (|block| block.txdata.push(block.txdata[0].clone()), Fit::Root),
    (|block| block.txdata[0].input[0].script_sig = ScriptBuf::from_bytes(vec![1]), Fit::All),
    (|block| block.txdata[0].input[0].script_sig = ScriptBuf::from_bytes(vec![1; 101]), Fit::All),
    (|block| block.txdata[0].input[0].script_sig = ScriptBuf::from_bytes(vec![1, 3, 0]), Fit::All),
    (|block| block.txdata[0].output[0].value += Amount::ONE_SAT, Fit::All),
    (|block| block.txdata[0].input[0].witness = Witness::from_slice(&[[0; 31]]), Fit::Nothing),
    (|block| block.txdata[0].input[0].witness = Witness::from_slice(&[[1; 32]]), Fit::Nothing),
    (|block| block.txdata[1].input[0].witness = Witness::from_slice(&[[0x52]]), Fit::Nothing),
    (|block| drop(block.txdata[0].output.pop()), Fit::Root),
    (|block| block.txdata[1].output.clear(), Fit::All),
    (pay_more_than_there_is, Fit::All),
    (|block| block.txdata[1].input.extend_from_within(..), Fit::All),
    (|block| block.txdata[1].input[0].previous_output.txid = Txid::all_zeros(), Fit::All),
    (|block| block.txdata[2].input[0].previous_output = block.txdata[1].input[0].previous_output, Fit::All),
    (|block| block.txdata[1].output[0].value = Amount::from_int_btc(51), Fit::All),
    (|block| block.txdata[1].input[0].witness = Witness::from_slice(&[[0x52]]), Fit::All),
    (|block| block.txdata[1].input[0].script_sig = ScriptBuf::from_bytes(vec![0x51]), Fit::All),
    (lock, Fit::All),
    (|block| block.txdata[1].input[0].sequence = Sequence(1_000), Fit::All),
    (spend_the_coinbase, Fit::All),
    (|block| block.txdata[0].output.extend_from_within(..1), Fit::All),
];

#[tokio::test]
async fn the_embedded_chain_and_bitcoin_core_refuse_the_same_blocks_in_the_same_words() {
    let Some(core) = Core::empty("regtest").await else { return };
    let options = Options { transactions: 3, ..Options::default() };
    let mut source = RegtestChain::open(options, TemplateSerial(1), unix_now()).unwrap();
    let mut chain = Chain::default();
    for block in source.chain().blocks().skip(1) {
        assert_eq!(core.submit(block).await, Ok(()));
        chain.connect(block.clone(), unix_now()).unwrap();
    }
    let work = source.work();
    source.submit(mine(&work.tip, &work.template, work.tip.min_ntime), unix_now()).unwrap();
    let good = source.chain().blocks().next_back().unwrap();

    for (number, (spoil, fit)) in FAULTS.iter().enumerate() {
        let mut block = good.clone();
        spoil(&mut block);
        make_fit(&mut block, *fit);
        let ours = chain.connect(block.clone(), unix_now()).expect_err("a fault").to_string();
        let theirs = core.submit(&block).await.expect_err(&ours);
        assert_eq!(ours, without_details(&theirs), "fault {number}: {theirs}");
    }
    assert_eq!(core.submit(good).await, Ok(()));
    chain.connect(good.clone(), unix_now()).unwrap();
    assert_eq!(
        core.submit(good).await,
        Err(chain.connect(good.clone(), unix_now()).unwrap_err().to_string())
    );
}

/// `bad-version(0x00000001)` and the like.
fn without_details(words: &str) -> &str {
    words.split(['(', ' ']).next().unwrap()
}

fn make_fit(block: &mut Block, fit: Fit) {
    if fit == Fit::All {
        let commitment = Block::compute_witness_commitment(&block.witness_root().unwrap(), &[0; 32]);
        let script = [&[0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed], &commitment.to_byte_array()[..]].concat();
        let output = block.txdata[0].output.iter_mut().find(|output| output.script_pubkey.is_op_return());
        output.unwrap().script_pubkey = ScriptBuf::from_bytes(script);
    }
    if fit == Fit::All || fit == Fit::Root {
        block.header.merkle_root = block.compute_merkle_root().unwrap();
    }
    if fit != Fit::Nothing {
        while block.header.validate_pow(block.header.target()).is_err() {
            block.header.nonce += 1;
        }
    }
}

fn unsolve(block: &mut Block) {
    while block.header.validate_pow(block.header.target()).is_ok() {
        block.header.nonce += 1;
    }
}

fn clear(block: &mut Block) {
    block.txdata.clear();
    block.header.merkle_root = TxMerkleNode::all_zeros();
}

fn pay_more_than_there_is(block: &mut Block) {
    block.txdata[1].output[0].value = Amount::MAX_MONEY;
    block.txdata[1].output.extend_from_within(..1);
}

fn lock(block: &mut Block) {
    block.txdata[1].lock_time = LockTime::from_consensus(1_000);
    block.txdata[1].input[0].sequence = Sequence::ZERO;
}

/// A transaction spends what this block's coinbase pays.
fn spend_the_coinbase(block: &mut Block) {
    block.txdata[1].input[0].previous_output = OutPoint::new(block.txdata[0].compute_txid(), 0);
}
