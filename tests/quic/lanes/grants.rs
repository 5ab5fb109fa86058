//! Clients that let the server say little, or nothing.

use std::process;
use std::time::Duration;

use bitcoin::hashes::Hash;
use tokio::time::{Instant, sleep};

use super::miner::{Miner, SINGLY, Work, open};
use super::work::find_block;
use crate::house::House;
use crate::raw::{Dial, Ended, soon};
use crate::usage;

#[tokio::test]
async fn a_client_that_grants_no_stream_is_sent_away_in_time_and_no_earlier() {
    let timeout = Duration::from_millis(800);
    let house = House::listener(1, |options| options.quic.handshake_timeout = timeout).await;
    let dial = Dial::new().transport(|transport| {
        transport.max_concurrent_uni_streams(0u32.into());
    });
    let started = Instant::now();
    let mut miner = Miner::by(&dial, house.address, SINGLY).await;
    miner.raw.open_bi().await.unwrap().send(&open(1)).await.unwrap();
    miner.is_set_up().await;
    let ended = miner.raw.ended().await;
    assert!(matches!(ended, Ended::Application { code: 2, .. }), "{ended:?}");
    assert!(started.elapsed() >= timeout);
}

#[tokio::test]
async fn a_client_that_grants_a_stream_late_is_served() {
    let house = House::listener(1, |_| {}).await;
    let dial = Dial::new().transport(|transport| {
        transport.max_concurrent_uni_streams(0u32.into());
    });
    let mut miner = Miner::by(&dial, house.address, SINGLY).await;
    let mut stream = miner.raw.open_bi().await.unwrap();
    stream.send(&open(1)).await.unwrap();
    miner.is_set_up().await;
    sleep(Duration::from_millis(300)).await;
    find_block(&house);
    miner.raw.connection.set_max_concurrent_uni_streams(1u32.into());
    let mut channel = miner.opened(1, stream).await;
    // the block that was found meanwhile
    miner.until(|work| matches!(work, Work::Tip { .. })).await;
    channel.works(&miner).await;
}

#[tokio::test]
async fn a_client_that_takes_ten_bytes_at_a_time_is_served() {
    let house = House::listener(1, |_| {}).await;
    let dial = Dial::new().transport(|transport| {
        transport.receive_window(10u32.into());
    });
    let mut miner = Miner::by(&dial, house.address, SINGLY).await;
    miner.is_set_up().await;
    let mut channel = miner.open(1).await;
    for _ in 0..10 {
        channel.works(&miner).await;
    }
}

#[tokio::test]
async fn a_client_that_stops_the_work_is_sent_away() {
    let house = House::listener(1, |_| {}).await;
    let mut miner = Miner::at(house.address, SINGLY).await;
    let _channel = miner.open(1).await;
    miner.stop();
    let ended = soon("the connection ends", async {
        loop {
            // the server notices when it writes
            find_block(&house);
            tokio::select! {
                error = miner.raw.connection.closed() => return Ended::from(error),
                () = sleep(Duration::from_millis(10)) => {}
            }
        }
    });
    let ended = ended.await;
    assert!(matches!(ended, Ended::Application { code: 2, .. }), "{ended:?}");
}

/// It has many channels, asks for more and more, and reads nothing.
#[tokio::test]
async fn a_client_that_does_not_read_costs_little_and_is_given_up() {
    let house = House::listener(1, |_| {}).await;
    let dial = Dial::new().transport(|transport| {
        transport.stream_receive_window(2000u32.into());
    });
    let mut other = Miner::at(house.address, SINGLY).await;
    let mut channel = other.open(1).await;
    let miner = Miner::by(&dial, house.address, SINGLY).await;
    // each new block is 120 bytes for each of its channels
    let before = usage::resident(process::id());
    let connection = miner.raw.connection.clone();
    let asks = async {
        let mut streams = Vec::new();
        for request in 0.. {
            let Ok((mut send, recv)) = connection.open_bi().await else { break };
            if send.write_all(&crate::house::frame_of(&open(request))).await.is_err() {
                break;
            }
            streams.push((send, recv));
        }
    };
    let new_blocks = async {
        let mut most = 0;
        loop {
            find_block(&house);
            most = most.max(usage::resident(process::id()));
            tokio::select! {
                error = connection.closed() => return (Ended::from(error), most),
                () = sleep(Duration::from_millis(20)) => {}
            }
        }
    };
    let (ended, most) = tokio::select! {
        (ended, ()) = soon("it is given up", async { tokio::join!(new_blocks, asks) }) => ended,
        () = async { loop { other.hear().await.unwrap(); } } => unreachable!(),
    };
    assert!(matches!(ended, Ended::Application { code: 4, .. }), "{ended:?}");
    // the tests beside this one need some, too
    assert!(most < before + (48 << 20), "{before} bytes, then {most}");
    let tip = house.pool.work().borrow().as_ref().unwrap().tip.prev_hash.to_byte_array();
    while other.assignment(channel.id).prev_hash != tip {
        other.hear().await.unwrap();
    }
    channel.works(&other).await;
}
