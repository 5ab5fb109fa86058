//! What to mine on, from what is heard of a node's templates and tips.
//!
//! ```text
//!            a new tip                    empty_after passes
//!  on a tip ───────────> its template is ───────────────────> on a makeshift
//!      ^                   on its way                              │
//!      └────── a template ──────┴─────────── a template ───────────┘
//! ```

use std::sync::Arc;
use std::time::Duration;

use bitcoin::{BlockHash, Network};
use tokio::time::Instant;

use super::asker::Heard;
use super::draft::Fresh;
use super::empty;
use super::error::Trouble;
use super::tips::NewTip;
use crate::mining::Tip;
use crate::template::{Draft, Offer};

/// Something that was heard of the node.
#[derive(Debug)]
pub(super) enum Event {
    /// What it would mine.
    Template(Box<Heard>),
    /// A tip, ahead of its template.
    Tip(NewTip),
    /// A connection broke: perhaps the node has gone.
    Doubt,
}

/// What follows from it.
#[derive(Debug, Default)]
pub(super) struct Step {
    /// What to mine on from now on, if that has changed.
    pub(super) offer: Option<Offer>,
    /// Whether to ask for a template.
    pub(super) ask: bool,
}

/// How templates and tips become offers. Reads no clock.
#[derive(Debug)]
pub(super) struct Follower {
    network: Network,
    poll_interval: Duration,
    empty_after: Duration,
    tip: Arc<Tip>,
    draft: Arc<Draft>,
    /// The empty block for the next height.
    next: Option<Arc<Draft>>,
    /// When the template of the present tip was received.
    since: Instant,
    pending: Option<Pending>,
    poll_at: Instant,
}

/// A tip whose template has not come yet.
#[derive(Debug)]
struct Pending {
    tip: NewTip,
    since: Instant,
    /// Whether its template was asked for: it may also come by itself.
    asked: bool,
    /// Whether there has been time for a makeshift.
    late: bool,
}

impl Follower {
    /// Starts with a first template, which is in the second value.
    pub(super) fn start(
        heard: Heard,
        network: Network,
        poll_interval: Duration,
        empty_after: Duration,
        now: Instant,
    ) -> (Self, Offer) {
        let Fresh { tip, draft, .. } = heard.fresh;
        let mut this = Self {
            network,
            poll_interval,
            empty_after,
            tip: Arc::new(tip),
            draft: Arc::new(draft),
            next: None,
            since: heard.received,
            pending: None,
            poll_at: now + poll_interval,
        };
        this.prepare();
        let offer = this.offer(false);
        (this, offer)
    }

    /// When to [`tick`](Self::tick).
    pub(super) fn due(&self) -> Instant {
        match &self.pending {
            Some(pending) if !pending.late => self.poll_at.min(pending.since + self.empty_after),
            _ => self.poll_at,
        }
    }

    /// Time has passed. `time` is that of the day.
    pub(super) fn tick(&mut self, now: Instant, time: u32) -> Step {
        let mut step = Step::default();
        if now >= self.poll_at {
            self.poll_at = now + self.poll_interval;
            step.ask = true;
        }
        let Some(pending) = self.pending.as_mut().filter(|p| !p.late && now >= p.since + self.empty_after)
        else {
            return step;
        };
        pending.late = true;
        step.ask |= !pending.asked;
        pending.asked = true;
        let new = pending.tip;
        step.offer = self.makeshift(new, time);
        step
    }

    /// The node has a new tip. `comes_by_itself` is whether its template is going to.
    pub(super) fn tip(&mut self, new: NewTip, comes_by_itself: bool, now: Instant) -> Step {
        let known = self.known().0 == new.hash;
        if known {
            return Step::default();
        }
        self.pending = Some(Pending { tip: new, since: now, asked: !comes_by_itself, late: false });
        Step { offer: None, ask: !comes_by_itself }
    }

