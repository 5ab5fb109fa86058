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

/// Blocks that may wait for one source.
const DELIVERIES: usize = 16;

/// Tips that are remembered.
const TIPS: usize = 64;

/// How sources are.
pub type States = watch::Receiver<Known>;

/// What is known of all sources: how each is, in the order in which they are preferred, and what
/// they have built on.
#[derive(Debug, Clone, Default)]
pub struct Known {
    states: Vec<State>,
    /// Which source had which block for a tip, newest first.
    tips: VecDeque<(usize, BlockHash)>,
}

impl Known {
    /// Which source builds on a block, or has built on it not long ago.
    #[must_use]
    pub fn who_built_on(&self, block: BlockHash) -> Option<usize> {
        self.tips.iter().find(|(_, tip)| *tip == block).map(|(source, _)| *source)
    }
}

impl Deref for Known {
    type Target = [State];

    fn deref(&self) -> &[State] {
        &self.states
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

/// Where a source puts what it has.
#[derive(Debug, Clone)]
pub struct Feed {
    name: Arc<str>,
    index: usize,
    states: Arc<watch::Sender<Known>>,
    refresh: Refresh,
}

impl Feed {
    /// A feed for each of the sources that have these names, and what they all put in.
    #[must_use]
    pub fn new(names: &[Arc<str>]) -> (Vec<Self>, States) {
        let known = Known { states: vec![State::Starting; names.len()], tips: VecDeque::new() };
        let (states, all) = watch::channel(known);
        let (states, refresh) = (Arc::new(states), Refresh::default());
        let feed = |(index, name): (usize, &Arc<str>)| Self {
            name: name.clone(),
            index,
            states: states.clone(),
            refresh: refresh.clone(),
        };
        (names.iter().enumerate().map(feed).collect(), all)
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
        let previous = self.put(State::Up(offer.clone()));
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
        match &self.states.borrow()[self.index] {
            State::Down { reason: known, .. } if **known == *reason => return,
            State::Down { .. } => tracing::warn!(source, reason, "the source still has no work"),
            State::Starting | State::Up(_) => tracing::warn!(source, reason, "the source has no work"),
        }
        let since = match &self.states.borrow()[self.index] {
            State::Down { since, .. } => *since,
            State::Starting | State::Up(_) => Instant::now(),
        };
        self.put(State::Down { reason: reason.into(), since });
    }

    fn put(&self, state: State) -> State {
        let mut previous = state;
        self.states.send_modify(|known| {
            if let Some(offer) = previous.offer() {
                let tip = (self.index, offer.tip.prev_hash);
                if !known.tips.contains(&tip) {
                    known.tips.truncate(TIPS - 1);
                    known.tips.push_front(tip);
                }
            }
            std::mem::swap(&mut known.states[self.index], &mut previous);
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
#[derive(Debug, Clone)]
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
