//! `get_pool_stats`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Api;
use crate::clock::unix_now;
use crate::journal::transport_name;
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

/// In sum, and by transport.
pub(in crate::module) struct AllCounts {
    pub(in crate::module) sum: Counts,
    pub(in crate::module) quic: Counts,
    pub(in crate::module) tcp: Counts,
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
        let AllCounts { sum, quic, tcp } = self.counts();
        let rejected = |reason: Rejection| (reason.code(), stats.sum(|transport| transport.rejected(reason)));
        PoolStats {
            version: self.info.version.clone(),
            uptime: self.uptime().as_secs(),
            min_difficulty: self.pool.min_difficulty().map(|difficulty| difficulty.0),
            sum,
            rejected: Rejection::ALL.map(rejected).into(),
            transports: [(Transport::Quic, quic), (Transport::Tcp, tcp)]
                .map(|(transport, counts)| (transport_name(transport), counts))
                .into(),
        }
    }

    pub(in crate::module) fn counts(&self) -> AllCounts {
        let stats = self.pool.stats();
        let of = |transport, hashrate| Counts::of(|count| count(stats.of(transport)), hashrate);
        let [quic, tcp] = self.hashrates();
        AllCounts {
            sum: Counts::of(|count| stats.sum(count), quic + tcp),
            quic: of(Transport::Quic, quic),
            tcp: of(Transport::Tcp, tcp),
        }
    }

    /// Of the miners that are connected now, over QUIC and over TCP.
    fn hashrates(&self) -> [f64; 2] {
        let (now, mut last, mut sums) = (unix_now(), 0, [0.0; 2]);
        loop {
            let page = self.pool.roster().miners_after(last, PAGE);
            let Some(newest) = page.last() else { return sums };
            last = newest.id();
            for entry in &page {
                sums[usize::from(entry.transport() == Transport::Tcp)] += entry.hashrate(now);
            }
        }
    }
}
