//! Where each message belongs, and when a lane is finished: at the server's end.

use std::collections::{HashMap, HashSet};

use blvm_stratum_v2::session::Lane;
use blvm_stratum_v2::wire::mining::Mining;

use super::books::Owed;
use super::model::Model;

/// The lanes of one connection.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    /// By request.
    requests: HashMap<u32, Lane>,
    /// By channel, the closed ones too.
    channels: HashMap<u32, Lane>,
    /// The lanes of channels that have had an Open*, or have ended.
    used: HashSet<Lane>,
    finished: HashSet<Lane>,
}

impl Lanes {
    /// The server gets a request for a channel.
    pub(crate) fn request(&mut self, lane: Lane, request: u32) {
        self.requests.insert(request, lane);
        self.touch(lane);
    }

    /// The server hears that the client says nothing more on a lane.
    pub(crate) fn ended(&mut self, lane: Lane) {
        self.touch(lane);
    }

    fn touch(&mut self, lane: Lane) {
        if let Lane::Channel(_) = lane {
            self.used.insert(lane);
        }
    }

    pub(crate) fn of(&self, channel: u32) -> Option<Lane> {
        self.channels.get(&channel).copied()
    }

    pub(crate) fn channels_on(&self, lane: Lane) -> Vec<u32> {
        let on_it = self.channels.iter().filter(|(_, known)| **known == lane);
        on_it.map(|(channel, _)| *channel).collect()
    }

    /// Its channel is closed, or was refused: the server takes in nothing more.
    pub(crate) fn is_over(&self, lane: Lane, model: &Model) -> bool {
        self.used.contains(&lane) && self.channels_on(lane).iter().all(|id| !model.channels.contains_key(id))
    }

    /// A message leaves the server, as an answer to what came on `origin` if it is one.
    pub(crate) fn sent(&mut self, lane: Lane, origin: Option<Lane>, message: &Mining<'_>) {
        assert!(!self.finished.contains(&lane), "on the finished {lane:?}: {message:?}");
        let belongs = match message {
            Mining::OpenStandardMiningChannelSuccess(m) => self.opened(m.request_id.0, m.channel_id.0),
            Mining::OpenExtendedMiningChannelSuccess(m) => self.opened(m.request_id.0, m.channel_id.0),
            Mining::NewMiningJob(_)
            | Mining::NewExtendedMiningJob(_)
            | Mining::SetNewPrevHash(_)
            | Mining::SetTarget(_) => Lane::Push,
            Mining::OpenMiningChannelError(m) => self.requests[&m.request_id.0],
            Mining::SubmitSharesSuccess(m) => self.channels[&m.channel_id.0],
            Mining::SubmitSharesError(_) | Mining::UpdateChannelError(_) => origin.expect("an answer"),
            other => panic!("not for this client: {other:?}"),
        };
        assert_eq!(lane, belongs, "on the wrong lane: {message:?}");
    }

    fn opened(&mut self, request: u32, channel: u32) -> Lane {
        self.channels.insert(channel, self.requests[&request]);
        Lane::Push
    }

    /// The server says nothing more on a lane.
    pub(crate) fn finish(&mut self, lane: Lane) {
        assert!(self.used.contains(&lane), "{lane:?} is finished before it was used");
        assert!(self.finished.insert(lane), "{lane:?} is finished twice");
    }

    /// Finished are those lanes, and only those, that are over and owe nothing.
    pub(crate) fn check(&self, model: &Model, owed: &Owed) {
        for lane in &self.used {
            let owes = self.channels_on(*lane).iter().any(|channel| !owed.is_settled_with(*channel));
            let due = self.is_over(*lane, model) && !owes;
            assert_eq!(self.finished.contains(lane), due, "{lane:?} is finished too early, or not in time");
        }
    }

    pub(crate) fn finished(&self) -> usize {
        self.finished.len()
    }
}
