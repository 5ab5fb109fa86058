//! The embedded chain makes blocks that Bitcoin Core accepts.

use bitcoin::Block;
use blvm_stratum_v2::clock::unix_now;
use blvm_stratum_v2::mining::TemplateSerial;
use blvm_stratum_v2::template::regtest::{Options, RegtestChain};

use crate::core::Core;
use crate::miner::solve;

/// A chain that has mined for itself until it has transactions.
fn chain() -> RegtestChain {
    let options = Options { transactions: 30, prefill: 120, future_templates: true, ..Options::default() };
    RegtestChain::open(options, TemplateSerial(1), unix_now()).unwrap()
}

/// Mines a block as a miner of the server would.
fn mine(chain: &mut RegtestChain) -> Block {
    let work = chain.work();
    let solution = solve(&work.tip, &work.template, work.tip.min_ntime);
    chain.submit(solution, unix_now()).unwrap();
    tip(chain)
}

fn tip(chain: &RegtestChain) -> Block {
    chain.chain().blocks().next_back().unwrap().clone()
}

#[tokio::test]
async fn every_block_of_the_embedded_chain_is_one_of_bitcoin_cores() {
    let Some(core) = Core::empty("regtest").await else { return };
    let mut chain = chain();
    for round in 0..30 {
        // an empty template that was prepared, or a full one
        if round % 3 > 0 {
            chain.refresh(unix_now());
        }
        mine(&mut chain);
    }
    let full = chain.chain().blocks().filter(|block| block.txdata.len() > 1).count();
    assert!(full >= 20, "{full} blocks have transactions");
    for (height, block) in chain.chain().blocks().enumerate().skip(1) {
        assert_eq!(core.submit(block).await, Ok(()), "at height {height}: {block:?}");
    }
    assert_eq!(core.tip().await, chain.chain().tip());
    assert_eq!(core.height().await, chain.chain().height());
}

#[tokio::test]
async fn bitcoin_core_follows_the_embedded_chain_through_a_reorganisation() {
    let Some(core) = Core::empty("regtest").await else { return };
    let mut chain = chain();
    let old = [mine(&mut chain), mine(&mut chain)];
    for block in chain.chain().blocks().skip(1) {
        assert_eq!(core.submit(block).await, Ok(()));
    }
    assert_eq!(core.tip().await, old[1].block_hash());

    // the coins that are spent anew are the same
    chain.invalidate_tip(unix_now()).unwrap();
    chain.invalidate_tip(unix_now()).unwrap();
    let mut new = Vec::new();
    for _ in 0..3 {
        chain.refresh(unix_now());
        new.push(mine(&mut chain));
    }
    assert_eq!(core.submit(&new[0]).await, Err("inconclusive".to_owned()));
    assert_eq!(core.submit(&new[1]).await, Err("inconclusive".to_owned()));
    assert_eq!(core.tip().await, old[1].block_hash());
    assert_eq!(core.submit(&new[2]).await, Ok(()));
    assert_eq!(core.tip().await, chain.chain().tip());
}
