//! A server that is started again, or twice.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use blvm_stratum_v2::miner::{self, Progress, Until};
use blvm_stratum_v2::transport::client::{Pace, Server as Pool};
use blvm_stratum_v2::wire::url::Transport;
use tokio::time::{sleep, timeout};

use super::miner::Miner;
use super::server::{Home, Server, is_there};
use super::soon;

const BOTH: [Transport; 2] = [Transport::Quic, Transport::Tcp];

/// Ends it, well or badly.
async fn end(server: Server, politely: bool) {
    if politely {
        server.signal(&["TERM"]);
        assert!(server.ended().await.success());
    } else {
        server.kill();
    }
}

#[tokio::test]
async fn a_share_from_before_is_stale_and_not_credited() {
    for politely in [true, false] {
        let home = Home::new();
        let server = home.start(0);
        let port = server.port();
        let mut kept = Vec::new();
        for transport in BOTH {
            let mut miner = Miner::at(&server.url(transport)).await;
            let share = miner.earn().await;
            kept.push((transport, share, miner.prefix));
        }
        let prefixes: Vec<_> = kept.iter().map(|(_, _, prefix)| prefix.clone()).collect();
        end(server, politely).await;
        let again = home.start(port);
        for (transport, share, _) in kept {
            let mut miner = Miner::at(&again.url(transport)).await;
            assert!(!prefixes.contains(&miner.prefix), "somebody may still mine there: {prefixes:x?}");
            miner.submit(share);
            miner.settle().await;
            assert_eq!((miner.accepted, &miner.refused[..]), (0, &["stale-share".to_owned()][..]));
            miner.earn().await;
            assert_eq!(miner.accepted, 1);
        }
    }
}

/// The miner of this crate forgets what it has found once its connection is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_miner_is_soon_mining_again() {
    for transport in BOTH {
        for politely in [true, false] {
            let home = Home::new();
            let server = home.start(0);
            let port = server.port();
            let options = miner::Options {
                certificate: None,
                server: Pool::at([server.url(transport)]).unwrap(),
                user: "again".to_owned(),
                threads: 1,
                until: Until::default(),
                pace: Pace::default(),
            };
            let progress = Arc::new(Progress::default());
            let mining = tokio::spawn({
                let progress = progress.clone();
                async move { miner::mine(&options, progress).await }
            });
            let more_than = async |count: u64| {
                while progress.accepted.load(Relaxed) <= count {
                    assert!(!mining.is_finished());
                    sleep(Duration::from_millis(5)).await;
                }
            };
            soon("it mines", more_than(2)).await;
            let began = Instant::now();
            end(server, politely).await;
            let ended = began.elapsed();
            let _again = home.start(port);
            let started = began.elapsed();
            let before = progress.accepted.load(Relaxed);
            // who is not told waits for a minute
            let again = timeout(Duration::from_secs(30), more_than(before)).await;
            assert!(again.is_ok(), "{transport}: it does not mine again");
            println!(
                "{transport}, {}: ended after {ended:.2?}, there again after {started:.2?}, mining again after {:.2?}",
                if politely { "SIGTERM" } else { "SIGKILL" },
                began.elapsed(),
            );
            mining.abort();
        }
    }
}

#[tokio::test]
async fn a_second_server_on_the_same_data_is_refused() {
    let home = Home::new();
    let first = home.start(0);
    let boots = home.boots();
    let second = home.command(0).stdout(Stdio::piped()).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let told = String::from_utf8(second.stderr).unwrap();
    assert!(told.contains("the data directory data is in use"), "{told}");
    assert!(
        told.contains(&format!("process {}", first.pid())) && told.contains("stop that one first"),
        "{told}"
    );
    assert_eq!(home.boots(), boots);
    drop(Miner::at(&first.quic).await);

    // the lock goes with the process, however that ends
    first.kill();
    assert!(is_there(&home.path("data/lock")));
    let third = home.start(0);
    assert_eq!(home.boots(), boots + 1);
    end(third, true).await;
    home.start(0);
    assert_eq!(home.boots(), boots + 2);
}
