//! What a connection is closed with, and what the client is told before.

use std::net::SocketAddr;
use std::time::Duration;

use blvm_stratum_v2::wire::Message;
use blvm_stratum_v2::wire::common::{SetupConnection, SetupConnectionError};
use blvm_stratum_v2::wire::mining::SetCustomMiningJob;
use tokio::time::{Instant, sleep};

use super::miner::{Answer, Miner, SINGLY, open, setup, worker_names};
use crate::forwarder::{Forwarder, Path};
use crate::house::{House, frame, frame_of};
use crate::raw::{Dial, End, Ended, Raw};

fn code(ended: &Ended) -> u64 {
    match ended {
        Ended::Application { code, .. } => *code,
        other => panic!("{other:?}"),
    }
}

/// 25 ms each way.
fn long_path(house: &House) -> Forwarder {
    let delay = Duration::from_millis(25);
    Forwarder::start(house.address, Path { delay_up: delay, delay_down: delay, ..Path::default() })
}

#[tokio::test]
async fn a_refused_setup_is_told_before_the_end() {
    let house = House::listener(1, |_| {}).await;
    let path = long_path(&house);
    for round in 0..10 {
        let raw = Raw::at(path.addr()).await;
        let mut control = raw.open_bi().await.unwrap();
        control.send(&SetupConnection { protocol: 1, ..setup(0) }).await.unwrap();
        if round % 2 == 0 {
            // what was sent ahead does not matter any more
            raw.open_bi().await.unwrap().send(&open(1)).await.unwrap();
        }
        let (header, payload) = control.next().await.unwrap();
        assert_eq!(header.msg_type, SetupConnectionError::TYPE);
        let error = SetupConnectionError::decode(&payload).unwrap();
        assert_eq!(error.error_code.as_str(), Some("unsupported-protocol"));
        assert_eq!(control.next().await, Err(End::Fin));
        assert_eq!(code(&raw.ended().await), 5);
    }
}

#[tokio::test]
async fn a_client_that_is_not_set_up_in_time_is_sent_away() {
    let soon = Duration::from_millis(300);
    let house = House::listener(1, |options| {
        options.quic.handshake_timeout = soon;
        options.pool.session.setup_timeout = soon;
    })
    .await;
    // no stream at all
    let raw = Raw::at(house.address).await;
    assert_eq!(code(&raw.ended().await), 5);
    // a stream that is not the first
    let raw = Raw::at(house.address).await;
    let mut control = raw.open_bi().await.unwrap();
    raw.open_bi().await.unwrap().send(&open(1)).await.unwrap();
    assert_eq!(control.next().await, Err(End::Fin));
    assert_eq!(code(&raw.ended().await), 5);
    // half a message
    let raw = Raw::at(house.address).await;
    let mut control = raw.open_bi().await.unwrap();
    control.write(&frame_of(&setup(0))[..20]).await.unwrap();
    assert_eq!(code(&raw.ended().await), 5);
}

#[tokio::test]
async fn a_client_without_a_channel_is_sent_away() {
    let house =
        House::listener(1, |options| options.pool.session.open_timeout = Duration::from_millis(300)).await;
    let miner = Miner::at(house.address, 0).await;
    assert_eq!(code(&miner.raw.ended().await), 6);
}

#[tokio::test]
async fn too_many_bad_shares_are_answered_to_the_last() {
    let house = House::listener(1, |options| options.pool.session.max_bad_shares = 5).await;
    let path = long_path(&house);
    let mut miner = Miner::at(path.addr(), SINGLY).await;
    let mut channel = miner.open(1).await;
    for _ in 0..10 {
        channel.bad_share(&miner).await.unwrap();
    }
    for _ in 0..5 {
        assert!(matches!(channel.answer().await, Ok(Answer::Rejected { .. })));
    }
    assert_eq!(channel.answer().await, Err(End::Fin));
    assert_eq!(code(&miner.raw.ended().await), 7);
    assert_eq!(house.stats_of(blvm_stratum_v2::wire::url::Transport::Quic).shares_rejected(), 5);
}

/// Says this on the control stream, once it is set up.
async fn control_says(server: SocketAddr, bytes: &[u8]) -> u64 {
    let mut miner = Miner::at(server, SINGLY).await;
    miner.control.write(bytes).await.unwrap();
    code(&miner.raw.ended().await)
}

/// Says this on a channel's stream.
async fn channel_says(server: SocketAddr, bytes: &[u8]) -> u64 {
    let miner = Miner::at(server, SINGLY).await;
    let mut channel = miner.raw.open_bi().await.unwrap();
    channel.write(bytes).await.unwrap();
    code(&miner.raw.ended().await)
}

