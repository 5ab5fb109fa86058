//! What other modules of the node can ask of this one: JSON in, JSON out.
//!
//! Parameters are an object; none at all is the same as `{}`, and fields that a method does not know
//! are ignored. Whatever goes wrong is an [`ApiError`], in words for an operator. Times are unix
//! seconds, hashrates hashes per second.
//!
//! ## get_template
//!
//! What miners are on. `network_target` and `prev_hash` are written as block explorers do,
//! `merkle_path` (from the coinbase's txid to the merkle root) in the order in which its bytes are
//! hashed. `template` is the `job_id` of the MiningJobCreated event.
//!
//! ```json
//! {}
//! ```
//! ```json
//! {
//!   "height": 100,
//!   "prev_hash": "0101010101010101010101010101010101010101010101010101010101010101",
//!   "version": 536870912,
//!   "nbits": "207fffff",
//!   "min_ntime": 1700000000,
//!   "network_target": "7fffff0000000000000000000000000000000000000000000000000000000000",
//!   "coinbase_value": 5000000000,
//!   "merkle_path": ["0202020202020202020202020202020202020202020202020202020202020202"],
//!   "template": 17
//! }
//! ```
//!
//! ## get_connected_miners
//!
//! The connections that have introduced themselves, oldest first: `limit` of them, at most 1000 and
//! 100 if it is not given. `users` are those of the first 16 channels. `hashrate_hs` is what accepted
//! shares have proved since the miner came; `last_share` is null if there was none.
//!
//! ```json
//! {"limit": 10}
//! ```
//! ```json
//! {
//!   "total": 1,
//!   "miners": [{
//!     "endpoint": "quic://192.0.2.1:50123",
//!     "transport": "quic",
//!     "device": "Bitaxe Gamma 2.9.0",
//!     "connected_at": 1700000000,
//!     "channels": 1,
//!     "users": ["bc1qexample.rig1"],
//!     "shares_accepted": 1234,
//!     "shares_rejected": 5,
//!     "hashrate_hs": 1200000000000.0,
//!     "last_share": 1700003600
//!   }]
//! }
//! ```
//!
//! ## get_pool_stats
//!
//! Counts since the server started, in sum and by transport. `connections` counts those too that have
//! not introduced themselves yet; `hashrate_hs` is that of the miners which are connected now.
//! `min_difficulty` is null unless `set_difficulty` has set one.
//!
//! ```json
//! {}
//! ```
//! ```json
//! {
//!   "version": "0.1.0",
//!   "uptime": 86400,
//!   "min_difficulty": null,
//!   "connections": 1,
//!   "channels": 1,
//!   "hashrate_hs": 1200000000000.0,
//!   "shares_accepted": 1234,
//!   "shares_rejected": 5,
//!   "rejected": {
//!     "invalid-channel-id": 0,
//!     "stale-share": 5,
//!     "invalid-job-id": 0,
//!     "invalid-share": 0,
//!     "version-rolling-not-allowed": 0,
//!     "invalid-non-rollable-version-bit": 0,
//!     "bad-extranonce-size": 0,
//!     "difficulty-too-low": 0,
//!     "duplicate-share": 0
//!   },
//!   "blocks": 0,
//!   "solutions_refused": 0,
//!   "transports": {
//!     "quic": {
//!       "connections": 1,
//!       "channels": 1,
//!       "hashrate_hs": 1200000000000.0,
//!       "shares_accepted": 1234,
//!       "shares_rejected": 5,
//!       "blocks": 0,
//!       "solutions_refused": 0
//!     },
//!     "tcp": {
//!       "connections": 0,
//!       "channels": 0,
//!       "hashrate_hs": 0.0,
//!       "shares_accepted": 0,
//!       "shares_rejected": 0,
//!       "blocks": 0,
//!       "solutions_refused": 0
//!     }
//!   }
//! }
//! ```
//!
//! ## update_pool_config
//!
//! To mine for another pool. The parameters are checked; then the answer is that this is not possible
//! yet. The password is never repeated.
//!
//! ```json
//! {
//!   "action": "update_pool_config",
//!   "pool_url": "stratum2+quic://pool.example:3333",
//!   "pool_user": "account.rig1",
//!   "pool_password": "x"
//! }
//! ```
//! ```text
//! this server cannot mine for another pool yet: nothing was changed, and it goes on mining on its own node's blocks
//! ```
//!
//! ## register_merge_mining
//!
//! A module that does merge mining takes over the four methods below: calls to them are handed on to
//! it as they are, until it calls `unregister_merge_mining` or is gone. `module` is its name, if that
//! is not what it calls as.
//!
//! ```json
//! {"module": "blvm-merge-mining"}
//! ```
//! ```json
//! {"registered": "blvm-merge-mining"}
//! ```
//!
//! ## unregister_merge_mining
//!
//! ```json
//! {}
//! ```
//! ```text
//! blvm-caller has not registered for merge mining
//! ```
//!
//! ## register_merge_mining_channel
//!
//! ```json
//! {"chain": "example", "channel": 2}
//! ```
//! ```text
//! register_merge_mining_channel is for merge mining, which a module of its own does, and none has registered: put one (such as blvm-merge-mining) into the node's modules directory, enable it under [modules] in the node's configuration, and restart the node
//! ```
//!
//! ## get_merge_mining_template
//!
//! ```json
//! {"chain": "example"}
//! ```
//! ```text
//! get_merge_mining_template is for merge mining, which a module of its own does, and none has registered: put one (such as blvm-merge-mining) into the node's modules directory, enable it under [modules] in the node's configuration, and restart the node
//! ```
//!
//! ## submit_merge_mining_share
//!
//! ```json
//! {"chain": "example", "share": "00"}
//! ```
//! ```text
//! submit_merge_mining_share is for merge mining, which a module of its own does, and none has registered: put one (such as blvm-merge-mining) into the node's modules directory, enable it under [modules] in the node's configuration, and restart the node
//! ```
//!
//! ## get_block_merge_mining_rewards
//!
//! ```json
//! {"height": 100}
//! ```
//! ```text
//! get_block_merge_mining_rewards is for merge mining, which a module of its own does, and none has registered: put one (such as blvm-merge-mining) into the node's modules directory, enable it under [modules] in the node's configuration, and restart the node
//! ```

