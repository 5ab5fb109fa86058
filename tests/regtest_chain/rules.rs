//! Each rule of consensus, broken alone in a block that is otherwise good.

use bitcoin::absolute::LockTime;
use bitcoin::block::Version;
use bitcoin::hashes::Hash;
use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, OutPoint, ScriptBuf, Sequence, Transaction, TxMerkleNode, TxOut,
    Txid, Witness,
};
use blvm_stratum_v2::mining::{Coinbase, TemplateSerial};
use blvm_stratum_v2::template::regtest::{Chain, Options, RegtestChain, RejectReason, spendable_script};

use crate::miner::{NOW, mine, payout_script};

const HEIGHT: u32 = 104;

/// A chain of 103 blocks, and a good block with 3 transactions to follow. Blocks 102 and 103 pay
/// to scripts that this chain cannot unlock, the earlier ones to anyone.
fn ground() -> (Chain, Block) {
    let options = Options { transactions: 3, ..Options::default() };
    let mut source = RegtestChain::open(options, TemplateSerial(1), NOW).unwrap();
    for _ in 0..3 {
        mine(&mut source);
    }
    let mut blocks: Vec<Block> = source.chain().blocks().cloned().collect();
    let next = blocks.pop().unwrap();
    let chain = replay(&blocks);
    assert_eq!(chain.height() + 1, HEIGHT);
    assert_eq!(next.txdata.len(), 4);
    (chain, next)
}

fn replay(blocks: &[Block]) -> Chain {
    let mut chain = Chain::default();
    for block in &blocks[1..] {
        chain.connect(block.clone(), block.header.time).unwrap();
    }
    chain
}

fn solve(block: &mut Block) {
    while block.header.validate_pow(block.header.target()).is_err() {
        block.header.nonce += 1;
    }
}

fn set_merkle_root(block: &mut Block) {
    block.header.merkle_root = block.compute_merkle_root().unwrap_or(TxMerkleNode::all_zeros());
}

/// Puts the right witness commitment where the old one is.
fn set_commitment(block: &mut Block) {
    let commitment = Block::compute_witness_commitment(&block.witness_root().unwrap(), &[0; 32]);
    let script = [&[0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed], &commitment.to_byte_array()[..]].concat();
    let output = block.txdata[0].output.iter_mut().find(|output| output.script_pubkey.is_op_return());
    output.unwrap().script_pubkey = ScriptBuf::from_bytes(script);
}

/// What the chain says to the good block after `change`, which is made to fit in all else.
fn verdict(change: impl FnOnce(&mut Block)) -> Result<(), RejectReason> {
    try_on(ground(), |block| {
        change(block);
        set_commitment(block);
        set_merkle_root(block);
        solve(block);
    })
}

/// The same, but neither commitments nor proof of work are made to fit.
fn raw_verdict(change: impl FnOnce(&mut Block)) -> Result<(), RejectReason> {
    try_on(ground(), change)
}

fn try_on((mut chain, good): (Chain, Block), change: impl FnOnce(&mut Block)) -> Result<(), RejectReason> {
    let mut block = good.clone();
    change(&mut block);
    let verdict = chain.connect(block, NOW).map(drop);
    if verdict.is_err() {
        assert_eq!(chain.height() + 1, HEIGHT);
        chain.connect(good, NOW).expect("a refused block leaves no trace");
    }
    verdict
}

fn refuse(reason: RejectReason, change: impl FnOnce(&mut Block)) {
    assert_eq!(verdict(change), Err(reason));
}

fn spendable(value: u64) -> TxOut {
    TxOut { value: Amount::from_sat(value), script_pubkey: spendable_script() }
}

#[test]
fn the_good_block_is_good() {
    assert_eq!(raw_verdict(|_| {}), Ok(()));
    assert_eq!(verdict(|_| {}), Ok(()));
}

#[test]
fn place_in_the_chain() {
    let (mut chain, next) = ground();
    let third = chain.blocks().nth(3).unwrap().clone();
    assert_eq!(chain.connect(third.clone(), NOW), Err(RejectReason::Duplicate));
    let genesis = chain.blocks().next().unwrap().clone();
    assert_eq!(chain.connect(genesis, NOW), Err(RejectReason::Duplicate));
    let mut sibling = third;
    sibling.header.nonce += 1;
    solve(&mut sibling);
    assert_eq!(chain.connect(sibling, NOW), Err(RejectReason::Stale));
    assert_eq!(
        raw_verdict(|block| block.header.prev_blockhash = BlockHash::all_zeros()),
        Err(RejectReason::UnknownParent)
    );
    let hash = chain.connect(next.clone(), NOW).unwrap();
    assert_eq!((hash, chain.tip()), (next.block_hash(), next.block_hash()));
}