    /// The node has a template.
    pub(super) fn template(&mut self, heard: Heard, now: Instant) -> Result<Step, Trouble> {
        let Heard { fresh: Fresh { tip, draft, .. }, made_after, received, by_itself } = heard;
        let (known, since) = self.known();
        let overtaken = by_itself && self.is_before_pending(tip.prev_hash);
        if tip.prev_hash != known && (made_after < since || overtaken) {
            // From before that tip was known, or it went back; only another answer can tell.
            return Ok(Step { offer: None, ask: true });
        }
        if tip.prev_hash == self.tip.prev_hash && tip.height != self.tip.height {
            let (prev_hash, first, then) = (tip.prev_hash, self.tip.height, tip.height);
            return Err(Trouble::TwoHeights { prev_hash, first, then });
        }
        self.pending = None;
        self.since = received;
        self.poll_at = now + self.poll_interval;
        // What miners have already, they need not be given again: the job that they are on, or the
        // empty one that was prepared for this tip.
        let have = if tip.prev_hash == self.tip.prev_hash { Some(&self.draft) } else { self.next.as_ref() };
        self.draft = have.filter(|have| same(have, &draft)).cloned().unwrap_or_else(|| Arc::new(draft));
        self.tip = Arc::new(tip);
        self.prepare();
        Ok(Step { offer: Some(self.offer(false)), ask: false })
    }

    /// The tip that the node was last heard to have, and since when.
    fn known(&self) -> (BlockHash, Instant) {
        match &self.pending {
            Some(pending) => (pending.tip.hash, pending.since),
            None => (self.tip.prev_hash, self.since),
        }
    }

    /// Whether the tip whose template is awaited was built on this block.
    fn is_before_pending(&self, block: BlockHash) -> bool {
        let header = self.pending.as_ref().and_then(|pending| pending.tip.header);
        header.is_some_and(|header| header.prev_hash == block)
    }

    /// An empty block on a tip that follows upon ours: nothing else is sure to be valid.
    fn makeshift(&mut self, new: NewTip, time: u32) -> Option<Offer> {
        let header = new.header?;
        if (header.height, header.prev_hash) != (self.tip.height, self.tip.prev_hash) {
            return None;
        }
        self.draft = self.next.take()?;
        self.tip = Arc::new(Tip {
            prev_hash: new.hash,
            height: self.tip.height + 1,
            min_ntime: time.max(header.median_time.saturating_add(1)),
            ..*self.tip
        });
        self.prepare();
        Some(self.offer(true))
    }

    /// Prepares the empty block for the next height, if it is not there already.
    fn prepare(&mut self) {
        let height = self.tip.height + 1;
        let segwit = self.draft.coinbase.witness_commitment;
        let empty = empty::target_stays(self.network, height)
            .then(|| empty::draft(self.network, height, self.draft.version, segwit));
        let kept = self.next.take();
        self.next = empty.map(|empty| kept.filter(|kept| same(kept, &empty)).unwrap_or_else(|| empty.into()));
    }

    fn offer(&self, makeshift: bool) -> Offer {
        Offer {
            tip: self.tip.clone(),
            draft: self.draft.clone(),
            future: self.next.iter().cloned().collect(),
            makeshift,
        }
    }
}

