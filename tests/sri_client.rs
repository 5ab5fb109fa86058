//! A client made of SRI's crates on our server, over TCP.
//!
//! SRI's channels and groups take in every message and refuse what is not legal in its place; the
//! shares that they find valid must all be accepted and credited.

mod common;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use blvm_stratum_v2::clock::Clock;
use blvm_stratum_v2::mining::Work;
use blvm_stratum_v2::mining::extranonce::BootEpoch;
use blvm_stratum_v2::mining::share::Share;
use blvm_stratum_v2::pool::{Found, ShareSink, Stored, StratumV2Pool};
use blvm_stratum_v2::server::{self, Identity, StratumV2Server};
use blvm_stratum_v2::session::Options;
use blvm_stratum_v2::template::{self, regtest};
use blvm_stratum_v2::transport::quic;
use blvm_stratum_v2::transport::{Admission, NoiseIdentity, NoiseListener};
use blvm_stratum_v2::wire::keys::{AuthorityPublicKey, AuthoritySecretKey};
use blvm_stratum_v2::wire::url::Transport;
use common::sri::{Client, STANDARD_JOBS, Sri};
use common::{MANY_BLOCKS, NO_BLOCKS, Source, pool_options};
use rand::SeedableRng;
use rand::rngs::StdRng;
use stratum_core::extensions_sv2::RequestExtensionsOwned;
use stratum_core::mining_sv2::OpenExtendedMiningChannelOwned;
use stratum_core::parsers_sv2::{
    AnyMessageOwned, ExtensionsNegotiationOwned, ExtensionsOwned, MiningOwned, Tlv,
};
use tokio::sync::{mpsc, watch};

/// A share takes five hashes or so, at the usual share rate.
const SLOW: f32 = 1.0;
const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const JOB: u8 = 0x15;
const EXTENDED_JOB: u8 = 0x1f;
const PREV_HASH: u8 = 0x20;
const TARGET: u8 = 0x21;

#[tokio::test]
async fn one_connection_for_all() {
    let mut bench = Bench::start(NO_BLOCKS).await;
    let mut client = bench.client("oracle", 0).await;
    let mut channels = Vec::new();
    for standard in [true, false, true, false] {
        channels.push(client.open(standard, SLOW).await);
    }
    let groups: Vec<_> = client.groups.keys().copied().collect();
    let [group] = groups[..] else { panic!("one group: {groups:?}") };
    assert_eq!(group, 1, "the number that SRI expects");
    client.mine().await;

    for updated in channels.into_iter().take(3) {
        bench.refresh(&mut client).await;
        assert_eq!(client.work, [(EXTENDED_JOB, group)]);
        client.mine().await;

        bench.new_tip(&mut client).await;
        assert_eq!(client.work, [(EXTENDED_JOB, group), (PREV_HASH, group)]);
        client.mine().await;

        bench.prepare(&mut client, 2).await;
        assert_eq!(client.work, [(EXTENDED_JOB, group); 2]);
        client.mine().await;

        client.work.clear();
        client.update(updated, 2.0 * SLOW).await;
        let job = if matches!(client.channels[&updated].sri, Sri::Standard(_)) { JOB } else { EXTENDED_JOB };
        assert_eq!(client.work, [(TARGET, updated), (job, updated)]);
        client.mine().await;

        bench.new_tip(&mut client).await;
        assert_eq!(client.work, [(PREV_HASH, group)], "the prepared job needs no more");
        client.mine().await;
    }
    bench.all_credited(&client);
}

#[tokio::test]
async fn a_channel_opened_while_a_future_job_is_pending() {
    let mut bench = Bench::start(NO_BLOCKS).await;
    let mut client = bench.client("oracle", 0).await;
    client.open(true, SLOW).await;
    client.open(false, SLOW).await;
    bench.prepare(&mut client, 2).await;
    client.open(true, SLOW).await;
    client.open(false, SLOW).await;
    client.mine().await;
    bench.new_tip(&mut client).await;
    client.mine().await;
    bench.all_credited(&client);
}

