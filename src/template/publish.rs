//! Has miners mine on what a source offers.

use std::sync::Arc;

use tokio::time::Instant;

use super::numbering::Numbering;
use super::{Draft, Offer, Pace};
use crate::mining::TemplateSerial;
use crate::mining::share::Solution;
use crate::pool::StratumV2Pool;

/// Gives the pool its work.
#[derive(Debug)]
pub(super) struct Publisher {
    pool: Arc<StratumV2Pool>,
    pace: Pace,
    numbering: Numbering,
    last: Option<Published>,
}

/// What the pool was given last.
#[derive(Debug)]
pub(super) struct Published {
    /// By the source in this place.
    pub(super) source: usize,
    pub(super) offer: Offer,
    /// When it was given what it mines on.
    at: Instant,
    /// When the source had the tip, by whose time headers are dated.
    tip_at: Instant,
    /// The source has gone since, and may not know the draft any more when it is back.
    gone: bool,
}

impl Publisher {
    pub(super) fn new(pool: Arc<StratumV2Pool>, pace: Pace, first: TemplateSerial) -> Self {
        Self { pool, pace, numbering: Numbering::new(first), last: None }
    }

    /// What the pool was given last.
    pub(super) fn last(&self) -> Option<&Published> {
        self.last.as_ref()
    }

    /// Publishes the offer if its time has come; answers when to look at it again.
    pub(super) fn consider(&mut self, source: usize, offer: Offer, now: Instant) -> Instant {
        let Some(last) = self.last.as_ref().filter(|last| last.source == source && !last.gone) else {
            return self.publish(source, offer, false, now);
        };
        let due = self.pace.due(&last.offer, last.at, &offer);
        if now >= due || self.pays_others() {
            let anew = Arc::ptr_eq(&last.offer.draft, &offer.draft);
            return self.publish(source, offer, anew, now);
        }
        let last_future = &last.offer.future;
        let same = |(a, b): (&Arc<Draft>, &Arc<Draft>)| Arc::ptr_eq(a, b);
        if last_future.len() != offer.future.len() || !last_future.iter().zip(&offer.future).all(same) {
            // these are not held back: they are for the next tip, which may come at any moment
            let (offer, at) = (Offer { future: offer.future, ..last.offer.clone() }, last.at);
            self.publish(source, offer, false, at);
        }
        due
    }

    /// A source has no work at the moment.
    pub(super) fn gone(&mut self, source: usize) {
        if let Some(last) = self.last.as_mut().filter(|last| last.source == source) {
            last.gone = true;
        }
    }

    /// Nothing is on offer: what the pool has is published anew from time to time. Answers when.
    pub(super) fn repeat(&mut self, now: Instant) -> Option<Instant> {
        let last = self.last.as_ref()?;
        let due = last.at + self.pace.max_interval;
        if now < due && !self.pays_others() {
            return Some(due);
        }
        Some(self.publish(last.source, last.offer.clone(), true, now))
    }

    /// Whether it is for others than the pool's present payees to be paid by what was published last.
    fn pays_others(&self) -> bool {
        self.pool.payees().borrow().as_ref() != self.numbering.payees()
    }

    /// What a solution was mined on.
    pub(super) fn mined(&self, solution: &Solution) -> Option<&Arc<Draft>> {
        self.numbering.draft(solution.job.template.serial)
    }

    fn publish(&mut self, source: usize, offer: Offer, anew: bool, at: Instant) -> Instant {
        let same_tip = |last: &&Published| Arc::ptr_eq(&last.offer.tip, &offer.tip);
        let tip_at = self.last.as_ref().filter(same_tip).map_or(at, |last| last.tip_at);
        let gone = anew && self.last.as_ref().is_some_and(|last| last.gone);
        let payees = self.pool.payees().borrow().clone();
        let mut work = self.numbering.work(&offer, payees, anew);
        if anew {
            // time goes on at the source as here, whatever our clock says
            let mut tip = (*offer.tip).clone();
            let age = at.duration_since(tip_at).as_secs();
            tip.min_ntime = tip.min_ntime.saturating_add(u32::try_from(age).unwrap_or(u32::MAX));
            work.tip = Arc::new(tip);
        }
        self.pool.publish(Arc::new(work));
        self.last = Some(Published { source, offer, at, tip_at, gone });
        at + self.pace.max_interval
    }
}
