//! A server to try things on, on threads of its own, and a miner that only wants to mine.

#![allow(dead_code)] // each test uses a part

pub(crate) mod honest;
mod panics;

use std::future::Future;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use blvm_stratum_v2::clock::{Clock, unix_now};
use blvm_stratum_v2::config::Config;
use blvm_stratum_v2::mining::extranonce::BootEpoch;
use blvm_stratum_v2::mining::vardiff;
use blvm_stratum_v2::mining::{Hashrate, Target, TemplateSerial, Tip, Work};
use blvm_stratum_v2::module::api::Info;
use blvm_stratum_v2::module::client;
use blvm_stratum_v2::pool::{CountOnly, StratumV2Pool};
use blvm_stratum_v2::server::{Identity, Options, StratumV2Server};
use blvm_stratum_v2::stats::TransportStats;
use blvm_stratum_v2::template::regtest::{self, RegtestChain};
use blvm_stratum_v2::transport::quic::QuicListener;
use blvm_stratum_v2::transport::{Admission, NoiseListener};
use blvm_stratum_v2::wire::keys::{AuthorityPublicKey, AuthoritySecretKey};
use blvm_stratum_v2::wire::url::{StratumUrl, Transport, Trust};
use blvm_stratum_v2::wire::{Message, write_frame};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// What takes longer will not happen any more.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Waits for what is bound to happen.
pub(crate) async fn soon<T>(what: &str, happens: impl Future<Output = T>) -> T {
    match timeout(PATIENCE, happens).await {
        Ok(happened) => happened,
        Err(_) => panic!("waited in vain: {what}"),
    }
}

/// Dropping it checks that nothing in it has panicked.
pub(crate) struct House {
    pub(crate) pool: Arc<StratumV2Pool>,
    pub(crate) address: SocketAddr,
    pub(crate) authority: AuthorityPublicKey,
    source: Source,
    runtime: Option<Runtime>,
    threads: String,
}

#[allow(dead_code)] // what is kept only to be kept alive
enum Source {
    Server(Box<StratumV2Server>),
    /// The test says what there is to mine on.
    Test {
        chain: Box<RegtestChain>,
        stop: watch::Sender<bool>,
    },
}

impl House {
    /// A whole server.
    pub(crate) async fn server(set: impl FnOnce(&mut Options)) -> Self {
        let (runtime, threads) = runtime(2);
        let authority = authority();
        let public = authority.public_key();
        let starting =
            runtime.spawn(StratumV2Server::start(options(set), Identity::issue(authority).unwrap()));
        let server = soon("the server starts", starting).await.unwrap().unwrap();
        Self {
            pool: server.pool().clone(),
            address: server.address(),
            authority: public,
            source: Source::Server(Box::new(server)),
            runtime: Some(runtime),
            threads,
        }
    }

    /// Has the server keep in touch with a node.
    pub(crate) fn join_node(&mut self, node: client::Options) {
        let Source::Server(server) = &mut self.source else { panic!("only a whole server does") };
        server.join_node(node, Info::default());
    }

