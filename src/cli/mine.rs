//! `mine`: the CPU miner.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tokio::time::interval;

use super::own::OwnCertificate;
use super::{Failure, terminal};
use crate::miner::{self, Progress, Until};
use crate::transport::client::{Pace, Server};
use crate::wire::url::StratumUrl;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The server, as stratum2+quic://HOST:PORT/AUTHORITY_KEY. Give its stratum2+tcp:// URL too to
    /// have TCP used where QUIC does not get through.
    #[arg(long, required = true)]
    url: Vec<StratumUrl>,
    /// Who is credited, e.g. ADDRESS.worker.
    #[arg(long)]
    user: String,
    /// Threads that hash.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: u32,
    /// Stop after so many accepted shares.
    #[arg(long, value_name = "N")]
    shares: Option<u64>,
    /// Stop after so many blocks.
    #[arg(long, value_name = "N")]
    blocks: Option<u64>,
    /// Stop after so many seconds.
    #[arg(long, value_name = "S")]
    seconds: Option<u64>,
    #[command(flatten)]
    own: OwnCertificate,
    /// Print one JSON object at the end.
    #[arg(long)]
    json: bool,
}

pub(super) async fn mine(args: Args) -> Result<(), Failure> {
    let until =
        Until { shares: args.shares, blocks: args.blocks, time: args.seconds.map(Duration::from_secs) };
    let server = Server::at(args.url).map_err(|error| Failure::Run(error.into()))?;
    let options = miner::Options {
        server,
        user: args.user,
        threads: args.threads,
        until,
        pace: Pace::default(),
        certificate: args.own.load()?,
    };
    let progress = Arc::new(Progress::default());
    let start = Instant::now();
    let mut tick = interval(Duration::from_secs(5));
    tick.tick().await;
    let mut mining = std::pin::pin!(miner::mine(&options, progress.clone()));
    let ended = loop {
        tokio::select! {
            ended = &mut mining => break ended,
            _ = tick.tick(), if !args.json => println!("{}", line(&progress, start)),
        }
    };
    if args.json {
        let seconds = start.elapsed().as_secs_f64();
        let object = serde_json::json!({
            "shares_accepted": progress.accepted.load(Relaxed),
            "shares_rejected": progress.rejected.load(Relaxed),
            "blocks": progress.blocks.load(Relaxed),
            "seconds": seconds,
            "hashrate": progress.hashes.load(Relaxed) as f64 / seconds,
        });
        println!("{object}");
    } else {
        println!("{}", line(&progress, start));
    }
    ended.map_err(|error| Failure::Run(error.into()))
}

fn line(progress: &Progress, start: Instant) -> String {
    let seconds = start.elapsed().as_secs_f64();
    format!(
        "{seconds:.0} s: {} shares accepted, {} refused, {} blocks, {}",
        progress.accepted.load(Relaxed),
        progress.rejected.load(Relaxed),
        progress.blocks.load(Relaxed),
        terminal::hashrate(progress.hashes.load(Relaxed) as f64 / seconds),
    )
}
