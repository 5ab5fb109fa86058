//! What the tests against SRI's crates share: work made by hand, and shares searched for by what
//! SRI makes of a job.

#![allow(dead_code, unreachable_pub)] // each test uses a part

pub mod sri;

use std::sync::Arc;

use bitcoin::hashes::Hash;
use bitcoin::{Amount, BlockHash, CompactTarget, TxMerkleNode, TxOut, block};
use blvm_stratum_v2::mining::coinbase::Tag;
use blvm_stratum_v2::mining::extranonce::ServerId;
use blvm_stratum_v2::mining::payout::PayoutPolicy;
use blvm_stratum_v2::mining::{Coinbase, Hashrate, Target, Template, TemplateSerial, Tip, Work};
use blvm_stratum_v2::template::regtest::spendable_script;
use blvm_stratum_v2::wire::U256;
use blvm_stratum_v2::{pool, session};
use stratum_core::channels_sv2::merkle_root::merkle_root_from_path;
use stratum_core::mining_sv2::NewExtendedMiningJobOwned;
use stratum_core::parsers_sv2::{Mining, MiningOwned};

/// When the first tip was found.
pub const START: u32 = 1_800_000_000;
/// A block of this takes 2^32 hashes: no test finds one.
pub const NO_BLOCKS: u32 = 0x1d00_ffff;
/// One hash in 128 is a block.
pub const MANY_BLOCKS: u32 = 0x2001_ffff;

/// Pays the operator, caters for miners of any slowness, and keeps as many jobs as SRI.
pub fn pool_options(mut session: session::Options) -> pool::Options {
    session.max_own_jobs = session.max_jobs;
    session.vardiff.slowest = Hashrate::new(0.0).unwrap();
    pool::Options {
        session,
        payout: PayoutPolicy::Pool { script: spendable_script().as_script().into() },
        tag: Tag::new(*b"/oracle/").unwrap(),
        server_id: ServerId::default(),
    }
}

/// A source of work that does as it is told.
pub struct Source {
    pub work: Work,
    serial: u64,
}

impl Source {
    pub fn new(nbits: u32) -> Self {
        let template = template(1, true);
        Self { work: Work { tip: tip(1, nbits), template, future: Vec::new() }, serial: 1 }
    }

    pub fn work(&self) -> Arc<Work> {
        Arc::new(self.work.clone())
    }

    pub fn template(&mut self, version_rolling: bool) -> Arc<Template> {
        self.serial += 1;
        template(self.serial, version_rolling)
    }

    /// Better transactions have come in.
    pub fn refresh(&mut self, version_rolling: bool) -> Arc<Work> {
        self.work.template = self.template(version_rolling);
        let mut tip = (*self.work.tip).clone();
        tip.min_ntime += 1;
        self.work.tip = Arc::new(tip);
        self.work()
    }

    /// Templates for the block after the next; `keep` of those that there were stay.
    pub fn prepare(&mut self, keep: usize, new: usize) -> Arc<Work> {
        self.work.future.truncate(keep);
        for _ in 0..new {
            let template = self.template(true);
            self.work.future.push(template);
        }
        self.work()
    }

    /// A block was found. A prepared template is used, if there is one.
    pub fn new_tip(&mut self, nbits: u32) -> Arc<Work> {
        self.work.tip = tip(self.work.tip.height + 1, nbits);
        self.work.template = self.work.future.pop().unwrap_or_else(|| self.template(true));
        self.work.future.clear();
        self.work()
    }
}

fn tip(height: u32, nbits: u32) -> Arc<Tip> {
    let target = Target::from_compact(nbits).unwrap();
    Arc::new(Tip {
        prev_hash: BlockHash::hash(&height.to_le_bytes()),
        height,
        min_ntime: START + 600 * height,
        nbits,
        network_target: target,
        report_target: target,
    })
}

fn template(serial: u64, version_rolling: bool) -> Arc<Template> {
    let commitment =
        TxOut { value: Amount::ZERO, script_pubkey: [0x6a_u8, 1, serial as u8][..].to_vec().into() };
    Arc::new(Template {
        serial: TemplateSerial(serial),
        version: 0x2000_0000,
        version_rolling,
        coinbase: Coinbase {
            version: 2,
            script_prefix: Coinbase::bip34(1000),
            sequence: 0xffff_fffe,
            value: 5_000_000_000 - serial,
            trailing_outputs: vec![commitment],
            lock_time: 999,
            witness_commitment: true,
        },
        merkle_path: (0..serial % 4).map(|level| U256([(serial + level) as u8; 32])).collect(),
    })
}

/// A message as SRI reads it.
pub fn sri_reads(msg_type: u8, payload: &mut [u8]) -> MiningOwned {
    Mining::try_from((msg_type, payload)).expect("SRI reads all that we send").into_owned()
}

/// The merkle root of a job as SRI computes it.
pub fn merkle_root(job: &NewExtendedMiningJobOwned, extranonce: &[u8]) -> [u8; 32] {
    merkle_root_from_path(
        job.coinbase_tx_prefix.as_bytes(),
        job.coinbase_tx_suffix.as_bytes(),
        extranonce,
        job.merkle_path.as_slice(),
    )
    .expect("the parts form a coinbase")
}

/// The header's fields but for the nonce.
#[derive(Debug, Clone, Copy)]
pub struct HeaderFields {
    pub version: u32,
    pub prev_hash: [u8; 32],
    pub merkle_root: [u8; 32],
    pub ntime: u32,
    pub nbits: u32,
}

impl HeaderFields {
    /// The hash as a number: least significant byte first.
    pub fn hash(&self, nonce: u32) -> [u8; 32] {
        let header = block::Header {
            version: block::Version::from_consensus(self.version as i32),
            prev_blockhash: BlockHash::from_byte_array(self.prev_hash),
            merkle_root: TxMerkleNode::from_byte_array(self.merkle_root),
            time: self.ntime,
            bits: CompactTarget::from_consensus(self.nbits),
            nonce,
        };
        header.block_hash().to_byte_array()
    }

    /// The first nonce from `start` on whose hash is as it is wanted.
    pub fn search(&self, start: u32, wanted: impl Fn([u8; 32]) -> bool) -> u32 {
        (0..u32::MAX).map(|step| start.wrapping_add(step)).find(|nonce| wanted(self.hash(*nonce))).unwrap()
    }
}
