//! What a miner does, in few lines.

#![allow(dead_code)] // each test uses a part

use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash;
use bitcoin::{Amount, CompactTarget, ScriptBuf, TxMerkleNode, TxOut};
use blvm_stratum_v2::mining::{Template, Tip, merkle};
use blvm_stratum_v2::template::regtest::{Accepted, BlockSolution, RegtestChain};

/// A moment in 2027.
pub(crate) const NOW: u32 = 1_800_000_000;

/// A script that the chain cannot unlock, as payouts have.
pub(crate) fn payout_script() -> ScriptBuf {
    ScriptBuf::from_bytes([&[0x00, 0x14][..], &[7; 20]].concat())
}

/// Mines on `template` as if it were for `tip`.
pub(crate) fn solve(tip: &Tip, template: &Template, ntime: u32) -> BlockSolution {
    let payout = TxOut { value: Amount::from_sat(template.coinbase.value), script_pubkey: payout_script() };
    let parts = template.coinbase.assemble(template.serial, 0, b"/test/", &[payout], 20).unwrap();
    let extranonce = [0x5a; 20];
    let root = merkle::fold(parts.txid(&extranonce), &template.merkle_path);
    let mut header = Header {
        version: Version::from_consensus(template.version as i32),
        prev_blockhash: tip.prev_hash,
        merkle_root: TxMerkleNode::from_byte_array(root),
        time: ntime,
        bits: CompactTarget::from_consensus(tip.nbits),
        nonce: 0,
    };
    while !tip.network_target.is_met_by(&header.block_hash().to_byte_array()) {
        header.nonce += 1;
    }
    BlockSolution {
        template: template.serial,
        version: template.version,
        ntime,
        nonce: header.nonce,
        coinbase: parts.transaction(&extranonce).unwrap(),
    }
}

/// Mines one block on the current work.
pub(crate) fn mine(source: &mut RegtestChain) -> Accepted {
    let work = source.work();
    let solution = solve(&work.tip, &work.template, work.tip.min_ntime.max(NOW));
    source.submit(solution, NOW).unwrap()
}
