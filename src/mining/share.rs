//! What a submitted share is worth (§5.3.11 to §5.3.14).

use std::fmt;
use std::sync::Arc;

use bitcoin::Transaction;

use super::coinbase::CoinbaseError;
use super::extranonce::{EXTRANONCE_LEN, ExtranoncePrefix, PREFIX_LEN, ROLLABLE};
use super::hash::sha256d_header;
use super::job::Job;
use super::payout::PayoutClass;
use super::{Difficulty, Target, TemplateSerial, Tip};

/// The version bits that a miner may roll (BIP323).
pub const VERSION_ROLLING_MASK: u32 = 0x1fff_ffe0;

/// How far a share's time may lie after its job's `min_ntime`, in seconds: what consensus lets a
/// block be ahead of the clock. The letter of §5.3.11 (no more than the time passed since) would
/// refuse miners that stamp ahead, as real ones do.
pub const MAX_NTIME_AHEAD: u32 = 7200;

/// The fields that a miner chose.
#[derive(Debug, Clone, Copy)]
pub struct Submission<'a> {
    /// The header's nonce.
    pub nonce: u32,
    /// The header's time.
    pub ntime: u32,
    /// The header's version.
    pub version: u32,
    /// The rolled part of the extranonce, on an extended channel.
    pub extranonce: Option<&'a [u8]>,
}

/// A job as one channel mines it: the rules in force for it there.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// The job.
    pub job: &'a Job,
    /// What it builds on, and the smallest header time.
    pub tip: &'a Tip,
    /// What a share's hash must not exceed.
    pub target: Target,
    /// Where the extranonce starts.
    pub prefix: ExtranoncePrefix,
    /// The merkle root, where it is fixed (a standard channel).
    pub merkle_root: Option<[u8; 32]>,
}

/// A share that meets its target. Whether it has been seen before is the channel's to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// The serialised header.
    pub header: [u8; 80],
    /// Its hash, as SHA-256 puts it out.
    pub hash: [u8; 32],
    /// The extranonce mined with, all of it.
    pub extranonce: [u8; EXTRANONCE_LEN],
    /// Whether the source of the work wants to hear of it.
    pub solution: bool,
}

/// A share that its source wants: usually a block.
#[derive(Debug, Clone)]
pub struct Solution {
    /// The job it solves.
    pub job: Arc<Job>,
    /// What it builds on.
    pub tip: Arc<Tip>,
    /// The serialised header.
    pub header: [u8; 80],
    /// Its hash, as SHA-256 puts it out.
    pub hash: [u8; 32],
    /// The extranonce mined with, all of it.
    pub extranonce: [u8; EXTRANONCE_LEN],
    /// Who found it.
    pub account: Arc<Account>,
}

impl Solution {
    /// The coinbase as it goes into the block.
    pub fn transaction(&self) -> Result<Transaction, CoinbaseError> {
        self.job.coinbase.transaction(&self.extranonce)
    }
}

/// Who opened a channel, and who is paid for its blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// `user_identity` as the client gave it.
    pub user: Box<str>,
    /// Who is paid.
    pub class: PayoutClass,
}

/// An accepted share, as it goes into the books.
#[derive(Debug, Clone)]
pub struct Share {
    /// Who is credited.
    pub account: Arc<Account>,
    /// The worker that extension 0x0002 names.
    pub worker: Option<WorkerName>,
    /// What is credited: the difficulty of the target it was judged by.
    pub difficulty: Difficulty,
    /// The height of the block worked on.
    pub height: u32,
    /// What its job was made of.
    pub template: TemplateSerial,
    /// The header's hash, as SHA-256 puts it out.
    pub hash: [u8; 32],
    /// Whether it is a solution too.
    pub solution: bool,
}

/// A worker's name within a channel: at most 32 bytes (extension 0x0002).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct WorkerName {
    len: u8,
    bytes: [u8; 32],
}

impl WorkerName {
    /// None if the name is longer than 32 bytes.
    #[must_use]
    pub fn new(name: &[u8]) -> Option<Self> {
        let mut bytes = [0; 32];
        bytes.get_mut(..name.len())?.copy_from_slice(name);
        Some(Self { len: name.len() as u8, bytes })
    }

    /// The name as it came.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl fmt::Debug for WorkerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.as_bytes().escape_ascii())
    }
}

