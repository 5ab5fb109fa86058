//! `get_connected_miners`.

use std::sync::Arc;

use serde::Serialize;

use super::params::Params;
use super::{Api, ApiError};
use crate::clock::unix_now;
use crate::journal::{endpoint, transport_name};
use crate::roster::Entry;

/// Miners in one answer.
pub(in crate::module) const MAX_LIMIT: usize = 1000;
pub(in crate::module) const DEFAULT_LIMIT: usize = 100;
/// Users named of one miner.
const USERS: usize = 16;

#[derive(Serialize)]
pub(super) struct Miners {
    total: usize,
    miners: Vec<Miner>,
}

#[derive(Serialize)]
pub(in crate::module) struct Miner {
    pub(in crate::module) endpoint: String,
    transport: &'static str,
    pub(in crate::module) device: String,
    connected_at: u32,
    pub(in crate::module) channels: usize,
    pub(in crate::module) users: Vec<String>,
    pub(in crate::module) shares_accepted: u64,
    pub(in crate::module) shares_rejected: u64,
    pub(in crate::module) hashrate_hs: f64,
    pub(in crate::module) last_share: Option<u32>,
}

impl Miner {
    fn new(entry: &Arc<Entry>, now: u32) -> Self {
        let (channels, users) = entry.channels(USERS);
        Self {
            endpoint: endpoint(entry.transport(), entry.peer()),
            transport: transport_name(entry.transport()),
            device: entry.device().to_owned(),
            connected_at: entry.since(),
            channels,
            users: users.iter().map(|account| account.user.to_string()).collect(),
            shares_accepted: entry.accepted(),
            shares_rejected: entry.rejected(),
            hashrate_hs: entry.hashrate(now),
            last_share: entry.last_share(),
        }
    }
}

impl Api {
    pub(super) fn connected_miners(&self, params: &Params) -> Result<Miners, ApiError> {
        let limit = match params.get("limit") {
            None => DEFAULT_LIMIT,
            Some(limit) => limit
                .as_u64()
                .map(|limit| limit as usize)
                .filter(|limit| (1..=MAX_LIMIT).contains(limit))
                .ok_or(ApiError::Malformed { name: "limit", wanted: "a number from 1 to 1000" })?,
        };
        Ok(Miners { total: self.pool.roster().total(), miners: self.miners(limit) })
    }

    pub(in crate::module) fn miners(&self, limit: usize) -> Vec<Miner> {
        let now = unix_now();
        self.pool.roster().miners(limit).iter().map(|entry| Miner::new(entry, now)).collect()
    }
}
