//! Takes a found block to the sources.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::store::{Store, StoreError};
use crate::aside::aside;
use crate::template::FoundBlock;
use crate::template::source::{Delivery, Outlet, States, Verdict};

/// Blocks under way at the same time. Only a test network whose node is away has so many; then
/// those who find more wait.
const MAX_UNDER_WAY: usize = 256;
/// How long a source may take to say something of a block.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a block that was sent to a source which does not say what it thinks of it may take to
/// be built on; how long if another has refused it; and how long a block that no source takes, as
/// it may be on its way up, and have it.
const SENT_PATIENCE: Duration = Duration::from_secs(600);
const DOUBT_PATIENCE: Duration = Duration::from_secs(30);
const STRANDED_PATIENCE: Duration = Duration::from_secs(60);
/// How long the disk may take to have a block. It would be a pity to be late for a disk.
const DISK_PATIENCE: Duration = Duration::from_secs(2);
/// How often the log says that a block is not where it should be.
const COMPLAIN: Duration = Duration::from_secs(60);
/// How soon a source that could not be asked is asked again, at first and at last.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

/// What has become of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// In short.
    pub fate: Fate,
    /// Which source said what.
    pub words: String,
}

/// What has become of a block, in short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// A source has taken it.
    Taken,
    /// Those that have said something of it have refused it.
    Refused,
    /// It was sent, and nothing was built on it: most likely, another of its height was faster.
    Unconfirmed,
    /// No source has said anything of it, and none will. It stays on disk.
    Stranded,
}

/// Keeps found blocks until they are with a node.
#[derive(Debug)]
pub struct Courier {
    round: Arc<Round>,
    under_way: JoinSet<()>,
}

/// Where a block goes.
#[derive(Debug)]
struct Round {
    store: Option<Store>,
    /// A block that is under way when others come goes to these too.
    outlets: watch::Sender<Vec<Outlet>>,
    states: States,
}

impl Courier {
    /// Takes blocks to `outlets`, and keeps them in `folder` until then if there is one. What is
    /// there from an earlier run is on its way when this returns.
    pub fn start(folder: Option<&Path>, outlets: Vec<Outlet>, states: States) -> Result<Self, StoreError> {
        let opened = folder.map(Store::open).transpose()?;
        let (store, kept) = opened.map_or((None, Vec::new()), |(store, kept)| (Some(store), kept));
        let outlets = watch::Sender::new(outlets);
        let mut courier =
            Self { round: Arc::new(Round { store, outlets, states }), under_way: JoinSet::new() };
        for block in kept {
            tracing::warn!(hash = %block.hash, height = block.height, "a block found before the last stop is submitted again");
            courier.take(block, |block, outcome| {
                let Outcome { fate, words } = outcome;
                tracing::info!(hash = %block.hash, height = block.height, ?fate, words, "a block found before the last stop is settled");
            });
        }
        Ok(courier)
    }

    /// From now on blocks go to these outlets.
    pub fn lead_to(&self, outlets: Vec<Outlet>) {
        self.round.outlets.send_replace(outlets);
    }

    /// Whether more blocks may be taken.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.under_way.len() < MAX_UNDER_WAY
    }

    /// Takes a block out. `settled` hears what has become of it.
    pub fn take(&mut self, block: FoundBlock, settled: impl FnOnce(&FoundBlock, Outcome) + Send + 'static) {
        while self.under_way.try_join_next().is_some() {}
        let round = self.round.clone();
        self.under_way.spawn(async move {
            let block = Arc::new(block);
            let outcome = round.run(&block).await;
            let fate = outcome.fate;
            settled(&block, outcome);
            round.book(block, fate).await;
        });
    }

    /// Waits until another block is settled.
    pub async fn settled(&mut self) {
        self.under_way.join_next().await;
    }

    /// Waits until all blocks are settled.
    pub async fn finish(mut self) {
        while self.under_way.join_next().await.is_some() {}
    }
}

impl Round {
    async fn run(self: &Arc<Self>, block: &Arc<FoundBlock>) -> Outcome {
        let kept = self.keep(block).await;
        tokio::select! {
            outcome = self.deliver(block) => outcome,
            // sent by whatever way there is, and kept as soon as it is whole
            () = async { if !kept { self.keep_when_whole(block).await } std::future::pending().await } => unreachable!(),
        }
    }

    /// Puts the block's file where its fate wants it.
    async fn book(self: Arc<Self>, block: Arc<FoundBlock>, fate: Fate) {
        let booked = aside(move || {
            let Some(store) = &self.store else { return };
            let booked = match fate {
                Fate::Taken => store.taken(block.hash),
                Fate::Refused | Fate::Unconfirmed => store.refused(block.hash),
                Fate::Stranded => {
                    strand(store, &block);
                    Ok(())
                }
            };
            if let Err(error) = booked {
                tracing::warn!(%error, "a settled block stays on disk");
            }
        });
        let _ = booked.await;
    }

