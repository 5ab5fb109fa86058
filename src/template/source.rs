//! What a source of work is, seen from the generator: something that feeds it with [`Offer`]s and
//! takes blocks.

use std::collections::VecDeque;
use std::fmt::Display;
use std::ops::Deref;
use std::sync::Arc;

use bitcoin::BlockHash;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::Offer;
#[cfg(feature = "bitcoin-ipc")]
use super::bitcoin_ipc::{self, BitcoinIpc};
use super::bitcoin_rpc::{self, BitcoinRpc, UrlError};
use super::block::FoundBlock;
use super::regtest::{self, FileError, RegtestChain};
use super::tdp::{self, TemplateProvider};
use crate::mining::TemplateSerial;
use crate::mining::payout::Room;

/// Blocks that may wait for one source.
const DELIVERIES: usize = 16;

/// Tips that are remembered.
const TIPS: usize = 64;

/// How sources are.
pub type States = watch::Receiver<Known>;

/// Tells the sources of a generator from each other, also those that there are no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(u64);

/// What is known of all sources: how each that is used is, in the order in which they are preferred,
/// and what they have built on.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Whose state is in which place.
    ids: Vec<SourceId>,
    states: Vec<State>,
    /// Only so many of them, the first, are used.
    used: usize,
    /// Which source had which block for a tip, newest first.
    tips: VecDeque<(Arc<str>, BlockHash)>,
}

impl Known {
    /// The name of the source that builds on a block, or has built on it not long ago.
    #[must_use]
    pub fn who_built_on(&self, block: BlockHash) -> Option<&str> {
        self.tips.iter().find(|(_, tip)| *tip == block).map(|(source, _)| &**source)
    }

    fn place(&self, source: SourceId) -> Option<usize> {
        self.ids.iter().position(|id| *id == source)
    }

    fn state(&self, source: SourceId) -> Option<&State> {
        self.states.get(self.place(source)?)
    }

    fn is_used(&self, source: SourceId) -> bool {
        self.place(source).is_some_and(|place| place < self.used)
    }
}

impl Deref for Known {
    type Target = [State];

    fn deref(&self) -> &[State] {
        self.states.get(..self.used).unwrap_or(&self.states)
    }
}

/// How a source is.
#[derive(Debug, Clone)]
pub enum State {
    /// It has not said anything yet.
    Starting,
    /// It has work.
    Up(Offer),
    /// It has none.
    Down {
        /// Why, for an operator to read.
        reason: Arc<str>,
        /// Since when.
        since: Instant,
    },
}

impl State {
    /// What the source has to mine on.
    #[must_use]
    pub fn offer(&self) -> Option<&Offer> {
        match self {
            Self::Up(offer) => Some(offer),
            Self::Starting | Self::Down { .. } => None,
        }
    }
}

/// Has sources that are not told of news by their node look for it, all at once.
#[derive(Debug, Clone, Default)]
pub struct Refresh(Arc<watch::Sender<()>>);

impl Refresh {
    /// There may be something new.
    pub fn ask(&self) {
        self.0.send_replace(());
    }

    /// Changes each time that somebody asks from now on.
    #[must_use]
    pub fn asked(&self) -> watch::Receiver<()> {
        self.0.subscribe()
    }
}

/// Where all sources put what they have.
#[derive(Debug, Clone, Default)]
pub struct Board {
    known: Arc<watch::Sender<Known>>,
    refresh: Refresh,
    /// How many feeds there have been.
    feeds: u64,
}

impl Board {
    /// What the sources have, now and from now on.
    #[must_use]
    pub fn states(&self) -> States {
        self.known.subscribe()
    }

    /// Who may have news before the sources have.
    #[must_use]
    pub fn refresh(&self) -> &Refresh {
        &self.refresh
    }

    /// A feed for a source of this name. What it puts in counts once the source has a
    /// [place](Self::arrange).
    pub fn feed(&mut self, name: Arc<str>) -> Feed {
        let id = SourceId(self.feeds);
        self.feeds += 1;
        Feed { name, id, known: self.known.clone(), refresh: self.refresh.clone() }
    }

    /// From now on these are the sources, best first, and only so many of them are `used`: how the others
    /// are is known, and nobody is told. What is known of those that were there before stays.
    pub fn arrange(&self, sources: &[SourceId], used: usize) {
        self.known.send_modify(|known| {
            let state = |id: &SourceId| known.state(*id).cloned().unwrap_or(State::Starting);
            known.states = sources.iter().map(state).collect();
            known.ids = sources.to_vec();
            known.used = used;
        });
    }
}

