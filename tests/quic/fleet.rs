//! Miners of several channels that keep account of every share.

use std::collections::BTreeSet;
use std::time::Duration;

use blvm_stratum_v2::miner::assignment::{Assignment, Assignments};
use blvm_stratum_v2::mining::Target;
use blvm_stratum_v2::mining::hash::sha256d;
use blvm_stratum_v2::transport::client::{Client, ClientError, Device};
use blvm_stratum_v2::wire::codec::Str255;
use blvm_stratum_v2::wire::common::flags::REQUIRES_STANDARD_JOBS;
use blvm_stratum_v2::wire::mining::{Mining, OpenStandardMiningChannel, SubmitSharesStandard};
use blvm_stratum_v2::wire::url::StratumUrl;
use blvm_stratum_v2::wire::{ChannelId, RequestId, SequenceNumber, U256};
use tokio::time::{MissedTickBehavior, interval, sleep_until, timeout};

use crate::raw::soon;

/// A miner that is still there after any of what a test does to its connection.
pub(crate) struct Miner {
    client: Client,
    channels: Vec<Channel>,
}

struct Channel {
    id: ChannelId,
    assignments: Assignments,
    nonce: u32,
    sent: u32,
    accepted: u32,
    refused: BTreeSet<u32>,
}

/// What a miner has to say of its shares.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Books {
    pub(crate) sent: u64,
    pub(crate) accepted: u64,
    pub(crate) refused: u64,
}

impl std::iter::Sum for Books {
    fn sum<I: Iterator<Item = Self>>(books: I) -> Self {
        books.fold(Self::default(), |a, b| Self {
            sent: a.sent + b.sent,
            accepted: a.accepted + b.accepted,
            refused: a.refused + b.refused,
        })
    }
}

impl Miner {
    pub(crate) async fn at(url: &StratumUrl, channels: u32) -> Self {
        soon("a miner has its channels", Self::join(url, channels)).await.unwrap()
    }

    /// [`at`](Self::at), as often as it takes: a handshake may fail where much is lost.
    pub(crate) async fn insist(url: &StratumUrl, channels: u32) -> Self {
        soon("a miner has its channels", async {
            loop {
                match Self::join(url, channels).await {
                    Ok(miner) => return miner,
                    Err(error) => assert!(matches!(error, ClientError::Timeout), "{error}"),
                }
            }
        })
        .await
    }

    pub(crate) async fn join(url: &StratumUrl, channels: u32) -> Result<Self, ClientError> {
        Self::claim(url, channels, 1.0).await
    }

    /// [`join`](Self::join) with this hashrate on each channel.
    pub(crate) async fn claim(url: &StratumUrl, channels: u32, hashrate: f32) -> Result<Self, ClientError> {
        let device = Device { flags: REQUIRES_STANDARD_JOBS, ..Device::default() };
        let mut client = Client::connect(url, &device).await?;
        for request in 0..channels {
            client.queue(&OpenStandardMiningChannel {
                request_id: RequestId(request),
                user_identity: Str255::truncated("fleet"),
                nominal_hash_rate: hashrate,
                max_target: U256([0xff; 32]),
            })?;
        }
        let mut miner = Self { client, channels: Vec::new() };
        while miner.channels.len() < channels as usize || !miner.has_work() {
            miner.hear().await?;
        }
        Ok(miner)
    }

    fn has_work(&self) -> bool {
        self.channels.iter().all(|channel| channel.assignments.current().is_some())
    }

    /// Submits a share on every channel each `pace`, for this long.
    pub(crate) async fn mine(&mut self, pace: Duration, long: Duration) {
        let mut tick = interval(pace);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let end = tokio::time::Instant::now() + long;
        loop {
            tokio::select! {
                biased;
                () = sleep_until(end) => return,
                _ = tick.tick() => self.submit().unwrap(),
                heard = self.hear() => heard.expect("the connection lasts"),
            }
        }
    }

    /// Submits a share on every channel.
    pub(crate) fn submit(&mut self) -> Result<(), ClientError> {
        for channel in &mut self.channels {
            if let Some(share) = channel.share() {
                self.client.queue(&share)?;
            }
        }
        Ok(())
    }

    /// Submits something on every channel, good or not.
    pub(crate) fn guess(&mut self) -> Result<(), ClientError> {
        for channel in &mut self.channels {
            if let Some(job) = channel.assignments.current().cloned() {
                channel.nonce += 1;
                self.client.queue(&channel.submission(&job))?;
            }
        }
        Ok(())
    }

