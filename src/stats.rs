//! Counts of what the server does, to be read at any time.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::mining::share::Rejection;
use crate::session::Tally;
use crate::wire::url::Transport;

/// The server's counts, by transport.
#[derive(Debug, Default)]
pub struct Stats {
    tcp: TransportStats,
    quic: TransportStats,
}

impl Stats {
    /// The counts of one transport.
    #[must_use]
    pub fn of(&self, transport: Transport) -> &TransportStats {
        match transport {
            Transport::Tcp => &self.tcp,
            Transport::Quic => &self.quic,
        }
    }

    /// The sum of a count over the transports.
    pub fn sum(&self, count: impl Fn(&TransportStats) -> u64) -> u64 {
        count(&self.tcp) + count(&self.quic)
    }
}

/// Counts of one transport.
#[derive(Debug, Default)]
pub struct TransportStats {
    /// Connections open now.
    pub connections: Gauge,
    /// Channels open now.
    pub channels: Gauge,
    /// Shares accepted.
    pub shares_accepted: Counter,
    /// Blocks accepted by the source of the work.
    pub blocks: Counter,
    /// Solutions that the source refused.
    pub solutions_refused: Counter,
    rejected: [Counter; Rejection::COUNT],
}

impl TransportStats {
    /// Books what a session has counted.
    pub(crate) fn add(&self, tally: &Tally) {
        self.shares_accepted.add(tally.accepted);
        for (counter, count) in self.rejected.iter().zip(tally.rejected) {
            if count > 0 {
                counter.add(count);
            }
        }
    }

    /// Shares refused for this reason.
    #[must_use]
    pub fn rejected(&self, reason: Rejection) -> u64 {
        self.rejected[reason.index()].get()
    }

    /// Shares refused, whatever for.
    #[must_use]
    pub fn shares_rejected(&self) -> u64 {
        self.rejected.iter().map(Counter::get).sum()
    }
}

/// A count that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// The count so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Relaxed);
    }
}

/// A number of things that are there now.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// How many there are.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    pub(crate) fn rise(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    pub(crate) fn fall(&self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
