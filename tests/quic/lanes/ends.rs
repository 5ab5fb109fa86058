//! How channels end, each with its stream.

use std::time::Duration;

use blvm_stratum_v2::stats::TransportStats;
use blvm_stratum_v2::wire::url::Transport;
use tokio::time::sleep;

use super::miner::{Miner, SINGLY, close};
use crate::house::{House, frame_of};
use crate::raw::{End, soon};

fn stats(house: &House) -> &TransportStats {
    house.stats_of(Transport::Quic)
}

async fn has_channels(house: &House, count: u64) {
    let settled = async {
        while stats(house).channels.get() != count {
            sleep(Duration::from_millis(5)).await;
        }
    };
    soon("the number of channels settles", settled).await;
}

#[tokio::test]
async fn shares_in_flight_are_answered_before_a_clean_end() {
    // the last of them make no full batch
    const SHARES: u32 = 503;
    let house = House::listener(1, |_| {}).await;
    let mut miner = Miner::at(house.address, SINGLY).await;
    let mut sibling = miner.open(0).await;
    for (request, says_so) in [(1, false), (2, true)] {
        let mut channel = miner.open(request).await;
        for _ in 0..SHARES {
            channel.share(&miner).await.unwrap();
        }
        if says_so {
            channel.stream.send(&close(channel.id)).await.unwrap();
        }
        channel.stream.finish();
        channel.is_acknowledged(SHARES).await;
        assert_eq!(channel.answer().await, Err(End::Fin));
        has_channels(&house, 1).await;
        sibling.works(&miner).await;
    }
    assert_eq!(stats(&house).shares_accepted.get(), u64::from(2 * SHARES + 2));
    assert_eq!(stats(&house).shares_rejected(), 0);
}

#[tokio::test]
async fn what_comes_after_close_channel_is_ignored() {
    let house = House::listener(1, |_| {}).await;
    let mut miner = Miner::at(house.address, SINGLY).await;
    let mut sibling = miner.open(0).await;
    let mut channel = miner.open(1).await;
    channel.share(&miner).await.unwrap();
    channel.stream.send(&close(channel.id)).await.unwrap();
    for _ in 0..100 {
        channel.share(&miner).await.unwrap();
    }
    channel.is_acknowledged(1).await;
    assert_eq!(channel.answer().await, Err(End::Fin));
    channel.stream.finish();
    sibling.works(&miner).await;
    assert_eq!(stats(&house).shares_accepted.get(), 2);
    assert_eq!(stats(&house).shares_rejected(), 0);
}

#[tokio::test]
async fn a_reset_ends_one_channel() {
    const SHARES: u32 = 300;
    let house = House::listener(1, |_| {}).await;
    let mut miner = Miner::at(house.address, SINGLY).await;
    let mut sibling = miner.open(0).await;
    for round in 1..6 {
        let before = stats(&house).shares_accepted.get();
        let mut channel = miner.open(round).await;
        channel.works(&miner).await;
        for _ in 0..SHARES {
            channel.share(&miner).await.unwrap();
        }
        channel.stream.reset(0);
        // what was taken in before is answered
        let mut acknowledged = 1;
        loop {
            match channel.answer().await {
                Ok(super::miner::Answer::Accepted { count, .. }) => acknowledged += u64::from(count),
                Ok(other) => panic!("{other:?}"),
                Err(end) => {
                    assert_eq!(end, End::Fin);
                    break;
                }
            }
        }
        has_channels(&house, 1).await;
        assert_eq!(stats(&house).shares_accepted.get() - before, acknowledged);
        sibling.works(&miner).await;
    }
    assert_eq!(stats(&house).shares_rejected(), 0);
}

#[tokio::test]
async fn a_stop_ends_one_channel() {
    let house = House::listener(1, |options| options.pool.session.max_bad_shares = 10).await;
    let mut miner = Miner::at(house.address, SINGLY).await;
    let mut sibling = miner.open(0).await;
    for request in 1..6 {
        let mut channel = miner.open(request).await;
        channel.works(&miner).await;
        channel.stream.stop(0);
        let before = stats(&house).shares_accepted.get();
        // the server notices when it answers, and does not want to hear more
        let sends = async {
            while channel.share(&miner).await.is_ok() {
                sleep(Duration::from_millis(1)).await;
            }
        };
        soon("the server has had enough", sends).await;
        has_channels(&house, 1).await;
        assert!(stats(&house).shares_accepted.get() - before <= u64::from(channel.sent));
        sibling.works(&miner).await;
    }
    assert_eq!(stats(&house).shares_rejected(), 0);
}

#[tokio::test]
async fn a_stop_after_the_end_changes_nothing() {
    let house = House::listener(1, |_| {}).await;
    let mut miner = Miner::at(house.address, SINGLY).await;
    let mut sibling = miner.open(0).await;
    for request in 1..20 {
        let mut channel = miner.open(request).await;
        for _ in 0..50 {
            channel.share(&miner).await.unwrap();
        }
        channel.stream.finish();
        channel.stream.stop(0);
        has_channels(&house, 1).await;
        sibling.works(&miner).await;
    }
    assert_eq!(stats(&house).shares_rejected(), 0);
}

#[tokio::test]
async fn a_group_is_closed_on_the_control_stream() {
    let house = House::listener(1, |_| {}).await;
    let mut miner = Miner::at(house.address, 0).await;
    let mut channels = Vec::new();
    for request in 0..20 {
        channels.push(miner.open(request).await);
    }
    let group = channels[0].group;
    // not on a channel's
    channels[0].stream.send(&close(group)).await.unwrap();
    channels[0].works(&miner).await;
    has_channels(&house, 20).await;
    for channel in &mut channels {
        channel.share(&miner).await.unwrap();
        channel.is_acknowledged(1).await;
    }
    miner.control.send(&close(group)).await.unwrap();
    for channel in &mut channels {
        assert_eq!(channel.answer().await, Err(End::Fin));
    }
    has_channels(&house, 0).await;
    // there may be another
    let mut channel = miner.open(100).await;
    assert_ne!(channel.group, group);
    channel.works(&miner).await;
}

#[tokio::test]
async fn a_stream_that_says_nothing_is_ended_in_return() {
    let house = House::listener(1, |_| {}).await;
    let miner = Miner::at(house.address, 0).await;
    for half in [0, 3, 20] {
        let mut stream = miner.raw.open_bi().await.unwrap();
        stream.write(&crate::house::frame_of(&super::miner::open(1))[..half]).await.unwrap();
        stream.finish();
        assert_eq!(stream.next().await, Err(End::Fin));
    }
}

/// What came before the client stopped listening counts, and is not taken for shares of no channel.
#[tokio::test]
async fn shares_before_a_stop_are_good() {
    const SHARES: u64 = 400;
    let house = House::listener(1, |options| options.pool.session.max_bad_shares = 1).await;
    let mut miner = Miner::at(house.address, SINGLY).await;
    let mut sibling = miner.open(0).await;
    let mut channel = miner.open(1).await;
    let mut bytes = Vec::new();
    for _ in 0..SHARES {
        bytes.extend(frame_of(&channel.find(&miner)));
    }
    channel.stream.stop(0);
    // fails if the server notices before it has read all
    let _ = channel.stream.write(&bytes).await;
    sibling.works(&miner).await;
    let stats = house.stats_of(Transport::Quic);
    assert_eq!(stats.shares_rejected(), 0);
    assert!(stats.shares_accepted.get() > 1);
}
