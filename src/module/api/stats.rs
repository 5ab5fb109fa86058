//! `get_pool_stats`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Api;
use super::miners::transport_name;
use crate::clock::unix_now;
use crate::mining::share::Rejection;
use crate::stats::TransportStats;
use crate::wire::url::Transport;

/// Entries of the roster that are read at a time.
const PAGE: usize = 1024;

#[derive(Serialize)]
pub(super) struct PoolStats {
    version: String,
    uptime: u64,
    min_difficulty: Option<f64>,
    #[serde(flatten)]
    sum: Counts,
    rejected: BTreeMap<&'static str, u64>,
    transports: BTreeMap<&'static str, Counts>,
}

#[derive(Serialize)]
pub(in crate::module) struct Counts {
    pub(in crate::module) connections: u64,
    pub(in crate::module) channels: u64,
    pub(in crate::module) hashrate_hs: f64,
    pub(in crate::module) shares_accepted: u64,
    pub(in crate::module) shares_rejected: u64,
    pub(in crate::module) blocks: u64,
    pub(in crate::module) solutions_refused: u64,
}

impl Counts {
    fn of(sum: impl Fn(fn(&TransportStats) -> u64) -> u64, hashrate_hs: f64) -> Self {
        Self {
            connections: sum(|stats| stats.connections.get()),
            channels: sum(|stats| stats.channels.get()),
            hashrate_hs,
            shares_accepted: sum(|stats| stats.shares_accepted.get()),
            shares_rejected: sum(TransportStats::shares_rejected),
            blocks: sum(|stats| stats.blocks.get()),
            solutions_refused: sum(|stats| stats.solutions_refused.get()),
        }
    }
}

impl Api {
    pub(super) fn stats(&self) -> PoolStats {
        let stats = self.pool.stats();
        let rejected = |reason: Rejection| (reason.code(), stats.sum(|transport| transport.rejected(reason)));
        PoolStats {
            version: self.info.version.clone(),
            uptime: self.uptime().as_secs(),
            min_difficulty: self.pool.min_difficulty().map(|difficulty| difficulty.0),
            sum: self.sum(),
            rejected: Rejection::ALL.map(rejected).into(),
            transports: [Transport::Quic, Transport::Tcp]
                .map(|transport| (transport_name(transport), self.counts(transport)))
                .into(),
        }
    }

    pub(in crate::module) fn sum(&self) -> Counts {
        let hashrate = self.hashrate(Transport::Quic) + self.hashrate(Transport::Tcp);
        Counts::of(|count| self.pool.stats().sum(count), hashrate)
    }

    pub(in crate::module) fn counts(&self, transport: Transport) -> Counts {
        let stats = self.pool.stats().of(transport);
        Counts::of(|count| count(stats), self.hashrate(transport))
    }

    /// Of the miners that are connected now.
    fn hashrate(&self, transport: Transport) -> f64 {
        let (now, mut last, mut sum) = (unix_now(), 0, 0.0);
        loop {
            let page = self.pool.roster().miners_after(last, PAGE);
            let Some(newest) = page.last() else { return sum };
            last = newest.id();
            let of_transport = page.iter().filter(|entry| entry.transport() == transport);
            sum += of_transport.map(|entry| entry.hashrate(now)).sum::<f64>();
        }
    }
}
