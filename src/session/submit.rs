//! Shares (§5.3.11, §5.3.12), and what those that are no good are answered with (§5.3.14).

use super::channel::Kind;
use super::connection::Connection;
use super::timers::Timer;
use super::{CloseReason, Lane, Out, Shared};
use crate::mining::moment::Moment;
use crate::mining::share::{Rejection, Share, Submission, WorkerName};
use crate::wire::codec::Str255;
use crate::wire::mining::{SubmitSharesError, SubmitSharesExtended, SubmitSharesStandard};
use crate::wire::{ChannelId, JobId, SequenceNumber};

/// So many shares refused for what happens to honest miners too weigh as one refused for the
/// miner's fault.
const HONEST_PER_BAD: u32 = 10;

/// Where a share comes from and what it is for.
#[derive(Clone, Copy)]
struct Origin {
    lane: Lane,
    kind: Kind,
    channel_id: ChannelId,
    sequence_number: SequenceNumber,
    job_id: JobId,
    worker: Option<WorkerName>,
}

impl Connection {
    /// §5.3.11 SubmitSharesStandard
    pub(super) fn submit_standard(
        &mut self,
        out: &mut Out,
        now: Moment,
        lane: Lane,
        m: &SubmitSharesStandard,
        shared: &impl Shared,
    ) -> Result<(), CloseReason> {
        let SubmitSharesStandard { channel_id, sequence_number, job_id, nonce, ntime, version } = *m;
        let submission = Submission { nonce, ntime, version, extranonce: None };
        let kind = Kind::Standard;
        let origin = Origin { lane, kind, channel_id, sequence_number, job_id, worker: None };
        self.submit(out, now, origin, &submission, shared)
    }

    /// §5.3.12 SubmitSharesExtended
    pub(super) fn submit_extended(
        &mut self,
        out: &mut Out,
        now: Moment,
        lane: Lane,
        m: &SubmitSharesExtended<'_>,
        shared: &impl Shared,
    ) -> Result<(), CloseReason> {
        let SubmitSharesExtended { channel_id, sequence_number, job_id, nonce, ntime, version, .. } = *m;
        let extranonce = Some(m.extranonce.as_bytes());
        let submission = Submission { nonce, ntime, version, extranonce };
        // §1.3 of extension 0x0002: a field that was not negotiated is ignored
        let named = self.setup.worker_names.then(|| m.tlvs.user_identity()).flatten();
        let worker = named.and_then(|name| WorkerName::new(name.as_bytes()));
        let kind = Kind::Extended;
        let origin = Origin { lane, kind, channel_id, sequence_number, job_id, worker };
        self.submit(out, now, origin, &submission, shared)
    }

    fn submit(
        &mut self,
        out: &mut Out,
        now: Moment,
        origin: Origin,
        submission: &Submission<'_>,
        shared: &impl Shared,
    ) -> Result<(), CloseReason> {
        match self.credit(out, now, &origin, submission) {
            Ok(seen) => {
                self.bad_shares = 0;
                if seen >= out.options.max_seen_shares {
                    self.start_over(out, now, origin.channel_id, shared);
                }
                Ok(())
            }
            Err(rejection) => self.reject(out, &origin, rejection),
        }
    }

    /// Judges a share and books it. Returns how many the channel has for this tip.
    fn credit(
        &mut self,
        out: &mut Out,
        now: Moment,
        origin: &Origin,
        submission: &Submission<'_>,
    ) -> Result<usize, Rejection> {
        let channel = self
            .channels
            .get_mut(&origin.channel_id)
            .filter(|channel| channel.kind == origin.kind && channel.lane == origin.lane)
            .ok_or(Rejection::InvalidChannelId)?;
        if self.job_ids.began_after(origin.job_id) {
            // the miner has kept it from an earlier connection
            return Err(Rejection::Stale);
        }
        let judged = channel.judge(origin.job_id, submission)?;
        let difficulty = judged.target.difficulty();
        channel.vardiff.on_share(difficulty);
        let check = channel.vardiff.next_check();
        if check < channel.reminder {
            // a flood does not wait
            channel.reminder = check;
            out.timers.set(check, Timer::Vary, origin.channel_id);
        }
        out.tally.accepted += 1;
        out.tally.difficulty += difficulty.0;
        out.shares_made += 1;
        out.shares.push(Share {
            account: channel.account.clone(),
            worker: origin.worker,
            difficulty,
            height: judged.height,
            template: judged.template,
            hash: judged.hash,
            solution: judged.solution.is_some(),
        });
        if let Some(solution) = judged.solution {
            out.solutions.push_back(solution);
        }

        let full = channel.owed.add(out, now, channel.id, origin.sequence_number, difficulty);
        let seen = channel.seen();
        if full {
            self.seal(out, now, origin.channel_id);
        }
        Ok(seen)
    }

    fn reject(&mut self, out: &mut Out, origin: &Origin, rejection: Rejection) -> Result<(), CloseReason> {
        let Origin { channel_id, sequence_number, .. } = *origin;
        let error_code = Str255::truncated(rejection.code());
        out.frames.push(origin.lane, &SubmitSharesError { channel_id, sequence_number, error_code });
        out.tally.rejected[rejection.index()] += 1;
        // what happens to honest miners too is forgiven, but not for ever
        self.bad_shares += if rejection.is_honest() { 1 } else { HONEST_PER_BAD };
        if self.bad_shares >= out.options.max_bad_shares.saturating_mul(HONEST_PER_BAD) {
            return Err(CloseReason::BadShares(rejection));
        }
        Ok(())
    }
}
