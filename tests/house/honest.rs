//! A miner that only wants to mine.

use std::future::Future;
use std::pin::pin;

use blvm_stratum_v2::miner::assignment::{Assignment, Assignments};
use blvm_stratum_v2::mining::Target;
use blvm_stratum_v2::mining::hash::sha256d;
use blvm_stratum_v2::transport::client::{Client, Device};
use blvm_stratum_v2::wire::codec::Str255;
use blvm_stratum_v2::wire::common::flags::REQUIRES_STANDARD_JOBS;
use blvm_stratum_v2::wire::mining::{Mining, OpenStandardMiningChannel, SubmitSharesStandard};
use blvm_stratum_v2::wire::url::{StratumUrl, Transport};
use blvm_stratum_v2::wire::{ChannelId, RequestId, SequenceNumber, U256};

use super::{House, soon};

pub(crate) struct Honest {
    client: Client,
    channel: ChannelId,
    assignments: Assignments,
    nonce: u32,
    sent: u32,
    acknowledged: u32,
}

impl Honest {
    /// Connects over TCP and opens a channel.
    pub(crate) async fn at(house: &House) -> Self {
        Self::to(&house.url(Transport::Tcp)).await
    }

    /// Connects to this URL and opens a channel.
    pub(crate) async fn to(url: &StratumUrl) -> Self {
        soon("an honest miner is let in", Self::join(url)).await
    }

    async fn join(url: &StratumUrl) -> Self {
        let device = Device { flags: REQUIRES_STANDARD_JOBS, ..Device::default() };
        let mut client = Client::connect(url, &device).await.unwrap();
        let open = OpenStandardMiningChannel {
            request_id: RequestId(1),
            user_identity: Str255::truncated("honest"),
            nominal_hash_rate: 1.0,
            max_target: U256([0xff; 32]),
        };
        client.queue(&open).unwrap();
        let Mining::OpenStandardMiningChannelSuccess(m) = client.next().await.unwrap() else {
            panic!("no channel for an honest miner");
        };
        let channel = m.channel_id;
        let assignments = Assignments::new(channel, m.target.into());
        let mut honest = Self { client, channel, assignments, nonce: 0, sent: 0, acknowledged: 0 };
        while honest.assignments.current().is_none() {
            honest.hear().await;
        }
        honest
    }

    /// Mines while something else goes on, and a little longer.
    pub(crate) async fn mines_during<T>(&mut self, other: impl Future<Output = T>) -> T {
        let mut other = pin!(other);
        let outcome = loop {
            tokio::select! {
                outcome = &mut other => break outcome,
                () = self.share() => {}
            }
        };
        self.share().await;
        outcome
    }

    /// Finds a share that is no block, and has it acknowledged.
    pub(crate) async fn share(&mut self) {
        let found = self.search(false);
        self.submit(&found).await;
    }

    /// Finds a block, and is given work on top of it.
    pub(crate) async fn block(&mut self) {
        let found = self.search(true);
        self.submit(&found).await;
        soon("work on top of a block", async {
            while self.assignments.current().is_none_or(|now| now.prev_hash == found.prev_hash) {
                self.hear().await;
            }
        })
        .await;
    }

    /// Waits for another job on the same block.
    pub(crate) async fn another_job(&mut self) {
        let before = self.assignments.current().cloned();
        soon("another job for an honest miner", async {
            while self.assignments.current().map(|now| now.job_id)
                == before.as_ref().map(|before| before.job_id)
            {
                self.hear().await;
            }
        })
        .await;
    }

    /// Waits for a job with this time.
    pub(crate) async fn job_at(&mut self, ntime: u32) {
        soon("a new job for an honest miner", async {
            while self.ntime() != ntime {
                self.hear().await;
            }
        })
        .await;
    }

    /// Waits until shares have to meet this target.
    pub(crate) async fn target_is(&mut self, target: Target) {
        soon("a new target for an honest miner", async {
            while self.assignments.current().is_none_or(|current| current.target != target) {
                self.hear().await;
            }
        })
        .await;
    }

    /// The time of the job being mined.
    pub(crate) fn ntime(&self) -> u32 {
        self.assignments.current().map_or(0, |current| current.ntime)
    }

    async fn submit(&mut self, found: &Assignment) {
        self.sent += 1;
        let share = SubmitSharesStandard {
            channel_id: self.channel,
            sequence_number: SequenceNumber(self.sent),
            job_id: found.job_id,
            nonce: self.nonce,
            ntime: found.ntime,
            version: found.version,
        };
        self.client.queue(&share).unwrap();
        soon("an honest share is acknowledged", async {
            while self.acknowledged < self.sent {
                self.hear().await;
            }
        })
        .await;
    }

    fn search(&mut self, block: bool) -> Assignment {
        let assignment = self.assignments.current().expect("a job has come").clone();
        let network = Target::from_compact(assignment.nbits).unwrap();
        let mut header = assignment.header();
        loop {
            self.nonce += 1;
            header[76..80].copy_from_slice(&self.nonce.to_le_bytes());
            let hash = sha256d(&header);
            if assignment.target.is_met_by(&hash) && network.is_met_by(&hash) == block {
                return assignment;
            }
        }
    }

    async fn hear(&mut self) {
        let message = self.client.next().await.expect("an honest miner stays connected");
        match message {
            Mining::SubmitSharesSuccess(m) => self.acknowledged = m.last_sequence_number.0,
            Mining::SubmitSharesError(m) => panic!("an honest share was refused: {}", m.error_code),
            message => {
                self.assignments.handle(&message);
            }
        }
    }
}
