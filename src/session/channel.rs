//! One mining channel (§5.2): its jobs, its shares and what is owed for them.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use super::acknowledge::Owed;
use super::{Lane, Options};
use crate::mining::extranonce::ExtranoncePrefix;
use crate::mining::job::Job;
use crate::mining::moment::Moment;
use crate::mining::share::{Account, Rejection, Rules, Solution, Submission, judge};
use crate::mining::vardiff::Vardiff;
use crate::mining::{Hashrate, Target, TemplateSerial, Tip};
use crate::wire::{ChannelId, JobId};

/// How many retired jobs a channel remembers, to call a late share stale and not unknown.
const STALE_JOBS: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Standard,
    Extended,
}

#[derive(Debug)]
pub(super) struct Channel {
    pub(super) id: ChannelId,
    pub(super) kind: Kind,
    pub(super) lane: Lane,
    pub(super) account: Arc<Account>,
    pub(super) prefix: ExtranoncePrefix,
    /// In force for jobs that become active from now on.
    pub(super) target: Target,
    /// Has the target that is to be in force.
    pub(super) vardiff: Vardiff,
    /// No SetTarget before this.
    pub(super) next_retarget: Moment,
    /// When the hashrate is looked at next. Earlier reminders are void.
    pub(super) reminder: Moment,
    pub(super) owed: Owed,
    jobs: VecDeque<ChannelJob>,
    stale: VecDeque<JobId>,
    seen: HashSet<u128, BuildHasherDefault<Uniform>>,
}

/// A job that the channel was sent and may submit for, or will once it is activated.
#[derive(Debug)]
struct ChannelJob {
    id: JobId,
    job: Arc<Job>,
    /// Computed when first needed, on standard channels.
    merkle_root: Option<[u8; 32]>,
    /// Made for this channel, and so kept in memory for it alone.
    own: bool,
    state: JobState,
}

/// ```text
///  sent with min_ntime ────────────────> Active ──> (stale: dropped, its id remembered)
///  sent without ──> Future ─SetNewPrevHash─^  └──────────────^ the tip changes, or too old
/// ```
#[derive(Debug)]
enum JobState {
    Future,
    /// Target and time limit stay as they were when the job became active (§5.3.21).
    Active {
        tip: Arc<Tip>,
        target: Target,
    },
}

impl ChannelJob {
    fn is_active(&self) -> bool {
        matches!(self.state, JobState::Active { .. })
    }
}

impl Channel {
    #[allow(clippy::too_many_arguments)]
    pub(super) fn new(
        id: ChannelId,
        kind: Kind,
        lane: Lane,
        account: Arc<Account>,
        prefix: ExtranoncePrefix,
        hashrate: Hashrate,
        max_target: Target,
        now: Moment,
        options: &Options,
    ) -> Self {
        let vardiff = Vardiff::new(now, hashrate, max_target, options.vardiff);
        Self {
            id,
            kind,
            lane,
            account,
            prefix,
            target: vardiff.target(),
            vardiff,
            next_retarget: now,
            reminder: now,
            owed: Owed::default(),
            jobs: VecDeque::new(),
            stale: VecDeque::new(),
            seen: HashSet::default(),
        }
    }

    /// The client has been sent a job that it may be told to mine later.
    pub(super) fn add_future(&mut self, id: JobId, job: Arc<Job>) {
        self.add(id, job, false, JobState::Future);
    }

    /// The client has been sent a job to mine at once.
    pub(super) fn add_active(&mut self, id: JobId, job: Arc<Job>, tip: Arc<Tip>, max_jobs: usize) {
        self.add(id, job, false, JobState::Active { tip, target: self.target });
        self.limit(max_jobs, ChannelJob::is_active);
    }

    /// The client has been sent a job of its own to mine at once.
    pub(super) fn add_own(&mut self, id: JobId, job: Arc<Job>, tip: Arc<Tip>, options: &Options) {
        self.add(id, job, true, JobState::Active { tip, target: self.target });
        self.limit(options.max_jobs, ChannelJob::is_active);
        self.limit(options.max_own_jobs, |job| job.own);
    }

