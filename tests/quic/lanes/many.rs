//! Many channels, at once and one after the other.

use std::time::Duration;

use blvm_stratum_v2::wire::url::Transport;

use super::miner::{Channel, Miner, SINGLY, Work, close, open};
use crate::forwarder::{Forwarder, Path};
use crate::house::House;
use crate::raw::{Dial, End, Stream};

#[tokio::test]
async fn a_thousand_channels_are_opened_in_a_burst() {
    const CHANNELS: u32 = 1000;
    let house = House::listener(2, |_| {}).await;
    let delay = Duration::from_millis(25);
    let path =
        Forwarder::start(house.address, Path { delay_up: delay, delay_down: delay, ..Path::default() });
    let mut miner = Miner::at(path.addr(), SINGLY).await;
    let connection = miner.raw.connection.clone();
    let openings = async {
        let mut streams = Vec::new();
        for request in 0..CHANNELS {
            let (send, recv) = connection.open_bi().await.unwrap();
            let mut stream = Stream { send, recv };
            stream.send(&open(request)).await.unwrap();
            streams.push(Some(stream));
        }
        streams
    };
    let answers = async {
        let mut opened = Vec::new();
        let mut tips = 0;
        while tips < CHANNELS {
            match miner.hear().await.unwrap() {
                Work::Opened { request, channel, group } => opened.push((request, channel, group)),
                Work::Tip { .. } => tips += 1,
                _ => {}
            }
        }
        opened
    };
    let (mut streams, opened) = tokio::join!(openings, answers);
    assert_eq!(house.stats_of(Transport::Quic).channels.get(), u64::from(CHANNELS));
    let mut channels = Vec::new();
    for (request, id, group) in opened {
        let stream = streams[request as usize].take().expect("no request is answered twice");
        channels.push(Channel { id, group, stream, sent: 0 });
    }
    for channel in &mut channels {
        channel.share(&miner).await.unwrap();
    }
    for channel in &mut channels {
        channel.is_acknowledged(1).await;
    }
}

async fn comes_and_goes(miner: &mut Miner, requests: std::ops::Range<u32>) {
    for request in requests {
        let mut channel = miner.open(request).await;
        channel.stream.send(&close(channel.id)).await.unwrap();
        channel.stream.finish();
        assert_eq!(channel.answer().await, Err(End::Fin));
    }
}

#[tokio::test]
async fn streams_never_run_out() {
    let house = House::listener(1, |_| {}).await;
    let mut miner = Miner::by(&Dial::new(), house.address, SINGLY).await;
    miner.is_set_up().await;
    let mut sibling = miner.open(0).await;
    comes_and_goes(&mut miner, 1..3000).await;
    sibling.works(&miner).await;
}

#[tokio::test]
async fn streams_never_run_out_for_a_client_with_nearly_all_channels() {
    const MOST: u32 = 200;
    let house = House::listener(1, |options| {
        options.pool.session.max_channels = MOST as usize;
        options.quic.max_streams = MOST + 16; // as the configuration has it
    })
    .await;
    let mut miner = Miner::at(house.address, SINGLY).await;
    let mut channels = Vec::new();
    for request in 1..MOST {
        channels.push(miner.open(request).await);
    }
    comes_and_goes(&mut miner, MOST..MOST + 200).await;
    channels[0].works(&miner).await;
}

#[tokio::test]
async fn refused_requests_use_nothing_up() {
    let house = House::listener(1, |_| {}).await;
    let miner = Miner::at(house.address, SINGLY).await;
    for request in 0..200 {
        let mut stream = miner.raw.open_bi().await.unwrap();
        stream.send(&super::miner::open_in_vain(request)).await.unwrap();
        stream.next().await.unwrap();
        assert_eq!(stream.next().await, Err(End::Fin));
        stream.finish();
    }
}

/// Streams that end without a channel must not count against those that have one.
#[tokio::test]
async fn empty_streams_do_not_cost_later_channels() {
    let house = House::listener(1, |_| {}).await;
    let mut miner = Miner::at(house.address, SINGLY).await;
    let mut channels = Vec::new();
    for request in 1..=8 {
        channels.push(miner.open(request).await);
    }
    for _ in 0..8 {
        let mut stream = miner.raw.open_bi().await.unwrap();
        stream.finish();
        let _ = stream.next().await;
    }
    for request in 9..=60 {
        channels.push(miner.open(request).await);
    }
}
