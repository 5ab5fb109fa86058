//! The chain's tip moves, and everyone's work with it.

use blvm_stratum_v2::mining::share::Rejection;
use blvm_stratum_v2::wire::url::Transport;
use futures_util::future::join_all;

use crate::core::Core;
use crate::miners::Miner;
use crate::stage::Stage;
use crate::upstream::{Kind, Upstream, on_every_source};

on_every_source! {
    a_block_from_elsewhere_is_everyones_new_work,
    a_reorganisation_takes_everyone_along,
}

async fn a_block_from_elsewhere_is_everyones_new_work(kind: Kind, core: Core) {
    let upstream = Upstream::of(kind, &core).await;
    let stage = Stage::open([upstream]).await;
    let mut miners = crowd(&stage).await;
    for _ in 0..3 {
        let late: Vec<_> = miners.iter_mut().map(Miner::find).collect();
        let tip = core.generate(1).await[0];
        all_are_on(&mut miners, tip).await;
        for (miner, find) in miners.iter_mut().zip(late) {
            assert_eq!(miner.submit(&find).await, Err("stale-share".to_owned()));
        }
    }
    for transport in [Transport::Quic, Transport::Tcp] {
        let stats = stage.stats().of(transport);
        assert_eq!((stats.rejected(Rejection::Stale), stats.shares_rejected()), (9, 9));
    }
    stage.has_blocks(0).await;
}

async fn a_reorganisation_takes_everyone_along(kind: Kind, core: Core) {
    let kept = core.generate(5).await;
    let upstream = Upstream::of(kind, &core).await;
    let stage = Stage::open([upstream]).await;
    let mut miners = crowd(&stage).await;
    all_are_on(&mut miners, kept[4]).await;

    core.ask(&["invalidateblock", &kept[4].to_string()]).await;
    all_are_on(&mut miners, kept[3]).await;
    core.ask(&["invalidateblock", &kept[2].to_string()]).await;
    all_are_on(&mut miners, kept[1]).await;
    // what is mined there is a block of the node's, until the longer chain comes back
    let found = miners[0].block().await;
    all_are_on(&mut miners, found).await;
    assert_eq!(core.tip().await, found);

    core.ask(&["reconsiderblock", &kept[2].to_string()]).await;
    core.ask(&["reconsiderblock", &kept[4].to_string()]).await;
    all_are_on(&mut miners, kept[4]).await;
    let found = miners[5].block().await;
    all_are_on(&mut miners, found).await;
    assert_eq!(core.tip().await, found);
    stage.has_blocks(2).await;
}

/// Three miners on QUIC and three on TCP.
async fn crowd(stage: &Stage) -> Vec<Miner> {
    let mut miners = Vec::new();
    for transport in [Transport::Quic, Transport::Tcp] {
        for number in 0..3 {
            miners.push(Miner::at(&stage.url(transport), &format!("miner.{number}")).await);
        }
    }
    miners
}

async fn all_are_on(miners: &mut [Miner], tip: bitcoin::BlockHash) {
    join_all(miners.iter_mut().map(|miner| miner.is_on(tip))).await;
}
