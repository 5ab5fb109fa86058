//! What is credited, stored and acknowledged: nothing twice, nothing too early, nothing lost.

use std::collections::{HashMap, HashSet, VecDeque};

use blvm_stratum_v2::wire::mining::SubmitSharesSuccess;

/// Previous block, and merkle root with nothing rolled.
type Space = ([u8; 32], [u8; 32]);

/// What all connections were credited with, ever.
#[derive(Debug, Default)]
pub(crate) struct Books {
    hashes: HashSet<[u8; 32]>,
    /// Who had a search space first: connection, channel and job.
    spaces: HashMap<Space, (usize, u32, u32)>,
}

impl Books {
    pub(crate) fn credit(&mut self, hash: [u8; 32]) {
        assert!(self.hashes.insert(hash), "a header is credited twice");
    }

    pub(crate) fn credited(&self) -> usize {
        self.hashes.len()
    }

    /// A search space is given to one job of one channel, and never to another.
    pub(crate) fn assign(
        &mut self,
        connection: usize,
        (channel, job, prev_hash, root): (u32, u32, [u8; 32], [u8; 32]),
    ) {
        let owner = (connection, channel, job);
        let first = *self.spaces.entry((prev_hash, root)).or_insert(owner);
        assert_eq!(first, owner, "two (connection, channel, job) search the same space");
    }
}

/// What one connection is owed, at the server's end.
#[derive(Debug, Default)]
pub(crate) struct Owed {
    /// Shares credited.
    pub(crate) made: u64,
    /// Those that are safe.
    pub(crate) stored: u64,
    /// By channel: sequence number, number on the connection, difficulty.
    waiting: HashMap<u32, VecDeque<(u32, u64, f64)>>,
}

impl Owed {
    pub(crate) fn credit(&mut self, channel: u32, sequence: u32, difficulty: f64) {
        self.made += 1;
        self.waiting.entry(channel).or_default().push_back((sequence, self.made, difficulty));
    }

    pub(crate) fn acknowledge(&mut self, m: &SubmitSharesSuccess, max_batch: u32) {
        assert!((1..=max_batch).contains(&m.new_submits_accepted_count), "an odd batch: {m:?}");
        let waiting = self.waiting.get_mut(&m.channel_id.0).expect("the channel has shares");
        let count = m.new_submits_accepted_count as usize;
        assert!(count <= waiting.len(), "shares are acknowledged twice: {m:?}");
        let batch: Vec<_> = waiting.drain(..count).collect();
        let (last, number, _) = batch[count - 1];
        assert_eq!(last, m.last_sequence_number.0);
        assert!(number <= self.stored, "share {number} is acknowledged, {} are safe", self.stored);
        let sum: f64 = batch.iter().map(|(.., difficulty)| difficulty).sum();
        assert_eq!(m.new_shares_sum, sum as u64);
    }

    pub(crate) fn is_settled_with(&self, channel: u32) -> bool {
        self.waiting.get(&channel).is_none_or(VecDeque::is_empty)
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.waiting.values().all(VecDeque::is_empty)
    }
}
