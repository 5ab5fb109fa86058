//! Frames on their way out, one after another in one buffer.

use std::collections::VecDeque;

use super::Lane;
use crate::wire::Message;

/// Above this, an empty buffer is given back rather than kept.
const KEEP: usize = 16 * 1024;

#[derive(Debug, Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    taken: usize,
    frames: VecDeque<(Lane, usize)>,
}

impl Outbox {
    pub(super) fn push<'m>(&mut self, lane: Lane, message: &impl Message<'m>) {
        self.push_with(lane, |out| {
            let written = message.encode(out);
            debug_assert!(written.is_ok(), "a mining server sends no message near the frame's limit");
        });
    }

    /// Adds the one frame that `write` appends.
    pub(super) fn push_with(&mut self, lane: Lane, write: impl FnOnce(&mut Vec<u8>)) {
        if self.taken == self.bytes.len() {
            self.reset();
        }
        let start = self.bytes.len();
        write(&mut self.bytes);
        self.frames.push_back((lane, self.bytes.len() - start));
    }

    pub(super) fn pop(&mut self) -> Option<(Lane, &[u8])> {
        let (lane, len) = self.frames.pop_front()?;
        let start = self.taken;
        self.taken += len;
        Some((lane, &self.bytes[start..self.taken]))
    }

    fn reset(&mut self) {
        self.taken = 0;
        self.bytes.clear();
        if self.bytes.capacity() > KEEP {
            self.bytes = Vec::new();
        }
    }
}
