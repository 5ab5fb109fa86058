//! A server that is told to stop.

use std::time::{Duration, Instant};

use blvm_stratum_v2::transport::LinkError;
use blvm_stratum_v2::transport::client::ClientError;
use blvm_stratum_v2::transport::quic::Code;
use blvm_stratum_v2::wire::url::Transport;
use tokio::task::JoinSet;

use super::miner::Miner;
use super::server::Home;
use super::soon;
use super::work::{config, node};

/// Five seconds for connections, five for the source of work, and some for a busy machine.
const BOUND: Duration = Duration::from_secs(15);

fn is_told(transport: Transport, error: &ClientError) -> bool {
    match transport {
        Transport::Quic => {
            matches!(error, ClientError::Link(LinkError::ClosedFor { code: Code::DRAINING, .. }))
        }
        Transport::Tcp => matches!(error, ClientError::Link(LinkError::Closed)),
    }
}

#[tokio::test]
async fn what_is_owed_is_acknowledged() {
    for transport in [Transport::Quic, Transport::Tcp] {
        let home = Home::new();
        let server = home.start(0);
        let mut miner = Miner::at(&server.url(transport)).await;
        // the next after an acknowledgement waits for more
        miner.earn().await;
        miner.has_another_tip().await;
        let share = miner.find();
        miner.submit(share);
        miner.is_taken_in().await;
        let began = Instant::now();
        server.signal(&["TERM"]);
        let error = miner.until_lost().await;
        assert!(is_told(transport, &error), "{transport}: {error}");
        assert!(
            miner.is_settled() && miner.refused.is_empty(),
            "{transport}: {} of {}",
            miner.accepted,
            miner.sent
        );
        assert!(server.ended().await.success());
        assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
    }
}

#[tokio::test]
async fn miners_that_submit_without_a_pause_do_not_hold_it_up() {
    let node = node().await;
    let home = Home::with(&config(&node));
    let server = home.start(0);
    let mut mining = JoinSet::new();
    let (ready, mut all_ready) = tokio::sync::mpsc::channel::<()>(1);
    for number in 0..20 {
        let transport = if number % 2 == 0 { Transport::Quic } else { Transport::Tcp };
        let (url, ready) = (server.url(transport), ready.clone());
        mining.spawn(async move {
            let mut miner = Miner::at(&url).await;
            let mut ready = Some(ready);
            let error = loop {
                let share = miner.find();
                miner.submit(share);
                if let Err(error) = miner.hear().await {
                    break error;
                }
                if miner.accepted > 0 {
                    ready.take();
                }
            };
            (transport, error, miner.accepted)
        });
    }
    drop(ready);
    soon("all mine", all_ready.recv()).await;
    let began = Instant::now();
    server.signal(&["TERM"]);
    assert!(server.ended().await.success());
    assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
    for (transport, error, accepted) in soon("all know", mining.join_all()).await {
        // a socket that has unread shares when it is closed is reset
        let known = is_told(transport, &error) || transport == Transport::Tcp;
        assert!(known && accepted > 0, "{transport}: {error}");
    }
}

#[tokio::test]
async fn a_second_signal_leaves_at_once() {
    for signals in [["TERM", "INT"], ["INT", "TERM"]] {
        let home = Home::new();
        let server = home.start(0);
        // who does not hang up, and holds up the end for a while
        let _silent = Miner::at(&server.url(Transport::Tcp)).await;
        server.signal(&signals);
        server.says("stopping");
        server.complains("told a second time to stop");
        assert_eq!(server.ended().await.code(), Some(1));
    }
}
