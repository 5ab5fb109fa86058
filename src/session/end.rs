//! How channels end, and with them their lanes (§5.3.9).
//!
//! ```text
//! the last channel of the lane is closed ──> done ── all that is sealed is sent ──> finished
//! the request for one is refused ─────────────^
//! ```

use super::channel::Channel;
use super::connection::Connection;
use super::{Event, Lane, Out, Shared, Todo};
use crate::mining::moment::Moment;
use crate::mining::payout::PayoutClass;
use crate::wire::mining::CloseChannel;

impl Connection {
    /// §5.3.9 CloseChannel. On the control lane it may name any channel, or a group: that closes
    /// the channels that the group has now. On a channel's lane it may name that channel.
    pub(super) fn close_channel(
        &mut self,
        out: &mut Out,
        now: Moment,
        lane: Lane,
        m: &CloseChannel<'_>,
        shared: &impl Shared,
    ) {
        let group = self.groups.iter().find(|(_, id)| *id == m.channel_id);
        match (lane, group.cloned()) {
            (Lane::Control, Some((class, _))) => {
                self.close(out, now, shared, |channel| channel.account.class == class);
            }
            (Lane::Control, None) => self.close(out, now, shared, |channel| channel.id == m.channel_id),
            _ => self.close(out, now, shared, |channel| channel.id == m.channel_id && channel.lane == lane),
        }
    }

    /// The client will say nothing more on this lane of a channel.
    pub(super) fn ended(&mut self, out: &mut Out, now: Moment, lane: Lane, shared: &impl Shared) {
        self.close(out, now, shared, |channel| channel.lane == lane);
        self.leave_lane(out, lane);
        // nothing comes that would have to be ignored
        self.done.remove(&lane);
    }

    fn close(&mut self, out: &mut Out, now: Moment, shared: &impl Shared, which: impl Fn(&Channel) -> bool) {
        let closing = self.channels.values().filter(|channel| which(channel));
        for id in closing.map(|channel| channel.id).collect::<Vec<_>>() {
            self.seal(out, now, id);
            if let Some(channel) = self.channels.remove(&id) {
                let lane = channel.lane;
                self.leave_audience(id);
                self.waiting.retain(|waiting| *waiting != id);
                self.leave_group(&channel.account.class);
                give_up(out, channel, shared);
                self.leave_lane(out, lane);
            }
        }
        if self.channels.is_empty() {
            self.idle_since.get_or_insert(now);
        }
    }

    /// Forgets the group if that was its last channel: the next one gets a group with a new id.
    fn leave_group(&mut self, class: &PayoutClass) {
        if self.channels.values().all(|channel| channel.account.class != *class) {
            self.groups.retain(|(known, _)| known != class);
        }
    }

    /// Is done with the lane of a channel if it has none now: nothing follows but what is sealed.
    pub(super) fn leave_lane(&mut self, out: &mut Out, lane: Lane) {
        let Lane::Channel(_) = lane else { return };
        if self.channels.values().all(|channel| channel.lane != lane) && self.done.insert(lane) {
            self.finish_after_sealed(out, lane);
        }
    }

    pub(super) fn end(self, out: &mut Out, shared: &impl Shared) {
        for channel in self.channels.into_values() {
            give_up(out, channel, shared);
        }
    }
}

fn give_up(out: &mut Out, channel: Channel, shared: &impl Shared) {
    shared.release_prefix(channel.prefix);
    out.todo.push_back(Todo::Event(Event::Closed { channel: channel.id, account: channel.account }));
}
