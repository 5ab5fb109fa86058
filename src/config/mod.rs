//! `config.toml`.

mod blvm;
mod layout;
mod module;
mod source;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use bitcoin::Network;
use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, Deserializer};

pub use self::blvm::Blvm;
pub use self::module::Environment;
pub use self::source::{Source, Work};
use crate::mining::coinbase::Tag;
use crate::mining::extranonce::ServerId;
use crate::mining::payees::Payees;
use crate::mining::payout::{BasisPoints, Fee, PayoutPolicy};
use crate::mining::reward_script;
use crate::mining::vardiff;
use crate::template::Pace;
use crate::transport::quic;
use crate::{pool, server, session, template};

/// What `config.toml` may say. Everything has a default.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The server.
    pub stratum_v2: StratumV2,
    /// The QUIC transport.
    pub quic: Quic,
    /// How often there is new work.
    pub work: Work,
    /// Where work comes from, best first: the embedded chain if there is none.
    pub source: Vec<Source>,
    /// The embedded chain.
    pub regtest: Option<Regtest>,
    /// The blvm-node that this server belongs to.
    pub blvm: Blvm,
    /// The file that all of this was read from.
    #[serde(skip)]
    pub path: Option<PathBuf>,
}

/// The `[stratum_v2]` table.
#[derive(Debug, Clone, Deserialize)]
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

/// The `[quic]` table.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quic {
    /// Seconds without a word from a miner after which it is given up.
    pub idle_timeout: u64,
    /// Seconds between packets that keep NAT bindings alive.
    pub keep_alive: u64,
    /// Handshakes under way from which on clients have to show that their address is theirs.
    pub validate_above: usize,
    /// Handshakes under way at most.
    pub max_handshakes: usize,
    /// Bytes that may come on one stream before they are read.
    pub stream_window: u32,
    /// Bytes that may come on all streams of a connection before they are read.
    pub receive_window: u32,
    /// Bytes kept for a connection until they are acknowledged.
    pub send_window: u32,
    /// Bytes for the UDP socket's buffers.
    pub socket_buffer: usize,
}

impl Default for Quic {
    fn default() -> Self {
        let options = quic::Options::default();
        Self {
            idle_timeout: options.idle_timeout.as_secs(),
            keep_alive: options.keep_alive.as_secs(),
            validate_above: options.validate_above,
            max_handshakes: options.max_handshakes,
            stream_window: options.stream_window,
            receive_window: options.receive_window,
            send_window: options.send_window,
            socket_buffer: options.socket_buffer,
        }
    }
}

/// The `[regtest]` table: the embedded chain.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Regtest {
    /// Where to keep the chain. In memory if there is none.
    pub file: Option<PathBuf>,
    /// Transactions to make up for each block.
    pub transactions: usize,
}

