//! When miners get to see what a source offers.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Offer;

/// How often there is new work on the same tip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Not sooner than this after the work before.
    pub min_interval: Duration,
    /// Not for less than this much more reward, in satoshis, than the work before.
    pub fee_threshold: u64,
    /// But after this time whatever there is: time goes on, and some firmware hangs up after
    /// minutes without a job.
    pub max_interval: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            min_interval: Duration::from_secs(15),
            fee_threshold: 10_000,
            max_interval: Duration::from_secs(50),
        }
    }
}

impl Pace {
    /// When to publish `offer` if `last` was published before, at the time `at`, and both are from
    /// the same source.
    pub(super) fn due(&self, last: &Offer, at: Instant, offer: &Offer) -> Instant {
        let announced = |offer: &Offer| (offer.tip.prev_hash, offer.tip.nbits);
        if announced(last) != announced(offer) || (last.makeshift && !offer.makeshift) {
            return at;
        }
        let gain = offer.draft.coinbase.value.saturating_sub(last.draft.coinbase.value);
        let better = !Arc::ptr_eq(&last.draft, &offer.draft) && gain >= self.fee_threshold;
        at + if better { self.min_interval } else { self.max_interval }
    }
}
