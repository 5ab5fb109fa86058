//! Where work comes from, and where blocks go.
//!
//! ```text
//!  sources, best first ──Offer──> failover ─> pace ─> numbering ──Work──> pool
//!       ^                                                                  │
//!       └──Delivery── courier (to disk first, then to every source) <─Found┘
//! ```

pub(crate) mod backoff;
#[cfg(feature = "bitcoin-ipc")]
pub mod bitcoin_ipc;
pub mod bitcoin_rpc;
mod block;
mod blocks;
mod failover;
mod numbering;
mod offer;
mod pace;
mod publish;
mod replace;
pub mod regtest;
pub mod solutions;
pub mod source;
pub mod tdp;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::{self, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

pub use self::block::FoundBlock;
pub use self::blocks::Blocks;
use self::failover::Failover;
pub use self::offer::{Body, Draft, Offer, Transactions};
pub use self::pace::Pace;
use self::publish::{Origin, Publisher};
pub use self::replace::{Change, Control, ReplaceError};
use self::replace::{Command, LONGEST, Planned, Retired, Seat, plan};
use self::solutions::{Courier, Fate, StoreError};
use self::source::{Board, Feed, Outlet, States};
pub use self::source::{Refresh, Source, SourceOptions, State};
use crate::mining::TemplateSerial;
use crate::mining::payout::Room;
use crate::pool::{Found, StratumV2Pool, Terms};

/// How long sources may take to come up before the log has it.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often the log says that there is no work.
const COMPLAIN: Duration = Duration::from_secs(60);
/// Sources that go on at most when others have taken their places again and again: as many that are
/// used until these have work, and as many that are kept for their blocks.
const MAX_TAKEN_OUT: usize = 16;

/// What an operator can set about work.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to have it from, best first.
    pub sources: Vec<SourceOptions>,
    /// How often there is new work on the same tip.
    pub pace: Pace,
    /// Where to keep found blocks until a node has taken them.
    pub solutions: Option<PathBuf>,
}

/// Runs the sources of work: publishes what there is to mine on, and hands blocks in.
///
/// [`StratumV2Server`](crate::server::StratumV2Server) has one. A program with listeners of its own starts one
/// for its [pool](StratumV2Pool):
///
/// ```
/// use std::sync::Arc;
/// use blvm_stratum_v2::mining::TemplateSerial;
/// use blvm_stratum_v2::pool::{Found, StratumV2Pool};
/// use blvm_stratum_v2::template::{BlockTemplateGenerator, Options};
/// use tokio::sync::{mpsc, watch};
///
/// async fn generate(
///     options: Options,
///     pool: Arc<StratumV2Pool>,
///     found: mpsc::Receiver<Found>,
///     shutdown: watch::Receiver<bool>,
/// ) -> Result<(), Box<dyn std::error::Error>> {
///     let (first, now) = (TemplateSerial(1), 1_800_000_000);
///     let sources = options.sources.iter().map(|source| source.open(first, now));
///     let sources = sources.collect::<Result<_, _>>()?;
///     BlockTemplateGenerator::start(sources, &options, first, pool, found)?.run(shutdown).await;
///     Ok(())
/// }
/// ```
#[derive(Debug)]
pub struct BlockTemplateGenerator {
    pool: Arc<StratumV2Pool>,
    found: mpsc::Receiver<Found>,
    board: Board,
    states: States,
    failover: Failover,
    publisher: Publisher,
    courier: Courier,
    blocks: Blocks,
    /// Since when no source has had work, and when to say so next.
    idle: Option<(Instant, Instant)>,
    /// The sources. They end with this.
    running: JoinSet<()>,
    /// Who they are: those that are wanted, best first; those that were taken out and are used until one
    /// that is wanted has work; those that are retired.
    seats: Vec<Seat>,
    /// How many of them are wanted, and how many are used.
    wanted: usize,
    used: usize,
    /// Since when one that is wanted has had work without a break, while others are used.
    wanted_since: Option<Instant>,
    control: Control,
    commands: mpsc::Receiver<Command>,
}

