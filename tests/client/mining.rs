//! The CPU miner against servers that come, go, and change their minds.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bitcoin::Network;
use blvm_stratum_v2::miner::{self, MineError, Progress, Until};
use blvm_stratum_v2::mining::payout::PayoutPolicy;
use blvm_stratum_v2::stats::TransportStats;
use blvm_stratum_v2::transport::client::{Pace, Server};
use blvm_stratum_v2::wire::url::{StratumUrl, Transport};
use tokio::task::JoinHandle;

use super::forwarder::{Forwarder, Path};
use super::house::House;
use super::restarting::{Restarting, brisk};
use super::support::authority;
use super::{becomes, scripted, soon};

const BOTH: [Transport; 2] = [Transport::Quic, Transport::Tcp];

fn pace() -> Pace {
    let moment = Duration::from_millis(200);
    Pace {
        head_start: moment,
        retry_quic: moment,
        first_wait: moment,
        longest_wait: moment,
        ..Pace::default()
    }
}

/// A miner on its way.
struct Miner {
    progress: Arc<Progress>,
    task: JoinHandle<Result<(), MineError>>,
}

impl Miner {
    fn start(urls: impl IntoIterator<Item = StratumUrl>, until: Until) -> Self {
        Self::of("a.b", urls, until)
    }

    fn of(user: &str, urls: impl IntoIterator<Item = StratumUrl>, until: Until) -> Self {
        let server = Server::at(urls).unwrap();
        let user = user.to_owned();
        let options = miner::Options { server, user, threads: 1, until, pace: pace(), certificate: None };
        let progress = Arc::new(Progress::default());
        let task = tokio::spawn({
            let progress = progress.clone();
            async move { miner::mine(&options, progress).await }
        });
        Self { progress, task }
    }

    fn accepted(&self) -> u64 {
        self.progress.accepted.load(Relaxed)
    }

    async fn ended(&mut self) -> Result<(), MineError> {
        soon("the miner stops", &mut self.task).await.unwrap()
    }

    /// The server and the miner agree on every share, and the server has been told goodbye.
    async fn agrees_with(&self, house: &House) {
        let stats = BOTH.map(|transport| house.stats_of(transport));
        let sum = |count: fn(&TransportStats) -> u64| stats.iter().map(|stats| count(stats)).sum::<u64>();
        becomes("the server has noticed", || sum(|stats| stats.connections.get()) == 0).await;
        assert_eq!(self.accepted(), sum(|stats| stats.shares_accepted.get()));
        assert_eq!(self.progress.rejected.load(Relaxed), sum(TransportStats::shares_rejected));
    }
}

fn shares(count: u64) -> Until {
    Until { shares: Some(count), ..Until::default() }
}

#[tokio::test]
async fn over_each_transport() {
    for transport in BOTH {
        let house = House::server(brisk).await;
        let mut miner = Miner::start([house.url(transport)], shares(5));
        miner.ended().await.unwrap();
        assert!(miner.accepted() >= 5);
        assert_eq!(house.stats_of(transport).shares_accepted.get(), miner.accepted());
        miner.agrees_with(&house).await;
    }
}

#[tokio::test]
async fn until_there_are_blocks_or_the_time_is_over() {
    for transport in BOTH {
        let house = House::server(brisk).await;
        let mut miner = Miner::start([house.url(transport)], Until { blocks: Some(2), ..Until::default() });
        miner.ended().await.unwrap();
        let sent = miner.progress.blocks.load(Relaxed);
        assert!(sent >= 2);
        becomes("the blocks are in the chain", || house.stats_of(transport).blocks.get() >= 2).await;
        miner.agrees_with(&house).await;

        let house = House::server(brisk).await;
        let time = Some(Duration::from_secs(3));
        let start = std::time::Instant::now();
        let mut miner = Miner::start([house.url(transport)], Until { time, ..Until::default() });
        miner.ended().await.unwrap();
        assert!(start.elapsed() >= Duration::from_secs(3));
        miner.agrees_with(&house).await;
    }
}

#[tokio::test]
async fn moves_over_to_quic_when_it_is_back() {
    let house = House::server(|options| {
        brisk(options);
        // so that answers are owed when it moves
        options.pool.session.share_batch_size = 1000;
        options.pool.session.share_batch_interval = Duration::from_secs(5);
    })
    .await;
    let path = Forwarder::start(house.address, Path::default());
    path.blackhole(true);
    let urls = [house.url(Transport::Tcp), house.url_by(Transport::Quic, path.addr())];
    let mut miner = Miner::start(urls, shares(150));
    let (quic, tcp) = (house.stats_of(Transport::Quic), house.stats_of(Transport::Tcp));
    becomes("shares over TCP", || tcp.shares_accepted.get() >= 3).await;
    assert_eq!(quic.shares_accepted.get(), 0);
    path.blackhole(false);
    becomes("shares over QUIC", || quic.shares_accepted.get() >= 3).await;
    becomes("the TCP connection is given up", || tcp.connections.get() == 0).await;
    let over_tcp = tcp.shares_accepted.get();
    miner.ended().await.unwrap();
    assert_eq!(tcp.shares_accepted.get(), over_tcp);
    miner.agrees_with(&house).await;
}

#[tokio::test]
async fn comes_back_to_a_server_that_restarts() {
    for transport in BOTH {
        for politely in [true, false] {
            let mut server = Restarting::new();
            server.start().await;
            let mut miner = Miner::start([server.url(transport)], shares(u64::MAX));
            for _ in 0..2 {
                becomes("shares", || server.accepted(transport) >= 3 || miner.task.is_finished()).await;
                if miner.task.is_finished() {
                    panic!("{transport}, politely: {politely}: {:?}", miner.ended().await);
                }
                server.stop(politely).await;
                server.start().await;
            }
            becomes("shares", || server.accepted(transport) >= 3 || miner.task.is_finished()).await;
            assert!(!miner.task.is_finished(), "{:?}", miner.ended().await);
            miner.task.abort();
        }
    }
}

#[tokio::test]
async fn comes_back_to_a_server_that_closes_its_channel() {
    let fake = scripted::closes_channels();
    let mut miner =
        Miner::start([super::url(Transport::Quic, fake.address, super::trust(&authority(1)))], shares(1));
    becomes("it comes again and again", || fake.visits() >= 4 || miner.task.is_finished()).await;
    assert!(!miner.task.is_finished(), "{:?}", miner.ended().await);
    miner.task.abort();
}

#[tokio::test]
async fn a_user_that_is_no_address_has_no_channel_on_a_solo_server() {
    let house = House::server(|options| {
        options.pool.payout = PayoutPolicy::Solo { fee: None, network: Network::Regtest };
    })
    .await;
    for transport in BOTH {
        let mut miner = Miner::of("nobody.rig", [house.url(transport)], Until::default());
        let refused = miner.ended().await.unwrap_err();
        let MineError::Refused(code) = &refused else { panic!("{refused:?}") };
        assert_eq!(code, "invalid-user-identity");
        assert!(refused.to_string().contains("check the user name"), "{refused}");
    }
}

#[tokio::test]
async fn gives_up_at_the_start_only() {
    let gone = super::fakes::Fake::mute().await.address;
    let mut miner =
        Miner::start([super::url(Transport::Tcp, gone, super::trust(&authority(1)))], Until::default());
    assert!(miner.ended().await.unwrap_err().to_string().contains("cannot connect"));
}
