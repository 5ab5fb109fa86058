//! What is to be done later, per channel.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::mining::moment::Moment;
use crate::wire::ChannelId;

/// What a channel is to be looked at for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// Shares may be due for acknowledgement.
    Acknowledge,
    /// The difficulty may have to change.
    Vary,
}

/// A heap of reminders. A reminder may come for something that has been done meanwhile, or for a
/// channel that is gone: whoever is reminded looks for itself.
#[derive(Debug, Default)]
pub(super) struct Timers(BinaryHeap<Reverse<(Moment, Timer, ChannelId)>>);

impl Timers {
    pub(super) fn set(&mut self, at: Moment, timer: Timer, channel: ChannelId) {
        self.0.push(Reverse((at, timer, channel)));
    }

    pub(super) fn next(&self) -> Option<Moment> {
        self.0.peek().map(|Reverse((at, ..))| *at)
    }

    /// The next reminder that is due.
    pub(super) fn pop(&mut self, now: Moment) -> Option<(Timer, ChannelId)> {
        if self.next()? > now {
            return None;
        }
        self.0.pop().map(|Reverse((_, timer, channel))| (timer, channel))
    }
}
