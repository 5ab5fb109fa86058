//! A connection that is set up: its channels, groups and jobs, and what a client may say.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;

use super::acknowledge::Sealed;
use super::channel::Channel;
use super::distribute::Audience;
use super::job_ids::JobIds;
use super::setup::Setup;
use super::timers::Timer;
use super::{CloseReason, Lane, Options, Out, Shared};
use crate::mining::Work;
use crate::mining::moment::Moment;
use crate::mining::payout::PayoutClass;
use crate::wire::codec::Str255;
use crate::wire::mining::{Mining, SetCustomMiningJob, SetCustomMiningJobError};
use crate::wire::{ChannelId, Header, JobId};

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) setup: Setup,
    /// In an order, so that equal inputs have equal outputs.
    pub(super) channels: BTreeMap<ChannelId, Channel>,
    /// The group of each payout class that has a channel.
    pub(super) groups: Vec<(PayoutClass, ChannelId)>,
    pub(super) audiences: Vec<Audience>,
    /// Channels that have had no job yet.
    pub(super) waiting: Vec<ChannelId>,
    pub(super) work: Option<Arc<Work>>,
    /// Shares to be acknowledged once they are safe, oldest first.
    pub(super) sealed: VecDeque<Sealed>,
    /// The shares up to this number are safe.
    pub(super) stored: u64,
    /// Lanes of channels on which nothing more is said, though the client may not have ended
    /// them: as many at most as the transport allows it to have open.
    pub(super) done: HashSet<Lane>,
    /// Shares refused in a row, by weight.
    pub(super) bad_shares: u32,
    /// Since when there has been no channel.
    pub(super) idle_since: Option<Moment>,
    pub(super) job_ids: JobIds,
    /// Channels and groups share one number space, and no number comes twice (§5.2).
    last_channel: u32,
}

impl Connection {
    pub(super) fn new(setup: Setup, work: Option<Arc<Work>>, first_job: JobId, now: Moment) -> Self {
        Self {
            setup,
            channels: BTreeMap::new(),
            groups: Vec::new(),
            audiences: Vec::new(),
            waiting: Vec::new(),
            work,
            sealed: VecDeque::new(),
            stored: 0,
            done: HashSet::new(),
            bad_shares: 0,
            idle_since: Some(now),
            job_ids: JobIds::from(first_job),
            last_channel: 0,
        }
    }

    pub(super) fn frame(
        &mut self,
        out: &mut Out,
        now: Moment,
        lane: Lane,
        header: Header,
        payload: &[u8],
        shared: &impl Shared,
    ) -> Result<(), CloseReason> {
        if self.done.contains(&lane) {
            return Ok(());
        }
        let msg_type = header.msg_type;
        match header.extension {
            0 => {
                let message = Mining::decode(msg_type, payload)
                    .map_err(|error| CloseReason::Malformed { msg_type, error })?;
                self.message(out, now, lane, &message, shared)
            }
            1 => self.negotiate(out, lane, msg_type, payload),
            // §3.4: messages of unknown extensions are ignored
            _ => Ok(()),
        }
    }

    /// §5.3, what a client may say.
    fn message(
        &mut self,
        out: &mut Out,
        now: Moment,
        lane: Lane,
        message: &Mining<'_>,
        shared: &impl Shared,
    ) -> Result<(), CloseReason> {
        match message {
            Mining::SubmitSharesStandard(m) => self.submit_standard(out, now, lane, m, shared),
            Mining::SubmitSharesExtended(m) => self.submit_extended(out, now, lane, m, shared),
            Mining::OpenStandardMiningChannel(m) => self.open_standard(out, now, lane, m, shared),
            Mining::OpenExtendedMiningChannel(m) => self.open_extended(out, now, lane, m, shared),
            Mining::UpdateChannel(m) => self.update_channel(out, now, lane, m, shared),
            Mining::CloseChannel(m) => {
                self.close_channel(out, now, lane, m, shared);
                Ok(())
            }
            Mining::SetCustomMiningJob(m) => refuse_custom_job(out, lane, m),
            Mining::OpenStandardMiningChannelSuccess(_)
            | Mining::OpenExtendedMiningChannelSuccess(_)
            | Mining::OpenMiningChannelError(_)
            | Mining::UpdateChannelError(_)
            | Mining::SetExtranoncePrefix(_)
            | Mining::SubmitSharesSuccess(_)
            | Mining::SubmitSharesError(_)
            | Mining::NewMiningJob(_)
            | Mining::NewExtendedMiningJob(_)
            | Mining::SetNewPrevHash(_)
            | Mining::SetCustomMiningJobSuccess(_)
            | Mining::SetCustomMiningJobError(_)
            | Mining::SetTarget(_)
            | Mining::SetGroupChannel(_) => Err(CloseReason::Unexpected(message.msg_type())),
        }
    }

    pub(super) fn add_channel(&mut self, channel: Channel) {
        self.idle_since = None;
        self.channels.insert(channel.id, channel);
    }

    /// What is due by now.
    pub(super) fn tick(
        &mut self,
        out: &mut Out,
        now: Moment,
        shared: &impl Shared,
    ) -> Result<(), CloseReason> {
        if self.idle_until(&out.options).is_some_and(|until| until <= now) {
            return Err(CloseReason::NoChannel);
        }
        while let Some((timer, channel)) = out.timers.pop(now) {
            match timer {
                Timer::Acknowledge => self.acknowledge(out, now, channel),
                Timer::Vary => self.vary(out, now, channel, shared),
            }
        }
        Ok(())
    }

    /// When the connection is given up for want of a channel.
    pub(super) fn idle_until(&self, options: &Options) -> Option<Moment> {
        self.idle_since.map(|since| since + options.open_timeout)
    }

    pub(super) fn next_channel(&mut self) -> ChannelId {
        self.last_channel += 1;
        ChannelId(self.last_channel)
    }
}

/// §5.3.18: job declaration was not offered, so there is no token that could be valid.
fn refuse_custom_job(out: &mut Out, lane: Lane, m: &SetCustomMiningJob<'_>) -> Result<(), CloseReason> {
    out.frames.push(
        lane,
        &SetCustomMiningJobError {
            channel_id: m.channel_id,
            request_id: m.request_id,
            error_code: Str255::truncated("jd-not-supported"),
        },
    );
    Ok(())
}
