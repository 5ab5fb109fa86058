//! Opening channels (§5.3.2 to §5.3.6).

use std::sync::Arc;

use super::channel::{Channel, Kind};
use super::connection::Connection;
use super::{CloseReason, Event, Lane, Out, Shared, Todo};
use crate::mining::extranonce::ROLLABLE;
use crate::mining::moment::Moment;
use crate::mining::share::Account;
use crate::mining::{Hashrate, Target};
use crate::wire::codec::{B032, Str255};
use crate::wire::mining::{
    OpenExtendedMiningChannel, OpenExtendedMiningChannelSuccess, OpenMiningChannelError,
    OpenStandardMiningChannel, OpenStandardMiningChannelSuccess,
};
use crate::wire::{ChannelId, RequestId, U256};

/// Extended channels of a connection whose client takes no messages to groups: such firmware
/// opens one.
const MAX_ADDRESSED_SINGLY: usize = 16;

/// What both kinds of request have in common.
struct Request<'a> {
    request_id: RequestId,
    user_identity: Str255<'a>,
    nominal_hash_rate: f32,
    max_target: U256,
    kind: Kind,
}

impl Connection {
    /// §5.3.2 OpenStandardMiningChannel
    pub(super) fn open_standard(
        &mut self,
        out: &mut Out,
        now: Moment,
        lane: Lane,
        m: &OpenStandardMiningChannel<'_>,
        shared: &impl Shared,
    ) -> Result<(), CloseReason> {
        let OpenStandardMiningChannel { request_id, user_identity, nominal_hash_rate, max_target } = *m;
        let kind = Kind::Standard;
        let request = Request { request_id, user_identity, nominal_hash_rate, max_target, kind };
        self.open(out, now, lane, &request, shared);
        Ok(())
    }

    /// §5.3.4 OpenExtendedMiningChannel
    pub(super) fn open_extended(
        &mut self,
        out: &mut Out,
        now: Moment,
        lane: Lane,
        m: &OpenExtendedMiningChannel<'_>,
        shared: &impl Shared,
    ) -> Result<(), CloseReason> {
        let OpenExtendedMiningChannel { request_id, user_identity, nominal_hash_rate, max_target, .. } = *m;
        let kind = Kind::Extended;
        let request = Request { request_id, user_identity, nominal_hash_rate, max_target, kind };
        if self.setup.standard_jobs_only {
            self.refuse(out, lane, &request, "extended-channels-not-supported-for-standard-jobs");
        } else if usize::from(m.min_extranonce_size) > ROLLABLE {
            self.refuse(out, lane, &request, "min-extranonce-size-too-large");
        } else {
            self.open(out, now, lane, &request, shared);
        }
        Ok(())
    }

    fn open(&mut self, out: &mut Out, now: Moment, lane: Lane, request: &Request<'_>, shared: &impl Shared) {
        let channel = match self.admit(out, now, lane, request, shared) {
            Ok(channel) => channel,
            Err(error_code) => return self.refuse(out, lane, request, error_code),
        };
        let id = channel.id;
        let account = channel.account.clone();
        let group = self.group_of(&account.class);
        succeed(out, request.request_id, &channel, group);
        self.add_channel(channel);
        self.start(out, id, group, &account.class, shared);
        self.remind(out, id);
        out.todo.push_back(Todo::Event(Event::Opened { channel: id, account }));
    }

    /// §5.3.6 OpenMiningChannel.Error
    fn refuse(&mut self, out: &mut Out, lane: Lane, request: &Request<'_>, code: &'static str) {
        let error_code = Str255::truncated(code);
        out.frames.push(lane, &OpenMiningChannelError { request_id: request.request_id, error_code });
        let user = request.user_identity.to_string();
        out.todo.push_back(Todo::Event(Event::Refused { code, user }));
        self.leave_lane(out, lane);
    }

    fn admit(
        &mut self,
        out: &Out,
        now: Moment,
        lane: Lane,
        request: &Request<'_>,
        shared: &impl Shared,
    ) -> Result<Channel, &'static str> {
        let account = account(request.user_identity, shared)?;
        let hashrate = Hashrate::new(request.nominal_hash_rate).ok_or("invalid-nominal-hashrate")?;
        let max_target = Target::from(request.max_target);
        if max_target == Target::ZERO {
            return Err("max-target-out-of-range");
        }
        let max_channels = match request.kind {
            // every job goes to each of them whole
            Kind::Extended if self.setup.per_channel => out.options.max_channels.min(MAX_ADDRESSED_SINGLY),
            _ => out.options.max_channels,
        };
        if self.channels.len() >= max_channels {
            return Err("channel-capacity-exhausted");
        }
        let prefix = shared.allocate_prefix(self.work.as_ref()).ok_or("channel-capacity-exhausted")?;
        // the group's id comes before that of its first channel
        self.group_of(&account.class);
        let id = self.next_channel();
        let mut channel = Channel::new(
            id,
            request.kind,
            lane,
            Arc::new(account),
            prefix,
            hashrate,
            max_target,
            now,
            &out.options,
        );
        channel.vardiff.set_easiest(shared.easiest_target());
        channel.target = channel.vardiff.target();
        Ok(channel)
    }
}

fn account(user_identity: Str255<'_>, shared: &impl Shared) -> Result<Account, &'static str> {
    let identity = user_identity.as_str().ok_or("invalid-user-identity")?;
    let class = shared.class_for(identity).map_err(|_| "invalid-user-identity")?;
    Ok(Account { user: identity.into(), class })
}

fn succeed(out: &mut Out, request_id: RequestId, channel: &Channel, group: ChannelId) {
    let channel_id = channel.id;
    let target = U256(channel.target.to_le_bytes());
    let extranonce = channel.prefix.standard();
    let group_channel_id = group;
    match channel.kind {
        Kind::Standard => {
            let extranonce_prefix = B032::of(&extranonce);
            out.frames.push(
                Lane::Push,
                &OpenStandardMiningChannelSuccess {
                    request_id,
                    channel_id,
                    target,
                    extranonce_prefix,
                    group_channel_id,
                },
            );
        }
        Kind::Extended => {
            let extranonce_prefix = B032::of(channel.prefix.as_bytes());
            out.frames.push(
                Lane::Push,
                &OpenExtendedMiningChannelSuccess {
                    request_id,
                    channel_id,
                    target,
                    extranonce_size: ROLLABLE as u16,
                    extranonce_prefix,
                    group_channel_id,
                },
            );
        }
    }
}