#[test]
fn proof_of_work() {
    assert_eq!(
        raw_verdict(|block| {
            while block.header.validate_pow(block.header.target()).is_ok() {
                block.header.nonce += 1;
            }
        }),
        Err(RejectReason::HighHash)
    );
    refuse(RejectReason::Bits, |block| block.header.bits = CompactTarget::from_consensus(0x207f_fffe));
    refuse(RejectReason::Bits, |block| block.header.bits = CompactTarget::from_consensus(0x1f7f_ffff));
}

#[test]
fn time() {
    // Of the last 11 blocks the two latest are from now, so the median is the fourth of the others.
    let median = ground().0.median_time_past();
    assert_eq!(median, 1_296_688_602 + 98 * 600);
    refuse(RejectReason::TimeTooOld, |block| block.header.time = median);
    assert_eq!(verdict(|block| block.header.time = median + 1), Ok(()));
    refuse(RejectReason::TimeTooNew, |block| block.header.time = NOW + 7_201);
    assert_eq!(verdict(|block| block.header.time = NOW + 7_200), Ok(()));
}

#[test]
fn version() {
    refuse(RejectReason::Version, |block| block.header.version = Version::from_consensus(3));
    refuse(RejectReason::Version, |block| block.header.version = Version::from_consensus(i32::MIN));
    assert_eq!(verdict(|block| block.header.version = Version::from_consensus(4)), Ok(()));
    assert_eq!(verdict(|block| block.header.version = Version::from_consensus(0x3fff_ffff)), Ok(()));
}

#[test]
fn merkle_root() {
    let root = |block: &mut Block| {
        block.header.merkle_root = TxMerkleNode::all_zeros();
        solve(block);
    };
    assert_eq!(raw_verdict(root), Err(RejectReason::MerkleRoot));
    let order = |block: &mut Block| block.txdata.swap(1, 2);
    assert_eq!(raw_verdict(order), Err(RejectReason::MerkleRoot));
}

#[test]
fn size() {
    let empty = |block: &mut Block| {
        block.txdata.clear();
        set_merkle_root(block);
        solve(block);
    };
    assert_eq!(raw_verdict(empty), Err(RejectReason::Length));
    let padding = |len| TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::from_bytes(vec![0x6a; len]) };
    refuse(RejectReason::Length, |block| block.txdata[0].output.push(padding(1_000_000)));
    // Short enough in itself, but not with the witnesses that are there. A long output takes 13 bytes
    // beside its script.
    let room = (4_000_000 - ground().1.weight().to_wu() as usize) / 4 - 13;
    assert_eq!(verdict(|block| block.txdata[0].output.push(padding(room))), Ok(()));
    refuse(RejectReason::Weight, |block| block.txdata[0].output.push(padding(room + 1)));
    refuse(RejectReason::Weight, |block| {
        block.txdata[1].input[0].witness = Witness::from_slice(&[vec![0; 4_000_000]]);
    });
}

#[test]
fn signature_operations() {
    let costly =
        |count| TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::from_bytes(vec![0xac; count]) };
    assert_eq!(verdict(|block| block.txdata[0].output.push(costly(20_000))), Ok(()));
    refuse(RejectReason::SignatureOperations, |block| block.txdata[0].output.push(costly(20_001)));
}

#[test]
fn coinbase_place() {
    let remove = |block: &mut Block| {
        block.txdata.remove(0);
        set_merkle_root(block);
        solve(block);
    };
    assert_eq!(raw_verdict(remove), Err(RejectReason::CoinbaseMissing));
    refuse(RejectReason::SecondCoinbase, |block| {
        let mut second = block.txdata[0].clone();
        second.output.truncate(1);
        block.txdata.push(second);
    });
}

#[test]
fn coinbase_script() {
    let script = |bytes: Vec<u8>| {
        verdict(move |block| block.txdata[0].input[0].script_sig = ScriptBuf::from_bytes(bytes))
    };
    let padded = |height, len| {
        let mut bytes = Coinbase::bip34(height);
        bytes.resize(len, 0);
        bytes
    };
    assert_eq!(script(vec![0x01]), Err(RejectReason::CoinbaseScriptLength));
    assert_eq!(script(padded(HEIGHT, 2)), Ok(()));
    assert_eq!(script(padded(HEIGHT, 100)), Ok(()));
    assert_eq!(script(padded(HEIGHT, 101)), Err(RejectReason::CoinbaseScriptLength));
    assert_eq!(script(padded(HEIGHT - 1, 20)), Err(RejectReason::CoinbaseHeight));
    assert_eq!(script(padded(HEIGHT + 1, 20)), Err(RejectReason::CoinbaseHeight));
    // The height as a number of two bytes.
    assert_eq!(script(vec![0x02, HEIGHT as u8, 0x00]), Err(RejectReason::CoinbaseHeight));
}

