//! The pool that all sessions share: the real one, with so little search space left that prefixes
//! come round again.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;

use bitcoin::hashes::Hash;
use bitcoin::{Address, BlockHash, Network, ScriptBuf};
use blvm_stratum_v2::mining::coinbase::Tag;
use blvm_stratum_v2::mining::extranonce::{BootEpoch, ExtranoncePrefix, ServerId};
use blvm_stratum_v2::mining::job::Job;
use blvm_stratum_v2::mining::payout::{IdentityError, PayoutClass, PayoutPolicy};
use blvm_stratum_v2::mining::{
    Coinbase, Difficulty, Hashrate, Target, Template, TemplateSerial, Tip, Work, vardiff,
};
use blvm_stratum_v2::pool::{CountOnly, Options, StratumV2Pool};
use blvm_stratum_v2::session::Shared;

/// How many channels there can be at a time.
pub(crate) const SLOTS: usize = 8;

/// Counts what is taken from the pool and given back.
#[derive(Debug)]
pub(crate) struct SimPool {
    pool: Arc<StratumV2Pool>,
    in_use: RefCell<HashSet<ExtranoncePrefix>>,
}

impl SimPool {
    /// Takes a moment: a million prefixes are used up. One does for many runs.
    pub(crate) fn new() -> Self {
        let pool = Self::roomy();
        for _ in SLOTS..1 << 20 {
            pool.pool.allocate_prefix(None).expect("there are 2^20 prefixes");
        }
        pool
    }

    /// With all prefixes unused.
    pub(crate) fn roomy() -> Self {
        let options = Options {
            session: blvm_stratum_v2::session::Options::default(),
            payout: PayoutPolicy::Solo { fee: None, network: Network::Regtest },
            tag: Tag::default(),
            server_id: ServerId::default(),
        };
        let (pool, _found) = StratumV2Pool::new(options, BootEpoch::default(), Box::new(CountOnly));
        Self { pool, in_use: RefCell::default() }
    }

    /// The same state whatever was before: all prefixes free, in order, and no job known.
    pub(crate) fn reset(&self) {
        assert!(self.in_use.borrow().is_empty(), "prefixes that nobody uses were not given back");
        self.pool.publish(unrelated(1));
        let mut free: Vec<_> = std::iter::from_fn(|| self.pool.allocate_prefix(None)).collect();
        assert_eq!(free.len(), SLOTS);
        free.sort_by_key(|prefix| *prefix.as_bytes());
        free.into_iter().for_each(|prefix| self.pool.release_prefix(prefix));
        self.pool.publish(unrelated(2));
    }

    pub(crate) fn publish(&self, work: Arc<Work>) {
        self.pool.publish(work);
    }

    pub(crate) fn set_min_difficulty(&self, difficulty: Option<Difficulty>) {
        self.pool.set_min_difficulty(difficulty);
    }

    pub(crate) fn in_use(&self) -> usize {
        self.in_use.borrow().len()
    }
}

impl Shared for SimPool {
    fn class_for(&self, user_identity: &str) -> Result<PayoutClass, IdentityError> {
        self.pool.class_for(user_identity)
    }

    fn easiest_target(&self) -> Target {
        self.pool.easiest_target()
    }

    fn allocate_prefix(&self, work: Option<&Arc<Work>>) -> Option<ExtranoncePrefix> {
        let prefix = self.pool.allocate_prefix(work);
        if let Some(prefix) = prefix {
            assert!(self.in_use.borrow_mut().insert(prefix), "{prefix:?} is in use");
        }
        prefix
    }

    fn release_prefix(&self, prefix: ExtranoncePrefix) {
        assert!(self.in_use.borrow_mut().remove(&prefix), "{prefix:?} is not in use");
        self.pool.release_prefix(prefix);
    }

    fn job(&self, template: &Arc<Template>, class: &PayoutClass) -> Option<Arc<Job>> {
        self.pool.job(template, class)
    }

    fn variant(&self, template: &Arc<Template>, class: &PayoutClass, salt: u32) -> Option<Arc<Job>> {
        self.pool.variant(template, class, salt)
    }
}

/// Takes a miner who hashes once a second.
pub(crate) fn eager() -> vardiff::Options {
    vardiff::Options { slowest: Hashrate::new(0.0).unwrap(), ..vardiff::Options::default() }
}

/// A user who is paid by the blocks he finds.
pub(crate) fn user(number: u8) -> String {
    let script = ScriptBuf::from_bytes(vec![0x50 + number]);
    format!("{}.rig", Address::p2wsh(&script, Network::Regtest))
}

/// Work that nobody gets.
fn unrelated(number: u8) -> Arc<Work> {
    let tip = Tip {
        prev_hash: BlockHash::from_byte_array([number; 32]),
        height: 1,
        min_ntime: 1,
        nbits: 0x207f_ffff,
        network_target: Target::ZERO,
        report_target: Target::ZERO,
    };
    let coinbase = Coinbase {
        version: 2,
        script_prefix: Coinbase::bip34(1),
        sequence: 0,
        value: 1,
        trailing_outputs: Vec::new(),
        lock_time: 0,
        witness_commitment: false,
    };
    let template = Template {
        serial: TemplateSerial(u64::MAX - u64::from(number)),
        version: 4,
        version_rolling: true,
        coinbase,
        merkle_path: Vec::new(),
    };
    Arc::new(Work { tip: Arc::new(tip), template: Arc::new(template), future: Vec::new() })
}
