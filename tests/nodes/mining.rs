//! Blocks are found, and are what they should be.

use bitcoin::Txid;
use blvm_stratum_v2::wire::url::Transport;

use crate::confirmed::Confirmed;
use crate::core::{Core, soon};
use crate::mempool::{Coin, Lock, Purse, spend, split};
use crate::miners::Miner;
use crate::stage::{Stage, Wanted, address, pool_address, pool_script, script};
use crate::upstream::{Kind, Upstream, on_every_source};

on_every_source! {
    a_pools_blocks_have_the_mempool_in_them_and_pay_the_pool,
    a_solo_miners_block_pays_the_miner_and_the_fee,
    blocks_may_follow_one_another_without_a_pause,
}

async fn a_pools_blocks_have_the_mempool_in_them_and_pay_the_pool(kind: Kind, core: Core) {
    let mut purse = Purse::new(&core, 2).await;
    let start = core.height().await;
    let upstream = Upstream::of(kind, &core).await;
    let stage = Stage::open([upstream]).await;
    let (mut quic, mut tcp) = stage.miners().await;

    let mut found = 0;
    for (miner, transport) in [(&mut quic, Transport::Quic), (&mut tcp, Transport::Tcp)] {
        let sent = send_all_kinds(&core, purse.take()).await;
        let mut blocks = Vec::new();
        miner.during(stage.offers_fees(FEES)).await;
        soon("all are mined", async {
            // the first may be found before its miner has heard of them
            while blocks.iter().map(|block: &Confirmed| block.transactions().len()).sum::<usize>()
                < sent.len()
            {
                blocks.push(Confirmed::of(&core, miner.block().await).await);
            }
        })
        .await;
        for block in &blocks {
            found += 1;
            assert_eq!(block.height(), start + found);
            assert_eq!(block.payouts(), [(pool_script(), block.reward())]);
            assert!(block.is_tagged("blvm-stratum-v2"));
            assert!(block.commits_to_witnesses());
        }
        let mined: Vec<Txid> = blocks.iter().flat_map(Confirmed::transactions).collect();
        assert_eq!(sorted(mined), sorted(sent));
        assert_eq!(blocks.iter().map(Confirmed::fees).sum::<u64>(), FEES);
        assert_eq!(blocks.iter().map(Confirmed::legacy_transactions).sum::<usize>(), 1);
        stage.has_blocks(found.into()).await;
        assert_eq!(stage.stats().of(transport).blocks.get(), blocks.len() as u64);
    }
    assert_eq!(core.height().await, start + found);
}

async fn a_solo_miners_block_pays_the_miner_and_the_fee(kind: Kind, core: Core) {
    let mut purse = Purse::new(&core, 1).await;
    let upstream = Upstream::of(kind, &core).await;
    let payout = format!("solo = true\nsolo_fee = 200\ncoinbase_reward_script = \"{}\"", pool_address());
    let stage = Stage::open_with([upstream], Wanted { payout: &payout, ..Wanted::default() }).await;
    send_all_kinds(&core, purse.take()).await;
    for (owner, transport) in [(1, Transport::Quic), (2, Transport::Tcp)] {
        let mut miner = Miner::at(&stage.url(transport), &format!("{}.worker", address(owner))).await;
        if owner == 1 {
            miner.during(stage.offers_fees(FEES)).await;
        }
        let block = Confirmed::of(&core, miner.block().await).await;
        let fee = block.reward() * 2 / 100;
        assert_eq!(block.payouts(), [(script(owner), block.reward() - fee), (pool_script(), fee)]);
    }
    stage.has_blocks(2).await;
}

async fn blocks_may_follow_one_another_without_a_pause(kind: Kind, core: Core) {
    let start = core.height().await;
    let upstream = Upstream::of(kind, &core).await;
    let stage = Stage::open([upstream]).await;
    let (mut quic, mut tcp) = stage.miners().await;
    for _ in 0..10 {
        let found = quic.block().await;
        tcp.is_on(found).await;
        let found = tcp.block().await;
        quic.is_on(found).await;
        assert_eq!(core.tip().await, found);
    }
    stage.has_blocks(20).await;
    assert_eq!(core.height().await, start + 20);
}

/// The fees of all that [`send_all_kinds`] sends.
const FEES: u64 = 20_000 + 30_000 + 40_000 + 60_000 + 5_000;

/// Puts transactions into the node's mempool that spend one another: some with a witness, one
/// without.
async fn send_all_kinds(core: &Core, coin: Coin) -> Vec<Txid> {
    let (first, coins) = split(coin, Lock::Segwit, 3, 20_000);
    let (to_legacy, legacy) = spend(coins[0], Lock::Legacy, 30_000);
    let (from_legacy, last) = spend(legacy, Lock::Segwit, 40_000);
    let (child, _) = spend(last, Lock::Segwit, 60_000);
    let (sibling, _) = spend(coins[1], Lock::Segwit, 5_000);
    let mut sent = Vec::new();
    for transaction in [first, to_legacy, from_legacy, child, sibling] {
        sent.push(core.send(&transaction).await);
    }
    sent
}

fn sorted(mut txids: Vec<Txid>) -> Vec<Txid> {
    txids.sort();
    txids
}
