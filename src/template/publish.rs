//! Has miners mine on what a source offers.

use std::sync::Arc;

use tokio::time::Instant;

use super::numbering::{Numbering, Paid};
use super::source::SourceId;
use super::{Draft, Offer, Pace};
use crate::mining::TemplateSerial;
use crate::mining::payout::Room;
use crate::mining::share::Solution;
use crate::pool::{StratumV2Pool, Terms};

/// Gives the pool its work.
#[derive(Debug)]
pub(super) struct Publisher {
    pool: Arc<StratumV2Pool>,
    pace: Pace,
    numbering: Numbering,
    last: Option<Published>,
    /// Terms that hold from the first work on that has so much room for payouts.
    awaited: Option<Awaited>,
}

/// Terms that wait for work with room for them.
#[derive(Debug)]
struct Awaited {
    terms: Arc<Terms>,
    room: Room,
    /// The log has that they wait.
    told: bool,
}

/// Where work comes from.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    pub(super) id: SourceId,
    pub(super) name: Arc<str>,
    /// What it leaves for payouts.
    pub(super) room: Room,
}

/// What the pool was given last.
#[derive(Debug)]
pub(super) struct Published {
    /// By this source.
    pub(super) source: Origin,
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
        Self { pool, pace, numbering: Numbering::new(first), last: None, awaited: None }
    }

    /// What the pool was given last.
    pub(super) fn last(&self) -> Option<&Published> {
        self.last.as_ref()
    }

    /// From now on there is new work so often.
    pub(super) fn set_pace(&mut self, pace: Pace) {
        self.pace = pace;
    }

    /// Other terms hold, from the first work on that has so much room for payouts.
    pub(super) fn set_terms(&mut self, terms: Terms, room: Room) {
        let news = terms != *self.pool.terms();
        self.awaited = news.then(|| Awaited { terms: Arc::new(terms), room, told: false });
        if self.last.is_none() {
            // nobody has a job
            self.come_to_terms(room);
        }
    }

    /// Logs it if there are terms that no work has had the room for yet.
    pub(super) fn tell_who_waits(&mut self) {
        if let Some(awaited) = &mut self.awaited {
            awaited.told = true;
            tracing::warn!(
                "the new payout takes more room in the coinbase: the old one goes on until a source has work with it"
            );
        }
    }

    /// Whether there is a payout for work with so much room.
    pub(super) fn can_pay_within(&self, room: Room) -> bool {
        let awaited = self.awaited.as_ref().is_some_and(|awaited| room.holds(awaited.room));
        awaited || room.holds(self.pool.terms().payout.room())
    }

    /// Work with so much room for payouts is what is mined on next.
    fn come_to_terms(&mut self, room: Room) {
        if let Some(Awaited { terms, told, .. }) = self.awaited.take_if(|awaited| room.holds(awaited.room)) {
            self.pool.set_terms(terms);
            if told {
                tracing::info!("the new payout holds from now on");
            }
        }
    }

    /// Publishes the offer if its time has come; answers when to look at it again.
    pub(super) fn consider(&mut self, source: Origin, offer: Offer, now: Instant) -> Instant {
        self.come_to_terms(source.room);
        let Some(last) = self.last.as_ref().filter(|last| last.source.id == source.id && !last.gone) else {
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
    pub(super) fn gone(&mut self, source: SourceId) {
        if let Some(last) = self.last.as_mut().filter(|last| last.source.id == source) {
            last.gone = true;
        }
    }

    /// Nothing is on offer: what the pool has is published anew from time to time. Answers when.
    pub(super) fn repeat(&mut self, now: Instant) -> Option<Instant> {
        let room = self.last.as_ref()?.source.room;
        self.come_to_terms(room);
        let last = self.last.as_ref()?;
        let due = last.at + self.pace.max_interval;
        if now < due && !self.pays_others() {
            return Some(due);
        }
        Some(self.publish(last.source.clone(), last.offer.clone(), true, now))
    }

    /// Whether what was published last pays otherwise than the pool pays now.
    fn pays_others(&self) -> bool {
        self.numbering.pays_others(&Paid::by(&self.pool))
    }

    /// What a solution was mined on.
    pub(super) fn mined(&self, solution: &Solution) -> Option<&Arc<Draft>> {
        self.numbering.draft(solution.job.template.serial)
    }

    fn publish(&mut self, source: Origin, offer: Offer, anew: bool, at: Instant) -> Instant {
        let same_tip = |last: &&Published| Arc::ptr_eq(&last.offer.tip, &offer.tip);
        let tip_at = self.last.as_ref().filter(same_tip).map_or(at, |last| last.tip_at);
        let gone = anew && self.last.as_ref().is_some_and(|last| last.gone);
        let mut work = self.numbering.work(&offer, Paid::by(&self.pool), anew);
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