impl Options {
    /// Work from the embedded chain alone.
    #[must_use]
    pub fn embedded(chain: regtest::Options) -> Self {
        // it keeps its blocks itself
        Self { sources: vec![SourceOptions::Regtest(chain)], pace: Pace::default(), solutions: None }
    }
}

impl BlockTemplateGenerator {
    /// Starts `sources`, to feed `pool`. `found` is what the pool's miners find; templates are
    /// numbered from `first` on.
    pub fn start(
        sources: Vec<Source>,
        options: &Options,
        first: TemplateSerial,
        pool: Arc<StratumV2Pool>,
        found: mpsc::Receiver<Found>,
    ) -> Result<Self, StoreError> {
        let names: Vec<_> = sources.iter().map(Source::name).collect();
        let (feeds, board) = Feed::on_board(&names);
        let (outlets, deliveries): (Vec<_>, Vec<_>) = names.into_iter().map(Outlet::new).unzip();
        let courier = Courier::start(options.solutions.as_deref(), outlets.clone(), board.states())?;
        let publisher = Publisher::new(pool.clone(), options.pace, first);
        let mut generator = Self::new(board, courier, publisher, pool, found);
        let told = options.sources.iter().cloned();
        for ((((source, feed), outlet), deliveries), options) in
            sources.into_iter().zip(feeds).zip(outlets).zip(deliveries).zip(told)
        {
            let seat = generator.seat(options, feed.clone(), outlet, source.run(feed, deliveries));
            generator.seats.push(seat);
        }
        generator.wanted = generator.seats.len();
        generator.used = generator.wanted;
        Ok(generator)
    }

    /// Fed by whoever feeds `board`.
    fn new(
        board: Board,
        courier: Courier,
        publisher: Publisher,
        pool: Arc<StratumV2Pool>,
        found: mpsc::Receiver<Found>,
    ) -> Self {
        let (control, commands) = Control::new();
        Self {
            pool,
            found,
            states: board.states(),
            board,
            failover: Failover::default(),
            publisher,
            courier,
            blocks: Blocks::default(),
            idle: None,
            running: JoinSet::new(),
            seats: Vec::new(),
            wanted: 0,
            used: 0,
            wanted_since: None,
            control,
            commands,
        }
    }

    /// Starts a source.
    fn seat(
        &mut self,
        options: SourceOptions,
        feed: Feed,
        outlet: Outlet,
        run: impl Future<Output = ()> + Send + 'static,
    ) -> Seat {
        Seat { options, feed, outlet, task: self.running.spawn(run), retired: None }
    }

    /// A way to change it while it [runs](Self::run).
    #[must_use]
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Has the sources look for something new. Those whose nodes tell them of it by themselves do not
    /// need it.
    #[must_use]
    pub fn refresh(&self) -> Refresh {
        self.board.refresh().clone()
    }

    /// Gives the blocks that are found to somebody else besides the sources.
    #[must_use]
    pub fn blocks(&self) -> Blocks {
        self.blocks.clone()
    }

