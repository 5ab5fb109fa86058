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
use self::publish::Publisher;
use self::solutions::{Courier, Fate, StoreError};
use self::source::{Feed, Outlet, States};
pub use self::source::{Refresh, Source, SourceOptions, State};
use crate::mining::TemplateSerial;
use crate::pool::{Found, StratumV2Pool};

/// How long sources may take to come up before the log has it.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often the log says that there is no work.
const COMPLAIN: Duration = Duration::from_secs(60);

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
    names: Vec<Arc<str>>,
    states: States,
    failover: Failover,
    publisher: Publisher,
    courier: Courier,
    blocks: Blocks,
    /// Since when no source has had work, and when to say so next.
    idle: Option<(Instant, Instant)>,
    /// The sources. They end with this.
    running: JoinSet<()>,
    /// Where each of them puts what it has.
    feeds: Vec<(task::Id, Feed)>,
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
        let (feeds, states) = Feed::new(&names);
        let (outlets, deliveries): (Vec<_>, Vec<_>) = names.iter().cloned().map(Outlet::new).unzip();
        let courier = Courier::start(options.solutions.as_deref(), outlets, states.clone())?;
        let publisher = Publisher::new(pool.clone(), options.pace, first);
        let mut generator = Self::new(names, states, courier, publisher, pool, found);
        for ((source, feed), deliveries) in sources.into_iter().zip(feeds).zip(deliveries) {
            let task = generator.running.spawn(source.run(feed.clone(), deliveries));
            generator.feeds.push((task.id(), feed));
        }
        Ok(generator)
    }

    /// Fed by whoever has the other side of `states`.
    fn new(
        names: Vec<Arc<str>>,
        states: States,
        courier: Courier,
        publisher: Publisher,
        pool: Arc<StratumV2Pool>,
        found: mpsc::Receiver<Found>,
    ) -> Self {
        Self {
            pool,
            found,
            names,
            states,
            failover: Failover::default(),
            publisher,
            courier,
            blocks: Blocks::default(),
            idle: None,
            running: JoinSet::new(),
            feeds: Vec::new(),
        }
    }

    /// Has the sources look for something new. Those whose nodes tell them of it by themselves do not
    /// need it.
    #[must_use]
    pub fn refresh(&self) -> Refresh {
        self.feeds.first().map_or_else(Refresh::default, |(_, feed)| feed.refresh().clone())
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
        if let Some((_, feed)) = self.feeds.iter().find(|(task, _)| *task == id) {
            feed.down("it has failed, by a fault of this program: restart the server to use it again");
        }
    }

    /// Publishes what there is to publish now; answers when to look again if nothing happens.
    fn publish_due(&mut self, now: Instant) -> Instant {
        let states = self.states.borrow_and_update().clone();
        for (source, state) in states.iter().enumerate() {
            if state.offer().is_none() {
                self.publisher.gone(source);
            }
        }
        let (chosen, again) = self.failover.choose(&states, now);
        let due = match chosen.and_then(|source| Some((source, states[source].offer()?.clone()))) {
            Some((source, offer)) => {
                self.idle = None;
                self.tell(source, &offer);
                self.publisher.consider(source, offer, now)
            }
            None => {
                let next = self.complain(&states, now);
                self.publisher.repeat(now).map_or(next, |due| due.min(next))
            }
        };
        again.map_or(due, |again| again.min(due))
    }

    /// Logs what miners are about to be on.
    fn tell(&self, source: usize, offer: &Offer) {
        let (source, height) = (&*self.names[source], offer.tip.height);
        match self.publisher.last() {
            None => tracing::info!(source, height, "miners get their work from this source"),
            Some(last) if *self.names[last.source] != *source => {
                let before = &*self.names[last.source];
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
            Some(_) => (now, now),
            // sources are on their way up
            None => (now, now + PATIENCE),
        });
        if now < next {
            return next;
        }
        let idle_s = now.duration_since(since).as_secs();
        let reasons = reasons(&self.names, states);
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
fn reasons(names: &[Arc<str>], states: &[State]) -> String {
    let reason = |(name, state): (&Arc<str>, &State)| match state {
        State::Starting => format!("{name}: no answer yet"),
        State::Down { reason, .. } => format!("{name}: {reason}"),
        State::Up(offer) => format!("{name}: has still to catch up with height {}", offer.tip.height),
    };
    names.iter().zip(states).map(reason).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests;
