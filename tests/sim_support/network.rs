//! Delay, order and loss: one direction of one connection.

use std::collections::{HashMap, VecDeque};

use blvm_stratum_v2::mining::moment::Moment;
use blvm_stratum_v2::session::Lane;

/// What travels on a lane.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Parcel {
    Frame(Vec<u8>),
    /// Nothing follows on this lane.
    End,
    /// As an end, and what is still on its way is lost.
    Reset,
    /// What is left of something that was.
    Lost,
}

/// Parcels on their way. In order within a queue, whatever their delays; on a pipe there is one
/// queue for all lanes, otherwise one for each.
#[derive(Debug, Default)]
pub(crate) struct Direction {
    by_lane: bool,
    queues: HashMap<Lane, Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    last_arrival: Moment,
    parcels: VecDeque<Parcel>,
}

impl Direction {
    pub(crate) fn new(by_lane: bool) -> Self {
        Self { by_lane, queues: HashMap::new() }
    }

    /// Takes a parcel that would arrive at `arrival` if nothing were ahead of it. Returns the
    /// queue that it is in, and when it does arrive: then [`deliver`](Self::deliver) has it.
    pub(crate) fn send(&mut self, lane: Lane, parcel: Parcel, arrival: Moment) -> (Lane, Moment) {
        assert!(self.by_lane || matches!(parcel, Parcel::Frame(_)), "a pipe ends as a whole");
        if parcel == Parcel::Reset {
            self.lose(lane);
        }
        let key = if self.by_lane { lane } else { Lane::Control };
        let queue = self.queues.entry(key).or_default();
        queue.last_arrival = queue.last_arrival.max(arrival);
        queue.parcels.push_back(parcel);
        (key, queue.last_arrival)
    }

    /// What is on its way on this lane never arrives.
    pub(crate) fn lose(&mut self, lane: Lane) {
        for parcel in self.queues.get_mut(&lane).into_iter().flat_map(|queue| &mut queue.parcels) {
            *parcel = Parcel::Lost;
        }
    }

    /// What is at the head of a queue.
    pub(crate) fn deliver(&mut self, key: Lane) -> Parcel {
        let queue = self.queues.get_mut(&key).expect("something was sent on this lane");
        queue.parcels.pop_front().expect("each parcel is delivered once")
    }
}
