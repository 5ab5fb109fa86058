//! A miner with one channel, who says what he wants and keeps account of the answers.

use blvm_stratum_v2::miner::assignment::Assignments;
use blvm_stratum_v2::mining::hash::sha256d;
use blvm_stratum_v2::transport::client::{Client, ClientError, Device};
use blvm_stratum_v2::wire::codec::Str255;
use blvm_stratum_v2::wire::common::flags::REQUIRES_STANDARD_JOBS;
use blvm_stratum_v2::wire::mining::{Mining, OpenStandardMiningChannel, SubmitSharesStandard, UpdateChannel};
use blvm_stratum_v2::wire::url::StratumUrl;
use blvm_stratum_v2::wire::{ChannelId, RequestId, SequenceNumber, U256};

use super::soon;

pub(crate) struct Miner {
    client: Client,
    channel: ChannelId,
    /// The part of the search space that is its own.
    pub(crate) prefix: Vec<u8>,
    assignments: Assignments,
    nonce: u32,
    found_on: [u8; 32],
    pub(crate) sent: u32,
    pub(crate) accepted: u32,
    /// The error codes, in order.
    pub(crate) refused: Vec<String>,
    updates_refused: u32,
}

impl Miner {
    pub(crate) async fn at(url: &StratumUrl) -> Self {
        soon("a miner has work", Self::join(url)).await.unwrap()
    }

    async fn join(url: &StratumUrl) -> Result<Self, ClientError> {
        let device = Device { flags: REQUIRES_STANDARD_JOBS, ..Device::default() };
        let mut client = Client::connect(url, &device).await?;
        client.queue(&OpenStandardMiningChannel {
            request_id: RequestId(1),
            user_identity: Str255::truncated("again"),
            nominal_hash_rate: 1.0,
            max_target: U256([0xff; 32]),
        })?;
        let Mining::OpenStandardMiningChannelSuccess(m) = client.next().await? else { panic!("no channel") };
        let (channel, prefix) = (m.channel_id, m.extranonce_prefix.as_bytes().to_vec());
        let assignments = Assignments::new(channel, m.target.into());
        let mut miner = Self {
            client,
            channel,
            prefix,
            assignments,
            nonce: 0,
            found_on: [0; 32],
            sent: 0,
            accepted: 0,
            refused: Vec::new(),
            updates_refused: 0,
        };
        while miner.assignments.current().is_none() {
            miner.hear().await?;
        }
        Ok(miner)
    }

    /// A share for the job at hand. On the embedded chain it is a block too, and others become stale by it.
    pub(crate) fn find(&mut self) -> SubmitSharesStandard {
        let job = self.assignments.current().unwrap().clone();
        self.found_on = job.prev_hash;
        let mut header = job.header();
        loop {
            self.nonce += 1;
            header[76..80].copy_from_slice(&self.nonce.to_le_bytes());
            if job.target.is_met_by(&sha256d(&header)) {
                break;
            }
        }
        SubmitSharesStandard {
            channel_id: self.channel,
            sequence_number: SequenceNumber(0),
            job_id: job.job_id,
            nonce: self.nonce,
            ntime: job.ntime,
            version: job.version,
        }
    }

    /// On the channel that it has now, under the next number.
    pub(crate) fn submit(&mut self, share: SubmitSharesStandard) {
        self.sent += 1;
        let (channel_id, sequence_number) = (self.channel, SequenceNumber(self.sent));
        self.client.queue(&SubmitSharesStandard { channel_id, sequence_number, ..share }).unwrap();
    }

    /// Submits until a share is accepted, and returns that.
    pub(crate) async fn earn(&mut self) -> SubmitSharesStandard {
        let before = self.accepted;
        loop {
            let share = self.find();
            self.submit(share);
            self.settle().await;
            if self.accepted > before {
                return share;
            }
        }
    }

    /// Waits for work on top of the block that was found last.
    pub(crate) async fn has_another_tip(&mut self) {
        soon("work on top of a block", async {
            while self.assignments.current().unwrap().prev_hash == self.found_on {
                self.hear().await.unwrap();
            }
        })
        .await;
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.accepted + self.refused.len() as u32 == self.sent
    }

    pub(crate) async fn settle(&mut self) {
        soon("every share is answered", async {
            while !self.is_settled() {
                self.hear().await.unwrap();
            }
        })
        .await;
    }

    /// Waits until the server has taken in what was submitted: it answers nonsense at once, and in order.
    pub(crate) async fn is_taken_in(&mut self) {
        let (channel_id, maximum_target) = (self.channel, U256([0xff; 32]));
        self.client
            .queue(&UpdateChannel { channel_id, nominal_hash_rate: f32::NAN, maximum_target })
            .unwrap();
        soon("nonsense is refused", async {
            while self.updates_refused == 0 {
                self.hear().await.unwrap();
            }
        })
        .await;
    }

    /// Listens until the connection ends, and tells how it did.
    pub(crate) async fn until_lost(&mut self) -> ClientError {
        soon("the connection ends", async {
            loop {
                if let Err(error) = self.hear().await {
                    return error;
                }
            }
        })
        .await
    }

    /// Takes in one message.
    pub(crate) async fn hear(&mut self) -> Result<(), ClientError> {
        match self.client.next().await? {
            Mining::SubmitSharesSuccess(m) => {
                self.accepted += m.new_submits_accepted_count;
                let answered = self.accepted + self.refused.len() as u32;
                assert!(answered <= self.sent, "each share is answered once");
            }
            Mining::UpdateChannelError(_) => self.updates_refused += 1,
            Mining::SubmitSharesError(m) => self.refused.push(m.error_code.to_string()),
            message => {
                self.assignments.handle(&message);
            }
        }
        Ok(())
    }
}
