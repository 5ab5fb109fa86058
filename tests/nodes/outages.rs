//! A node goes away and comes back. Miners stay, and what they find meanwhile is not lost.

use std::fs;

use blvm_stratum_v2::wire::url::Transport;

use crate::core::{Core, until};
use crate::miners::Miner;
use crate::stage::{Stage, gone};
use crate::upstream::{Kind, Upstream, on_every_source};

on_every_source! {
    a_node_that_is_killed_gets_the_block_found_meanwhile_when_it_is_back,
    a_node_that_hangs_gets_the_block_found_meanwhile_when_it_goes_on,
}

async fn a_node_that_is_killed_gets_the_block_found_meanwhile_when_it_is_back(kind: Kind, mut core: Core) {
    core.save().await;
    let tip = core.tip().await;
    let stage = Stage::open(Upstream::beside_rpc(kind, &core).await).await;
    let (mut quic, mut tcp) = stage.miners().await;

    core.kill();
    let said = stage.log.says(&["no source has work", "miners stay", "idle_s="]);
    both(&mut quic, &mut tcp, said).await;
    let find = quic.find();
    assert_eq!(quic.submit(&find).await, Ok(()));
    let kept = stage.kept(find.hash);
    both(&mut quic, &mut tcp, until("the block is on disk", async || fs::exists(&kept).unwrap())).await;
    assert_eq!((quic.tip(), tcp.tip()), (Some(tip), Some(tip)));

    both(&mut quic, &mut tcp, core.restart()).await;
    quic.is_on(find.hash).await;
    tcp.is_on(find.hash).await;
    assert_eq!(core.tip().await, find.hash);
    both(&mut quic, &mut tcp, gone(&kept)).await;
    all_goes_on(&stage, quic, tcp).await;
}

async fn a_node_that_hangs_gets_the_block_found_meanwhile_when_it_goes_on(kind: Kind, core: Core) {
    let stage = Stage::open(Upstream::beside_rpc(kind, &core).await).await;
    let (mut quic, mut tcp) = stage.miners().await;

    core.freeze();
    let find = tcp.find();
    assert_eq!(tcp.submit(&find).await, Ok(()));
    let kept = stage.kept(find.hash);
    both(&mut quic, &mut tcp, until("the block is on disk", async || fs::exists(&kept).unwrap())).await;
    // the other sources take longer to find out
    let said = stage.log.says(&["the source has no work", "source=\"bitcoin_rpc", "the node hangs"]);
    both(&mut quic, &mut tcp, said).await;
    assert!(fs::exists(&kept).unwrap());

    core.thaw();
    quic.is_on(find.hash).await;
    tcp.is_on(find.hash).await;
    assert_eq!(core.tip().await, find.hash);
    both(&mut quic, &mut tcp, gone(&kept)).await;
    all_goes_on(&stage, quic, tcp).await;
}

#[tokio::test]
async fn a_node_that_has_forgotten_the_last_blocks_gets_the_one_found_on_them_when_it_has_them_again() {
    let (Some(mut core), Some(other)) = (Core::start().await, Core::empty("regtest").await) else { return };
    core.save().await;
    let saved = core.tip().await;
    let tip = core.generate(3).await[2];
    core.connect(&other).await;
    until("the other node has all blocks", async || other.has(tip).await).await;
    let stage = Stage::open([Upstream::of(Kind::Rpc, &core).await]).await;
    let (mut quic, mut tcp) = stage.miners().await;

    core.kill();
    let find = quic.find();
    assert_eq!(quic.submit(&find).await, Ok(()));
    both(&mut quic, &mut tcp, core.restart()).await;
    assert_eq!(core.tip().await, saved);
    let waits = stage.log.says(&["a found block has not reached the source yet", "prev-blk-not-found"]);
    both(&mut quic, &mut tcp, waits).await;
    core.connect(&other).await;
    quic.is_on(find.hash).await;
    tcp.is_on(find.hash).await;
    both(&mut quic, &mut tcp, gone(&stage.kept(find.hash))).await;
    all_goes_on(&stage, quic, tcp).await;
}

/// Both miners listen while something else goes on.
async fn both<T>(quic: &mut Miner, tcp: &mut Miner, other: impl Future<Output = T>) -> T {
    quic.during(tcp.during(other)).await
}

/// Nobody was disconnected, and mining is as before.
async fn all_goes_on(stage: &Stage, mut quic: Miner, mut tcp: Miner) {
    let found = quic.block().await;
    tcp.is_on(found).await;
    tcp.block().await;
    stage.has_blocks(3).await;
    for transport in [Transport::Quic, Transport::Tcp] {
        assert_eq!(stage.stats().of(transport).connections.get(), 1);
    }
}