#[tokio::test]
async fn misplaced_messages_are_a_violation() {
    let house = House::listener(1, |_| {}).await;
    let mut miner = Miner::at(house.address, SINGLY).await;
    let mut channel = miner.open(1).await;
    let share = frame_of(&channel.find(&miner));
    let (setup, extensions) = (frame_of(&setup(0)), frame_of(&worker_names()));
    let opens = frame_of(&open(1));
    let at = house.address;
    for bytes in [&opens, &share, &setup] {
        assert_eq!(control_says(at, bytes).await, 2);
    }
    for first in [&share, &setup, &extensions] {
        assert_eq!(channel_says(at, first).await, 2);
    }
    for second in [&opens, &setup, &extensions] {
        assert_eq!(channel_says(at, &[&opens[..], second].concat()).await, 2);
    }
    // an Open* that was refused is one, too
    let refused = frame_of(&super::miner::open_in_vain(1));
    assert_eq!(channel_says(at, &[&refused[..], &opens].concat()).await, 2);
    channel.works(&miner).await;
}

#[tokio::test]
async fn rubbish_is_a_violation() {
    let house = House::listener(1, |_| {}).await;
    let mut miner = Miner::at(house.address, SINGLY).await;
    let mut channel = miner.open(1).await;
    let at = house.address;
    let opens = frame_of(&open(1));
    let short = frame(0, 0x10, &[1, 2, 3]);
    let from_a_server = frame(0, 0x15, &[0; 45]);
    assert_eq!(channel_says(at, &short).await, 2);
    assert_eq!(channel_says(at, &[&opens[..], &frame(0, 0x1a, &[1; 23])].concat()).await, 2);
    assert_eq!(channel_says(at, &[&opens[..], &from_a_server].concat()).await, 2);
    assert_eq!(control_says(at, &frame(1, 0, &[1, 0, 9, 9])).await, 2);
    // too long, from the header alone; and of a type that there is not
    assert_eq!(channel_says(at, &[0, 0, 0x10, 0xff, 0xff, 0xff]).await, 3);
    assert_eq!(control_says(at, &[0, 0, 0x18, 0x00, 0x10, 0x00]).await, 3);
    assert_eq!(control_says(at, &[0, 0, 0xff, 0, 0, 0]).await, 3);
    // before it is set up
    for (bytes, expected) in [(&opens, 2), (&vec![0xff; 100], 3)] {
        let raw = Raw::at(at).await;
        raw.open_bi().await.unwrap().write(bytes).await.unwrap();
        assert_eq!(code(&raw.ended().await), expected);
    }
    channel.works(&miner).await;
}

#[tokio::test]
async fn the_end_of_the_control_stream_is_that_of_the_connection() {
    let house = House::listener(1, |_| {}).await;
    let mut miner = Miner::at(house.address, SINGLY).await;
    let _channel = miner.open(1).await;
    miner.control.finish();
    assert_eq!(code(&miner.raw.ended().await), 0);
    let mut miner = Miner::at(house.address, SINGLY).await;
    let _channel = miner.open(1).await;
    miner.control.reset(3);
    assert_eq!(code(&miner.raw.ended().await), 0);
}

#[tokio::test]
async fn a_server_that_stops_first_delivers_what_it_owes() {
    let house = House::listener(1, |_| {}).await;
    let path = long_path(&house);
    let mut miner = Miner::at(path.addr(), SINGLY).await;
    let mut channels = Vec::new();
    for request in 0..40 {
        channels.push(miner.open(request).await);
    }
    // the first is acknowledged at once, those that come in the tenth of a second after it are not
    for channel in &mut channels {
        channel.works(&miner).await;
        for _ in 0..3 {
            channel.share(&miner).await.unwrap();
        }
    }
    let accepted = async || {
        let stats = house.stats_of(blvm_stratum_v2::wire::url::Transport::Quic);
        while stats.shares_accepted.get() < 4 * 40 {
            sleep(Duration::from_millis(1)).await;
        }
    };
    crate::raw::soon("the shares are accepted", accepted()).await;
    let stopped = Instant::now();
    house.stop();
    for channel in &mut channels {
        channel.is_acknowledged(3).await;
        assert_eq!(channel.answer().await, Err(End::Fin));
    }
    assert_eq!(miner.hear().await, Err(End::Fin));
    assert_eq!(code(&miner.raw.ended().await), 9);
    assert!(stopped.elapsed() < Duration::from_secs(30));
    // and takes nobody any more
    assert!(Dial::new().connect(house.address).await.is_err());
}

/// Each would be fine by itself.
#[tokio::test]
async fn many_frames_that_do_not_end_are_too_much() {
    let house = House::listener(1, |_| {}).await;
    let mut miner = Miner::at(house.address, SINGLY).await;
    let mut most = frame(0, SetCustomMiningJob::TYPE, &[0; 70_000]);
    most.pop();
    let mut channels = Vec::new();
    for request in 0..12 {
        channels.push(miner.open(request).await);
    }
    for channel in &mut channels[..7] {
        channel.stream.write(&most).await.unwrap();
    }
    channels[11].works(&miner).await;
    for channel in &mut channels[7..11] {
        // fails once it is over
        let _ = channel.stream.write(&most).await;
    }
    assert_eq!(code(&miner.raw.ended().await), 4);
}
