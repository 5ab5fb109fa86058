//! Which lane a client's messages take.

use std::collections::{HashMap, HashSet};

use crate::session::Lane;
use crate::wire::mining::{
    CloseChannel, Mining, OpenExtendedMiningChannel, OpenExtendedMiningChannelSuccess,
    OpenMiningChannelError, OpenStandardMiningChannel, OpenStandardMiningChannelSuccess, SetCustomMiningJob,
    SubmitSharesExtended, SubmitSharesStandard, UpdateChannel,
};
use crate::wire::{ChannelId, Header, Message, RequestId};

/// The lanes of a client's channels.
#[derive(Debug, Default)]
pub(super) struct Routes {
    lanes: u64,
    opening: HashMap<RequestId, Lane>,
    open: HashMap<ChannelId, Lane>,
    /// Lanes that ended before it was known which channel theirs is.
    over: HashSet<Lane>,
}

/// Where a frame goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// On this lane.
    On(Lane),
    /// On this lane, as its first.
    First(Lane),
    /// On this lane, as its last.
    Last(Lane),
    /// Its channel is not open any more, so no one waits for it.
    Nowhere,
}

impl Routes {
    /// Where a frame goes.
    pub(super) fn outgoing(&mut self, frame: &[u8]) -> Route {
        let Some((header, payload)) = frame.split_first_chunk() else { return Route::Nowhere };
        let header = Header::read(header);
        let number = payload.first_chunk().map(|number| u32::from_le_bytes(*number));
        let (0, Some(number)) = (header.extension, number) else { return Route::On(Lane::Control) };
        match header.msg_type {
            OpenStandardMiningChannel::TYPE | OpenExtendedMiningChannel::TYPE => {
                self.lanes += 1;
                let lane = Lane::Channel(self.lanes);
                self.opening.insert(RequestId(number), lane);
                Route::First(lane)
            }
            CloseChannel::TYPE => match self.open.remove(&ChannelId(number)) {
                Some(lane) => Route::Last(lane),
                // that of a group
                None => Route::On(Lane::Control),
            },
            SubmitSharesStandard::TYPE
            | SubmitSharesExtended::TYPE
            | UpdateChannel::TYPE
            | SetCustomMiningJob::TYPE => match self.open.get(&ChannelId(number)) {
                Some(lane) => Route::On(*lane),
                None => Route::Nowhere,
            },
            _ => Route::On(Lane::Control),
        }
    }

    /// Learns from what the server says. Returns a channel that was opened just now, but whose lane
    /// has ended already.
    pub(super) fn incoming(&mut self, header: &Header, payload: &[u8]) -> Option<ChannelId> {
        let telling = [
            OpenStandardMiningChannelSuccess::TYPE,
            OpenExtendedMiningChannelSuccess::TYPE,
            OpenMiningChannelError::TYPE,
            CloseChannel::TYPE,
        ];
        if header.extension != 0 || !telling.contains(&header.msg_type) {
            return None;
        }
        match Mining::decode(header.msg_type, payload) {
            Ok(Mining::OpenStandardMiningChannelSuccess(m)) => self.opened(m.request_id, m.channel_id),
            Ok(Mining::OpenExtendedMiningChannelSuccess(m)) => self.opened(m.request_id, m.channel_id),
            Ok(Mining::OpenMiningChannelError(m)) => {
                self.opening.remove(&m.request_id);
                None
            }
            Ok(Mining::CloseChannel(m)) => {
                self.open.remove(&m.channel_id);
                None
            }
            // whoever reads the message finds the fault
            _ => None,
        }
    }

    fn opened(&mut self, request: RequestId, channel: ChannelId) -> Option<ChannelId> {
        let lane = self.opening.remove(&request)?;
        if self.over.remove(&lane) {
            return Some(channel);
        }
        self.open.insert(channel, lane);
        None
    }