    /// The listeners and their pool, on so many threads, with work that changes only by
    /// [`refresh`](Self::refresh) and that no share solves.
    pub(crate) async fn listener(workers: usize, set: impl FnOnce(&mut Options)) -> Self {
        let (runtime, threads) = runtime(workers);
        let authority = authority();
        let public = authority.public_key();
        let options = options(set);
        let chain = RegtestChain::open(regtest::Options::default(), TemplateSerial(1), unix_now()).unwrap();
        let (pool, _) = StratumV2Pool::new(options.pool, BootEpoch::of_start(1), Box::new(CountOnly));
        pool.publish(Arc::new(unsolvable(chain.work())));
        let Identity { noise: identity, tls, endpoint, .. } = Identity::issue(authority).unwrap();
        let identity = identity.unwrap();
        let admission = Admission::new(options.max_connections, options.max_connections_per_ip);
        let (noise, quic) = {
            let _in = runtime.enter();
            let tls = tls.config;
            loop {
                let binding = NoiseListener::bind(
                    options.listen_addr,
                    options.handshake_timeout,
                    identity.clone(),
                    admission.clone(),
                );
                let noise = binding.await.unwrap();
                let address = noise.local_addr().unwrap();
                let quic = options.quic.clone();
                // a port that is free on TCP may be somebody's on UDP
                match QuicListener::bind(address, tls.clone(), &endpoint, quic, admission.clone()) {
                    Ok(quic) => break (noise, quic),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::AddrInUse),
                }
            }
        };
        let address = quic.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        runtime.spawn(noise.run(pool.clone(), Clock::start(), stopped.clone()));
        runtime.spawn(quic.run(pool.clone(), Clock::start(), stopped));
        let source = Source::Test { chain: Box::new(chain), stop };
        Self { pool, address, authority: public, source, runtime: Some(runtime), threads }
    }

    /// Publishes a new template whose jobs carry a time that is `later` seconds after the last one's.
    pub(crate) fn refresh(&mut self, later: u32) {
        let Source::Test { chain, .. } = &mut self.source else { panic!("the server makes the work") };
        let last = self.pool.work().borrow().as_ref().map(|work| work.tip.clone()).unwrap();
        let mut work = unsolvable(chain.refresh(last.min_ntime));
        work.tip = Arc::new(Tip { min_ntime: last.min_ntime + later, ..(*work.tip).clone() });
        self.pool.publish(Arc::new(work));
    }

    /// Has the listeners stop.
    pub(crate) fn stop(&self) {
        let Source::Test { stop, .. } = &self.source else { panic!("the server stops as a whole") };
        stop.send_replace(true);
    }

    pub(crate) fn url(&self, transport: Transport) -> StratumUrl {
        self.url_by(transport, self.address)
    }

    /// For someone who reaches it by this address.
    pub(crate) fn url_by(&self, transport: Transport, address: SocketAddr) -> StratumUrl {
        StratumUrl {
            transport,
            host: address.ip().to_string(),
            port: address.port(),
            trust: Trust::Authority(self.authority),
        }
    }

    pub(crate) fn stats(&self) -> &TransportStats {
        self.stats_of(Transport::Tcp)
    }

    pub(crate) fn stats_of(&self, transport: Transport) -> &TransportStats {
        self.pool.stats().of(transport)
    }

    /// Waits until so many connections are open.
    pub(crate) async fn has_connections(&self, count: u64) {
        let settled = async {
            while self.stats().connections.get() != count {
                sleep(Duration::from_millis(5)).await;
            }
        };
        soon("the number of connections settles", settled).await;
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        if !thread::panicking() {
            assert_eq!(panics::on(&self.threads), 0, "the server has panicked");
        }
    }
}

fn runtime(workers: usize) -> (Runtime, String) {
    static HOUSES: AtomicU32 = AtomicU32::new(0);
    panics::watch();
    let name = format!("house {}", HOUSES.fetch_add(1, Relaxed));
    let runtime = Builder::new_multi_thread().worker_threads(workers).thread_name(&name).enable_all().build();
    (runtime.unwrap(), name)
}

fn authority() -> AuthoritySecretKey {
    AuthoritySecretKey::generate(&mut StdRng::seed_from_u64(2))
}

/// Those of a configuration file without a word in it, except that shares take no effort.
fn options(set: impl FnOnce(&mut Options)) -> Options {
    let mut options = Config::default().options().unwrap();
    options.listen_addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    options.pool.session.vardiff = effortless();
    set(&mut options);
    options
}

/// Every hash is a share, at any pace that anybody here comes up to: half of them are blocks, and
/// half are not.
fn effortless() -> vardiff::Options {
    let slowest = Hashrate::new(100.0).unwrap();
    vardiff::Options { shares_per_minute: 60_000.0, slowest }
}

fn unsolvable(work: Work) -> Work {
    let tip = Tip { network_target: Target::ZERO, report_target: Target::ZERO, ..(*work.tip).clone() };
    Work { tip: Arc::new(tip), ..work }
}

pub(crate) fn frame_of<'m>(message: &impl Message<'m>) -> Vec<u8> {
    let mut frame = Vec::new();
    message.encode(&mut frame).unwrap();
    frame
}

pub(crate) fn frame(extension: u16, msg_type: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    write_frame(extension, msg_type, false, &mut frame, |out| out.extend_from_slice(payload)).unwrap();
    frame
}
