//! What all sessions share.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, TxOut};
use tokio::sync::{mpsc, oneshot, watch};

use crate::journal::Journal;
use crate::mining::coinbase::Tag;
use crate::mining::extranonce::{BootEpoch, ExtranonceAllocator, ExtranoncePrefix, ServerId};
use crate::mining::job::{Job, JobError};
use crate::mining::payees::Payees;
use crate::mining::payout::{IdentityError, Payout, PayoutClass, PayoutPolicy};
use crate::mining::share::{Share, Solution};
use crate::mining::{Difficulty, Target, Template, TemplateSerial, Work};
use crate::roster::Roster;
use crate::session::{self, Shared};
use crate::stats::Stats;
use crate::wire::url::Transport;

/// Solutions that may wait for their source. A session that finds the queue full waits: a
/// solution is never dropped.
const SOLUTION_QUEUE: usize = 256;

/// What an operator can set about the pool.
#[derive(Debug, Clone)]
pub struct Options {
    /// Limits and habits of sessions.
    pub session: session::Options,
    /// Who is paid.
    pub payout: PayoutPolicy,
    /// Text in the coinbase of every block.
    pub tag: Tag,
    /// Which of several servers on the same work this is.
    pub server_id: ServerId,
}

/// What jobs are made by, besides what there is to mine on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Who is paid.
    pub payout: Payout,
    /// Text in the coinbase.
    pub tag: Tag,
}

/// What all sessions share: the work, the jobs made of it, the search space, the books.
///
/// Nothing here is locked when a share comes in. The search space is locked when a channel opens
/// or closes, the jobs once per connection when there is new work.
///
/// A program that has a [server](crate::server::StratumV2Server) inside reads here what it does:
///
/// ```
/// # use blvm_stratum_v2::pool::StratumV2Pool;
/// async fn watch(pool: &StratumV2Pool) {
///     let mut work = pool.work();
///     while work.changed().await.is_ok() {
///         let height = work.borrow_and_update().as_ref().map(|work| work.tip.height);
///         let shares = pool.stats().sum(|of_transport| of_transport.shares_accepted.get());
///         println!("{} miners on height {height:?}, {shares} shares so far", pool.roster().total());
///     }
/// }
/// ```
#[derive(Debug)]
pub struct StratumV2Pool {
    session: watch::Sender<Arc<session::Options>>,
    terms: watch::Sender<Arc<Terms>>,
    prefixes: Mutex<ExtranonceAllocator>,
    /// Those that someone mines on.
    jobs: Mutex<HashMap<(TemplateSerial, PayoutClass), Weak<Job>>>,
    /// Who is paid before the operator.
    payees: watch::Sender<Option<Arc<Payees>>>,
    /// Templates of which no job could be made, and those that are worth less than the payees are to be paid.
    failed: Logged,
    short: Logged,
    work: watch::Sender<Option<Arc<Work>>>,
    sink: Box<dyn ShareSink>,
    solutions: mpsc::Sender<Found>,
    stats: Stats,
    roster: Roster,
    journal: Journal,
    /// A difficulty, as the bits of a float; zero if there is none.
    min_difficulty: AtomicU64,
}

/// A solution and where it came from.
#[derive(Debug)]
pub struct Found {
    /// The solution.
    pub solution: Box<Solution>,
    /// By which transport it came.
    pub transport: Transport,
    /// From whom.
    pub peer: SocketAddr,
}

impl StratumV2Pool {
    /// A pool without work, and the queue of what its miners find. `epoch` tells this start of the
    /// server from the ones before.
    #[must_use]
    pub fn new(
        options: Options,
        epoch: BootEpoch,
        sink: Box<dyn ShareSink>,
    ) -> (Arc<Self>, mpsc::Receiver<Found>) {
        let (solutions, found) = mpsc::channel(SOLUTION_QUEUE);
        let terms = Terms { payout: Payout::new(options.payout), tag: options.tag };
        let pool = Self {
            session: watch::Sender::new(Arc::new(options.session)),
            terms: watch::Sender::new(Arc::new(terms)),
            prefixes: Mutex::new(ExtranonceAllocator::new(options.server_id, epoch)),
            jobs: Mutex::default(),
            payees: watch::Sender::default(),
            failed: Logged::default(),
            short: Logged::default(),
            work: watch::Sender::default(),
            sink,
            solutions,
            stats: Stats::default(),
            roster: Roster::default(),
            journal: Journal::default(),
            min_difficulty: AtomicU64::new(0),
        };
        (Arc::new(pool), found)
    }

