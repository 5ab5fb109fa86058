//! The `[[source]]` and `[work]` tables: where work comes from.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bitcoin::Network;
use serde::Deserialize;

use super::keys;
use super::problem::Checks;
use crate::mining::payout::Room;
use crate::template::bitcoin_rpc::{self, Auth, BitcoinRpc, Password};
use crate::template::tdp;
use crate::template::{Pace, SourceOptions};
use crate::wire::keys::AuthorityPublicKey;

/// A `[[source]]` table. The first that has work is used. Which keys go with it is a matter of its type.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Source {
    /// What it is. It must be there.
    #[serde(rename = "type")]
    pub kind: Option<Kind>,
    /// `bitcoin_rpc`: `http://HOST:PORT`.
    pub url: Option<String>,
    /// `bitcoin_rpc`: the node's `.cookie`.
    pub cookie_file: Option<PathBuf>,
    /// `bitcoin_rpc`: instead of the cookie.
    pub user: Option<String>,
    /// `bitcoin_rpc`: goes with `user`.
    pub password: Option<Password>,
    /// `bitcoin_rpc`: where to read it from instead: the first line.
    pub password_file: Option<PathBuf>,
    /// `template_provider`: `HOST:PORT`.
    pub address: Option<String>,
    /// `template_provider`: what it is known by. Without, anyone at that address is believed.
    pub authority_key: Option<String>,
    /// `bitcoin_ipc`: the node's `node.sock`.
    pub socket: Option<PathBuf>,
    /// `bitcoin_ipc`: which major version of Bitcoin Core it is; 31 if it does not say.
    pub version: Option<u8>,
}

/// What a source is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A node's JSON-RPC: Bitcoin Core, Knots, blvm-node.
    BitcoinRpc,
    /// A Template Provider, over Noise.
    TemplateProvider,
    /// Bitcoin Core's mining interface.
    BitcoinIpc,
}

impl Kind {
    /// As the configuration has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::BitcoinRpc => "bitcoin_rpc",
            Self::TemplateProvider => "template_provider",
            Self::BitcoinIpc => "bitcoin_ipc",
        }
    }
}

/// What the newest that is known of is.
#[cfg(feature = "bitcoin-ipc")]
const NEWEST_CORE: u8 = 31;

/// The `[work]` table: how often there is new work.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Work {
    /// Seconds between jobs on the same block, at least.
    pub min_interval: u64,
    /// How much more a block must pay to be worth a new job, in satoshis.
    pub fee_threshold: u64,
    /// Milliseconds that a node may take for its template on a new block; then miners start on one
    /// without transactions.
    pub empty_block_after_ms: u64,
}

impl Default for Work {
    fn default() -> Self {
        let pace = Pace::default();
        Self {
            min_interval: pace.min_interval.as_secs(),
            fee_threshold: pace.fee_threshold,
            empty_block_after_ms: 100,
        }
    }
}

impl Work {
    /// None if it does not work.
    pub(super) fn pace(&self, checks: &mut Checks) -> Option<Pace> {
        let pace = Pace {
            min_interval: Duration::from_secs(self.min_interval),
            fee_threshold: self.fee_threshold,
            ..Pace::default()
        };
        let most = pace.max_interval.as_secs();
        let interval = (1..=most).contains(&self.min_interval);
        checks.must("work.min_interval", interval, &format!("1 to {most} seconds"));
        let empty = self.empty_block_after_ms <= 60_000;
        checks.must("work.empty_block_after_ms", empty, "at most 60000");
        (interval && empty).then_some(pace)
    }
}

/// What all sources are told.
pub(super) struct Common<'c> {
    pub(super) network: Network,
    pub(super) room: Room,
    pub(super) pace: Pace,
    pub(super) work: &'c Work,
    pub(super) data_dir: &'c Path,
}

impl Common<'_> {
    /// A node by JSON-RPC. `key` is where its URL is from.
    pub(super) fn bitcoin_rpc(
        &self,
        url: &str,
        auth: Auth,
        key: &str,
        checks: &mut Checks,
    ) -> Option<SourceOptions> {
        let options = bitcoin_rpc::Options {
            url: url.to_owned(),
            auth,
            network: self.network,
            room: self.room,
            poll_interval: self.pace.min_interval,
            empty_after: Duration::from_millis(self.work.empty_block_after_ms),
        };
        match BitcoinRpc::new(options.clone()) {
            Ok(_) => Some(SourceOptions::BitcoinRpc(options)),
            Err(error) => {
                checks.tell(key, &[], error.to_string());
                None
            }
        }
    }
}