/// Where a source puts what it has.
#[derive(Debug, Clone)]
pub struct Feed {
    name: Arc<str>,
    id: SourceId,
    known: Arc<watch::Sender<Known>>,
    refresh: Refresh,
}

impl Feed {
    /// A feed for each of the sources that have these names, and what they all put in.
    #[must_use]
    pub fn new(names: &[Arc<str>]) -> (Vec<Self>, States) {
        let (feeds, board) = Self::on_board(names);
        (feeds, board.states())
    }

    /// A feed for each of the sources that have these names, and what others can be added to.
    #[must_use]
    pub fn on_board(names: &[Arc<str>]) -> (Vec<Self>, Board) {
        let mut board = Board::default();
        let feeds: Vec<_> = names.iter().map(|name| board.feed(name.clone())).collect();
        board.arrange(&feeds.iter().map(Self::id).collect::<Vec<_>>(), feeds.len());
        (feeds, board)
    }

    /// Which source it is.
    #[must_use]
    pub fn id(&self) -> SourceId {
        self.id
    }

    /// What the operator calls the source.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Who may have news before the source has.
    #[must_use]
    pub fn refresh(&self) -> &Refresh {
        &self.refresh
    }

    /// The source has work, which supersedes what it had before.
    pub fn offer(&self, offer: Offer) {
        // one that is not used is nobody's business
        let Some(previous) = self.put(State::Up(offer.clone())) else { return };
        let (source, height) = (self.name(), offer.tip.height);
        match previous {
            State::Starting => tracing::info!(source, height, "the source has work"),
            State::Down { since, .. } => {
                tracing::info!(source, height, after_s = since.elapsed().as_secs(), "the source is back");
            }
            State::Up(_) => {}
        }
    }

    /// The source has no work any more, or not yet. Logged unless it has been said before.
    pub fn down(&self, reason: impl Display) {
        let reason = reason.to_string();
        let source = self.name();
        let known = self.known.borrow();
        let is_used = known.is_used(self.id);
        let since = match known.state(self.id) {
            None => return,
            Some(State::Down { reason: known, .. }) if **known == *reason => return,
            Some(State::Down { since, .. }) => {
                if is_used {
                    tracing::warn!(source, reason, "the source still has no work");
                }
                *since
            }
            Some(State::Starting | State::Up(_)) => {
                if is_used {
                    tracing::warn!(source, reason, "the source has no work");
                }
                Instant::now()
            }
        };
        drop(known);
        self.put(State::Down { reason: reason.into(), since });
    }

    /// Answers what was there before, if the source is used.
    fn put(&self, state: State) -> Option<State> {
        let mut previous = None;
        self.known.send_modify(|known| {
            if let Some(offer) = state.offer() {
                let tip = (self.name.clone(), offer.tip.prev_hash);
                if !known.tips.contains(&tip) {
                    known.tips.truncate(TIPS - 1);
                    known.tips.push_front(tip);
                }
            }
            let is_used = known.is_used(self.id);
            let place = known.place(self.id).and_then(|place| known.states.get_mut(place));
            previous = place.map(|place| std::mem::replace(place, state)).filter(|_| is_used);
        });
        previous
    }
}

/// A block for a source, and where its verdict goes.
#[derive(Debug)]
pub struct Delivery {
    /// The block.
    pub block: Arc<FoundBlock>,
    verdict: oneshot::Sender<Verdict>,
}

impl Delivery {
    /// A delivery, and what will be said of it.
    #[must_use]
    pub fn new(block: Arc<FoundBlock>) -> (Self, oneshot::Receiver<Verdict>) {
        let (verdict, said) = oneshot::channel();
        (Self { block, verdict }, said)
    }

    /// Whether anybody still waits for the verdict.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        !self.verdict.is_closed()
    }

    /// Says what has become of the block.
    pub fn answer(self, verdict: Verdict) {
        // nobody waits any more if another source was faster
        let _ = self.verdict.send(verdict);
    }
}

/// What a source says of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It has it, and builds on it, or has had it before.
    Accepted,
    /// It has been given the block and does not say what becomes of it. That shows when it builds
    /// on it.
    Sent,
    /// It does not want it, in its own words.
    Refused(String),
    /// It could not be asked, and should be asked again.
    Failed(String),
    /// It takes only blocks made of its own work, and this one is not or not any more.
    NotMine,
}

/// Where the blocks for a source go.
pub type Deliveries = mpsc::Receiver<Delivery>;