mod error;
mod merge;
pub(super) mod miners;
mod params;
pub(super) mod stats;
mod template;
mod upstream;

#[cfg(test)]
pub(super) mod tests;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

pub use error::ApiError;
use merge::Plugin;
use params::Params;
use serde::Serialize;

use crate::pool::StratumV2Pool;

/// The version of the API.
pub const API_VERSION: u32 = 1;

/// The methods of the API.
pub const METHODS: &[&str] = &[
    "get_template",
    "get_connected_miners",
    "get_pool_stats",
    "update_pool_config",
    "register_merge_mining",
    "unregister_merge_mining",
    "register_merge_mining_channel",
    "get_merge_mining_template",
    "submit_merge_mining_share",
    "get_block_merge_mining_rewards",
];

/// What does not change while the server runs.
#[derive(Debug, Clone, Default)]
pub struct Info {
    /// Where the configuration was read from, if it was.
    pub config_path: Option<PathBuf>,
    /// The URLs for miners.
    pub listen_urls: Vec<String>,
    /// The server's version.
    pub version: String,
}

/// What a call comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// This.
    Done(Result<Vec<u8>, ApiError>),
    /// Whatever another module answers to the same. If there is no such module any more,
    /// [tell](Api::module_gone).
    Forward {
        /// The module's name.
        module: String,
        /// One of [`METHODS`].
        method: &'static str,
        /// As they came.
        params: Vec<u8>,
    },
}

/// The API. See the [module](self).
#[derive(Debug)]
pub struct Api {
    pool: Arc<StratumV2Pool>,
    info: Info,
    started: Instant,
    /// The module that does merge mining.
    plugin: Mutex<Option<Plugin>>,
}

impl Api {
    /// Of a server that has just started.
    #[must_use]
    pub fn new(pool: Arc<StratumV2Pool>, info: Info) -> Self {
        Self { pool, info, started: Instant::now(), plugin: Mutex::default() }
    }

    /// Answers the module `caller`.
    #[must_use]
    pub fn call(&self, method: &str, params: &[u8], caller: &str) -> Answer {
        self.answer(method, params, caller).unwrap_or_else(|error| Answer::Done(Err(error)))
    }

    fn answer(&self, method: &str, params: &[u8], caller: &str) -> Result<Answer, ApiError> {
        let method = METHODS.iter().copied().find(|known| *known == method).ok_or(ApiError::UnknownMethod)?;
        if params.len() > params::MAX_LEN {
            return Err(ApiError::TooLong(params.len()));
        }
        let answer = match method {
            "get_template" => json(&self.template()?),
            "get_connected_miners" => json(&self.connected_miners(&Params::read(params)?)?),
            "get_pool_stats" => json(&self.stats()),
            "update_pool_config" => return Err(upstream::update(&Params::read(params)?)),
            "register_merge_mining" => json(&self.register(&Params::read(params)?, caller)?),
            "unregister_merge_mining" => json(&self.unregister(caller)?),
            merge_mining => return self.forward(merge_mining, params, caller),
        };
        Ok(Answer::Done(Ok(answer)))
    }

    /// A module that calls were [forwarded](Answer::Forward) to cannot be called any more.
    pub fn module_gone(&self, module: &str) {
        let mut plugin = self.plugin.lock().unwrap_or_else(PoisonError::into_inner);
        if plugin.as_ref().is_some_and(|plugin| plugin.module == module) {
            tracing::info!(module, "the merge mining module is gone");
            *plugin = None;
        }
    }

    pub(super) fn pool(&self) -> &StratumV2Pool {
        &self.pool
    }

    pub(super) fn info(&self) -> &Info {
        &self.info
    }

    pub(super) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }
}

fn json(answer: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(answer).expect("numbers, texts and lists of them are JSON")
}
