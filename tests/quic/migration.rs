//! Miners whose address changes in mid-session, as a NAT or a change of network does it.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use blvm_stratum_v2::transport::client::ClientError;
use blvm_stratum_v2::wire::url::{StratumUrl, Transport};
use tokio::time::{sleep, timeout};

use crate::fleet::{Books, Miner};
use crate::forwarder::{Forwarder, Path};
use crate::house::House;
use crate::raw::soon;

const CHANNELS: u32 = 5;

fn url(house: &House, path: &Forwarder) -> StratumUrl {
    house.url_by(Transport::Quic, path.addr())
}

#[tokio::test]
async fn a_new_port_in_mid_session_costs_no_channel_and_no_share() {
    const MINERS: usize = 4;
    const MOVES: usize = 6;
    let house = House::listener(2, |_| ()).await;
    let delay = Duration::from_millis(5);
    let path =
        Forwarder::start(house.address, Path { delay_up: delay, delay_down: delay, ..Path::default() });
    let moving = Arc::new(AtomicBool::new(true));
    let mut mining = Vec::new();
    for _ in 0..MINERS {
        let mut miner = Miner::at(&url(&house, &path), CHANNELS).await;
        let moving = moving.clone();
        mining.push(tokio::spawn(async move {
            while moving.load(Relaxed) {
                miner.mine(Duration::from_millis(10), Duration::from_millis(100)).await;
            }
            (miner.settle().await, miner)
        }));
    }
    for turn in 0..MOVES {
        sleep(Duration::from_millis(400)).await;
        // some NATs forget the old port at once, others not
        path.rotate_lingering(Duration::from_millis(if turn % 2 == 0 { 0 } else { 100 }));
    }
    sleep(Duration::from_millis(400)).await;
    moving.store(false, Relaxed);
    let (mut books, mut miners) = (Vec::new(), Vec::new());
    for mining in mining {
        let (book, miner) = mining.await.unwrap();
        books.push(book);
        miners.push(miner);
    }
    let Books { sent, accepted, refused } = books.into_iter().sum();
    assert!(sent >= 1000, "there was a load: {sent} shares");
    assert!(path.counts().source_ports_seen >= MINERS * (MOVES + 1), "{:?}", path.counts());
    let stats = house.stats_of(Transport::Quic);
    assert_eq!((accepted, refused), (sent, 0));
    assert_eq!((stats.shares_accepted.get(), stats.shares_rejected()), (sent, 0));
    assert_eq!(stats.connections.get(), MINERS as u64);
    assert_eq!(stats.channels.get(), MINERS as u64 * u64::from(CHANNELS));
}

#[tokio::test]
async fn work_waits_for_a_miner_that_has_moved() {
    let mut house = House::listener(2, |_| ()).await;
    let path = Forwarder::start(house.address, Path::default());
    let mut miner = Miner::at(&url(&house, &path), CHANNELS).await;
    house.refresh(1);
    let mut time = house.pool.work().borrow().as_ref().unwrap().tip.min_ntime;
    miner.job_at(time).await;
    for _ in 0..3 {
        // not even an acknowledgement tells the server
        path.set_loss(1.0, 0.0);
        path.rotate();
        house.refresh(1);
        time += 1;
        let early = timeout(Duration::from_millis(300), miner.until_lost()).await;
        assert!(early.is_err(), "{early:?}");
        assert!(!miner.has_job_at(time), "the server cannot know where the miner is");
        path.set_loss(0.0, 0.0);
        miner.submit().unwrap();
        miner.job_at(time).await;
        // and work that is newer than the move
        house.refresh(1);
        time += 1;
        miner.job_at(time).await;
    }
    let books = miner.settle().await;
    assert_eq!(books.accepted, books.sent);
    assert_eq!(house.stats_of(Transport::Quic).channels.get(), u64::from(CHANNELS));
}

#[tokio::test]
async fn a_miner_counts_where_it_is_and_not_where_it_was() {
    const MINERS: usize = 3;
    let house = House::listener(2, |options| options.max_connections_per_ip = MINERS).await;
    let at = |last| Ipv4Addr::new(127, 0, 0, last);
    let (path, other) =
        (Forwarder::start(house.address, Path::default()), Forwarder::start(house.address, Path::default()));
    let (here, direct) = (url(&house, &path), house.url(Transport::Quic));
    let full = |joined: Result<Miner, ClientError>| assert!(matches!(joined, Err(ClientError::Full)));
    let mut miners = Vec::new();
    for _ in 0..MINERS {
        miners.push(Miner::at(&here, 1).await);
    }
    full(Miner::join(&direct, 1).await);
    other.set_source(at(2));
    let there = url(&house, &other);
    drop(soon("another address has a quota of its own", Miner::join(&there, 1)).await.unwrap());
    connections(&house, MINERS as u64).await;

    path.set_source(at(2));
    path.rotate();
    // they are counted there once they have stayed for ten seconds, when they next say something
    for wait in [0, 11] {
        sleep(Duration::from_secs(wait)).await;
        for miner in &mut miners {
            miner.submit().unwrap();
            miner.settle().await;
        }
    }
    full(Miner::join(&there, 1).await);
    // the old address has all of its quota again
    let mut others = Vec::new();
    for _ in 0..MINERS {
        others.push(Miner::at(&direct, 1).await);
    }
    full(Miner::join(&direct, 1).await);

    drop((miners, others));
    connections(&house, 0).await;
    for url in [&direct, &there] {
        let mut all = Vec::new();
        for _ in 0..MINERS {
            all.push(Miner::at(url, 1).await);
        }
        full(Miner::join(url, 1).await);
        drop(all);
        connections(&house, 0).await;
    }
}

async fn connections(house: &House, count: u64) {
    let stats = house.stats_of(Transport::Quic);
    soon("the number of connections settles", async {
        while stats.connections.get() != count {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// It moves to an address that is not its own, again and again, and hears nothing there.
#[tokio::test]
async fn a_miner_that_only_claims_to_have_moved_takes_no_one_s_place() {
    const MAX: usize = 3;
    let house = House::listener(2, |options| options.max_connections_per_ip = MAX).await;
    let at = |last| Ipv4Addr::new(127, 0, 0, last);
    let (path, victim) =
        (Forwarder::start(house.address, Path::default()), Forwarder::start(house.address, Path::default()));
    victim.set_source(at(2));
    let (here, there) = (url(&house, &path), url(&house, &victim));
    let mut attackers = Vec::new();
    for _ in 0..MAX {
        attackers.push(Miner::at(&here, 1).await);
    }
    path.set_loss(0.0, 1.0);
    path.set_source(at(2));
    for _ in 0..8 {
        path.rotate();
        for attacker in &mut attackers {
            let _ = attacker.submit();
            let _ = timeout(Duration::from_millis(20), attacker.until_lost()).await;
        }
        sleep(Duration::from_millis(300)).await;
        drop(soon("the victim gets in", Miner::join(&there, 1)).await.unwrap());
        let own = Miner::join(&house.url(Transport::Quic), 1).await;
        assert!(matches!(own, Err(ClientError::Full)));
    }
}