/// Whether the miners' work would be the same.
fn same(one: &Draft, other: &Draft) -> bool {
    one.version == other.version && one.coinbase == other.coinbase && one.merkle_path == other.merkle_path
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::Hash;

    use super::super::tips::TipHeader;
    use super::*;
    use crate::mining::Target;

    const INTERVAL: Duration = Duration::from_secs(15);
    const EMPTY_AFTER: Duration = Duration::from_millis(100);
    const MS: Duration = Duration::from_millis(1);

    fn hash(block: u32) -> BlockHash {
        BlockHash::hash(&block.to_le_bytes())
    }

    /// A template on the block `prev`, at this height, that was asked for and received then.
    fn heard(prev: u32, height: u32, fees: u64, made_after: Instant, received: Instant) -> Heard {
        let mut draft = empty::draft(Network::Regtest, height, 0x2000_0000, true);
        draft.coinbase.value += fees;
        let tip = Tip {
            prev_hash: hash(prev),
            height,
            min_ntime: 1_000,
            nbits: 0x207f_ffff,
            network_target: Target::MAX,
            report_target: Target::MAX,
        };
        Heard {
            fresh: Fresh { tip, draft, longpollid: None, dropped: 0 },
            made_after,
            received,
            by_itself: false,
        }
    }

    fn new_tip(block: u32, prev: u32, height: u32) -> NewTip {
        let header = TipHeader { height, prev_hash: hash(prev), median_time: 2_000 };
        NewTip { hash: hash(block), header: Some(header) }
    }

    fn start(network: Network, height: u32, now: Instant) -> (Follower, Offer) {
        Follower::start(heard(1, height, 7, now, now), network, INTERVAL, EMPTY_AFTER, now)
    }

    #[test]
    fn a_new_tip_costs_miners_one_message() {
        let now = Instant::now();
        let (mut follower, first) = start(Network::Regtest, 10, now);
        assert_eq!(first.tip.height, 10);
        assert_eq!(first.future[0].coinbase.script_prefix, crate::mining::Coinbase::bip34(11));

        let step = follower.tip(new_tip(2, 1, 10), true, now + 10 * MS);
        assert!(step.offer.is_none() && !step.ask, "the longpoll is about to bring it");
        assert_eq!(follower.due(), now + 110 * MS);
        let step = follower.tick(now + 109 * MS, 3_000);
        assert!(step.offer.is_none() && !step.ask);
        let step = follower.tick(now + 110 * MS, 3_000);
        let makeshift = step.offer.unwrap();
        assert!(step.ask, "the longpoll did not bring it");
        assert!(makeshift.makeshift);
        assert!(Arc::ptr_eq(&makeshift.draft, &first.future[0]));
        assert_eq!(makeshift.future[0].coinbase.lock_time, 11);
        assert_eq!(*makeshift.tip, Tip { prev_hash: hash(2), height: 11, min_ntime: 3_000, ..*first.tip });
        assert!(makeshift.draft.body.get().unwrap().is_empty());
        assert_eq!(follower.due(), now + INTERVAL, "once is enough");

        let full = heard(2, 11, 500, now + 110 * MS, now + 400 * MS);
        let full = follower.template(full, now + 410 * MS).unwrap().offer.unwrap();
        assert!(!full.makeshift);
        assert_eq!(full.draft.coinbase.value, 5_000_000_500);
        assert!(Arc::ptr_eq(&full.future[0], &makeshift.future[0]));
        assert_eq!(follower.due(), now + 410 * MS + INTERVAL);
    }

    #[test]
    fn a_template_that_comes_in_time_needs_no_makeshift() {
        let now = Instant::now();
        let (mut follower, first) = start(Network::Regtest, 10, now);
        assert!(follower.tip(new_tip(2, 1, 10), false, now + 10 * MS).ask, "nothing else brings it");
        let step = follower.template(heard(2, 11, 0, now + 10 * MS, now + 90 * MS), now + 90 * MS).unwrap();
        assert!(Arc::ptr_eq(&step.offer.unwrap().draft, &first.future[0]), "it is empty anyway");
        assert!(follower.tick(now + 200 * MS, 3_000).offer.is_none());
        let again = follower.tip(new_tip(2, 1, 10), false, now + 300 * MS);
        assert!(again.offer.is_none() && !again.ask, "this tip is known");
    }

    #[test]
    fn a_clock_that_is_behind() {
        let now = Instant::now();
        let (mut follower, _) = start(Network::Regtest, 10, now);
        follower.tip(new_tip(2, 1, 10), false, now);
        assert_eq!(follower.tick(now + EMPTY_AFTER, 0).offer.unwrap().tip.min_ntime, 2_001);
    }

    #[test]
    fn no_makeshift_where_it_might_be_invalid() {
        let now = Instant::now();
        let makeshift = |network, height, new| {
            let (mut follower, first) = start(network, height, now);
            assert!(follower.tip(new, false, now).ask);
            let step = follower.tick(now + EMPTY_AFTER, 3_000);
            assert!(!step.ask, "it was asked for");
            (step.offer.is_some(), first.future.len())
        };
        assert_eq!(makeshift(Network::Bitcoin, 10, new_tip(2, 1, 10)), (true, 1));
        assert_eq!(makeshift(Network::Bitcoin, 10, NewTip { hash: hash(2), header: None }), (false, 1));
        assert_eq!(makeshift(Network::Bitcoin, 10, new_tip(2, 1, 11)), (false, 1), "two blocks at once");
        assert_eq!(makeshift(Network::Bitcoin, 10, new_tip(2, 9, 10)), (false, 1), "on another block");
        assert_eq!(makeshift(Network::Bitcoin, 10, new_tip(2, 1, 9)), (false, 1), "back");
        assert_eq!(makeshift(Network::Bitcoin, 2015, new_tip(2, 1, 2015)), (false, 0), "another target");
        assert_eq!(makeshift(Network::Testnet4, 10, new_tip(2, 1, 10)), (false, 0));
    }

    #[test]
    fn an_answer_from_before_the_tip_was_known() {
        let now = Instant::now();
        let (mut follower, first) = start(Network::Regtest, 10, now);
        follower.tip(new_tip(2, 1, 10), false, now + 10 * MS);
        let old = follower.template(heard(1, 10, 99, now + 5 * MS, now + 20 * MS), now + 20 * MS).unwrap();
        assert!(old.offer.is_none() && old.ask);
        follower.tick(now + 110 * MS, 3_000);
        let old = follower.template(heard(1, 10, 99, now + 5 * MS, now + 120 * MS), now + 120 * MS).unwrap();
        assert!(old.offer.is_none() && old.ask);
        // asked again, the node insists
        let back =
            follower.template(heard(1, 10, 99, now + 120 * MS, now + 130 * MS), now + 130 * MS).unwrap();
        assert_eq!(back.offer.unwrap().tip.prev_hash, first.tip.prev_hash);
    }

    #[test]
    fn an_answer_that_was_overtaken() {
        let now = Instant::now();
        let (mut follower, _) = start(Network::Regtest, 10, now);
        // the longpoll has a new tip while an answer on the old one is on its way
        let new = heard(2, 11, 0, now + 50 * MS, now + 50 * MS);
        assert!(follower.template(new, now + 50 * MS).unwrap().offer.is_some());
        let old = follower.template(heard(1, 10, 0, now + 40 * MS, now + 60 * MS), now + 60 * MS).unwrap();
        assert!(old.offer.is_none() && old.ask);
    }

    #[test]
    fn better_fees() {
        let now = Instant::now();
        let (mut follower, first) = start(Network::Regtest, 10, now);
        assert!(!follower.tick(now + INTERVAL - MS, 0).ask);
        assert!(follower.tick(now + INTERVAL, 0).ask);
        assert_eq!(follower.due(), now + 2 * INTERVAL);
        let at = now + INTERVAL;
        let same = follower.template(heard(1, 10, 7, at, at), at).unwrap().offer.unwrap();
        assert!(Arc::ptr_eq(&same.draft, &first.draft));
        let more = follower.template(heard(1, 10, 8, at + MS, at + MS), at).unwrap().offer.unwrap();
        assert!(!Arc::ptr_eq(&more.draft, &first.draft));
        assert!(Arc::ptr_eq(&more.future[0], &first.future[0]));
    }

    #[test]
    fn a_longpoll_that_was_overtaken() {
        let now = Instant::now();
        let (mut follower, _) = start(Network::Regtest, 10, now);
        follower.tip(new_tip(3, 2, 11), true, now);
        // its body came in slowly
        let slow = Heard { by_itself: true, ..heard(2, 11, 0, now + MS, now + MS) };
        let step = follower.template(slow, now + MS).unwrap();
        assert!(step.offer.is_none() && step.ask, "the block after it is known");
        let back = follower.template(heard(2, 11, 0, now + MS, now + 2 * MS), now + 2 * MS).unwrap();
        assert_eq!(back.offer.unwrap().tip.prev_hash, hash(2), "the node was asked since");
    }

    #[test]
    fn a_sibling_of_the_tip_has_work_of_its_own() {
        let now = Instant::now();
        let (mut follower, first) = start(Network::Regtest, 10, now);
        let sibling =
            follower.template(heard(3, 10, 7, now + MS, now + MS), now + MS).unwrap().offer.unwrap();
        assert!(!Arc::ptr_eq(&sibling.draft, &first.draft));
    }

    #[test]
    fn a_block_has_one_height() {
        let now = Instant::now();
        let (mut follower, _) = start(Network::Regtest, 10, now);
        let error = follower.template(heard(1, 11, 7, now + MS, now + MS), now + MS).unwrap_err();
        assert!(matches!(error, Trouble::TwoHeights { first: 10, then: 11, .. }), "{error}");
    }
}
