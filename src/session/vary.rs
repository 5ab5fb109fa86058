//! Targets that follow a channel's hashrate (§5.3.7, §5.3.21).
//!
//! A target never changes for work that the client already has: that would let a miner choose, of
//! two targets, the one that pays better for each hash. So a new target comes with a new job, in
//! a search space of its own.

use core::time::Duration;
use std::sync::Arc;

use super::connection::Connection;
use super::distribute::write_job;
use super::timers::Timer;
use super::{CloseReason, Lane, Options, Out, Shared};
use crate::mining::moment::Moment;
use crate::mining::{Hashrate, Target};
use crate::wire::codec::Str255;
use crate::wire::mining::{SetTarget, UpdateChannel, UpdateChannelError};
use crate::wire::{ChannelId, U256};

/// The least time between two SetTarget of a channel: that between two UpdateChannel of a busy
/// proxy (§5.3.7).
const RETARGET_INTERVAL: Duration = Duration::from_secs(1);

impl Connection {
    /// §5.3.7 UpdateChannel
    pub(super) fn update_channel(
        &mut self,
        out: &mut Out,
        now: Moment,
        lane: Lane,
        m: &UpdateChannel,
        shared: &impl Shared,
    ) -> Result<(), CloseReason> {
        if let Err(code) = self.update(now, lane, m) {
            let error_code = Str255::truncated(code);
            out.frames.push(lane, &UpdateChannelError { channel_id: m.channel_id, error_code });
            return Ok(());
        }
        self.retarget(out, now, m.channel_id, shared);
        Ok(())
    }

    fn update(&mut self, now: Moment, lane: Lane, m: &UpdateChannel) -> Result<(), &'static str> {
        let channel = self
            .channels
            .get_mut(&m.channel_id)
            .filter(|channel| channel.lane == lane)
            .ok_or("invalid-channel-id")?;
        let hashrate = Hashrate::new(m.nominal_hash_rate).ok_or("invalid-nominal-hashrate")?;
        let max_target = Target::from(m.maximum_target);
        if max_target == Target::ZERO {
            return Err("max-target-out-of-range");
        }
        channel.vardiff.update(now, hashrate, max_target);
        Ok(())
    }

    /// Other options hold from now on. The present work keeps its target: a reminder sees to a new one.
    pub(super) fn keep_to(&mut self, out: &mut Out, options: Arc<Options>) {
        let before = std::mem::replace(&mut out.options, options);
        let vardiff = out.options.vardiff;
        if before.vardiff == vardiff {
            return;
        }
        for id in self.channels.keys().copied().collect::<Vec<_>>() {
            if let Some(channel) = self.channels.get_mut(&id) {
                channel.vardiff.set_options(vardiff);
            }
            self.remind(out, id);
        }
    }

    /// The channel's reminder: its hashrate is looked at again.
    pub(super) fn vary(&mut self, out: &mut Out, now: Moment, id: ChannelId, shared: &impl Shared) {
        let Some(channel) = self.channels.get_mut(&id) else { return };
        if now < channel.reminder {
            return;
        }
        channel.vardiff.set_easiest(shared.easiest_target());
        channel.vardiff.poll(now);
        self.retarget(out, now, id, shared);
        self.remind(out, id);
    }

    /// Sets the channel's reminder.
    pub(super) fn remind(&mut self, out: &mut Out, id: ChannelId) {
        if let Some(channel) = self.channels.get_mut(&id) {
            let pending = (channel.vardiff.target() != channel.target).then_some(channel.next_retarget);
            channel.reminder = pending.into_iter().fold(channel.vardiff.next_check(), Moment::min);
            out.timers.set(channel.reminder, Timer::Vary, id);
        }
    }

    /// Puts the wanted target into force, unless the last change was a moment ago.
    fn retarget(&mut self, out: &mut Out, now: Moment, id: ChannelId, shared: &impl Shared) {
        let Some(channel) = self.channels.get_mut(&id) else { return };
        if channel.vardiff.target() == channel.target {
            return;
        }
        if now < channel.next_retarget {
            // one reminder is enough, however many updates come before it
            if channel.reminder > channel.next_retarget {
                self.remind(out, id);
            }
            return;
        }
        channel.next_retarget = now + RETARGET_INTERVAL;
        channel.target = channel.vardiff.target();
        let maximum_target = U256(channel.target.to_le_bytes());
        out.frames.push(Lane::Push, &SetTarget { channel_id: id, maximum_target });
        self.send_variant(out, id, shared);
    }

    /// Sends the channel a job of its own on the present work.
    fn send_variant(&mut self, out: &mut Out, id: ChannelId, shared: &impl Shared) {
        let Some(work) = self.work.clone() else { return };
        let job_id = self.job_ids.next();
        let Some(channel) = self.channels.get_mut(&id) else { return };
        // a job id never comes twice on a connection, nor a prefix on two: a salt of its own
        let Some(job) = shared.variant(&work.template, &channel.account.class, job_id.0) else { return };
        write_job(out, channel, job_id, &job, Some(work.tip.min_ntime));
        channel.add_own(job_id, job, work.tip.clone(), &out.options);
    }

    /// The channel has more shares for this tip than can be remembered: its jobs end, so that
    /// they can be forgotten, and it goes on with another: a harder one, if so many came too fast.
    pub(super) fn start_over(&mut self, out: &mut Out, now: Moment, id: ChannelId, shared: &impl Shared) {
        let Some(channel) = self.channels.get_mut(&id) else { return };
        channel.retire_active();
        channel.vardiff.poll(now);
        if channel.vardiff.target() == channel.target {
            self.send_variant(out, id, shared);
        } else {
            channel.next_retarget = now;
            self.retarget(out, now, id, shared);
        }
    }
}
