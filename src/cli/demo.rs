//! `demo`: a server and two miners, all in one: one over QUIC, one over TCP.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use getrandom::SysRng;
use rand_core::UnwrapErr;
use tokio::time::interval;

use super::Failure;
use super::terminal::{LiveLine, hashrate};
use crate::config::{Config, Regtest};
use crate::miner::{self, Progress, Until};
use crate::server::{Identity, Options, StratumV2Server};
use crate::stats::{Stats, TransportStats};
use crate::transport::client::{Pace, Server};
use crate::wire::keys::AuthoritySecretKey;
use crate::wire::url::{StratumUrl, Transport};

/// Quick enough to watch, on any CPU.
const SHARES_PER_MINUTE: f64 = 60.0;
/// So that blocks are not empty.
const TRANSACTIONS: usize = 20;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Blocks to find, at least one by each miner.
    #[arg(long, default_value_t = 3, value_name = "N")]
    blocks: u64,
    /// Fail if it takes longer.
    #[arg(long, default_value_t = 120, value_name = "S")]
    seconds: u64,
    /// Print one JSON object on the last line.
    #[arg(long)]
    json: bool,
}

pub(super) async fn demo(args: Args) -> Result<(), Failure> {
    let options = options()?;
    Ok(show(&args, options).await?)
}

fn options() -> Result<Options, Failure> {
    let mut config = Config::default();
    config.stratum_v2.listen_addr = ([127, 0, 0, 1], 0).into();
    config.stratum_v2.shares_per_minute = SHARES_PER_MINUTE;
    config.regtest = Some(Regtest { transactions: TRANSACTIONS, ..Regtest::default() });
    Ok(config.options()?)
}

async fn show(args: &Args, options: Options) -> Result<(), Box<dyn Error>> {
    let authority = AuthoritySecretKey::generate(&mut UnwrapErr(SysRng));
    let server = StratumV2Server::start(options, Identity::issue(authority)?).await?;
    let (quic, tcp) = (server.quic_url("127.0.0.1"), server.tcp_url("127.0.0.1"));
    let tcp = tcp.ok_or("the demo speaks Noise too")?;
    if !args.json {
        println!("server: {quic}\n        {tcp}");
    }
    let progress = Arc::new(Progress::default());
    let found = tokio::select! {
        found = watch(args, server.pool().stats(), &progress) => found,
        stopped = mine(quic, progress.clone()) => stopped,
        stopped = mine(tcp, progress.clone()) => stopped,
    };
    let summary = Summary::of(&server);
    server.shutdown().await;
    if args.json {
        println!("{}", summary.json());
    } else {
        println!("{}", summary.text());
    }
    found
}

/// Mines on one thread.
async fn mine(url: StratumUrl, progress: Arc<Progress>) -> Result<(), Box<dyn Error>> {
    let user = format!("demo.{}", url.transport);
    let (until, pace) = (Until::default(), Pace::default());
    let options =
        miner::Options { server: Server::at([url])?, user, threads: 1, until, pace, certificate: None };
    miner::mine(&options, progress).await?;
    Err("a miner stopped".into())
}

/// Shows the progress until there are blocks enough.
async fn watch(args: &Args, stats: &Stats, progress: &Progress) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let mut line = LiveLine::new();
    let mut tick = interval(Duration::from_millis(250));
    let outcome = loop {
        tick.tick().await;
        let seconds = start.elapsed().as_secs_f64();
        let blocks = stats.sum(|stats| stats.blocks.get());
        let shares = stats.sum(|stats| stats.shares_accepted.get());
        if !args.json {
            let rate = hashrate(progress.hashes.load(Relaxed) as f64 / seconds.max(0.001));
            line.show(format!("{shares} shares, {blocks} of {} blocks, {rate}", args.blocks));
        }
        let by_each = stats.of(Transport::Quic).blocks.get().min(stats.of(Transport::Tcp).blocks.get());
        if blocks >= args.blocks && by_each > 0 {
            break Ok(());
        }
        if seconds > args.seconds as f64 {
            let message = format!(
                "{blocks} of {} blocks after {} s ({shares} shares); the machine may be busy: try --seconds {}",
                args.blocks,
                args.seconds,
                args.seconds * 2
            );
            break Err(message.into());
        }
    };
    line.end();
    outcome
}

/// What came of it.
struct Summary {
    quic: Counts,
    tcp: Counts,
    rejected: u64,
    tip: String,
    height: u32,
}

/// What came over one transport.
struct Counts {
    shares: u64,
    blocks: u64,
}

impl Summary {
    fn of(server: &StratumV2Server) -> Self {
        let stats = server.pool().stats();
        let counts = |transport| {
            let stats = stats.of(transport);
            Counts { shares: stats.shares_accepted.get(), blocks: stats.blocks.get() }
        };
        let work = server.pool().work().borrow().clone();
        Self {
            quic: counts(Transport::Quic),
            tcp: counts(Transport::Tcp),
            rejected: stats.sum(TransportStats::shares_rejected),
            tip: work.as_ref().map(|work| work.tip.prev_hash.to_string()).unwrap_or_default(),
            height: work.map_or(0, |work| work.tip.height - 1),
        }
    }

    fn json(&self) -> serde_json::Value {
        let counts = |Counts { shares, blocks }: &Counts| serde_json::json!({ "shares_accepted": shares, "blocks": blocks });
        serde_json::json!({
            "blocks": self.quic.blocks + self.tcp.blocks,
            "quic": counts(&self.quic),
            "tcp": counts(&self.tcp),
            "shares_rejected": self.rejected,
            "tip": self.tip,
            "height": self.height,
        })
    }

    fn text(&self) -> String {
        let Self { quic, tcp, rejected, tip, height } = self;
        format!(
            "QUIC: {} blocks of {} shares; Noise-TCP: {} blocks of {} shares; {rejected} refused; \
             the chain is at height {height}, block {tip}",
            quic.blocks, quic.shares, tcp.blocks, tcp.shares
        )
    }
}
