//! A CPU miner: for trying a server out, and as an example of a client.

pub mod assignment;
mod search;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use assignment::Assignments;
use search::{Nonce, Search};
use tokio::sync::mpsc;
use tokio::time::sleep_until;

use crate::mining::Target;
use crate::transport::client::{Client, ClientError, Device};
use crate::wire::codec::Str255;
use crate::wire::common::flags::REQUIRES_STANDARD_JOBS;
use crate::wire::mining::{Mining, OpenStandardMiningChannel, SubmitSharesStandard};
use crate::wire::url::StratumUrl;
use crate::wire::{ChannelId, RequestId, SequenceNumber, U256};

/// What to mine, where, and for how long.
#[derive(Debug, Clone)]
pub struct Options {
    /// The server.
    pub url: StratumUrl,
    /// `user_identity`, e.g. `ADDRESS.worker`.
    pub user: String,
    /// Threads that hash.
    pub threads: u32,
    /// When to stop.
    pub until: Until,
}

/// When to stop: at the first of these that is reached.
#[derive(Debug, Clone, Copy, Default)]
pub struct Until {
    /// Shares that the server has accepted.
    pub shares: Option<u64>,
    /// Blocks among the shares sent.
    pub blocks: Option<u64>,
    /// Time spent.
    pub time: Option<Duration>,
}

/// How it goes. Can be read while the miner runs.
#[derive(Debug, Default)]
pub struct Progress {
    /// Hashes made.
    pub hashes: AtomicU64,
    /// Shares that the server has accepted.
    pub accepted: AtomicU64,
    /// Shares that the server has refused.
    pub rejected: AtomicU64,
    /// Shares sent that make a block.
    pub blocks: AtomicU64,
}

/// Mines until told to stop or the connection ends.
pub async fn mine(options: &Options, progress: Arc<Progress>) -> Result<(), MineError> {
    let deadline = options.until.time.map(|time| Instant::now() + time);
    let device = Device {
        flags: REQUIRES_STANDARD_JOBS,
        vendor: env!("CARGO_PKG_NAME").to_owned(),
        hardware_version: "cpu".to_owned(),
        firmware: env!("CARGO_PKG_VERSION").to_owned(),
        device_id: String::new(),
    };
    let per_thread = tokio::task::spawn_blocking(search::measure).await.unwrap_or_default();
    let mut client = Client::connect(&options.url, &device).await?;
    let hashrate = per_thread * f64::from(options.threads);
    let (channel, target) = open(&mut client, &options.user, hashrate).await?;
    let (search, nonces) = Search::start(options.threads, progress.clone());
    let assignments = Assignments::new(channel, target);
    let mut miner = Miner { client, channel, sequence: 0, assignments, search, nonces, progress };
    let until = options.until;
    tokio::select! {
        mined = miner.run(until) => mined,
        () = async {
            match deadline {
                Some(deadline) => sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        } => Ok(()),
    }
}

async fn open(client: &mut Client, user: &str, hashrate: f64) -> Result<(ChannelId, Target), MineError> {
    client.queue(&OpenStandardMiningChannel {
        request_id: RequestId(1),
        user_identity: Str255::truncated(user),
        nominal_hash_rate: hashrate as f32,
        max_target: U256([0xff; 32]),
    })?;
    match client.next().await? {
        Mining::OpenStandardMiningChannelSuccess(m) => Ok((m.channel_id, m.target.into())),
        Mining::OpenMiningChannelError(m) => Err(MineError::Refused(m.error_code.to_string())),
        other => Err(ClientError::Unexpected(other.msg_type()).into()),
    }
}

struct Miner {
    client: Client,
    channel: ChannelId,
    sequence: u32,
    assignments: Assignments,
    search: Search,
    nonces: mpsc::Receiver<Nonce>,
    progress: Arc<Progress>,
}

impl Miner {
    async fn run(&mut self, until: Until) -> Result<(), MineError> {
        loop {
            tokio::select! {
                message = self.client.next() => {
                    let message = message?;
                    if self.assignments.handle(&message) {
                        self.search.assign(self.assignments.current().cloned());
                    } else {
                        note(&self.progress, &message);
                    }
                }
                Some(nonce) = self.nonces.recv() => self.submit(&nonce)?,
            }
            let reached =
                |goal: Option<u64>, count: &AtomicU64| goal.is_some_and(|goal| count.load(Relaxed) >= goal);
            let answered = || {
                let answered = self.progress.accepted.load(Relaxed) + self.progress.rejected.load(Relaxed);
                answered >= u64::from(self.sequence)
            };
            if reached(until.shares, &self.progress.accepted)
                || reached(until.blocks, &self.progress.blocks) && answered()
            {
                return Ok(());
            }
        }
    }

    fn submit(&mut self, nonce: &Nonce) -> Result<(), ClientError> {
        let prev_hash = self.assignments.current().map(|current| current.prev_hash);
        if prev_hash != Some(nonce.assignment.prev_hash) {
            // found too late: it would be refused as stale
            return Ok(());
        }
        self.sequence += 1;
        if nonce.block {
            self.progress.blocks.fetch_add(1, Relaxed);
        }
        self.client.queue(&SubmitSharesStandard {
            channel_id: self.channel,
            sequence_number: SequenceNumber(self.sequence),
            job_id: nonce.assignment.job_id,
            nonce: nonce.nonce,
            ntime: nonce.ntime,
            version: nonce.version,
        })
    }
}

fn note(progress: &Progress, message: &Mining<'_>) {
    match message {
        Mining::SubmitSharesSuccess(m) => {
            progress.accepted.fetch_add(m.new_submits_accepted_count.into(), Relaxed);
        }
        Mining::SubmitSharesError(m) => {
            progress.rejected.fetch_add(1, Relaxed);
            tracing::debug!(error = %m.error_code, "share refused");
        }
        _ => {}
    }
}

/// Why mining ended.
#[derive(Debug, thiserror::Error)]
pub enum MineError {
    /// The connection could not be made, or ended.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The server gave no channel.
    #[error("the server opened no channel: {0}")]
    Refused(String),
}