    /// Has everyone mine on this.
    pub fn publish(&self, work: Arc<Work>) {
        let previous = self.work.send_replace(Some(work.clone()));
        // after the work is out: from now on no one who is still on earlier work is given what had
        // an owner there
        let same_space = |previous: Arc<Work>| {
            (previous.tip.prev_hash, previous.template.serial) == (work.tip.prev_hash, work.template.serial)
        };
        if !previous.is_some_and(same_space) {
            lock(&self.prefixes).new_template();
        }
        let offered =
            |serial| work.template.serial == serial || work.future.iter().any(|t| t.serial == serial);
        lock(&self.jobs).retain(|(serial, _), _| offered(*serial));
    }

    /// The newest work, now and from now on.
    #[must_use]
    pub fn work(&self) -> watch::Receiver<Option<Arc<Work>>> {
        self.work.subscribe()
    }

    /// Counts of everything.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Who is connected.
    #[must_use]
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// What happens, for whoever listens.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// From now on no channel gets an easier target: not one that opens, nor one that is open, once
    /// its hashrate is looked at, which happens every minute at the latest. None is no limit.
    pub fn set_min_difficulty(&self, difficulty: Option<Difficulty>) {
        let bits = difficulty.map_or(0, |difficulty| difficulty.0.to_bits());
        self.min_difficulty.store(bits, Relaxed);
    }

    /// What [`set_min_difficulty`](Self::set_min_difficulty) has set.
    #[must_use]
    pub fn min_difficulty(&self) -> Option<Difficulty> {
        let difficulty = f64::from_bits(self.min_difficulty.load(Relaxed));
        (difficulty > 0.0).then_some(Difficulty(difficulty))
    }

    /// From the next work on, these are paid before the operator by the blocks that are his. The generator sees to
    /// it that there is such work at once. The sources must have been told to leave [room](Payees::ROOM) for them.
    pub fn set_payees(&self, payees: Option<Arc<Payees>>) {
        self.payees.send_replace(payees);
    }

    /// What [`set_payees`](Self::set_payees) has set, now and from now on.
    #[must_use]
    pub fn payees(&self) -> watch::Receiver<Option<Arc<Payees>>> {
        self.payees.subscribe()
    }

    /// From now on sessions keep to these: new ones at once, open ones as soon as they come to it.
    pub fn set_session_options(&self, options: session::Options) {
        self.session.send_replace(Arc::new(options));
        // sessions look when they get work: they get what they have once more, which is no news otherwise
        self.work.send_modify(|_| ());
    }

    pub(crate) fn session_options(&self) -> Arc<session::Options> {
        self.session.borrow().clone()
    }

    /// All jobs that are made from now on are made by these. Who publishes work sees to it that there is work of
    /// which there is no job yet, so that miners get some.
    pub(crate) fn set_terms(&self, terms: Arc<Terms>) {
        self.terms.send_replace(terms);
    }

    /// What jobs are made by now.
    #[must_use]
    pub fn terms(&self) -> Arc<Terms> {
        self.terms.borrow().clone()
    }

    pub(crate) fn store(&self, shares: &mut Vec<Share>) -> Stored {
        self.sink.store(shares)
    }

    /// Hands solutions to whoever the work came from, waiting for room in the queue. What has not
    /// been handed in stays in `found` if this is dropped while it waits.
    pub(crate) async fn hand_in(&self, found: &mut VecDeque<Found>) {
        while !found.is_empty() {
            // fails when nobody takes solutions any more
            let Ok(permit) = self.solutions.reserve().await else { break };
            if let Some(found) = found.pop_front() {
                permit.send(found);
            }
        }
    }

    /// Hands solutions in without waiting; what finds no room is lost, and logged.
    pub(crate) fn hand_in_at_last(&self, found: &mut VecDeque<Found>) {
        for found in found.drain(..) {
            if let Err(lost) = self.solutions.try_send(found) {
                let solution = lost.into_inner().solution;
                let hash = BlockHash::from_byte_array(solution.hash);
                tracing::error!(%hash, "nobody takes solutions any more; this one is lost");
            }
        }
    }