    /// True once the block is on disk, or is to be kept nowhere.
    async fn keep(self: &Arc<Self>, block: &Arc<FoundBlock>) -> bool {
        if self.store.is_none() || block.draft.is_none() {
            return true;
        }
        let (this, kept) = (self.clone(), block.clone());
        let done = aside(move || this.store.as_ref().map(|store| store.keep(&kept)));
        match timeout(DISK_PATIENCE, done).await {
            Ok(Ok(Some(Ok(whole)))) => whole,
            Ok(Ok(Some(Err(error)))) => {
                tracing::error!(%error, hash = %block.hash, "a found block cannot be kept on disk; it is submitted all the same");
                true
            }
            Ok(Ok(None) | Err(_)) => true,
            Err(_) => {
                tracing::error!(hash = %block.hash, "the disk is too slow for a found block; it is submitted all the same");
                true
            }
        }
    }

    async fn keep_when_whole(self: &Arc<Self>, block: &Arc<FoundBlock>) {
        if block.until_whole().await {
            self.keep(block).await;
        }
    }

    async fn deliver(&self, block: &Arc<FoundBlock>) -> Outcome {
        let mut built_on = std::pin::pin!(self.built_on(block));
        let mut outlets = self.outlets.subscribe();
        let mut known = outlets.borrow_and_update().clone();
        let mut asked: FuturesUnordered<_> =
            known.iter().map(|outlet| ask(outlet.clone(), block.clone())).collect();
        let (mut refusals, mut others) = (Vec::new(), Vec::new());
        let mut sent = false;
        let taken = |words| Outcome { fate: Fate::Taken, words };
        loop {
            let (fate, patience) = match (refusals.is_empty(), sent) {
                (true, true) => (Fate::Unconfirmed, SENT_PATIENCE),
                (true, false) => (Fate::Stranded, STRANDED_PATIENCE),
                (false, true) => (Fate::Refused, DOUBT_PATIENCE),
                (false, false) => (Fate::Refused, Duration::ZERO),
            };
            tokio::select! {
                biased;
                Some((name, verdict)) = asked.next() => match verdict {
                    Verdict::Accepted => return taken(format!("{name} has it")),
                    Verdict::Refused(reason) => refusals.push(format!("{name}: {reason}")),
                    Verdict::Failed(reason) => others.push(format!("{name}: {reason}")),
                    Verdict::NotMine => others.push(format!("{name}: takes only blocks of its own templates")),
                    Verdict::Sent => {
                        sent = true;
                        others.push(format!("{name}: sent, but nothing was built on it"));
                    }
                },
                words = &mut built_on => return taken(words),
                Ok(()) = outlets.changed() => {
                    let present = outlets.borrow_and_update().clone();
                    for outlet in present {
                        if !known.iter().any(|known| known.deliveries.same_channel(&outlet.deliveries)) {
                            asked.push(ask(outlet.clone(), block.clone()));
                            known.push(outlet);
                        }
                    }
                }
                // once all have said something
                () = sleep(patience), if asked.is_empty() => {
                    refusals.append(&mut others);
                    return Outcome { fate, words: refusals.join("; ") };
                }
            }
        }
    }

    /// Waits until a source builds on the block.
    async fn built_on(&self, block: &FoundBlock) -> String {
        let mut states = self.states.clone();
        loop {
            if let Some(by) = states.borrow_and_update().who_built_on(block.hash) {
                return format!("{by} builds on it");
            }
            if states.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Gives the block to a source until the source has said something of it.
async fn ask(outlet: Outlet, block: Arc<FoundBlock>) -> (Arc<str>, Verdict) {
    let Outlet { name, deliveries } = outlet;
    let (mut pause, longest) = RETRY;
    let start = Instant::now();
    let mut said: Option<(Instant, String)> = None;
    loop {
        let (delivery, verdict) = Delivery::new(block.clone());
        let asked = async {
            deliveries.send(delivery).await.ok()?;
            verdict.await.ok()
        };
        let verdict = match timeout(PATIENCE, asked).await {
            Ok(Some(verdict)) => verdict,
            Ok(None) => return (name, Verdict::Failed("stopped".to_owned())),
            Err(_) => Verdict::Failed(format!("no answer for {} s", PATIENCE.as_secs())),
        };
        let Verdict::Failed(reason) = verdict else { return (name, verdict) };
        if said.as_ref().is_none_or(|(at, last)| *last != reason || at.elapsed() >= COMPLAIN) {
            let (hash, for_s) = (block.hash, start.elapsed().as_secs());
            tracing::error!(source = &*name, %hash, for_s, reason, "a found block has not reached the source yet; trying again");
            said = Some((Instant::now(), reason));
        }
        sleep(pause).await;
        pause = (pause * 2).min(longest);
    }
}

/// A block that nobody has is the operator's to save.
fn strand(store: &Store, block: &FoundBlock) {
    let (hash, path) = (block.hash, store.path_of(block.hash));
    if path.exists() {
        tracing::error!(
            %hash, path = %path.display(),
            "a found block is with no node: submit it by hand, or add a source of type bitcoin_rpc and restart"
        );
    } else {
        tracing::error!(
            %hash,
            "a found block is with no node, and its transactions never came, so that it cannot be submitted: \
             a source of type bitcoin_rpc does not have that weakness"
        );
    }
}