/// Judges a share by its job's rules: cheap checks first, then the hash.
pub fn judge(rules: &Rules<'_>, share: &Submission<'_>) -> Result<Verdict, Rejection> {
    let template = &rules.job.template;
    let latest = rules.tip.min_ntime.saturating_add(MAX_NTIME_AHEAD);
    if share.ntime < rules.tip.min_ntime || share.ntime > latest {
        return Err(Rejection::TimeOutOfRange);
    }
    let changed = share.version ^ template.version;
    if changed != 0 && !template.version_rolling {
        return Err(Rejection::VersionRollingNotAllowed);
    }
    if changed & !VERSION_ROLLING_MASK != 0 {
        return Err(Rejection::NonRollableVersionBit);
    }
    let extranonce = full_extranonce(rules.prefix, share.extranonce)?;
    let merkle_root = rules.merkle_root.unwrap_or_else(|| rules.job.merkle_root(&extranonce));

    let header = header(share, rules.tip, &merkle_root);
    let hash = sha256d_header(&header);
    if !rules.target.is_met_by(&hash) {
        return Err(Rejection::DifficultyTooLow);
    }
    Ok(Verdict { header, hash, extranonce, solution: rules.tip.report_target.is_met_by(&hash) })
}

/// The prefix, then what the miner rolled; zeros on a standard channel.
fn full_extranonce(
    prefix: ExtranoncePrefix,
    rolled: Option<&[u8]>,
) -> Result<[u8; EXTRANONCE_LEN], Rejection> {
    let mut extranonce = prefix.standard();
    if let Some(rolled) = rolled {
        let rolled: &[u8; ROLLABLE] = rolled.try_into().map_err(|_| Rejection::BadExtranonceSize)?;
        extranonce[PREFIX_LEN..].copy_from_slice(rolled);
    }
    Ok(extranonce)
}

fn header(share: &Submission<'_>, tip: &Tip, merkle_root: &[u8; 32]) -> [u8; 80] {
    let mut header = [0; 80];
    header[0..4].copy_from_slice(&share.version.to_le_bytes());
    header[4..36].copy_from_slice(tip.prev_hash.as_ref());
    header[36..68].copy_from_slice(merkle_root);
    header[68..72].copy_from_slice(&share.ntime.to_le_bytes());
    header[72..76].copy_from_slice(&tip.nbits.to_le_bytes());
    header[76..80].copy_from_slice(&share.nonce.to_le_bytes());
    header
}

/// Why a share is refused, in the order in which it is examined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{}", self.code())]
pub enum Rejection {
    /// No such channel on this connection, or not of the kind that the message is for.
    InvalidChannelId,
    /// The job existed, but the chain has moved on or the job has been retired.
    Stale,
    /// The channel was never sent this job, or it is not to be mined yet.
    InvalidJobId,
    /// The time lies before the job's minimum or too far after it.
    TimeOutOfRange,
    /// The version differs although the job forbids it.
    VersionRollingNotAllowed,
    /// The version differs in a bit outside BIP323.
    NonRollableVersionBit,
    /// The extranonce has not the size that the channel was given.
    BadExtranonceSize,
    /// The hash does not meet the target in force for the job.
    DifficultyTooLow,
    /// The same header has been credited before.
    Duplicate,
}

impl Rejection {
    /// How many reasons there are.
    pub const COUNT: usize = Self::Duplicate as usize + 1;

    /// All of them, each at its [index](Self::index).
    pub const ALL: [Self; Self::COUNT] = [
        Self::InvalidChannelId,
        Self::Stale,
        Self::InvalidJobId,
        Self::TimeOutOfRange,
        Self::VersionRollingNotAllowed,
        Self::NonRollableVersionBit,
        Self::BadExtranonceSize,
        Self::DifficultyTooLow,
        Self::Duplicate,
    ];

    /// The reason's place among them.
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }

    /// The `error_code` of SubmitShares.Error.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::InvalidChannelId => "invalid-channel-id",
            Self::Stale => "stale-share",
            Self::InvalidJobId => "invalid-job-id",
            Self::TimeOutOfRange => "invalid-share",
            Self::VersionRollingNotAllowed => "version-rolling-not-allowed",
            Self::NonRollableVersionBit => "invalid-non-rollable-version-bit",
            Self::BadExtranonceSize => "bad-extranonce-size",
            Self::DifficultyTooLow => "difficulty-too-low",
            Self::Duplicate => "duplicate-share",
        }
    }

    /// Whether an honest miner can come to this in the ordinary run of things: by a race with a
    /// new block, or by starting its nonces over after SetTarget.
    #[must_use]
    pub fn is_honest(self) -> bool {
        matches!(self, Self::Stale | Self::Duplicate)
    }
}