    fn build(&self, template: &Arc<Template>, class: &PayoutClass, salt: u32) -> Result<Job, JobError> {
        let terms = self.terms();
        let outputs = self.outputs(template, class, &terms.payout);
        // who has opened a channel of this class is paid by some policy
        let outputs = outputs.ok_or(JobError::NoPayout)?;
        Job::new(template.clone(), salt, &terms.tag, &outputs)
    }

    fn outputs(&self, template: &Template, class: &PayoutClass, payout: &Payout) -> Option<Vec<TxOut>> {
        let value = template.coinbase.value;
        if let (PayoutClass::Pool, Some(operator)) = (class, payout.operator())
            && let Some(payees) = self.payees.borrow().clone()
        {
            let outputs = payees.outputs(value, operator);
            if outputs.is_none() && self.short.is_news(template.serial) {
                let theirs = payees.sum();
                tracing::error!(
                    value,
                    theirs,
                    "a block is worth less than the payees are to be paid: the usual payout stays"
                );
            }
            if outputs.is_some() {
                return outputs;
            }
        }
        payout.outputs(class, value)
    }
}

impl Shared for StratumV2Pool {
    fn class_for(&self, user_identity: &str) -> Result<PayoutClass, IdentityError> {
        self.terms().payout.policy().class_for(user_identity).map(|payee| payee.class)
    }

    fn easiest_target(&self) -> Target {
        self.min_difficulty().map_or(Target::MAX, Target::from_difficulty)
    }

    fn allocate_prefix(&self, work: Option<&Arc<Work>>) -> Option<ExtranoncePrefix> {
        let mut prefixes = lock(&self.prefixes);
        let newest = self.work.borrow();
        // a session that has no work yet will get the newest; one that lags behind is on work for
        // which a prefix that was freed since may have had another owner
        let up_to_date =
            work.is_none_or(|work| newest.as_ref().is_some_and(|newest| Arc::ptr_eq(work, newest)));
        if up_to_date { prefixes.allocate() } else { prefixes.allocate_unused() }
    }

    fn release_prefix(&self, prefix: ExtranoncePrefix) {
        lock(&self.prefixes).release(prefix);
    }

    fn job(&self, template: &Arc<Template>, class: &PayoutClass) -> Option<Arc<Job>> {
        let key = (template.serial, class.clone());
        let known = lock(&self.jobs).get(&key).and_then(Weak::upgrade);
        if known.is_some() {
            return known;
        }
        let job = self.variant(template, class, 0)?;
        let mut jobs = lock(&self.jobs);
        if let Some(known) = jobs.get(&key).and_then(Weak::upgrade) {
            return Some(known);
        }
        if jobs.len().is_power_of_two() {
            jobs.retain(|_, job| job.strong_count() > 0);
        }
        jobs.insert(key, Arc::downgrade(&job));
        Some(job)
    }

    fn variant(&self, template: &Arc<Template>, class: &PayoutClass, salt: u32) -> Option<Arc<Job>> {
        match self.build(template, class, salt) {
            Ok(job) => Some(Arc::new(job)),
            Err(error) => {
                if self.failed.is_news(template.serial) {
                    tracing::error!(%error, "no job can be made of the work; miners stay on what they have");
                }
                None
            }
        }
    }
}

/// The template that the log has something of: each is told of once, not for each of its miners.
#[derive(Debug)]
struct Logged(AtomicU64);

impl Default for Logged {
    fn default() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }
}

impl Logged {
    fn is_news(&self, template: TemplateSerial) -> bool {
        self.0.swap(template.0, Relaxed) != template.0
    }
}

/// A panic elsewhere leaves nothing half-done in what is locked here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps accepted shares. A share is acknowledged to its miner only once the sink says that it is
/// safe.
pub trait ShareSink: std::fmt::Debug + Send + Sync {
    /// Takes all of `shares`.
    fn store(&self, shares: &mut Vec<Share>) -> Stored;
}

/// When shares are safe.
#[derive(Debug)]
pub enum Stored {
    /// They are.
    Now,
    /// When this resolves. If it is dropped instead, they are lost.
    Later(oneshot::Receiver<()>),
}

/// Keeps no shares: they are counted, and that is all.
#[derive(Debug)]
pub struct CountOnly;

impl ShareSink for CountOnly {
    fn store(&self, shares: &mut Vec<Share>) -> Stored {
        shares.clear();
        Stored::Now
    }
}