/// The group has to hear of the future jobs too, not only the channel: it is the group that is
/// told to mine them.
#[tokio::test]
async fn a_first_channel_opened_while_a_future_job_is_pending() {
    for (vendor, flags) in [("oracle", 0), ("oracle", STANDARD_JOBS), ("Bitaxe", 0)] {
        let mut bench = Bench::start(NO_BLOCKS).await;
        let work = bench.source.prepare(0, 2);
        bench.pool.publish(work);
        let mut client = bench.client(vendor, flags).await;
        for _ in 0..2 {
            client.open(true, SLOW).await;
            client.mine().await;
        }
        bench.new_tip(&mut client).await;
        client.mine().await;
        bench.all_credited(&client);
    }
}

/// A group that has lost all its channels starts afresh with the next one.
#[tokio::test]
async fn a_group_is_left_and_joined_again() {
    let mut bench = Bench::start(NO_BLOCKS).await;
    let mut client = bench.client("oracle", 0).await;
    let first = client.open(false, SLOW).await;
    client.mine().await;
    client.close(first).await;
    let work = bench.source.new_tip(NO_BLOCKS);
    bench.pool.publish(work);
    client.open(false, SLOW).await;
    bench.prepare(&mut client, 1).await;
    bench.new_tip(&mut client).await;
    client.mine().await;
}

#[tokio::test]
async fn blocks_are_handed_in() {
    let mut bench = Bench::start(MANY_BLOCKS).await;
    let mut client = bench.client("oracle", 0).await;
    let channels = [client.open(true, SLOW).await, client.open(false, SLOW).await];
    let mut blocks = 0;
    for share in 0..200 {
        blocks += usize::from(client.submit(channels[share % 2]).await);
    }
    client.settle().await;
    assert!(blocks > 0);
    for _ in 0..blocks {
        let Found { solution, .. } = bench.found.recv().await.unwrap();
        solution.transaction().unwrap();
    }
    assert!(bench.found.try_recv().is_err(), "and nothing else");
    bench.all_credited(&client);
}

#[tokio::test]
async fn every_block_connects() {
    let authority = AuthoritySecretKey::generate(&mut StdRng::seed_from_u64(2));
    let options = server::Options {
        listen_addr: LOOPBACK,
        handshake_timeout: Duration::from_secs(10),
        max_connections: 10,
        max_connections_per_ip: 10,
        max_tcp_connections: 10,
        noise_enabled: true,
        quic: quic::Options::default(),
        pool: pool_options(Options::default()),
        template: template::Options::embedded(regtest::Options {
            transactions: 3,
            future_templates: true,
            ..Default::default()
        }),
    };
    let public = authority.public_key();
    let server = StratumV2Server::start(options, Identity::issue(authority).unwrap()).await.unwrap();
    let mut client = Client::connect(server.address(), &public, "oracle", 0).await;
    let mut channels = Vec::new();
    for standard in [true, false, true, false] {
        channels.push(client.open(standard, SLOW).await);
    }
    let stats = server.pool().stats().of(Transport::Tcp);
    for mined in 0..20 {
        let id = channels[mined % 4];
        let job = client.channels[&id].active();
        assert!(client.submit(id).await, "on regtest every share is a block");
        client.until(|client| client.channels.values().all(|channel| channel.active() != job)).await;
        client.settle().await;
        assert_eq!(stats.blocks.get(), mined as u64 + 1);
    }
    assert_eq!(stats.solutions_refused.get(), 0);
    assert_eq!(stats.shares_accepted.get(), 20);
    server.shutdown().await;
}

