//! The whole server, with work from nodes.

use std::fs;
use std::path::{Path, PathBuf};

use bitcoin::{Address, BlockHash, Network, ScriptBuf};
use blvm_stratum_v2::config::Config;
use blvm_stratum_v2::server::{Identity, StratumV2Server};
use blvm_stratum_v2::stats::Stats;
use blvm_stratum_v2::template::regtest::subsidy;
use blvm_stratum_v2::wire::keys::AuthoritySecretKey;
use blvm_stratum_v2::wire::url::{StratumUrl, Transport};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tempfile::TempDir;

use crate::core::{soon, until};
use crate::log::Log;
use crate::miners::Miner;
use crate::upstream::Upstream;

/// What a test wants of the configuration.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'w> {
    /// In the `[stratum_v2]` table: who is paid.
    pub(crate) payout: &'w str,
    /// The network, of which the pool's address is then.
    pub(crate) network: &'w str,
    /// In the `[work]` table.
    pub(crate) work: &'w str,
}

impl Default for Wanted<'_> {
    fn default() -> Self {
        Self { payout: "", network: "regtest", work: "min_interval = 1" }
    }
}

/// A server, its folder, and what it says.
pub(crate) struct Stage {
    pub(crate) server: StratumV2Server,
    pub(crate) log: Log,
    home: TempDir,
    /// Where its work comes from. Ends with this.
    _sources: Vec<Upstream>,
}

impl Stage {
    /// A server on these sources.
    pub(crate) async fn open(sources: impl Into<Vec<Upstream>>) -> Self {
        Self::open_with(sources, Wanted::default()).await
    }

    /// A server on these sources, with more in its configuration.
    pub(crate) async fn open_with(sources: impl Into<Vec<Upstream>>, wanted: Wanted<'_>) -> Self {
        let sources = sources.into();
        let log = Log::here();
        let home = tempfile::tempdir().unwrap();
        let config: Config = toml::from_str(&config(home.path(), &sources, wanted)).unwrap();
        let authority = AuthoritySecretKey::generate(&mut StdRng::seed_from_u64(5));
        let starting = StratumV2Server::start(config.options().unwrap(), Identity::issue(authority).unwrap());
        let server = soon("the server starts", starting).await.unwrap();
        Self { server, log, home, _sources: sources }
    }

    pub(crate) fn url(&self, transport: Transport) -> StratumUrl {
        match transport {
            Transport::Quic => self.server.quic_url("127.0.0.1"),
            Transport::Tcp => self.server.tcp_url("127.0.0.1").unwrap(),
        }
    }

    /// One on QUIC and one on TCP.
    pub(crate) async fn miners(&self) -> (Miner, Miner) {
        (
            Miner::at(&self.url(Transport::Quic), "alice.quic").await,
            Miner::at(&self.url(Transport::Tcp), "bob.tcp").await,
        )
    }

    pub(crate) fn stats(&self) -> &Stats {
        self.server.pool().stats()
    }

    /// Waits until so many blocks have been accepted, and none was refused.
    pub(crate) async fn has_blocks(&self, blocks: u64) {
        until("blocks are accepted", async || self.stats().sum(|stats| stats.blocks.get()) >= blocks).await;
        assert_eq!(self.stats().sum(|stats| stats.blocks.get()), blocks);
        assert_eq!(self.stats().sum(|stats| stats.solutions_refused.get()), 0, "{}", self.log.text());
    }

    /// Waits until miners have work that pays so much more than the subsidy.
    pub(crate) async fn offers_fees(&self, fees: u64) {
        let worth = async || {
            self.server
                .pool()
                .work()
                .borrow()
                .as_ref()
                .is_some_and(|work| work.template.coinbase.value == subsidy(work.tip.height) + fees)
        };
        until("the mempool's transactions are in the work", worth).await;
    }

    /// The file of a found block that is still to be submitted.
    pub(crate) fn kept(&self, hash: BlockHash) -> PathBuf {
        kept(self.home.path(), hash)
    }
}

/// Where a server in this folder keeps a found block.
pub(crate) fn kept(home: &Path, hash: BlockHash) -> PathBuf {
    home.join("data/solutions").join(format!("{hash}.block"))
}

/// What `config.toml` says in this folder.
pub(crate) fn config(home: &Path, sources: &[Upstream], wanted: Wanted<'_>) -> String {
    let Wanted { payout, network, work } = wanted;
    let payout = match payout {
        "" => {
            let network = Network::from_core_arg(network).unwrap();
            let address = Address::from_script(&pool_script(), network).unwrap();
            format!("coinbase_reward_script = \"{address}\"")
        }
        payout => payout.to_owned(),
    };
    let sources: String = sources.iter().map(Upstream::toml).collect();
    format!(
        "[stratum_v2]\n\
         listen_addr = \"127.0.0.1:0\"\n\
         network = \"{network}\"\n\
         data_dir = \"{data}\"\n\
         share_batch_size = 1\n\
         # a share takes some ten hashes, and is a block\n\
         shares_per_minute = 60000\n\
         {payout}\n\
         [work]\n\
         {work}\n\
         {sources}",
        data = home.join("data").display(),
    )
}

/// Whom the pool pays.
pub(crate) fn pool_script() -> ScriptBuf {
    script(7)
}

pub(crate) fn pool_address() -> Address {
    address(7)
}

/// A P2WPKH script: someone's.
pub(crate) fn script(owner: u8) -> ScriptBuf {
    ScriptBuf::from_bytes([&[0x00, 0x14][..], &[owner; 20]].concat())
}

pub(crate) fn address(owner: u8) -> Address {
    Address::from_script(&script(owner), Network::Regtest).unwrap()
}

/// Waits until a file is gone.
pub(crate) async fn gone(path: &Path) {
    until("the file goes", async || !fs::exists(path).unwrap()).await;
}
