//! The `[stratum_v2]` table: the server.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bitcoin::Network;
use serde::Deserialize;

use super::problem::Checks;
use crate::mining::coinbase::Tag;
use crate::mining::extranonce::ServerId;
use crate::mining::payout::{BasisPoints, Fee, PayoutPolicy};
use crate::mining::{reward_script, vardiff};
use crate::{session, template};

/// Connections at most: beyond that, something else is meant.
const MOST_CONNECTIONS: usize = 1_000_000;
/// Channels per connection at most: memory is set aside for each as soon as a miner connects.
const MOST_CHANNELS: usize = 65_536;

/// The `[stratum_v2]` table.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StratumV2 {
    /// Whether to serve at all.
    pub enabled: bool,
    /// Where to listen, for QUIC on UDP and for Noise on TCP.
    pub listen_addr: SocketAddr,
    /// The network to mine on, as Bitcoin Core's `-chain` names it. If there is none, the main
    /// network with a source, and regtest without.
    pub network: Option<Chain>,
    /// Where keys and certificates are kept.
    pub certs_dir: PathBuf,
    /// Where found blocks are kept until a node has taken them.
    pub data_dir: PathBuf,
    /// Who is paid: an address, `addr(ADDRESS)` or an output descriptor.
    pub coinbase_reward_script: Option<String>,
    /// Pay each block to the address in its finder's `user_identity` instead.
    pub solo: bool,
    /// What goes to `coinbase_reward_script` of a solo miner's block, in hundredths of a percent.
    pub solo_fee: u16,
    /// Another pool to mine for, which is not possible yet.
    pub pool_url: Option<String>,
    /// Text in the coinbase of every block.
    pub pool_signature: String,
    /// Which of up to 64 servers on the same work this is.
    pub server_id: u8,
    /// Shares per minute that each channel's difficulty aims at.
    pub shares_per_minute: f64,
    /// Accepted shares per acknowledgement at most.
    pub share_batch_size: u32,
    /// Connections in all.
    pub max_connections: usize,
    /// Connections from one address.
    pub max_connections_per_ip: usize,
    /// Channels per connection.
    pub max_channels_per_connection: usize,
    /// Seconds that the handshake may take, and then SetupConnection.
    pub handshake_timeout: u64,
    /// Seconds that a connection may be without a channel.
    pub open_channel_timeout: u64,
}

impl Default for StratumV2 {
    fn default() -> Self {
        Self {
            enabled: true,
            listen_addr: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 3333),
            network: None,
            certs_dir: "certs".into(),
            data_dir: "data".into(),
            coinbase_reward_script: None,
            solo: false,
            solo_fee: 0,
            pool_url: None,
            pool_signature: "blvm-stratum-v2".into(),
            server_id: 0,
            shares_per_minute: 12.0,
            share_batch_size: 10,
            max_connections: 10_000,
            max_connections_per_ip: 1_000,
            max_channels_per_connection: 2_048,
            handshake_timeout: 10,
            open_channel_timeout: 60,
        }
    }
}

/// A network, as Bitcoin Core's `-chain` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Chain {
    Main,
    Test,
    Testnet4,
    Signet,
    Regtest,
}

impl From<Chain> for Network {
    fn from(chain: Chain) -> Self {
        match chain {
            Chain::Main => Self::Bitcoin,
            Chain::Test => Self::Testnet,
            Chain::Testnet4 => Self::Testnet4,
            Chain::Signet => Self::Signet,
            Chain::Regtest => Self::Regtest,
        }
    }
}

impl From<Network> for Chain {
    fn from(network: Network) -> Self {
        match network {
            Network::Bitcoin => Self::Main,
            Network::Testnet => Self::Test,
            Network::Testnet4 => Self::Testnet4,
            Network::Signet => Self::Signet,
            Network::Regtest => Self::Regtest,
        }
    }
}