#[tokio::test]
async fn standard_jobs_only() {
    let mut bench = Bench::start(NO_BLOCKS).await;
    let mut client = bench.client("oracle", STANDARD_JOBS).await;
    let channels = [client.open(true, SLOW).await, client.open(true, SLOW).await];
    bench.all_kinds_of_work(&mut client).await;
    for (msg_type, address) in &client.work {
        assert!([JOB, PREV_HASH, TARGET].contains(msg_type) && channels.contains(address));
    }
    bench.all_credited(&client);

    let open = OpenExtendedMiningChannelOwned {
        request_id: 77,
        user_identity: b"alice".to_vec().try_into().unwrap(),
        nominal_hash_rate: SLOW,
        max_target: [0xff; 32].into(),
        min_extranonce_size: 4,
    };
    client.wire.send(AnyMessageOwned::Mining(MiningOwned::OpenExtendedMiningChannel(open))).await;
    let AnyMessageOwned::Mining(MiningOwned::OpenMiningChannelError(m)) = client.wire.receive().await else {
        panic!("an extended channel is of no use to such a client")
    };
    assert_eq!(m.request_id, 77);
    assert_eq!(m.error_code.as_bytes(), b"extended-channels-not-supported-for-standard-jobs");
}

#[tokio::test]
async fn channel_by_channel_for_firmware_that_knows_no_groups() {
    let mut bench = Bench::start(NO_BLOCKS).await;
    let mut client = bench.client("Bitaxe", 0).await;
    let channels = [client.open(true, SLOW).await, client.open(false, SLOW).await];
    bench.all_kinds_of_work(&mut client).await;
    for (msg_type, address) in &client.work {
        assert!(*address == channels[0] || *address == channels[1] && *msg_type != JOB);
    }
    bench.all_credited(&client);
}

#[tokio::test]
async fn shares_name_their_worker_in_either_byte_order() {
    let bench = Bench::start(NO_BLOCKS).await;
    let mut client = bench.client("oracle", 0).await;
    let channel = client.open(false, SLOW).await;
    // not negotiated yet
    let ignored = Tlv::new(0x0002, 1, b"nobody".to_vec()).encode().unwrap();
    client.submit_with(channel, &ignored).await;
    client.settle().await;

    let request = RequestExtensionsOwned {
        request_id: 5,
        requested_extensions: vec![0x0002, 0x0777].try_into().unwrap(),
    };
    let request = ExtensionsNegotiationOwned::RequestExtensions(request);
    client.wire.send(AnyMessageOwned::Extensions(ExtensionsOwned::ExtensionsNegotiation(request))).await;
    let AnyMessageOwned::Extensions(ExtensionsOwned::ExtensionsNegotiation(
        ExtensionsNegotiationOwned::RequestExtensionsSuccess(m),
    )) = client.wire.receive().await
    else {
        panic!("the server knows one of the extensions")
    };
    assert_eq!(m.request_id, 5);
    assert_eq!(m.supported_extensions.as_slice(), [0x0002]);

    let little = Tlv::new(0x0002, 1, b"little".to_vec()).encode().unwrap();
    client.submit_with(channel, &little).await;
    client.submit_with(channel, b"\x00\x02\x01\x00\x03big").await;
    client.submit_with(channel, b"").await;
    client.settle().await;
    let shares = bench.shares.lock().unwrap();
    let workers: Vec<_> =
        shares.iter().map(|share| share.worker.map(|name| name.as_bytes().to_vec())).collect();
    assert_eq!(workers, [None, Some(b"little".to_vec()), Some(b"big".to_vec()), None]);
}

/// A server whose work is made by hand, at the moments that a test chooses.
struct Bench {
    source: Source,
    pool: Arc<StratumV2Pool>,
    found: mpsc::Receiver<Found>,
    shares: Arc<Mutex<Vec<Share>>>,
    address: SocketAddr,
    authority: AuthorityPublicKey,
    _stop: watch::Sender<bool>,
}

/// Keeps all shares.
#[derive(Debug)]
struct Books(Arc<Mutex<Vec<Share>>>);

impl ShareSink for Books {
    fn store(&self, shares: &mut Vec<Share>) -> Stored {
        self.0.lock().unwrap().append(shares);
        Stored::Now
    }
}