impl Source {
    /// The files that it names.
    pub(super) fn paths_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        [&mut self.cookie_file, &mut self.password_file, &mut self.socket].into_iter().flatten()
    }

    /// What the source of this number is to be.
    pub(super) fn options(
        &self,
        number: usize,
        common: &Common<'_>,
        checks: &mut Checks,
    ) -> Option<SourceOptions> {
        let entry = keys::place(keys::SOURCE, Some(number));
        let key = |key: &str| format!("{entry}.{key}");
        let Some(kind) = self.kind else {
            let text = "is missing: bitcoin_rpc, template_provider or bitcoin_ipc";
            checks.tell(&key("type"), &[&entry], text);
            return None;
        };
        let mut fit = true;
        for name in self.of_others(kind) {
            fit = false;
            checks.tell(&key(name), &[&key("type")], format!("does not go with type = \"{}\"", kind.name()));
        }
        let mut missing = |name: &str| checks.tell(&key(name), &[&entry], "is missing");
        let options = match kind {
            Kind::BitcoinRpc => {
                let auth = match (&self.cookie_file, &self.user, &self.password) {
                    (Some(path), None, None) => Some(Auth::CookieFile(path.clone())),
                    (None, Some(user), Some(password)) => {
                        Some(Auth::UserPassword { user: user.clone(), password: password.clone() })
                    }
                    _ => None,
                };
                if self.url.is_none() {
                    missing("url");
                }
                if auth.is_none() {
                    let text = "needs either cookie_file, or user and password (or password_file)";
                    checks.tell(&entry, &[], text);
                }
                common.bitcoin_rpc(self.url.as_deref()?, auth?, &key("url"), checks)
            }
            Kind::TemplateProvider => {
                let Some(address) = &self.address else {
                    missing("address");
                    return None;
                };
                let authority_key = self.authority_key.as_deref().map(str::parse::<AuthorityPublicKey>);
                let authority_key = authority_key.transpose();
                let named = address.rsplit_once(':');
                let named = named.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
                checks.must(&key("address"), named, &format!("HOST:PORT, not {address}"));
                let authority_key = authority_key
                    .map_err(|error| checks.tell(&key("authority_key"), &[], error.to_string()))
                    .ok()?;
                let (network, room) = (common.network, common.room);
                let options = tdp::Options { address: address.clone(), authority_key, network, room };
                Some(SourceOptions::TemplateProvider(options))
            }
            #[cfg(feature = "bitcoin-ipc")]
            Kind::BitcoinIpc => {
                let version = self.version.unwrap_or(NEWEST_CORE);
                let Some(socket) = self.socket.clone() else {
                    missing("socket");
                    return None;
                };
                checks.must(&key("version"), [30, 31].contains(&version), "30 or 31");
                Some(SourceOptions::BitcoinIpc(crate::template::bitcoin_ipc::Options {
                    socket,
                    version,
                    network: common.network,
                    room: common.room,
                    pace: common.pace,
                    scratch: common.data_dir.join("ipc"),
                }))
            }
            #[cfg(not(feature = "bitcoin-ipc"))]
            Kind::BitcoinIpc => {
                let _ = (common.data_dir, &mut missing);
                let text = "this program was built without it: cargo build --features bitcoin-ipc";
                checks.tell(&key("type"), &[], text);
                None
            }
        };
        options.filter(|_| fit)
    }

    /// The keys that are there, and are for sources of other types.
    fn of_others(&self, kind: Kind) -> impl Iterator<Item = &'static str> {
        let rpc = [
            ("url", self.url.is_some()),
            ("cookie_file", self.cookie_file.is_some()),
            ("user", self.user.is_some()),
            // that of password_file is no key of its own
            ("password", self.password.is_some() && self.password_file.is_none()),
            ("password_file", self.password_file.is_some()),
        ];
        let provider = [("address", self.address.is_some()), ("authority_key", self.authority_key.is_some())];
        let ipc = [("socket", self.socket.is_some()), ("version", self.version.is_some())];
        let all =
            [(Kind::BitcoinRpc, &rpc[..]), (Kind::TemplateProvider, &provider), (Kind::BitcoinIpc, &ipc)];
        let others = all.into_iter().filter(|(of, _)| *of != kind).flat_map(|(_, keys)| keys.to_vec());
        others.filter(|(_, there)| *there).map(|(name, _)| name).collect::<Vec<_>>().into_iter()
    }
}
