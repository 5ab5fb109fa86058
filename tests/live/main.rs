//! Other options for a server that runs, as the miners that are connected see it.

mod limits;
mod miner;
mod payout;
mod sessions;
mod sources;

#[allow(dead_code)] // each test uses a part
#[path = "../bitcoin_rpc/node.rs"]
mod node;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bitcoin::Script;
use blvm_stratum_v2::config::Config;
use blvm_stratum_v2::mining::Hashrate;
use blvm_stratum_v2::mining::payout::PayoutPolicy;
use blvm_stratum_v2::mining::vardiff;
use blvm_stratum_v2::server::{ApplyError, Identity, Options, StratumV2Server};
use blvm_stratum_v2::wire::keys::AuthoritySecretKey;
use blvm_stratum_v2::wire::url::{StratumUrl, Transport};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::time::{sleep, timeout};

pub(crate) const BOTH: [Transport; 2] = [Transport::Quic, Transport::Tcp];

/// What takes longer will not happen any more, on a machine however busy.
const PATIENCE: Duration = Duration::from_secs(40);

pub(crate) async fn soon<T>(what: &str, happens: impl Future<Output = T>) -> T {
    match timeout(PATIENCE, happens).await {
        Ok(happened) => happened,
        Err(_) => panic!("waited in vain: {what}"),
    }
}

/// Waits until something holds that no one tells of.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    soon(what, async {
        while !holds() {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// A server and its options.
pub(crate) struct Stage {
    pub(crate) server: StratumV2Server,
    pub(crate) options: Options,
}

impl Stage {
    /// On the embedded chain, unless `set` knows better.
    pub(crate) async fn open(set: impl FnOnce(&mut Options)) -> Self {
        let mut options = Config::default().options().unwrap();
        options.listen_addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        options.pool.payout = to(0x51, 1);
        // every hash is a share, at any pace that anybody here comes up to
        options.pool.session.vardiff =
            vardiff::Options { shares_per_minute: 60_000.0, slowest: Hashrate::new(100.0).unwrap() };
        set(&mut options);
        let authority = AuthoritySecretKey::generate(&mut StdRng::seed_from_u64(6));
        let starting = StratumV2Server::start(options.clone(), Identity::issue(authority).unwrap());
        let server = soon("the server starts", starting).await.unwrap();
        Self { server, options }
    }

    /// Has the server go over to what `set` makes of its options.
    pub(crate) async fn apply(&mut self, set: impl FnOnce(&mut Options)) {
        self.try_to_apply(set).await.unwrap();
    }

    pub(crate) async fn try_to_apply(&mut self, set: impl FnOnce(&mut Options)) -> Result<(), ApplyError> {
        let mut options = self.options.clone();
        set(&mut options);
        soon("it is applied", self.server.apply(options.clone())).await?;
        self.options = options;
        Ok(())
    }

    pub(crate) fn url(&self, transport: Transport) -> StratumUrl {
        match transport {
            Transport::Quic => self.server.quic_url("127.0.0.1"),
            Transport::Tcp => self.server.tcp_url("127.0.0.1").unwrap(),
        }
    }

    pub(crate) fn connections(&self) -> u64 {
        self.server.pool().stats().sum(|stats| stats.connections.get())
    }
}

/// The operator is paid by a script of so many times this byte.
pub(crate) fn to(op: u8, length: usize) -> PayoutPolicy {
    PayoutPolicy::Pool { script: Script::from_bytes(&vec![op; length]).into() }
}
