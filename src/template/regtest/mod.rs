//! The embedded regtest chain: the source of work when no other is configured.
//!
//! It plays the node: it offers templates, takes solutions, validates the blocks they make by the
//! rules of regtest and builds on them. Its blocks are real: any regtest node accepts the whole
//! chain. There is no network, no mempool and no clock here; time is passed in.
//!
//! [`Chain`] holds the blocks and judges new ones, and knows nothing of how they came to be.

mod assemble;
mod chain;
mod coins;
mod file;
mod offers;
mod reject;
mod rules;
mod source;
mod synthetic;

use std::path::PathBuf;
use std::sync::Arc;

use bitcoin::{BlockHash, Transaction};

use self::assemble::{Draft, PartialHeader};
pub use self::chain::Chain;
pub use self::coins::{COINBASE_MATURITY, spendable_script};
use self::file::BlockFile;
pub use self::file::{FileError, Flaw};
pub use self::offers::MAX_TEMPLATES;
use self::offers::Offers;
pub use self::reject::RejectReason;
pub use self::rules::{BITS, subsidy};
pub(super) use self::source::run;
pub use self::synthetic::MAX_TRANSACTIONS;
use crate::mining::{Target, Template, TemplateSerial, Tip, Work};

/// What a synthetic transaction pays for each output, in satoshis, on a new tip.
const BASE_FEE: u64 = 200;
/// How much more it pays with every refresh on the same tip.
const FEE_STEP: u64 = 10;
/// After that many refreshes, fees start over.
const FEE_STEPS: u64 = 50;
/// How far apart in time the blocks are that the chain mines for itself, in seconds.
const PREFILL_SPACING: u32 = 600;

/// How a regtest chain is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Where to keep the chain; in memory only if none.
    pub file: Option<PathBuf>,
    /// How many transactions each template has beside the coinbase, at most [`MAX_TRANSACTIONS`].
    ///
    /// The coins that they spend come from blocks that the chain mines for itself, if need be, when
    /// it is opened: some hundred, which takes a moment.
    pub transactions: usize,
    /// The height up to which the chain mines for itself when it is opened.
    pub prefill: u32,
    /// Whether to offer a template for the block after the next. It has no transactions, and is
    /// the first template on the new tip.
    pub future_templates: bool,
}

/// What makes a block out of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockSolution {
    /// Which template was mined on.
    pub template: TemplateSerial,
    /// The header's version.
    pub version: u32,
    /// The header's time.
    pub ntime: u32,
    /// The header's nonce.
    pub nonce: u32,
    /// The coinbase with its witness.
    pub coinbase: Transaction,
}

/// A block that was found and is now the tip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// Its hash.
    pub hash: BlockHash,
    /// Its height.
    pub height: u32,
}

/// A source of work that is its own node.
///
/// Whenever its work changes, through [`submit`](Self::submit), [`refresh`](Self::refresh) or
/// [`invalidate_tip`](Self::invalidate_tip), [`work`](Self::work) gives the new one.
#[derive(Debug)]
pub struct RegtestChain {
    chain: Chain,
    file: Option<BlockFile>,
    options: Options,
    offers: Offers,
    /// How often the template was refreshed on this tip.
    refreshes: u64,
    work: Work,
}

impl RegtestChain {
    /// Opens the chain, or starts a new one. Templates are numbered from `first_serial` on; `now`
    /// is in unix seconds.
    ///
    /// # Errors
    ///
    /// Its file cannot be used.
    pub fn open(options: Options, first_serial: TemplateSerial, now: u32) -> Result<Self, FileError> {
        let mut chain = Chain::default();
        let mut file = options.file.as_deref().map(|path| BlockFile::open(path, &mut chain)).transpose()?;
        prefill(&mut chain, file.as_mut(), &options, now)?;

        let mut offers = Offers::new(first_serial);
        let work = Work {
            tip: Arc::new(tip(&chain, now)),
            template: offers.add(draft(&chain, &options, 0), chain.tip()),
            future: future(&mut offers, &chain, &options),
        };
        Ok(Self { chain, file, options, offers, refreshes: 0, work })
    }

    /// What to mine on now.
    #[must_use]
    pub fn work(&self) -> Work {
        self.work.clone()
    }

    /// The blocks so far.
    #[must_use]
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// Makes a new template on the same tip, as if transactions that pay more had come in. The
    /// earlier ones stay good.
    pub fn refresh(&mut self, now: u32) -> Work {
        self.refreshes += 1;
        self.work.tip = Arc::new(tip(&self.chain, now));
        let draft = draft(&self.chain, &self.options, self.refreshes);
        self.work.template = self.offers.add(draft, self.chain.tip());
        self.work()
    }

