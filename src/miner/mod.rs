//! A CPU miner: for trying a server out, and as an example of a client.

pub mod assignment;
mod search;
mod seat;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use search::{Nonce, Search};
use seat::Seat;
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::transport::client::{ClientError, Device, Dialer, Pace, Server};
use crate::transport::tls::TlsIdentity;
use crate::wire::common::flags::REQUIRES_STANDARD_JOBS;

/// What to mine, where, and for how long.
#[derive(Debug, Clone)]
pub struct Options {
    /// The server.
    pub server: Server,
    /// `user_identity`, e.g. `ADDRESS.worker`.
    pub user: String,
    /// Threads that hash.
    pub threads: u32,
    /// When to stop.
    pub until: Until,
    /// When to try which transport.
    pub pace: Pace,
    /// What to show a server over QUIC that wants a certificate.
    pub certificate: Option<Arc<TlsIdentity>>,
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

/// Mines until told to stop. A connection or a channel that is lost is made anew, again and again; it
/// is an error only if there never was one, or if the server opens no channel.
pub async fn mine(options: &Options, progress: Arc<Progress>) -> Result<(), MineError> {
    let per_thread = tokio::task::spawn_blocking(search::measure).await.unwrap_or_default();
    let hashrate = per_thread * f64::from(options.threads);
    let account = Arc::new(Account { user: options.user.clone(), hashrate });
    let (search, nonces) = Search::start(options.threads, progress.clone());
    let time = async {
        match options.until.time {
            Some(time) => sleep(time).await,
            None => std::future::pending().await,
        }
    };
    let dialer = Dialer::new(options.server.clone(), device(options), options.pace.clone());
    let mut miner = Miner { account, search, nonces, progress, until: options.until, seats: 0, seat: None };
    let mined = tokio::select! {
        mined = miner.run(dialer) => mined,
        () = time => Ok(()),
    };
    if let Some(seat) = miner.seat.take() {
        seat.leave(&miner.progress).await;
    }
    mined
}

fn device(options: &Options) -> Device {
    Device {
        flags: REQUIRES_STANDARD_JOBS,
        vendor: env!("CARGO_PKG_NAME").to_owned(),
        hardware_version: "cpu".to_owned(),
        firmware: env!("CARGO_PKG_VERSION").to_owned(),
        device_id: String::new(),
        certificate: options.certificate.clone(),
    }
}

/// Who is mining, as a server is told.
struct Account {
    user: String,
    hashrate: f64,
}

struct Miner {
    account: Arc<Account>,
    search: Search,
    nonces: mpsc::Receiver<Nonce>,
    progress: Arc<Progress>,
    until: Until,
    /// Seats taken so far.
    seats: u32,
    /// The present one.
    seat: Option<Seat>,
}

impl Miner {
    async fn run(&mut self, mut dialer: Dialer) -> Result<(), MineError> {
        loop {
            let lost = match self.sit(&mut dialer).await {
                Ok(()) => return Ok(()),
                Err(lost) => lost,
            };
            self.search.assign(0, None);
            self.seat = None;
            match &lost {
                // at the start it is most likely the URL that is wrong, and someone there to mend it
                _ if self.seats == 0 => return Err(lost),
                MineError::Refused(_) => dialer.wait_after(&lost, true).await,
                MineError::Client(error) => dialer.wait_after(&lost, error.is_lasting()).await,
                MineError::Closed(_) => dialer.wait_after(&lost, false).await,
            }
        }
    }

    /// Mines on one connection, and on a better one when there is one, until told to stop.
    async fn sit(&mut self, dialer: &mut Dialer) -> Result<(), MineError> {
        let client = dialer.connect().await?;
        let mut seat = Seat::take(self.seats + 1, client, &self.account, &self.progress).await?;
        dialer.succeeded();
        loop {
            let transport = seat.transport();
            tracing::info!(over = %transport, "mining");
            self.seats = seat.number;
            self.search.assign(seat.number, seat.assignments.current().cloned());
            if let Some(old) = self.seat.replace(seat) {
                self.vacate(old).await;
            }
            let (number, account, progress) = (self.seats + 1, self.account.clone(), self.progress.clone());
            let better = async {
                loop {
                    let client = dialer.better_than(transport).await;
                    match Seat::take(number, client, &account, &progress).await {
                        Ok(seat) => break seat,
                        Err(error) => tracing::info!(%error, "cannot move over to QUIC"),
                    }
                }
            };
            seat = tokio::select! {
                better = better => better,
                mined = self.mine() => return mined,
            };
        }
    }

    /// Leaves a seat for another, with all that was found there.
    async fn vacate(&mut self, mut old: Seat) {
        // no more than that, as the threads go on
        for _ in 0..self.nonces.len() {
            let Ok(nonce) = self.nonces.try_recv() else { break };
            // each takes its own
            for seat in [Some(&mut old), self.seat.as_mut()].into_iter().flatten() {
                // fails if the connection has, as hearing tells
                let _ = seat.submit(&nonce, &self.progress);
            }
        }
        old.leave(&self.progress).await;
    }

    async fn mine(&mut self) -> Result<(), MineError> {
        let Some(seat) = &mut self.seat else { return Ok(()) };
        loop {
            tokio::select! {
                changed = seat.hear(&self.progress) => {
                    if changed? {
                        self.search.assign(seat.number, seat.assignments.current().cloned());
                    }
                }
                Some(nonce) = self.nonces.recv() => seat.submit(&nonce, &self.progress)?,
            }
            let reached =
                |goal: Option<u64>, count: &AtomicU64| goal.is_some_and(|goal| count.load(Relaxed) >= goal);
            if reached(self.until.shares, &self.progress.accepted)
                || reached(self.until.blocks, &self.progress.blocks)
            {
                return Ok(());
            }
        }
    }
}

/// Why mining ended.
#[derive(Debug, thiserror::Error)]
pub enum MineError {
    /// The connection could not be made, or ended.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The server gave no channel.
    #[error("the server opened no channel: {code}{}", advice(.0), code = .0)]
    Refused(String),
    /// The server closed the channel.
    #[error("the server closed the channel: {0}")]
    Closed(String),
}

/// What a miner's owner can do about an error code of OpenMiningChannel.Error (§5.3.4).
fn advice(code: &str) -> &'static str {
    match code {
        "unknown-user" | "invalid-user-identity" => {
            "; check the user name, which on a solo server begins with a bitcoin address"
        }
        _ => "",
    }
}