#[test]
fn coinbase_amount() {
    refuse(RejectReason::CoinbaseAmount, |block| block.txdata[0].output[0].value += Amount::ONE_SAT);
    assert_eq!(verdict(|block| block.txdata[0].output[0].value -= Amount::ONE_SAT), Ok(()));
    // Without a transaction there is no fee to take.
    refuse(RejectReason::CoinbaseAmount, |block| drop(block.txdata.pop()));
}

#[test]
fn witness_commitment() {
    let reserved = |items: Vec<Vec<u8>>| {
        raw_verdict(move |block| block.txdata[0].input[0].witness = Witness::from_slice(&items))
    };
    assert_eq!(reserved(vec![]), Err(RejectReason::WitnessReservedValue));
    assert_eq!(reserved(vec![vec![0; 31]]), Err(RejectReason::WitnessReservedValue));
    assert_eq!(reserved(vec![vec![0; 32], vec![]]), Err(RejectReason::WitnessReservedValue));
    assert_eq!(reserved(vec![vec![1; 32]]), Err(RejectReason::WitnessCommitment));
    // The txid does not cover this witness, only the commitment does.
    let witness = |block: &mut Block| block.txdata[1].input[0].witness = Witness::from_slice(&[[0x52]]);
    assert_eq!(raw_verdict(witness), Err(RejectReason::WitnessCommitment));

    let remove = |block: &mut Block| {
        block.txdata[0].output.pop();
        set_merkle_root(block);
        solve(block);
    };
    assert_eq!(raw_verdict(remove), Err(RejectReason::UnexpectedWitness));
    let without_any = |block: &mut Block| {
        block.txdata.truncate(1);
        block.txdata[0].output[0].value = Amount::from_int_btc(50);
        block.txdata[0].input[0].witness.clear();
        remove(block);
    };
    assert_eq!(raw_verdict(without_any), Ok(()));
}

#[test]
fn the_last_commitment_counts() {
    refuse(RejectReason::WitnessCommitment, |block| {
        let false_one = [&[0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed][..], &[0; 32]].concat();
        let output = TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::from_bytes(false_one) };
        block.txdata[0].output.push(output);
    });
}

#[test]
fn transactions_in_themselves() {
    refuse(RejectReason::NoInputs, |block| block.txdata[1].input.clear());
    refuse(RejectReason::NoOutputs, |block| block.txdata[1].output.clear());
    refuse(RejectReason::OutputsTooLarge, |block| {
        block.txdata[1].output = vec![spendable(Amount::MAX_MONEY.to_sat()), spendable(1)];
    });
    refuse(RejectReason::OutputsTooLarge, |block| {
        block.txdata[1].output = vec![spendable(u64::MAX), spendable(1)];
    });
    refuse(RejectReason::DuplicateInputs, |block| {
        let input = block.txdata[1].input[0].clone();
        block.txdata[1].input.push(input);
    });
    refuse(RejectReason::NullInput, |block| {
        let mut input = block.txdata[1].input[0].clone();
        input.previous_output = OutPoint::null();
        block.txdata[1].input.push(input);
    });
}

#[test]
fn lock_times() {
    let median = ground().0.median_time_past();
    let lock = |time: u32, sequence: u32, version: i32| {
        verdict(move |block| {
            block.txdata[1].lock_time = LockTime::from_consensus(time);
            block.txdata[1].input[0].sequence = Sequence(sequence);
            block.txdata[1].version.0 = version;
        })
    };
    assert_eq!(lock(HEIGHT - 1, 0xffff_fffe, 2), Ok(()));
    assert_eq!(lock(HEIGHT, 0xffff_fffe, 2), Err(RejectReason::NotFinal));
    assert_eq!(lock(HEIGHT, 0xffff_ffff, 2), Ok(()));
    assert_eq!(lock(median - 1, 0xffff_fffe, 2), Ok(()));
    assert_eq!(lock(median, 0xffff_fffe, 2), Err(RejectReason::NotFinal));
    // BIP68, from version 2 on only.
    assert_eq!(lock(0, 1, 2), Err(RejectReason::NotFinal));
    assert_eq!(lock(0, 1, 1), Ok(()));
    refuse(RejectReason::NotFinal, |block| {
        block.txdata[0].lock_time = LockTime::from_consensus(HEIGHT);
        block.txdata[0].input[0].sequence = Sequence(0);
    });
}