    /// Runs until `shutdown` turns true. What was found before is still handed in then.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        let mut payees = self.pool.payees();
        loop {
            let next = self.publish_due(Instant::now());
            tokio::select! {
                changed = self.states.changed() => if changed.is_err() { break },
                Some(found) = self.found.recv(), if self.courier.has_room() => self.hand_in(found),
                () = self.courier.settled(), if !self.courier.has_room() => {}
                Some(command) = self.commands.recv() => {
                    if let Some((change, answer)) = command.begin() {
                        let _ = answer.send(self.change(change));
                    }
                }
                Some(ended) = self.running.join_next_with_id() => self.has_failed(ended),
                // the pool, which is kept here, has the other side
                _ = payees.changed() => {}
                () = sleep_until(next) => {}
                _ = shutdown.wait_for(|stop| *stop) => break,
            }
        }
        while let Ok(found) = self.found.try_recv() {
            self.hand_in(found);
        }
        self.courier.finish().await;
    }

    /// A source runs until it is dropped; one that has ended has met a fault of ours.
    fn has_failed(&self, ended: Result<(task::Id, ()), JoinError>) {
        let id = ended.map_or_else(|error| error.id(), |(id, ())| id);
        if let Some(seat) = self.seats.iter().find(|seat| seat.task.id() == id) {
            seat.feed.down("it has failed, by a fault of this program: restart the server to use it again");
        }
    }

    /// Changes. Miners have it by the time that it is done, if it can be had at once.
    fn change(&mut self, change: Change) -> Result<(), ReplaceError> {
        self.replace(change)?;
        self.publish_due(Instant::now());
        self.publisher.tell_who_waits();
        Ok(())
    }

    /// Goes over to other sources and other terms, or has everything stay as it is.
    fn replace(&mut self, change: Change) -> Result<(), ReplaceError> {
        let Change { sources, pace, payout, tag } = change;
        let terms = Terms { payout: self.pool.terms().payout.followed_by(payout), tag };
        let told = sources.iter().filter(|source| !matches!(source, SourceOptions::Regtest(_)));
        let room = told.map(SourceOptions::room).fold(terms.payout.room(), Room::max);
        let planned = plan(&self.seats, sources, room)?;
        // from here on nothing fails
        let feeds: Vec<_> = planned
            .iter()
            .map(|planned| match planned {
                Planned::Stays(place) => self.seats[*place].feed.clone(),
                Planned::Comes(_, source) => self.board.feed(source.name()),
            })
            .collect();
        let now = Instant::now();
        let (taken_out, retired) = self.others(&planned);
        let used = planned.len() + taken_out.len();
        let others = [taken_out, retired].concat();
        let ids = feeds.iter().map(Feed::id).chain(others.iter().map(|place| self.seats[*place].feed.id()));
        self.board.arrange(&ids.collect::<Vec<_>>(), used);
        let mut before: Vec<_> = std::mem::take(&mut self.seats).into_iter().map(Some).collect();
        let mut moved = vec![None; before.len()];
        for (planned, feed) in planned.into_iter().zip(feeds) {
            let seat = match planned {
                Planned::Stays(place) => {
                    if place >= self.wanted {
                        tracing::info!(source = feed.name(), "a source that was taken out is wanted again");
                    }
                    moved[place] = Some(self.seats.len());
                    before[place].take().map(|seat| seat.wanted())
                }
                Planned::Comes(options, source) => {
                    tracing::info!(source = feed.name(), "a source comes in");
                    let (outlet, deliveries) = Outlet::new(source.name());
                    Some(self.seat(options, feed.clone(), outlet, source.run(feed, deliveries)))
                }
            };
            self.seats.extend(seat);
        }
        self.wanted = self.seats.len();
        for place in others {
            moved[place] = Some(self.seats.len()).filter(|place| *place < used);
            self.seats.extend(before[place].take());
        }
        self.failover.rearranged(|place| moved[place]);
        self.used = used;
        self.wanted_since = None;
        self.retire(now);
        self.publisher.set_pace(pace);
        self.publisher.set_terms(terms, room);
        let states = self.states.borrow().clone();
        if self.used > self.wanted && !self.wanted_have_work(&states) {
            let sources = self.seats[self.wanted..self.used].iter().map(|seat| seat.feed.name());
            let sources = sources.collect::<Vec<_>>().join(", ");
            tracing::info!(
                sources,
                "the sources that were taken out are used on until one of the new ones has work"
            );
        }
        Ok(())
    }

    /// The places of the sources that are not `planned`: those that are used on for now, and the others.
    fn others(&self, planned: &[Planned]) -> (Vec<usize>, Vec<usize>) {
        let stays =
            |place| planned.iter().any(|planned| matches!(planned, Planned::Stays(at) if *at == place));
        let others = (0..self.seats.len()).filter(|place| !stays(*place));
        let (mut taken_out, mut retired): (Vec<_>, Vec<_>) = others.partition(|place| *place < self.used);
        let states = self.states.borrow();
        let has_work = |place: &usize| states.get(*place).is_some_and(|state| state.offer().is_some());
        while taken_out.len() > MAX_TAKEN_OUT {
            // one that has no work will be missed least
            let at = taken_out.iter().rposition(|place| !has_work(place)).unwrap_or(MAX_TAKEN_OUT);
            retired.push(taken_out.remove(at));
        }
        (taken_out, retired)
    }

    fn wanted_have_work(&self, states: &[State]) -> bool {
        states.iter().take(self.wanted).any(|state| state.offer().is_some())
    }

    /// Once miners are on the work of a source that is wanted, or could have been on it for long, those that were
    /// taken out are not used any more, whatever becomes of it. True if so.
    fn settle(&mut self, chosen: Option<usize>, states: &[State], now: Instant) -> bool {
        if self.used == self.wanted {
            return false;
        }
        if !self.wanted_have_work(states) {
            self.wanted_since = None;
            return false;
        }
        let since = *self.wanted_since.get_or_insert(now);
        // one that is behind may catch up; but those that were taken out may be on a chain that is wrong
        if chosen.is_none_or(|chosen| chosen >= self.wanted) && now < since + LONGEST {
            return false;
        }
        self.used = self.wanted;
        let used = self.used;
        self.failover.rearranged(|place| Some(place).filter(|place| *place < used));
        self.retire(now);
        true
    }

    /// Those that are not used are there for their blocks only, and not for long.
    fn retire(&mut self, now: Instant) {
        let last = self.publisher.last().map(|last| last.source.id);
        for seat in self.seats.iter_mut().skip(self.used).filter(|seat| seat.retired.is_none()) {
            tracing::info!(source = seat.feed.name(), "a source is not used any more");
            seat.retired = Some(Retired::new(now));
            // should it be used again, nobody knows whether it still has its old work
            self.publisher.gone(seat.feed.id());
        }
        while self.seats.len() > self.used + MAX_TAKEN_OUT {
            let until = self.seats.iter_mut().map(|seat| seat.until(last, now)).enumerate();
            let Some((_, first)) = until.filter_map(|(place, until)| Some((until?, place))).min() else {
                break;
            };
            self.seats.remove(first);
        }
        self.arrange();
    }

    /// What the sources say is understood by their places. Blocks go to all of them, those that are
    /// wanted first.
    fn arrange(&self) {
        let ids: Vec<_> = self.seats.iter().map(|seat| seat.feed.id()).collect();
        self.board.arrange(&ids, self.used);
        self.courier.lead_to(self.seats.iter().map(|seat| seat.outlet.clone()).collect());
    }

    /// Lets those go that are not needed for a block any more; answers when to do so again.
    fn let_go(&mut self, now: Instant) -> Option<Instant> {
        let last = self.publisher.last().map(|last| last.source.id);
        let before = self.seats.len();
        self.seats.retain_mut(|seat| seat.until(last, now).is_none_or(|until| until > now));
        if self.seats.len() < before {
            self.arrange();
        }
        self.seats.iter_mut().filter_map(|seat| seat.until(last, now)).min()
    }

    /// Publishes what there is to publish now; answers when to look again if nothing happens.
    fn publish_due(&mut self, now: Instant) -> Instant {
        let mut states = self.states.borrow_and_update().to_vec();
        for (place, (seat, state)) in self.seats.iter().zip(&mut states).enumerate() {
            if place >= self.wanted && !self.publisher.can_pay_within(seat.options.room()) {
                let reason = "it was told to leave less room than the payout takes";
                *state = State::Down { reason: reason.into(), since: now };
            }
            if state.offer().is_none() {
                self.publisher.gone(seat.feed.id());
            }
        }
        let (mut chosen, mut again) = self.failover.choose(&states, now);
        if self.settle(chosen, &states, now) {
            states.truncate(self.used);
            (chosen, again) = self.failover.choose(&states, now);
        }
        let due = match chosen.and_then(|source| Some((source, states[source].offer()?.clone()))) {
            Some((source, offer)) => {
                self.idle = None;
                let Seat { feed, options, .. } = &self.seats[source];
                let origin = Origin { id: feed.id(), name: feed.name().into(), room: options.room() };
                self.tell(&origin.name, &offer);
                self.publisher.consider(origin, offer, now)
            }
            None => {
                let next = self.complain(&states, now);
                self.publisher.repeat(now).map_or(next, |due| due.min(next))
            }
        };
        again.into_iter().chain(self.let_go(now)).fold(due, Instant::min)
    }

    /// Logs what miners are about to be on.
    fn tell(&self, source: &str, offer: &Offer) {
        let height = offer.tip.height;
        match self.publisher.last() {
            None => tracing::info!(source, height, "miners get their work from this source"),
            Some(last) if *last.source.name != *source => {
                let before = &*last.source.name;
                tracing::warn!(source, height, before, "miners get their work from another source now");
            }
            Some(last) if last.offer.tip.prev_hash != offer.tip.prev_hash => {
                tracing::info!(source, height, on = %offer.tip.prev_hash, "new tip");
            }
            Some(_) => {}
        }
    }

    /// Logs that there is no source; answers when to do so again.
    fn complain(&mut self, states: &[State], now: Instant) -> Instant {
        let (since, next) = *self.idle.get_or_insert_with(|| match self.publisher.last() {
            Some(_) if states.iter().all(|state| !matches!(state, State::Starting)) => (now, now),
            // sources are on their way up
            _ => (now, now + PATIENCE),
        });
        if now < next {
            return next;
        }
        let idle_s = now.duration_since(since).as_secs();
        let reasons = reasons(&self.seats, states);
        match self.publisher.last() {
            Some(last) => {
                let height = last.offer.tip.height;
                tracing::warn!(idle_s, height, reasons, "no source has work: miners stay on what they have");
            }
            None => tracing::warn!(idle_s, reasons, "no source has work yet: miners wait"),
        }
        self.idle = Some((since, now + COMPLAIN));
        now + COMPLAIN
    }

    /// Has the courier take out what was found.
    fn hand_in(&mut self, found: Found) {
        let Found { solution, transport, peer } = found;
        let user = solution.account.user.clone();
        let pool = self.pool.clone();
        let refuse = |pool: &StratumV2Pool, reason: &dyn std::fmt::Display| {
            pool.stats().of(transport).solutions_refused.add(1);
            tracing::error!(%reason, user = &*user, %peer, "no block can be made of a solution");
        };
        let Some(draft) = self.publisher.mined(&solution).cloned() else {
            return refuse(&pool, &"its template is long gone");
        };
        let block = match FoundBlock::new(&solution, draft) {
            Ok(block) => block,
            Err(error) => return refuse(&pool, &error),
        };
        self.blocks.give(&block);
        self.courier.take(block, move |block, outcome| {
            let (stats, user) = (pool.stats().of(transport), &*solution.account.user);
            let (hash, height, words) = (block.hash, block.height, outcome.words);
            if outcome.fate == Fate::Taken {
                stats.blocks.add(1);
                tracing::info!(%hash, height, user, %peer, over = %transport, words, "block found");
            } else {
                stats.solutions_refused.add(1);
                // two miners that solve the same height within a moment are no error
                tracing::warn!(%hash, height, user, %peer, words, "solution refused");
            }
        });
    }
}

/// Why there is no work, for each source.
fn reasons(seats: &[Seat], states: &[State]) -> String {
    let reason = |(seat, state): (&Seat, &State)| match (seat.feed.name(), state) {
        (name, State::Starting) => format!("{name}: no answer yet"),
        (name, State::Down { reason, .. }) => format!("{name}: {reason}"),
        (name, State::Up(offer)) => format!("{name}: has still to catch up with height {}", offer.tip.height),
    };
    seats.iter().zip(states).map(reason).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests;