impl Bench {
    async fn start(nbits: u32) -> Self {
        let source = Source::new(nbits);
        let shares = Arc::default();
        let sink = Box::new(Books(Arc::clone(&shares)));
        let (pool, found) = StratumV2Pool::new(pool_options(Options::default()), BootEpoch::default(), sink);
        pool.publish(source.work());
        let secret = AuthoritySecretKey::generate(&mut StdRng::seed_from_u64(1));
        let authority = secret.public_key();
        let identity = Arc::new(NoiseIdentity::new(secret, Duration::from_secs(3600)));
        let listener =
            NoiseListener::bind(LOOPBACK, Duration::from_secs(10), identity, Admission::new(10, 10))
                .await
                .unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(listener.run(pool.clone(), Clock::start(), stopped));
        Self { source, pool, found, shares, address, authority, _stop: stop }
    }

    async fn client(&self, vendor: &str, flags: u32) -> Client {
        Client::connect(self.address, &self.authority, vendor, flags).await
    }

    /// Publishes work and has the client hear of it.
    async fn publish(&mut self, client: &mut Client, work: Arc<Work>) {
        let before: Vec<_> = client.channels.values().map(|channel| channel.active()).collect();
        self.pool.publish(work);
        client
            .until(|client| {
                client.channels.values().zip(&before).all(|(channel, job)| channel.active() != *job)
            })
            .await;
    }

    async fn refresh(&mut self, client: &mut Client) {
        client.work.clear();
        let work = self.source.refresh(true);
        self.publish(client, work).await;
    }

    async fn new_tip(&mut self, client: &mut Client) {
        client.work.clear();
        let nbits = self.source.work.tip.nbits;
        let work = self.source.new_tip(nbits);
        self.publish(client, work).await;
        for channel in client.channels.values() {
            let tip = match &channel.sri {
                Sri::Standard(sri) => sri.get_chain_tip(),
                Sri::Extended(sri) => sri.get_chain_tip(),
            };
            assert_eq!(
                tip.unwrap().prev_hash().to_array()[..],
                *AsRef::<[u8]>::as_ref(&self.source.work.tip.prev_hash)
            );
        }
    }

    async fn prepare(&mut self, client: &mut Client, templates: usize) {
        client.work.clear();
        let work = self.source.prepare(0, templates);
        self.pool.publish(work);
        client
            .until(|client| {
                client.channels.values().all(|channel| match &channel.sri {
                    Sri::Standard(sri) => sri.get_future_jobs_count() == templates,
                    Sri::Extended(sri) => sri.get_future_jobs_count() == templates,
                })
            })
            .await;
    }

    /// Refreshed, prepared and new work, and a new target; the client's record is of all of it.
    async fn all_kinds_of_work(&mut self, client: &mut Client) {
        let mut record = client.work.clone();
        client.mine().await;
        self.refresh(client).await;
        record.append(&mut client.work);
        client.mine().await;
        self.prepare(client, 2).await;
        record.append(&mut client.work);
        let first = *client.channels.keys().next().unwrap();
        client.update(first, 3.0 * SLOW).await;
        record.append(&mut client.work);
        client.mine().await;
        self.new_tip(client).await;
        record.append(&mut client.work);
        client.mine().await;
        client.work = record;
    }

    /// Each channel's shares are in the books with the difficulty that SRI gives them.
    fn all_credited(&self, client: &Client) {
        let shares = self.shares.lock().unwrap();
        let credited: f64 = shares.iter().map(|share| share.difficulty.0).sum();
        let (mut count, mut sum) = (0, 0.0);
        for channel in client.channels.values() {
            count += channel.books().get_validated_shares() as usize;
            sum += channel.books().get_validated_work_sum();
        }
        assert!(count > 0);
        assert_eq!(shares.len(), count);
        assert!((credited / sum - 1.0).abs() < 1e-9, "{credited} {sum}");
    }
}
