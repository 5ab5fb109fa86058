//! Who is let in.

use std::time::Duration;

use blvm_stratum_v2::wire::url::Transport;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::miner::Miner;
use crate::{BOTH, Stage, soon, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_is_for_those_who_come_after_it() {
    for transport in BOTH {
        let mut stage = Stage::open(|options| options.max_connections = 1).await;
        let url = stage.url(transport);
        let mut first = Miner::at(&url).await;
        assert!(!Miner::is_let_in(&url).await, "{transport}: it is full");
        stage.apply(|options| options.max_connections = 2).await;
        let mut second = Miner::at(&url).await;
        assert!(!Miner::is_let_in(&url).await, "{transport}: it is full again");

        stage.apply(|options| options.max_connections = 1).await;
        for miner in [&mut first, &mut second] {
            let job = miner.job();
            miner.submit(&job, false).await.unwrap();
        }
        assert_eq!(stage.connections(), 2, "{transport}: who is there stays");
        drop(first);
        until("one has left", || stage.connections() == 1).await;
        assert!(!Miner::is_let_in(&url).await, "{transport}: one is as many as there may be now");

        let per_address = |options: &mut blvm_stratum_v2::server::Options| {
            (options.max_connections, options.max_connections_per_ip) = (10, 1);
        };
        stage.apply(per_address).await;
        assert!(!Miner::is_let_in(&url).await, "{transport}: this address has one");
        stage.apply(|options| options.max_connections_per_ip = 2).await;
        let _third = Miner::at(&url).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn places_over_tcp_are_for_tcp() {
    let mut stage = Stage::open(|_| ()).await;
    stage.apply(|options| options.max_tcp_connections = 0).await;
    assert!(!Miner::is_let_in(&stage.url(Transport::Tcp)).await);
    let _over_quic = Miner::at(&stage.url(Transport::Quic)).await;
    stage.apply(|options| options.max_tcp_connections = 1).await;
    let _over_tcp = Miner::at(&stage.url(Transport::Tcp)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_shake_hands_waits_as_long_as_is_said_now() {
    let mut stage = Stage::open(|options| options.handshake_timeout = Duration::from_secs(3_600)).await;
    stage.apply(|options| options.handshake_timeout = Duration::from_millis(100)).await;
    let mut mute = TcpStream::connect(stage.server.address()).await.unwrap();
    let end = soon("it is given up", mute.read(&mut [0; 1])).await;
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn quic_goes_by_other_options_from_now_on() {
    let mut stage = Stage::open(|_| ()).await;
    let url = stage.url(Transport::Quic);
    let mut before = Miner::at(&url).await;
    stage.apply(|options| options.quic.max_handshakes = 0).await;
    assert!(!Miner::is_let_in(&url).await, "there are no handshakes");
    let quick = |options: &mut blvm_stratum_v2::server::Options| {
        options.quic.max_handshakes = 8;
        options.quic.idle_timeout = Duration::from_secs(2);
        options.quic.keep_alive = Duration::from_secs(3_600);
    };
    stage.apply(quick).await;
    let mut after = Miner::at(&url).await;
    after.is_lost().await;
    let job = before.job();
    before.submit(&job, false).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_quic_does_not_take_changes_nothing() {
    let mut stage = Stage::open(|_| ()).await;
    let refused = stage.try_to_apply(|options| {
        options.quic.idle_timeout = Duration::MAX;
        options.max_connections = 0;
        options.pool.payout = crate::to(0x52, 1);
    });
    let refused = refused.await.unwrap_err().to_string();
    assert!(refused.contains("[quic]"), "{refused}");
    for transport in BOTH {
        let miner = Miner::at(&stage.url(transport)).await;
        assert_eq!(miner.paid(&miner.job()), (0x51, 1));
    }
}