impl StratumV2 {
    /// What stands in each coinbase, and what tells servers apart, if all is as it must be.
    pub(super) fn check(&self, checks: &mut Checks) -> Option<(Tag, ServerId)> {
        let connections = 1..=MOST_CONNECTIONS;
        checks.must(
            "stratum_v2.pool_url",
            self.pool_url.as_ref().is_none_or(|url| url.trim().is_empty()),
            "removed to mine on the node's own blocks: mining for another pool is not supported yet",
        );
        let there = |path: &Path| !path.as_os_str().is_empty();
        checks.must("stratum_v2.certs_dir", there(&self.certs_dir), "a directory");
        checks.must("stratum_v2.data_dir", there(&self.data_dir), "a directory");
        checks.must("stratum_v2.share_batch_size", self.share_batch_size > 0, "at least 1");
        checks.must(
            "stratum_v2.shares_per_minute",
            self.shares_per_minute > 0.0 && self.shares_per_minute <= 60_000.0,
            "between 0 and 60000",
        );
        checks.must(
            "stratum_v2.max_connections",
            connections.contains(&self.max_connections),
            "1 to 1000000",
        );
        checks.must(
            "stratum_v2.max_connections_per_ip",
            connections.contains(&self.max_connections_per_ip),
            "1 to 1000000",
        );
        checks.must(
            "stratum_v2.max_channels_per_connection",
            (1..=MOST_CHANNELS).contains(&self.max_channels_per_connection),
            "1 to 65536",
        );
        checks.must(
            "stratum_v2.handshake_timeout",
            (1..=600).contains(&self.handshake_timeout),
            "1 to 600 seconds",
        );
        checks.must(
            "stratum_v2.open_channel_timeout",
            (1..=86_400).contains(&self.open_channel_timeout),
            "1 to 86400 seconds",
        );
        let server_id = ServerId::new(self.server_id);
        checks.must("stratum_v2.server_id", server_id.is_some(), "0 to 63");
        let tag = Tag::new(self.pool_signature.as_bytes()).ok();
        checks.must("stratum_v2.pool_signature", tag.is_some(), "short enough for the coinbase");
        Some((tag?, server_id?))
    }

    /// What each connection is told.
    pub(super) fn session(&self) -> session::Options {
        session::Options {
            vardiff: vardiff::Options { shares_per_minute: self.shares_per_minute, ..Default::default() },
            share_batch_size: self.share_batch_size,
            setup_timeout: Duration::from_secs(self.handshake_timeout),
            open_timeout: Duration::from_secs(self.open_channel_timeout),
            max_channels: self.max_channels_per_connection,
            ..session::Options::default()
        }
    }

    /// Who is paid. `from_node` is whether blocks are worth something.
    pub(super) fn payout(
        &self,
        network: Network,
        from_node: bool,
        checks: &mut Checks,
    ) -> Option<PayoutPolicy> {
        const SCRIPT: &str = "stratum_v2.coinbase_reward_script";
        const FEE: &str = "stratum_v2.solo_fee";
        const SOLO: &str = "stratum_v2.solo";
        // whether an address is for the network is also a matter of what that comes of
        let of_network = ["stratum_v2.network", "source", "blvm"];
        let of_network = if from_node { &of_network[..1] } else { &of_network };
        let script = self.coinbase_reward_script.as_deref();
        let script = script.map(|script| reward_script::parse(script, network)).transpose();
        let script = script.map_err(|error| checks.tell(SCRIPT, of_network, error.to_string())).ok();
        let rate = BasisPoints::new(self.solo_fee);
        checks.must(FEE, rate.is_some(), "below 10000, which is all");
        let (script, rate) = (script?, rate?);
        let wrong = match (self.solo, self.solo_fee, script) {
            (false, 0, None) if from_node => (SCRIPT, "must say who is paid (or set solo = true)"),
            (false, 0, script) => {
                let script = script.unwrap_or_else(template::regtest::spendable_script);
                return Some(PayoutPolicy::Pool { script: script.as_script().into() });
            }
            (false, _, _) => (FEE, "needs solo = true"),
            (true, 0, None) => return Some(PayoutPolicy::Solo { fee: None, network }),
            (true, 0, Some(_)) => (SCRIPT, "gets nothing of solo miners' blocks without solo_fee"),
            (true, _, None) => (SCRIPT, "must be there for solo_fee to go to"),
            (true, _, Some(script)) => {
                let fee = Some(Fee::new(script.as_script().into(), rate));
                return Some(PayoutPolicy::Solo { fee, network });
            }
        };
        checks.tell(wrong.0, &[SCRIPT, FEE, SOLO], wrong.1);
        None
    }
}
