//! A source of work that does all that a node may do to a miner.

use std::collections::HashMap;
use std::sync::Arc;

use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use blvm_stratum_v2::mining::{Coinbase, Difficulty, Target, Template, TemplateSerial, Tip, Work};
use blvm_stratum_v2::wire::U256;
use rand::RngExt;
use rand::rngs::StdRng;

#[derive(Debug)]
pub(crate) struct Source {
    serial: u64,
    ntime: u32,
    /// Whether templates leave the version's bits to roll.
    rolling: bool,
    /// A source that prepares nothing is one, too.
    prepares: bool,
    /// Newest last.
    chain: Vec<Arc<Tip>>,
    work: Option<Arc<Work>>,
    /// By previous block.
    pub(crate) report_targets: HashMap<[u8; 32], Target>,
}

impl Source {
    pub(crate) fn new(rng: &mut StdRng) -> Self {
        Self {
            serial: 0,
            ntime: 1_700_000_000,
            rolling: rng.random_bool(0.8),
            prepares: rng.random_bool(0.8),
            chain: Vec::new(),
            work: None,
            report_targets: HashMap::new(),
        }
    }

    pub(crate) fn rolling(&self) -> bool {
        self.rolling
    }

    /// The next thing that happens to the chain or to the mempool.
    pub(crate) fn advance(&mut self, rng: &mut StdRng) -> Arc<Work> {
        self.ntime += rng.random_range(0..20);
        let work = match self.work.clone() {
            None => self.next_block(rng, &[]),
            Some(work) => match rng.random_range(0..10) {
                0..=4 => {
                    let mut future = work.future.clone();
                    future.retain(|_| rng.random_bool(0.8));
                    while self.prepares && future.len() < 3 && rng.random_bool(0.5) {
                        future.push(self.template(rng));
                    }
                    let min_ntime = work.tip.min_ntime + rng.random_range(0..3);
                    let tip = Arc::new(Tip { min_ntime, ..(*work.tip).clone() });
                    let template =
                        if rng.random_bool(0.9) { self.template(rng) } else { work.template.clone() };
                    Work { tip, template, future }
                }
                // the chain turns out to be another: back to what was built on before
                5 if self.chain.len() > 1 => {
                    self.chain.pop();
                    let known = self.chain.last().unwrap();
                    let tip = Arc::new(Tip { min_ntime: self.ntime, ..(**known).clone() });
                    Work { tip, template: self.template(rng), future: self.futures(rng) }
                }
                _ => self.next_block(rng, &work.future),
            },
        };
        let work = Arc::new(work);
        self.work = Some(work.clone());
        work
    }

    fn next_block(&mut self, rng: &mut StdRng, prepared: &[Arc<Template>]) -> Work {
        let prev_hash = BlockHash::from_byte_array(rng.random());
        // in units of one hash in so many
        let report_target =
            Target::from_difficulty(Difficulty(2.0_f64.powi(-32) * rng.random_range(1.0..64.0)));
        let tip = Arc::new(Tip {
            prev_hash,
            height: 100 + self.chain.len() as u32,
            min_ntime: self.ntime,
            nbits: 0x2000_0000 + rng.random_range(1..0x7f_ffff),
            network_target: report_target,
            report_target,
        });
        self.report_targets.insert(prev_hash.to_byte_array(), report_target);
        self.chain.push(tip.clone());
        let template = match prepared {
            [] => self.template(rng),
            some if rng.random_bool(0.7) => some[rng.random_range(0..some.len())].clone(),
            _ => self.template(rng),
        };
        let mut future = self.futures(rng);
        // what was prepared and not used may be offered again
        let unused = prepared.iter().filter(|other| other.serial != template.serial);
        future.extend(unused.filter(|_| rng.random_bool(0.3)).cloned());
        Work { tip, template, future }
    }

    fn futures(&mut self, rng: &mut StdRng) -> Vec<Arc<Template>> {
        let count = if self.prepares { rng.random_range(0..3) } else { 0 };
        (0..count).map(|_| self.template(rng)).collect()
    }

    fn template(&mut self, rng: &mut StdRng) -> Arc<Template> {
        self.serial += 1;
        let merkle_path = (0..rng.random_range(0..3)).map(|_| U256(rng.random())).collect();
        Arc::new(Template {
            serial: TemplateSerial(self.serial),
            version: 0x2000_0000 | rng.random_range(0..4),
            version_rolling: self.rolling,
            coinbase: Coinbase {
                version: 2,
                script_prefix: Coinbase::bip34(rng.random_range(17..1_000_000)),
                sequence: 0xffff_ffff,
                value: rng.random_range(1..5_000_000_000),
                trailing_outputs: Vec::new(),
                lock_time: 0,
                witness_commitment: false,
            },
            merkle_path,
        })
    }
}
