//! What accepted shares are answered with, and when (§5.3.13).
//!
//! ```text
//! owed ── enough of them, or due, or the channel closes ──> sealed ── safe with the sink ──> sent
//! ```
//!
//! A lane is finished only after the last that was sealed for it.

use super::connection::Connection;
use super::timers::Timer;
use super::{Lane, Out, Todo};
use crate::mining::Difficulty;
use crate::mining::moment::Moment;
use crate::wire::mining::SubmitSharesSuccess;
use crate::wire::{ChannelId, SequenceNumber};

/// Accepted shares that have not been acknowledged.
#[derive(Debug, Default)]
pub(super) struct Owed {
    count: u32,
    difficulty: f64,
    last: SequenceNumber,
    /// When they are due, once there are some.
    due: Moment,
    /// None are acknowledged before this, unless there are many.
    not_before: Moment,
}

impl Owed {
    /// One more share of channel `id` is owed. True if there are enough for an acknowledgement.
    pub(super) fn add(
        &mut self,
        out: &mut Out,
        now: Moment,
        id: ChannelId,
        share: SequenceNumber,
        difficulty: Difficulty,
    ) -> bool {
        if self.count == 0 {
            self.due = self.not_before.max(now);
            out.timers.set(self.due, Timer::Acknowledge, id);
        }
        self.count += 1;
        self.difficulty += difficulty.0;
        self.last = share;
        self.count >= out.options.share_batch_size
    }
}

/// An acknowledgement that waits until its shares are safe.
#[derive(Debug)]
pub(super) struct Sealed {
    /// The number of the newest share that must be safe.
    number: u64,
    lane: Lane,
    message: SubmitSharesSuccess,
    /// Nothing follows on the lane.
    last: bool,
}

impl Connection {
    /// What is owed to the channel is acknowledged if it is due.
    pub(super) fn acknowledge(&mut self, out: &mut Out, now: Moment, id: ChannelId) {
        if self.channels.get(&id).is_some_and(|channel| channel.owed.due <= now) {
            self.seal(out, now, id);
        }
    }

    /// What is owed to the channel is to be acknowledged as soon as it is safe.
    pub(super) fn seal(&mut self, out: &mut Out, now: Moment, id: ChannelId) {
        let Some(channel) = self.channels.get_mut(&id) else { return };
        if channel.owed.count == 0 {
            return;
        }
        let not_before = now + out.options.share_batch_interval;
        let owed = std::mem::replace(&mut channel.owed, Owed { not_before, ..Owed::default() });
        self.sealed.push_back(Sealed {
            number: out.shares_made,
            lane: channel.lane,
            message: SubmitSharesSuccess {
                channel_id: id,
                last_sequence_number: owed.last,
                new_submits_accepted_count: owed.count,
                new_shares_sum: owed.difficulty as u64,
            },
            last: false,
        });
        self.settle(out);
    }

    /// [`seal`](Self::seal), for all channels.
    pub(super) fn seal_all(&mut self, out: &mut Out, now: Moment) {
        for id in self.channels.keys().copied().collect::<Vec<_>>() {
            self.seal(out, now, id);
        }
    }

    /// The shares up to `number` are safe.
    pub(super) fn stored(&mut self, out: &mut Out, number: u64) {
        self.stored = number;
        self.settle(out);
    }

    /// Acknowledges what is sealed and safe.
    fn settle(&mut self, out: &mut Out) {
        while let Some(sealed) = self.sealed.pop_front_if(|sealed| sealed.number <= self.stored) {
            out.frames.push(sealed.lane, &sealed.message);
            if sealed.last {
                out.todo.push_back(Todo::Finish(sealed.lane));
            }
        }
    }

    /// The lane is finished once what is sealed for it is sent.
    pub(super) fn finish_after_sealed(&mut self, out: &mut Out, lane: Lane) {
        match self.sealed.iter_mut().rfind(|sealed| sealed.lane == lane) {
            Some(sealed) => sealed.last = true,
            None => out.todo.push_back(Todo::Finish(lane)),
        }
    }
}