/// Somewhere to have work from.
#[derive(Debug)]
pub enum Source {
    /// The embedded chain.
    Regtest(Box<RegtestChain>),
    /// A node's JSON-RPC.
    BitcoinRpc(BitcoinRpc),
    /// A Template Provider.
    TemplateProvider(TemplateProvider),
    /// Bitcoin Core's mining interface.
    #[cfg(feature = "bitcoin-ipc")]
    BitcoinIpc(BitcoinIpc),
}

/// Where to have work from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceOptions {
    /// The embedded chain.
    Regtest(regtest::Options),
    /// A node's JSON-RPC.
    BitcoinRpc(bitcoin_rpc::Options),
    /// A Template Provider.
    TemplateProvider(tdp::Options),
    /// Bitcoin Core's mining interface.
    #[cfg(feature = "bitcoin-ipc")]
    BitcoinIpc(bitcoin_ipc::Options),
}

/// A source that runs, seen from where blocks are sent out.
#[derive(Debug, Clone)]
pub struct Outlet {
    /// What the operator calls it.
    pub name: Arc<str>,
    /// Where its blocks go.
    pub deliveries: mpsc::Sender<Delivery>,
}

impl Outlet {
    /// A way to the source that has this name.
    #[must_use]
    pub fn new(name: Arc<str>) -> (Self, Deliveries) {
        let (deliveries, receiver) = mpsc::channel(DELIVERIES);
        (Self { name, deliveries }, receiver)
    }
}

impl SourceOptions {
    /// The room that it is told to leave for payouts.
    #[must_use]
    pub fn room(&self) -> Room {
        match self {
            // its blocks have room for anything
            Self::Regtest(_) => Room::ENOUGH,
            Self::BitcoinRpc(options) => options.room,
            Self::TemplateProvider(options) => options.room,
            #[cfg(feature = "bitcoin-ipc")]
            Self::BitcoinIpc(options) => options.room,
        }
    }

    /// The same, told to leave so much room.
    #[must_use]
    pub fn with_room(mut self, told: Room) -> Self {
        match &mut self {
            Self::Regtest(_) => {}
            Self::BitcoinRpc(options) => options.room = told,
            Self::TemplateProvider(options) => options.room = told,
            #[cfg(feature = "bitcoin-ipc")]
            Self::BitcoinIpc(options) => options.room = told,
        }
        self
    }

    /// Whether one that runs by these options does what is `wanted`. It may leave more room than that.
    #[must_use]
    pub fn serves(&self, wanted: &Self) -> bool {
        self.room().holds(wanted.room()) && *self == wanted.clone().with_room(self.room())
    }

    /// Gets the source ready. `first` and `now` are for the embedded chain: where it numbers its
    /// templates from, and the time in unix seconds.
    pub fn open(&self, first: TemplateSerial, now: u32) -> Result<Source, OpenError> {
        Ok(match self.clone() {
            Self::Regtest(options) => Source::Regtest(Box::new(RegtestChain::open(options, first, now)?)),
            Self::BitcoinRpc(options) => Source::BitcoinRpc(BitcoinRpc::new(options)?),
            Self::TemplateProvider(options) => Source::TemplateProvider(TemplateProvider::new(options)),
            #[cfg(feature = "bitcoin-ipc")]
            Self::BitcoinIpc(options) => Source::BitcoinIpc(BitcoinIpc::new(options)),
        })
    }
}

/// Why a source cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The embedded chain's file cannot be used.
    #[error(transparent)]
    Chain(#[from] FileError),
    /// The URL of a node's RPC is none.
    #[error(transparent)]
    Url(#[from] UrlError),
}

impl Source {
    /// What the operator calls it.
    #[must_use]
    pub fn name(&self) -> Arc<str> {
        match self {
            Self::Regtest(_) => "regtest chain".into(),
            Self::BitcoinRpc(node) => node.name(),
            Self::TemplateProvider(provider) => provider.name(),
            #[cfg(feature = "bitcoin-ipc")]
            Self::BitcoinIpc(node) => node.name(),
        }
    }

    /// Feeds the generator, and takes blocks, until dropped.
    pub async fn run(self, feed: Feed, deliveries: Deliveries) {
        match self {
            Self::Regtest(chain) => regtest::run(*chain, feed, deliveries).await,
            Self::BitcoinRpc(node) => node.run(feed, deliveries).await,
            Self::TemplateProvider(provider) => provider.run(feed, deliveries).await,
            #[cfg(feature = "bitcoin-ipc")]
            Self::BitcoinIpc(node) => node.run(feed, deliveries).await,
        }
    }
}
