//! Delay and order: one direction of one connection.

use std::collections::{HashMap, VecDeque};

use blvm_stratum_v2::mining::moment::Moment;
use blvm_stratum_v2::session::Lane;

/// Frames on their way. In order within a queue, whatever their delays; on a pipe there is one
/// queue for all lanes, otherwise one for each.
#[derive(Debug, Default)]
pub(crate) struct Direction {
    by_lane: bool,
    queues: HashMap<Lane, Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    last_arrival: Moment,
    frames: VecDeque<(Lane, Vec<u8>)>,
}

impl Direction {
    pub(crate) fn new(by_lane: bool) -> Self {
        Self { by_lane, queues: HashMap::new() }
    }

    /// Takes a frame that would arrive at `arrival` if nothing were ahead of it. Returns the queue
    /// that it is in, and when it does arrive: then [`deliver`](Self::deliver) has it.
    pub(crate) fn send(&mut self, lane: Lane, frame: Vec<u8>, arrival: Moment) -> (Lane, Moment) {
        let key = if self.by_lane { lane } else { Lane::Control };
        let queue = self.queues.entry(key).or_default();
        queue.last_arrival = queue.last_arrival.max(arrival);
        queue.frames.push_back((key, frame));
        (key, queue.last_arrival)
    }

    /// The frame at the head of a queue.
    pub(crate) fn deliver(&mut self, key: Lane) -> (Lane, Vec<u8>) {
        let queue = self.queues.get_mut(&key).expect("something was sent on this lane");
        queue.frames.pop_front().expect("each frame is delivered once")
    }
}
