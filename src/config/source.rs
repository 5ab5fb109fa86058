//! The `[[source]]` and `[work]` tables: where work comes from.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bitcoin::Network;
use serde::Deserialize;

use crate::mining::payout::Room;
use crate::template::bitcoin_rpc::{self, Auth, BitcoinRpc, Password};
use crate::template::tdp;
use crate::template::{Pace, SourceOptions};
use crate::wire::keys::AuthorityPublicKey;

/// A `[[source]]` table. The first that has work is used.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Source {
    /// A node's JSON-RPC: Bitcoin Core, Knots, blvm-node.
    BitcoinRpc {
        /// `http://HOST:PORT`.
        url: String,
        /// The node's `.cookie`.
        cookie_file: Option<PathBuf>,
        /// Instead of the cookie.
        user: Option<String>,
        /// Goes with `user`.
        password: Option<Password>,
    },
    /// A Template Provider, over Noise.
    TemplateProvider {
        /// `HOST:PORT`.
        address: String,
        /// What it is known by. Without, anyone at that address is believed.
        authority_key: Option<String>,
    },
    /// Bitcoin Core's mining interface.
    BitcoinIpc {
        /// The node's `node.sock`.
        socket: PathBuf,
        /// Which major version of Bitcoin Core it is.
        #[serde(default = "newest_core")]
        version: u8,
    },
}

fn newest_core() -> u8 {
    31
}

/// The `[work]` table: how often there is new work.
#[derive(Debug, Clone, Deserialize)]
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
    pub(super) fn pace(&self) -> Result<Pace, String> {
        let pace = Pace {
            min_interval: Duration::from_secs(self.min_interval),
            fee_threshold: self.fee_threshold,
            ..Pace::default()
        };
        let most = pace.max_interval.as_secs();
        if !(1..=most).contains(&self.min_interval) {
            return Err(format!("work.min_interval must be 1 to {most} seconds"));
        }
        if self.empty_block_after_ms > 60_000 {
            return Err("work.empty_block_after_ms must be at most 60000".to_owned());
        }
        Ok(pace)
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

impl Source {
    /// The file that it names.
    pub(super) fn path_mut(&mut self) -> Option<&mut PathBuf> {
        match self {
            Self::BitcoinRpc { cookie_file, .. } => cookie_file.as_mut(),
            Self::BitcoinIpc { socket, .. } => Some(socket),
            Self::TemplateProvider { .. } => None,
        }
    }

    /// What is wrong is told without the table's name.
    pub(super) fn options(&self, common: &Common<'_>) -> Result<SourceOptions, String> {
        let Common { network, room, .. } = *common;
        match self {
            Self::BitcoinRpc { url, cookie_file, user, password } => {
                let auth = match (cookie_file, user, password) {
                    (Some(path), None, None) => Auth::CookieFile(path.clone()),
                    (None, Some(user), Some(password)) => {
                        Auth::UserPassword { user: user.clone(), password: password.clone() }
                    }
                    _ => return Err("needs either cookie_file, or user and password".to_owned()),
                };
                let options = bitcoin_rpc::Options {
                    url: url.clone(),
                    auth,
                    network,
                    room,
                    poll_interval: common.pace.min_interval,
                    empty_after: Duration::from_millis(common.work.empty_block_after_ms),
                };
                BitcoinRpc::new(options.clone()).map_err(|error| format!("url: {error}"))?;
                Ok(SourceOptions::BitcoinRpc(options))
            }
            Self::TemplateProvider { address, authority_key } => {
                let key = authority_key.as_deref().map(str::parse::<AuthorityPublicKey>).transpose();
                let authority_key = key.map_err(|error| format!("authority_key: {error}"))?;
                if !address
                    .rsplit_once(':')
                    .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
                {
                    return Err(format!("address must be HOST:PORT, not {address}"));
                }
                Ok(SourceOptions::TemplateProvider(tdp::Options {
                    address: address.clone(),
                    authority_key,
                    network,
                    room,
                }))
            }
            #[cfg(feature = "bitcoin-ipc")]
            Self::BitcoinIpc { socket, version } => {
                if ![30, 31].contains(version) {
                    return Err("version must be 30 or 31".to_owned());
                }
                Ok(SourceOptions::BitcoinIpc(crate::template::bitcoin_ipc::Options {
                    socket: socket.clone(),
                    version: *version,
                    network,
                    room,
                    pace: common.pace,
                    scratch: common.data_dir.join("ipc"),
                }))
            }
            #[cfg(not(feature = "bitcoin-ipc"))]
            Self::BitcoinIpc { .. } => {
                let _ = common.data_dir;
                Err("this program was built without it: cargo build --features bitcoin-ipc".to_owned())
            }
        }
    }
}