    /// Makes a block of a template, and the tip of the block, by a clock that shows `now` in unix
    /// seconds.
    ///
    /// # Errors
    ///
    /// The block is not valid or not on the tip. Nothing has changed then.
    pub fn submit(&mut self, solution: BlockSolution, now: u32) -> Result<Accepted, RejectReason> {
        let offer = self.offers.get(solution.template).ok_or(RejectReason::UnknownWork)?;
        let header = PartialHeader {
            version: solution.version,
            prev_hash: offer.prev_hash,
            time: solution.ntime,
            nonce: solution.nonce,
        };
        let block = offer.draft.block(solution.coinbase, header);
        let hash = self.chain.connect(block, now).map_err(|reason| match reason {
            // All templates are on what was the tip once, but that may have been invalidated.
            RejectReason::UnknownParent => RejectReason::Stale,
            reason => reason,
        })?;
        if let Some(file) = &mut self.file
            && let Err(error) = file.append(self.chain.last())
        {
            tracing::error!(%error, %hash, "a block was found but could not be stored");
            self.chain.disconnect();
            return Err(RejectReason::NotStored);
        }
        let promoted = self.work.future.pop();
        self.start_on_tip(promoted, now);
        Ok(Accepted { hash, height: self.chain.height() })
    }

    /// Takes the tip off the chain, as a reorganization would; answers its hash. Genesis stays.
    ///
    /// # Errors
    ///
    /// The file cannot be shortened. Nothing has changed then.
    pub fn invalidate_tip(&mut self, now: u32) -> Result<Option<BlockHash>, FileError> {
        if self.chain.height() > 0
            && let Some(file) = &mut self.file
        {
            file.pop()?;
        }
        let Some(block) = self.chain.disconnect() else { return Ok(None) };
        self.start_on_tip(None, now);
        Ok(Some(block.block_hash()))
    }

    /// Moves the work to the tip, with a template that was prepared for it if there is one.
    fn start_on_tip(&mut self, prepared: Option<Arc<Template>>, now: u32) {
        let prev_hash = self.chain.tip();
        self.refreshes = 0;
        let template = match prepared {
            Some(template) => {
                self.offers.activate(prev_hash);
                template
            }
            None => self.offers.add(draft(&self.chain, &self.options, 0), prev_hash),
        };
        let future = future(&mut self.offers, &self.chain, &self.options);
        self.work = Work { tip: Arc::new(tip(&self.chain, now)), template, future };
    }
}

fn tip(chain: &Chain, now: u32) -> Tip {
    let target = Target::from_compact(BITS).expect("regtest's limit is a target");
    Tip {
        prev_hash: chain.tip(),
        height: chain.height() + 1,
        min_ntime: now.max(chain.median_time_past() + 1),
        nbits: BITS,
        network_target: target,
        report_target: target,
    }
}

fn draft(chain: &Chain, options: &Options, refreshes: u64) -> Draft {
    let height = chain.height() + 1;
    if options.transactions == 0 {
        return Draft::new(height, Vec::new(), 0);
    }
    let fee = BASE_FEE + FEE_STEP * (refreshes % FEE_STEPS);
    let (transactions, fees) = synthetic::transactions(chain.spendable(), options.transactions, fee);
    Draft::new(height, transactions, fees)
}

/// For the block after the next, whose height is known before its parent is.
fn future(offers: &mut Offers, chain: &Chain, options: &Options) -> Vec<Arc<Template>> {
    let draft = options.future_templates.then(|| Draft::new(chain.height() + 2, Vec::new(), 0));
    draft.into_iter().map(|draft| offers.prepare(draft)).collect()
}

/// Mines what the options ask for, and until there are coins for the synthetic transactions.
fn prefill(
    chain: &mut Chain,
    mut file: Option<&mut BlockFile>,
    options: &Options,
    now: u32,
) -> Result<(), FileError> {
    let coins = options.transactions.min(MAX_TRANSACTIONS);
    // Then the first block's reward is mature and has been split, if there was a reward.
    let enough = chain.height() + COINBASE_MATURITY + 1;
    while chain.height() < options.prefill
        || (chain.height() < enough && chain.spendable().take(coins).count() < coins)
    {
        let time = (chain.last().header.time + PREFILL_SPACING).min(now).max(chain.median_time_past() + 1);
        let block = draft(chain, options, 0).solve(chain.height() + 1, chain.tip(), time);
        chain.connect(block, time).expect("the chain's own blocks are valid");
        if let Some(file) = &mut file {
            file.append(chain.last())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_that_cannot_be_stored_is_taken_back() {
        let directory = tempfile::tempdir().unwrap();
        let options =
            Options { file: Some(directory.path().join("chain")), prefill: 3, ..Options::default() };
        let mut source = RegtestChain::open(options, TemplateSerial(1), 1_800_000_000).unwrap();
        let next = draft(&source.chain, &source.options, 0).solve(4, source.chain.tip(), 1_800_000_000);
        let solution = BlockSolution {
            template: source.work().template.serial,
            version: next.header.version.to_consensus() as u32,
            ntime: next.header.time,
            nonce: next.header.nonce,
            coinbase: next.txdata[0].clone(),
        };
        let writable = source.file.take().unwrap();
        source.file = Some(writable.read_only());
        assert_eq!(source.submit(solution.clone(), 1_800_000_000), Err(RejectReason::NotStored));
        assert_eq!(source.chain.height(), 3);

        source.file = Some(writable);
        assert_eq!(
            source.submit(solution, 1_800_000_000),
            Ok(Accepted { hash: next.block_hash(), height: 4 })
        );
    }
}