    /// Nothing more comes on this lane. Returns its channel, if that was open.
    pub(super) fn ended(&mut self, lane: Lane) -> Option<ChannelId> {
        if self.opening.values().any(|opening| *opening == lane) {
            self.over.insert(lane);
        }
        let channel = self.open.iter().find(|(_, of)| **of == lane).map(|(channel, _)| *channel)?;
        self.open.remove(&channel);
        Some(channel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::codec::{B032, Str255};
    use crate::wire::{SequenceNumber, U256};

    fn frame<'m>(message: &impl Message<'m>) -> Vec<u8> {
        let mut frame = Vec::new();
        message.encode(&mut frame).unwrap();
        frame
    }

    fn open(request: u32) -> Vec<u8> {
        frame(&OpenStandardMiningChannel {
            request_id: RequestId(request),
            user_identity: Str255::default(),
            nominal_hash_rate: 1.0,
            max_target: U256([0xff; 32]),
        })
    }

    fn close(channel: u32) -> Vec<u8> {
        frame(&CloseChannel { channel_id: ChannelId(channel), reason_code: Str255::default() })
    }

    fn share(channel: u32) -> Vec<u8> {
        frame(&SubmitSharesStandard {
            channel_id: ChannelId(channel),
            sequence_number: SequenceNumber(1),
            job_id: Default::default(),
            nonce: 0,
            ntime: 0,
            version: 0,
        })
    }

    fn hear<'m>(routes: &mut Routes, message: &impl Message<'m>) -> Option<ChannelId> {
        let frame = frame(message);
        let (header, payload) = frame.split_first_chunk().unwrap();
        routes.incoming(&Header::read(header), payload)
    }

    fn opened(routes: &mut Routes, request: u32, channel: u32) -> Option<ChannelId> {
        hear(
            routes,
            &OpenStandardMiningChannelSuccess {
                request_id: RequestId(request),
                channel_id: ChannelId(channel),
                target: U256([0xff; 32]),
                extranonce_prefix: B032::default(),
                group_channel_id: ChannelId(1),
            },
        )
    }

    #[test]
    fn each_channel_has_a_lane_from_its_opening_to_its_end() {
        let mut routes = Routes::default();
        assert_eq!(routes.outgoing(&open(7)), Route::First(Lane::Channel(1)));
        assert_eq!(routes.outgoing(&open(8)), Route::First(Lane::Channel(2)));
        assert_eq!(routes.outgoing(&share(20)), Route::Nowhere);
        opened(&mut routes, 8, 20);
        opened(&mut routes, 7, 30);
        assert_eq!(routes.outgoing(&share(20)), Route::On(Lane::Channel(2)));
        assert_eq!(routes.outgoing(&share(30)), Route::On(Lane::Channel(1)));
        assert_eq!(routes.outgoing(&close(20)), Route::Last(Lane::Channel(2)));
        assert_eq!(routes.outgoing(&share(20)), Route::Nowhere);
        // a group's goes on the control stream
        assert_eq!(routes.outgoing(&close(1)), Route::On(Lane::Control));
        assert_eq!(routes.ended(Lane::Channel(2)), None);
        assert_eq!(routes.ended(Lane::Channel(1)), Some(ChannelId(30)));
        assert_eq!(routes.outgoing(&share(30)), Route::Nowhere);
    }

    #[test]
    fn what_the_server_closes_or_refuses_has_no_lane() {
        let mut routes = Routes::default();
        routes.outgoing(&open(1));
        routes.outgoing(&open(2));
        let error_code = Str255::default();
        hear(&mut routes, &OpenMiningChannelError { request_id: RequestId(1), error_code });
        opened(&mut routes, 1, 20);
        opened(&mut routes, 2, 30);
        assert_eq!(routes.outgoing(&share(20)), Route::Nowhere);
        hear(&mut routes, &CloseChannel { channel_id: ChannelId(30), reason_code: Str255::default() });
        assert_eq!(routes.outgoing(&share(30)), Route::Nowhere);
    }

    #[test]
    fn the_end_of_a_lane_may_overtake_its_opening() {
        let mut routes = Routes::default();
        routes.outgoing(&open(1));
        routes.outgoing(&open(2));
        assert_eq!(routes.ended(Lane::Channel(1)), None);
        assert_eq!(opened(&mut routes, 1, 20), Some(ChannelId(20)));
        assert_eq!(routes.outgoing(&share(20)), Route::Nowhere);
        assert_eq!(opened(&mut routes, 2, 30), None);
        assert_eq!(routes.outgoing(&share(30)), Route::On(Lane::Channel(2)));
    }
}
