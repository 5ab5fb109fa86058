//! Miners that take their time.

use std::collections::HashMap;
use std::pin::pin;

use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use blvm_stratum_v2::miner::assignment::{Assignment, Assignments};
use blvm_stratum_v2::mining::Target;
use blvm_stratum_v2::mining::hash::sha256d;
use blvm_stratum_v2::transport::client::{Client, Device};
use blvm_stratum_v2::wire::codec::Str255;
use blvm_stratum_v2::wire::common::flags::REQUIRES_STANDARD_JOBS;
use blvm_stratum_v2::wire::mining::{Mining, OpenStandardMiningChannel, SubmitSharesStandard};
use blvm_stratum_v2::wire::url::StratumUrl;
use blvm_stratum_v2::wire::{ChannelId, RequestId, SequenceNumber, U256};

use crate::core::soon;

/// A connection with a channel that must last for as long as the test.
pub(crate) struct Miner {
    client: Client,
    channel: ChannelId,
    assignments: Assignments,
    nonce: u32,
    sent: u32,
    accepted_to: u32,
    refused: HashMap<u32, String>,
}

/// A header whose hash is a block's.
#[derive(Debug, Clone)]
pub(crate) struct Find {
    assignment: Assignment,
    nonce: u32,
    pub(crate) hash: BlockHash,
}

impl Miner {
    /// Connects and waits for work.
    pub(crate) async fn at(url: &StratumUrl, user: &str) -> Self {
        let mut miner = Self::idle_at(url, user).await;
        soon("a miner has work", async {
            while miner.assignments.current().is_none() {
                miner.hear().await;
            }
        })
        .await;
        miner
    }

    /// Connects.
    pub(crate) async fn idle_at(url: &StratumUrl, user: &str) -> Self {
        soon("a miner is let in", Self::join(url, user)).await
    }

    async fn join(url: &StratumUrl, user: &str) -> Self {
        let device = Device { flags: REQUIRES_STANDARD_JOBS, ..Device::default() };
        let mut client = Client::connect(url, &device).await.unwrap();
        let open = OpenStandardMiningChannel {
            request_id: RequestId(1),
            user_identity: Str255::truncated(user),
            nominal_hash_rate: 1.0,
            max_target: U256([0xff; 32]),
        };
        client.queue(&open).unwrap();
        let (channel, target) = match client.next().await.unwrap() {
            Mining::OpenStandardMiningChannelSuccess(m) => (m.channel_id, m.target.into()),
            other => panic!("no channel: {other:?}"),
        };
        let assignments = Assignments::new(channel, target);
        Self { client, channel, assignments, nonce: 0, sent: 0, accepted_to: 0, refused: HashMap::new() }
    }

    /// The block that its work is on.
    pub(crate) fn tip(&self) -> Option<BlockHash> {
        self.assignments.current().map(|current| BlockHash::from_byte_array(current.prev_hash))
    }

    /// What it mines on.
    pub(crate) fn assignment(&self) -> Assignment {
        self.assignments.current().expect("it has work").clone()
    }

    /// Waits for work on this block.
    pub(crate) async fn is_on(&mut self, tip: BlockHash) {
        soon("work on a new block", async {
            while self.tip() != Some(tip) {
                self.hear().await;
            }
        })
        .await;
    }

    /// Waits for other work than it has.
    pub(crate) async fn has_another_job(&mut self) {
        let before = self.assignment();
        while self.assignment().merkle_root == before.merkle_root {
            self.hear().await;
        }
    }

    /// Listens to the server while something else goes on.
    pub(crate) async fn during<T>(&mut self, other: impl Future<Output = T>) -> T {
        let mut other = pin!(other);
        loop {
            tokio::select! {
                outcome = &mut other => return outcome,
                () = self.hear() => {}
            }
        }
    }

    /// Finds a block on the present work.
    pub(crate) fn find(&mut self) -> Find {
        let assignment = self.assignment();
        let network = Target::from_compact(assignment.nbits).unwrap();
        let mut header = assignment.header();
        loop {
            self.nonce += 1;
            header[76..80].copy_from_slice(&self.nonce.to_le_bytes());
            let hash = sha256d(&header);
            if assignment.target.is_met_by(&hash) && network.is_met_by(&hash) {
                return Find { assignment, nonce: self.nonce, hash: BlockHash::from_byte_array(hash) };
            }
        }
    }

    /// Submits a block and waits for the answer: an error's code, if the share is refused.
    pub(crate) async fn submit(&mut self, find: &Find) -> Result<(), String> {
        self.sent += 1;
        let number = self.sent;
        let share = SubmitSharesStandard {
            channel_id: self.channel,
            sequence_number: SequenceNumber(number),
            job_id: find.assignment.job_id,
            nonce: find.nonce,
            ntime: find.assignment.ntime,
            version: find.assignment.version,
        };
        self.client.queue(&share).unwrap();
        soon("a share is answered", async {
            while self.accepted_to < number && !self.refused.contains_key(&number) {
                self.hear().await;
            }
        })
        .await;
        self.refused.remove(&number).map_or(Ok(()), Err)
    }

    /// Finds a block, has the share accepted, and is given work on top of it.
    pub(crate) async fn block(&mut self) -> BlockHash {
        let find = self.find();
        assert_eq!(self.submit(&find).await, Ok(()));
        self.is_on(find.hash).await;
        find.hash
    }

    /// Takes in one message. The connection must last.
    pub(crate) async fn hear(&mut self) {
        match self.client.next().await.expect("a miner stays connected") {
            Mining::SubmitSharesSuccess(m) => self.accepted_to = m.last_sequence_number.0,
            Mining::SubmitSharesError(m) => {
                self.refused.insert(m.sequence_number.0, m.error_code.to_string());
            }
            Mining::CloseChannel(m) => panic!("a channel is closed: {}", m.reason_code),
            message => {
                self.assignments.handle(&message);
            }
        }
    }
}