    fn add(&mut self, id: JobId, job: Arc<Job>, own: bool, state: JobState) {
        self.jobs.push_back(ChannelJob { id, job, merkle_root: None, own, state });
    }

    /// The oldest of such jobs ends if there are more than `max`.
    fn limit(&mut self, max: usize, such: impl Fn(&ChannelJob) -> bool) {
        if self.jobs.iter().filter(|job| such(job)).count() > max
            && let Some(oldest) = self.jobs.iter().position(such)
        {
            self.retire(oldest);
        }
    }

    /// SetNewPrevHash: one future job becomes active, all others end (§5.3.17).
    pub(super) fn activate(&mut self, id: JobId, tip: Arc<Tip>) {
        let activated = self.jobs.iter().position(|job| job.id == id).and_then(|at| self.jobs.remove(at));
        self.retire_where(|_| true);
        self.seen = HashSet::default();
        if let Some(mut job) = activated {
            job.state = JobState::Active { tip, target: self.target };
            self.jobs.push_back(job);
        }
    }

    /// The future jobs that will not be activated any more end.
    pub(super) fn keep_futures(&mut self, keep: &[(TemplateSerial, JobId)]) {
        self.retire_where(|job| !job.is_active() && keep.iter().all(|(_, id)| *id != job.id));
    }

    /// The jobs being mined end, and with them the need to remember their shares.
    pub(super) fn retire_active(&mut self) {
        self.retire_where(ChannelJob::is_active);
        self.seen = HashSet::default();
    }

    fn retire_where(&mut self, ends: impl Fn(&ChannelJob) -> bool) {
        while let Some(at) = self.jobs.iter().position(&ends) {
            self.retire(at);
        }
    }

    fn retire(&mut self, at: usize) {
        if let Some(job) = self.jobs.remove(at) {
            if self.stale.len() == STALE_JOBS {
                self.stale.pop_front();
            }
            self.stale.push_back(job.id);
        }
    }

    /// Judges a share by the rules in force for its job on this channel.
    pub(super) fn judge(&mut self, id: JobId, share: &Submission<'_>) -> Result<Judged, Rejection> {
        let Some(job) = self.jobs.iter_mut().rev().find(|job| job.id == id) else {
            let stale = self.stale.contains(&id);
            return Err(if stale { Rejection::Stale } else { Rejection::InvalidJobId });
        };
        let JobState::Active { tip, target } = &job.state else {
            return Err(Rejection::InvalidJobId);
        };
        if self.kind == Kind::Standard && job.merkle_root.is_none() {
            job.merkle_root = Some(job.job.merkle_root(&self.prefix.standard()));
        }
        let rules =
            Rules { job: &job.job, tip, target: *target, prefix: self.prefix, merkle_root: job.merkle_root };
        let verdict = judge(&rules, share)?;
        let (key, _) = verdict.hash.split_first_chunk().expect("32 bytes hold 16");
        if !self.seen.insert(u128::from_le_bytes(*key)) {
            return Err(Rejection::Duplicate);
        }
        let solution = verdict.solution.then(|| {
            Box::new(Solution {
                job: job.job.clone(),
                tip: tip.clone(),
                header: verdict.header,
                hash: verdict.hash,
                extranonce: verdict.extranonce,
                account: self.account.clone(),
            })
        });
        let template = job.job.template.serial;
        Ok(Judged { hash: verdict.hash, height: tip.height, template, target: *target, solution })
    }

    /// How many shares are remembered.
    pub(super) fn seen(&self) -> usize {
        self.seen.len()
    }
}

/// A share that is to be credited.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) hash: [u8; 32],
    pub(super) height: u32,
    pub(super) template: TemplateSerial,
    pub(super) target: Target,
    pub(super) solution: Option<Box<Solution>>,
}

/// Hashes what is a hash already: the low half of a share's, whose bits are as good as random.
///
/// A miner who would have them collide has to find, for each share, a nonce that meets the target
/// and these bits too; the few slow look-ups that this buys are not worth it.
#[derive(Debug, Default)]
struct Uniform(u64);

impl Hasher for Uniform {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u128(&mut self, hash: u128) {
        self.0 = hash as u64;
    }
}
