//! Miners of a server that is started anew.

use std::fs;
use std::time::{Duration, Instant};

use blvm_stratum_v2::transport::LinkError;
use blvm_stratum_v2::transport::client::ClientError;
use blvm_stratum_v2::transport::quic::Code;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::fleet::Miner;
use crate::process::{Home, Process};
use crate::raw::soon;

const LIMITS: &str = "max_connections_per_ip = 1000\nshares_per_minute = 60000\n";
/// A client sends something every 15 seconds at least, and gives up after 60.
const ALL_KNOW: Duration = Duration::from_secs(25);
const PACE: Duration = Duration::from_millis(500);

/// Submits something now and then, or is silent, until the connection is lost.
async fn until_lost(mut miner: Miner, submits: bool) -> ClientError {
    loop {
        let pace = if submits { PACE } else { Duration::MAX };
        match timeout(pace, miner.hear()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return error,
            Err(_) => miner.guess().unwrap(),
        }
    }
}

async fn miners(server: &Process, count: usize) -> Vec<Miner> {
    let mut joining = JoinSet::new();
    let mut miners = Vec::new();
    for _ in 0..count {
        let url = server.quic.clone();
        // guesses are no shares, let alone blocks
        joining.spawn(async move { soon("a miner joins", Miner::claim(&url, 1, 1e15)).await.unwrap() });
        if joining.len() == 20 {
            miners.extend(joining.join_next().await.map(Result::unwrap));
        }
    }
    miners.extend(joining.join_all().await);
    miners
}

#[tokio::test]
async fn a_restart_is_known_with_the_next_packet() {
    const MINERS: usize = 200;
    let home = Home::new(LIMITS);
    let server = home.start(0);
    let url = server.quic.clone();
    let miners = miners(&server, MINERS).await;
    drop(server);
    let again = home.start(url.port);
    let began = Instant::now();
    assert_eq!(again.quic, url);
    let mut losing = JoinSet::new();
    for (number, miner) in miners.into_iter().enumerate() {
        let (url, submits) = (url.clone(), number % 2 == 0);
        losing.spawn(async move {
            let error = until_lost(miner, submits).await;
            let known = began.elapsed();
            assert!(matches!(error, ClientError::Link(LinkError::Reset)), "{error}");
            drop(Miner::at(&url, 1).await);
            (submits, known)
        });
    }
    let all = timeout(ALL_KNOW, losing.join_all()).await.expect("all know in time");
    for submits in [true, false] {
        let known = || all.iter().filter(|(of, _)| *of == submits).map(|(_, known)| known.as_secs_f64());
        println!(
            "{} miners, {}: the first knows after {:.2} s, the last after {:.2} s",
            known().count(),
            if submits { "submitting" } else { "silent" },
            known().fold(f64::MAX, f64::min),
            known().fold(0.0, f64::max)
        );
        let last = known().fold(0.0, f64::max);
        // those that send need not wait for a keep-alive
        assert!(!submits || last < 10.0, "{last}");
    }
}

#[tokio::test]
async fn without_the_key_of_before_a_restart_is_not_known() {
    let home = Home::new(LIMITS);
    let server = home.start(0);
    let url = server.quic.clone();
    let miners = miners(&server, 10).await;
    drop(server);
    fs::remove_file(home.endpoint_key()).unwrap();
    let _again = home.start(url.port);
    let mut losing = JoinSet::new();
    for miner in miners {
        losing.spawn(async move { until_lost(miner, true).await });
    }
    let told = timeout(Duration::from_secs(5), losing.join_next()).await;
    assert!(told.is_err(), "{told:?}");
    // whoever tries gets in
    drop(Miner::at(&url, 1).await);
}

#[tokio::test]
async fn a_server_that_is_stopped_says_so() {
    let home = Home::new(LIMITS);
    let server = home.start(0);
    let miners = miners(&server, 50).await;
    let mut losing = JoinSet::new();
    for (number, miner) in miners.into_iter().enumerate() {
        losing.spawn(until_lost(miner, number % 2 == 0));
    }
    sleep(PACE).await;
    soon("the server ends", server.terminate()).await;
    for error in soon("all know", losing.join_all()).await {
        let draining = matches!(&error, ClientError::Link(LinkError::ClosedFor { code: Code::DRAINING, .. }));
        assert!(draining, "{error}");
    }
}