#[test]
fn spending() {
    refuse(RejectReason::MissingInputs, |block| {
        block.txdata[1].input[0].previous_output = OutPoint::new(Txid::all_zeros(), 0);
    });
    // Never there: a witness commitment.
    refuse(RejectReason::MissingInputs, |block| {
        let fourth = ground().0.blocks().nth(4).unwrap().txdata[0].clone();
        assert!(fourth.output[1].script_pubkey.is_op_return());
        block.txdata[1].input[0].previous_output = OutPoint::new(fourth.compute_txid(), 1);
    });
    // Spent by the transaction before.
    refuse(RejectReason::MissingInputs, |block| {
        block.txdata[2].input[0].previous_output = block.txdata[1].input[0].previous_output;
    });
    // Not there yet.
    refuse(RejectReason::MissingInputs, |block| {
        block.txdata[1].input[0].previous_output = OutPoint::new(block.txdata[2].compute_txid(), 0);
    });
    // There already.
    assert_eq!(
        verdict(|block| {
            let point = OutPoint::new(block.txdata[1].compute_txid(), 0);
            let output = spendable(block.txdata[1].output[0].value.to_sat());
            let input = bitcoin::TxIn { previous_output: point, ..block.txdata[2].input[0].clone() };
            let version = block.txdata[1].version;
            let lock_time = LockTime::ZERO;
            block.txdata.push(Transaction { version, lock_time, input: vec![input], output: vec![output] });
        }),
        Ok(())
    );
    refuse(RejectReason::Overspends, |block| block.txdata[1].output[0].value = Amount::from_int_btc(51));
}

#[test]
fn scripts() {
    let witness = |items: Vec<Vec<u8>>| {
        verdict(move |block| block.txdata[1].input[0].witness = Witness::from_slice(&items))
    };
    assert_eq!(witness(vec![vec![0x51]]), Ok(()));
    assert_eq!(witness(vec![]), Err(RejectReason::Script));
    assert_eq!(witness(vec![vec![0x52]]), Err(RejectReason::Script));
    assert_eq!(witness(vec![vec![], vec![0x51]]), Err(RejectReason::Script));
    refuse(RejectReason::Script, |block| {
        block.txdata[1].input[0].script_sig = ScriptBuf::from_bytes(vec![0x51]);
    });
    // An output that no witness unlocks here, made in the same block.
    refuse(RejectReason::Script, |block| {
        block.txdata[1].output[0].script_pubkey = payout_script();
        block.txdata[2].input[0].previous_output = OutPoint::new(block.txdata[1].compute_txid(), 0);
    });
}

#[test]
fn maturity() {
    let spend = |height: usize| {
        verdict(move |block| {
            let born = ground().0.blocks().nth(height).unwrap().txdata[0].compute_txid();
            block.txdata.truncate(2);
            block.txdata[1].input[0].previous_output = OutPoint::new(born, 0);
            block.txdata[1].output = vec![spendable(5_000_000_000)];
            block.txdata[0].output[0].value = Amount::from_int_btc(50);
        })
    };
    assert_eq!(spend(HEIGHT as usize - 100), Ok(()));
    assert_eq!(spend(HEIGHT as usize - 99), Err(RejectReason::PrematureSpend));
    // Genesis pays nobody, however deep it is.
    assert_eq!(spend(0), Err(RejectReason::MissingInputs));
}

#[test]
fn disconnecting_leaves_nothing_of_the_block() {
    let (mut chain, good) = ground();
    let mut block = good.clone();
    let point = OutPoint::new(block.txdata[1].compute_txid(), 0);
    block.txdata[2].input[0].previous_output = point;
    block.txdata[2].output[0].value = block.txdata[1].output[0].value - Amount::from_sat(200);
    block.txdata.truncate(3);
    block.txdata[0].output[0].value = Amount::from_int_btc(50);
    let fit = |block: &mut Block| {
        set_commitment(block);
        set_merkle_root(block);
        solve(block);
    };
    fit(&mut block);
    chain.connect(block.clone(), NOW).unwrap();
    chain.disconnect();
    // What came and went within the block is not there without it.
    block.txdata.remove(1);
    fit(&mut block);
    assert_eq!(chain.connect(block, NOW), Err(RejectReason::MissingInputs));
    chain.connect(good, NOW).unwrap();
}

#[test]
fn disconnecting_gives_the_coins_back() {
    let (mut chain, next) = ground();
    let tip = chain.tip();
    for _ in 0..3 {
        chain.connect(next.clone(), NOW).unwrap();
        assert_eq!(chain.disconnect().unwrap(), next);
        assert_eq!(chain.tip(), tip);
    }
    let blocks: Vec<Block> = chain.blocks().cloned().collect();
    while chain.disconnect().is_some() {}
    assert_eq!(chain.height(), 0);
    for block in &blocks[1..] {
        chain.connect(block.clone(), NOW).unwrap();
    }
    assert_eq!(chain.tip(), tip);
}