    /// Waits for the answer to every share.
    pub(crate) async fn settle(&mut self) -> Books {
        soon("every share is answered", async {
            while self.channels.iter().any(|channel| !channel.is_settled()) {
                self.hear().await.expect("the connection lasts");
            }
        })
        .await;
        // were there a second answer to any, it would have come with the next share's
        let _ = timeout(Duration::from_millis(200), self.until_lost()).await;
        self.books()
    }

    pub(crate) fn books(&self) -> Books {
        let books = |channel: &Channel| Books {
            sent: channel.sent.into(),
            accepted: channel.accepted.into(),
            refused: channel.refused.len() as u64,
        };
        self.channels.iter().map(books).sum()
    }

    /// Waits for work of this time on every channel.
    pub(crate) async fn job_at(&mut self, ntime: u32) {
        soon("a new job on every channel", async {
            while !self.has_job_at(ntime) {
                self.hear().await.expect("the connection lasts");
            }
        })
        .await;
    }

    pub(crate) fn has_job_at(&self, ntime: u32) -> bool {
        let has = |channel: &Channel| channel.assignments.current().is_some_and(|job| job.ntime == ntime);
        self.channels.iter().all(has)
    }

    /// The blocks that its channels build on.
    pub(crate) fn tips(&self) -> BTreeSet<[u8; 32]> {
        let current = |channel: &Channel| channel.assignments.current().map(|job| job.prev_hash);
        self.channels.iter().filter_map(current).collect()
    }

    /// Submits so many more on the first channel than on the others, and leaves.
    pub(crate) async fn submit_and_leave(mut self, more: usize) -> Books {
        self.submit().unwrap();
        for _ in 0..more {
            let share = self.channels[0].share().unwrap();
            self.client.queue(&share).unwrap();
        }
        let books = self.books();
        self.client.close().await;
        books
    }

    /// Listens until the connection ends, and tells how it did.
    pub(crate) async fn until_lost(&mut self) -> ClientError {
        loop {
            if let Err(error) = self.hear().await {
                return error;
            }
        }
    }

    /// Takes in one message.
    pub(crate) async fn hear(&mut self) -> Result<(), ClientError> {
        let message = self.client.next().await?;
        match &message {
            Mining::OpenStandardMiningChannelSuccess(m) => self.channels.push(Channel {
                id: m.channel_id,
                assignments: Assignments::new(m.channel_id, m.target.into()),
                nonce: 0,
                sent: 0,
                accepted: 0,
                refused: BTreeSet::new(),
            }),
            Mining::SubmitSharesSuccess(m) => {
                let channel = find(&mut self.channels, m.channel_id);
                channel.accepted += m.new_submits_accepted_count;
                let SequenceNumber(last) = m.last_sequence_number;
                let refused = channel.refused.range(..last).count() as u32;
                assert_eq!(channel.accepted + refused, last, "each share is answered once and in order");
            }
            Mining::SubmitSharesError(m) => {
                let channel = find(&mut self.channels, m.channel_id);
                let new = channel.refused.insert(m.sequence_number.0);
                assert!(new && m.sequence_number.0 <= channel.sent, "answered twice");
                // of those that were searched for, and of those that were not
                let fair = ["stale-share", "difficulty-too-low"].contains(&&*m.error_code.to_string());
                assert!(fair, "{}", m.error_code);
            }
            message => {
                for channel in &mut self.channels {
                    channel.assignments.handle(message);
                }
            }
        }
        Ok(())
    }
}

fn find(channels: &mut [Channel], id: ChannelId) -> &mut Channel {
    channels.iter_mut().find(|channel| channel.id == id).expect("no answers for others")
}

impl Channel {
    fn is_settled(&self) -> bool {
        self.accepted + self.refused.len() as u32 == self.sent
    }

    /// A share that is no block.
    fn share(&mut self) -> Option<SubmitSharesStandard> {
        let job = self.assignments.current()?.clone();
        let network = Target::from_compact(job.nbits).unwrap();
        let mut header = job.header();
        loop {
            self.nonce += 1;
            header[76..80].copy_from_slice(&self.nonce.to_le_bytes());
            let hash = sha256d(&header);
            if job.target.is_met_by(&hash) && !network.is_met_by(&hash) {
                break;
            }
        }
        Some(self.submission(&job))
    }

    fn submission(&mut self, job: &Assignment) -> SubmitSharesStandard {
        self.sent += 1;
        SubmitSharesStandard {
            channel_id: self.id,
            sequence_number: SequenceNumber(self.sent),
            job_id: job.job_id,
            nonce: self.nonce,
            ntime: job.ntime,
            version: job.version,
        }
    }
}
