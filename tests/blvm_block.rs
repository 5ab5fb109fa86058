//! blvm-node's own types judge the blocks that modules are given.
//!
//! The program is made of `tests/peers/blvm`. Where it is missing this is skipped, except in CI.

#[path = "blvm/judge.rs"]
mod judge;
#[path = "blvm/programs.rs"]
mod programs;

use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version as BlockVersion};
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::hashes::Hash;
use bitcoin::hex::DisplayHex;
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode,
    TxOut, Txid, Witness,
};
use blvm_stratum_v2::mining::Coinbase;
use blvm_stratum_v2::module::block;
use blvm_stratum_v2::template::FoundBlock;
use judge::ask;

fn transaction(version: i32, inputs: u8, outputs: u8, lock_time: u32, witness: bool) -> Transaction {
    let input = |number: u8| TxIn {
        previous_output: OutPoint {
            txid: Txid::from_byte_array(std::array::from_fn(|i| number + i as u8)),
            vout: u32::from(number) * 0x0102_0304,
        },
        script_sig: ScriptBuf::from_bytes(vec![0x51; usize::from(number) * 100]),
        sequence: Sequence(u32::MAX - u32::from(number)),
        witness: if witness { Witness::from_slice(&[[number; 70]]) } else { Witness::new() },
    };
    let output = |number: u8| TxOut {
        value: Amount::from_sat(u64::from(number) * 0x0001_0203_0405),
        script_pubkey: ScriptBuf::from_bytes(vec![0x6a; usize::from(number) * 90]),
    };
    Transaction {
        version: Version(version),
        lock_time: LockTime::from_consensus(lock_time),
        input: (0..inputs).map(input).collect(),
        output: (0..outputs).map(output).collect(),
    }
}

fn block(version: i32, numbers: [u32; 3], others: Vec<Transaction>) -> Block {
    let mut coinbase = transaction(2, 1, 3, 100, true);
    coinbase.input[0].previous_output = OutPoint::null();
    coinbase.input[0].script_sig = ScriptBuf::from_bytes(Coinbase::bip34(840_000));
    let [time, bits, nonce] = numbers;
    Block {
        header: Header {
            version: BlockVersion::from_consensus(version),
            prev_blockhash: BlockHash::from_byte_array(std::array::from_fn(|i| 100 + i as u8)),
            merkle_root: TxMerkleNode::from_byte_array(std::array::from_fn(|i| 150 + i as u8)),
            time,
            bits: CompactTarget::from_consensus(bits),
            nonce,
        },
        txdata: [vec![coinbase], others].concat(),
    }
}

/// What the program is to say of it.
fn expected(block: &Block) -> String {
    let hash = block.block_hash().to_byte_array();
    let ids = block.txdata.iter().map(|transaction| transaction.compute_txid().to_byte_array());
    let hashes = std::iter::once(hash).chain(ids).map(|hash| hash.to_lower_hex_string());
    std::iter::once(serialize_hex(&block.header)).chain(hashes).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_node_reads_the_block_that_was_found() {
    let Some(program) = programs::program("blvm_block") else { return };
    let usual = [1_800_000_000, 0x207f_ffff, 0x0102_0304];
    let blocks = [
        block(0x2000_0000, usual, vec![]),
        block(-1, [u32::MAX; 3], vec![transaction(1, 1, 1, 0, false)]),
        block(
            i32::MIN,
            [0; 3],
            vec![transaction(-1, 2, 2, u32::MAX, true), transaction(i32::MIN, 3, 1, 1, false)],
        ),
        block(
            1,
            usual,
            (1..200)
                .map(|number| transaction(2, number % 5 + 1, number % 4 + 1, number.into(), number % 2 == 0))
                .collect(),
        ),
    ];
    let bytes = |found: &Block| block::encode(&FoundBlock::whole(found.clone()).unwrap()).unwrap().unwrap();
    let lines: Vec<_> = blocks.iter().map(|block| bytes(block).to_lower_hex_string() + "\n").collect();
    let said = ask(&program, &[], lines.concat());
    assert_eq!(said, blocks.iter().map(expected).collect::<Vec<_>>());

    // it would say so
    let mut wrong = bytes(&blocks[0]);
    wrong.pop();
    assert!(ask(&program, &[], wrong.to_lower_hex_string())[0].starts_with("ERROR"));
}