impl Config {
    /// Reads `path`.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = read(path)?;
        let config = Self::deserialize(Deserializer::from(parse(path, &text)?));
        let config = config.map_err(|error| parse_error(path, &text, &error))?;
        Ok(Self { path: Some(path.to_owned()), ..config })
    }

    /// What the server and its parts take. All that is wrong is reported at once.
    pub fn options(&self) -> Result<server::Options, ConfigError> {
        let (s, q) = (&self.stratum_v2, &self.quic);
        let mut wrong = Vec::new();
        let mut check = |key: &str, holds: bool, must: &str| {
            if !holds {
                wrong.push(format!("{key} must be {must}"));
            }
        };
        check(
            "stratum_v2.pool_url",
            s.pool_url.as_ref().is_none_or(|url| url.trim().is_empty()),
            "removed to mine on the node's own blocks: mining for another pool is not supported yet",
        );
        check("stratum_v2.share_batch_size", s.share_batch_size > 0, "at least 1");
        check(
            "stratum_v2.shares_per_minute",
            s.shares_per_minute > 0.0 && s.shares_per_minute <= 60_000.0,
            "between 0 and 60000",
        );
        check("stratum_v2.max_connections", s.max_connections > 0, "at least 1");
        check("stratum_v2.max_connections_per_ip", s.max_connections_per_ip > 0, "at least 1");
        check("stratum_v2.max_channels_per_connection", s.max_channels_per_connection > 0, "at least 1");
        check("stratum_v2.handshake_timeout", (1..=600).contains(&s.handshake_timeout), "1 to 600 seconds");
        check(
            "stratum_v2.open_channel_timeout",
            (1..=86_400).contains(&s.open_channel_timeout),
            "1 to 86400 seconds",
        );
        check("quic.idle_timeout", (5..=3600).contains(&q.idle_timeout), "5 to 3600 seconds");
        check(
            "quic.keep_alive",
            (1..q.idle_timeout).contains(&q.keep_alive),
            "at least 1 and less than quic.idle_timeout",
        );
        check("quic.max_handshakes", q.max_handshakes > 0, "at least 1");
        let window = 4096..=16 * 1024 * 1024;
        check("quic.stream_window", window.contains(&q.stream_window), "4096 to 16777216 bytes");
        check("quic.receive_window", window.contains(&q.receive_window), "4096 to 16777216 bytes");
        check("quic.send_window", window.contains(&q.send_window), "4096 to 16777216 bytes");
        check("quic.socket_buffer", q.socket_buffer <= 1 << 30, "at most 1073741824 bytes");
        let b = &self.blvm;
        check(
            "blvm.datum",
            !(b.datum && s.solo),
            "false with stratum_v2.solo = true: solo miners' blocks are theirs",
        );
        check(
            "blvm.datum",
            !b.datum || b.all_capabilities,
            "false without blvm.all_capabilities = true: the node has to allow calls of its modules",
        );
        check(
            "blvm.datum",
            !b.datum || (b.socket_path.is_some() && b.connect != Some(false)),
            "false without blvm.socket_path, and with blvm.connect = false: it is called by way of the node",
        );
        let server_id = ServerId::new(s.server_id);
        check("stratum_v2.server_id", server_id.is_some(), "0 to 63");
        let tag = Tag::new(s.pool_signature.as_bytes());
        check("stratum_v2.pool_signature", tag.is_ok(), "short enough for the coinbase");
        let payout = self.payout().map_err(|error| wrong.push(format!("stratum_v2.{error}")));
        let template = payout
            .as_ref()
            .map_err(drop)
            .and_then(|payout| self.template(payout).map_err(|errors| wrong.extend(errors)));
        let (Some(server_id), Ok(tag), Ok(payout), Ok(template), true) =
            (server_id, tag, payout, template, wrong.is_empty())
        else {
            return Err(ConfigError::Values(wrong));
        };
        let timeout = Duration::from_secs(s.handshake_timeout);
        let session = session::Options {
            vardiff: vardiff::Options { shares_per_minute: s.shares_per_minute, ..Default::default() },
            share_batch_size: s.share_batch_size,
            setup_timeout: timeout,
            open_timeout: Duration::from_secs(s.open_channel_timeout),
            max_channels: s.max_channels_per_connection,
            ..session::Options::default()
        };
        Ok(server::Options {
            listen_addr: s.listen_addr,
            handshake_timeout: timeout,
            max_connections: s.max_connections,
            max_connections_per_ip: s.max_connections_per_ip,
            max_tcp_connections: usize::MAX,
            quic: quic::Options {
                handshake_timeout: timeout,
                idle_timeout: Duration::from_secs(q.idle_timeout),
                keep_alive: Duration::from_secs(q.keep_alive),
                // one for each channel, and some for channels that are refused
                max_streams: u32::try_from(s.max_channels_per_connection)
                    .unwrap_or(u32::MAX)
                    .saturating_add(16),
                validate_above: q.validate_above,
                max_handshakes: q.max_handshakes,
                stream_window: q.stream_window,
                receive_window: q.receive_window,
                send_window: q.send_window,
                socket_buffer: q.socket_buffer,
            },
            pool: pool::Options { session, payout, tag, server_id },
            template,
        })
    }

    /// The network to mine on.
    #[must_use]
    pub fn network(&self) -> Network {
        let usual = if self.has_source() { Chain::Main } else { Chain::Regtest };
        self.stratum_v2.network.unwrap_or(usual).into()
    }

    /// Whether work comes from a node, and not from the embedded chain.
    #[must_use]
    pub fn has_source(&self) -> bool {
        !self.source.is_empty() || self.blvm.names_node()
    }

    fn template(&self, payout: &PayoutPolicy) -> Result<template::Options, Vec<String>> {
        let network = self.network();
        if !self.has_source() {
            if network != Network::Regtest {
                return Err(vec![format!(
                    "stratum_v2.network is {network}: that takes a [[source]], a node to have work from"
                )]);
            }
            let regtest = self.regtest.clone().unwrap_or_default();
            return Ok(template::Options::embedded(template::regtest::Options {
                file: regtest.file,
                transactions: regtest.transactions,
                future_templates: true,
                ..Default::default()
            }));
        }
        let mut wrong = Vec::new();
        if self.regtest.is_some() {
            wrong.push("[regtest] is the embedded chain, which is not used beside a [[source]]".to_owned());
        }
        let pace = self.work.pace().unwrap_or_else(|error| {
            wrong.push(error);
            Pace::default()
        });
        let common = source::Common {
            network,
            room: if self.blvm.datum { payout.room().plus(Payees::ROOM) } else { payout.room() },
            pace,
            work: &self.work,
            data_dir: &self.stratum_v2.data_dir,
        };
        let mut sources = Vec::new();
        if self.source.is_empty() {
            match self.blvm.source(network).and_then(|source| {
                // what it may complain of is the URL
                source.options(&common).map_err(|error| format!("[blvm] rpc_{error}"))
            }) {
                Ok(options) => sources.push(options),
                Err(error) => wrong.push(error),
            }
        }
        for (number, source) in self.source.iter().enumerate() {
            match source.options(&common) {
                Ok(options) => sources.push(options),
                Err(error) => wrong.push(format!("[[source]] number {}: {error}", number + 1)),
            }
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let solutions = Some(self.stratum_v2.data_dir.join("solutions"));
        Ok(template::Options { sources, pace, solutions })
    }

    fn payout(&self) -> Result<PayoutPolicy, String> {
        let StratumV2 { coinbase_reward_script, solo, solo_fee, .. } = &self.stratum_v2;
        let network = self.network();
        let script = coinbase_reward_script.as_deref();
        let script = script.map(|script| reward_script::parse(script, network)).transpose();
        let script = script.map_err(|error| format!("coinbase_reward_script: {error}"))?;
        let rate = BasisPoints::new(*solo_fee).ok_or("solo_fee must be below 10000, which is all")?;
        match (solo, solo_fee, script) {
            (false, 0, None) if self.has_source() => {
                Err("coinbase_reward_script must say who is paid (or set solo = true)".into())
            }
            (false, 0, script) => {
                let script = script.unwrap_or_else(template::regtest::spendable_script);
                Ok(PayoutPolicy::Pool { script: script.as_script().into() })
            }
            (false, _, _) => Err("solo_fee needs solo = true".into()),
            (true, 0, None) => Ok(PayoutPolicy::Solo { fee: None, network }),
            (true, 0, Some(_)) => {
                Err("coinbase_reward_script gets nothing of solo miners' blocks without solo_fee".into())
            }
            (true, _, None) => Err("solo_fee needs a coinbase_reward_script to go to".into()),
            (true, _, Some(script)) => {
                let fee = Some(Fee::new(script.as_script().into(), rate));
                Ok(PayoutPolicy::Solo { fee, network })
            }
        }
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    fs::read_to_string(path).map_err(|error| ConfigError::Read(path.to_owned(), error))
}

/// The tables and keys, each where it belongs.
fn parse<'t>(path: &Path, text: &'t str) -> Result<Spanned<DeTable<'t>>, ConfigError> {
    let mut top = DeTable::parse(text).map_err(|error| parse_error(path, text, &error))?;
    let twice = layout::settle(top.get_mut());
    if twice.is_empty() {
        return Ok(top);
    }
    let told = |key| {
        format!("{}: {key} stands at the top and as stratum_v2.{key}: remove one of them", path.display())
    };
    Err(ConfigError::Values(twice.iter().map(told).collect()))
}

fn parse_error(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let key = |line: usize| {
        let line = text.lines().nth(line).and_then(|line| line.split(['=', '#']).next());
        line.unwrap_or_default().trim().to_owned()
    };
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count();
    ConfigError::Toml {
        path: path.to_owned(),
        line: line + 1,
        // what is behind it may be a password
        key: key(line),
        message: match key(line).ends_with("password") {
            true => layout::without_value(error),
            false => error.message().to_owned(),
        },
    }
}

/// What is wrong with the configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {0}: {1}")]
    Read(PathBuf, io::Error),
    /// The file is not TOML, or has keys or types that do not exist.
    #[error("{}, line {line}, {key}: {message}", .path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// Where, counted from 1.
        line: usize,
        /// What stands there before the value.
        key: String,
        /// What is wrong with it.
        message: String,
    },
    /// Values that do not work.
    #[error("the configuration does not work:\n  {}", .0.join("\n  "))]
    Values(Vec<String>),
}
