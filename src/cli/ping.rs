//! `ping`: what a server is, and how long it takes to work for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time::timeout;

use super::Failure;
use super::own::OwnCertificate;
use crate::miner::assignment::Assignments;
use crate::transport::client::{Client, ClientError, Device, Step};
use crate::transport::tls::{Roots, TlsIdentity};
use crate::wire::codec::Str255;
use crate::wire::common::flags::REQUIRES_STANDARD_JOBS;
use crate::wire::mining::{Mining, OpenStandardMiningChannel};
use crate::wire::url::StratumUrl;
use crate::wire::{RequestId, U256};

/// How long the channel and the first job may take.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The server, as stratum2+quic://HOST:PORT/AUTHORITY_KEY or stratum2+tcp://...
    #[arg(long)]
    url: StratumUrl,
    /// Who to open a channel as, e.g. ADDRESS.worker.
    #[arg(long, default_value = "ping")]
    user: String,
    #[command(flatten)]
    own: OwnCertificate,
    /// Print one JSON object instead of lines.
    #[arg(long)]
    json: bool,
}

pub(super) async fn ping(args: Args) -> Result<(), Failure> {
    let certificate = args.own.load()?;
    let mut report = Report { json: args.json, steps: Vec::new() };
    let start = Instant::now();
    let outcome =
        timeout(PATIENCE, visit(&args, certificate, &mut report)).await.unwrap_or(Err(ClientError::Timeout));
    if args.json {
        let object = json!({
            "url": args.url.to_string(),
            "transport": args.url.transport.to_string(),
            "steps": report.steps,
            "total_ms": milliseconds(start.elapsed()),
            "error": outcome.as_ref().err().map(ToString::to_string),
        });
        println!("{object}");
    }
    outcome.map_err(|error| Failure::Run(error.into()))
}

async fn visit(
    args: &Args,
    certificate: Option<Arc<TlsIdentity>>,
    report: &mut Report,
) -> Result<(), ClientError> {
    let device = Device {
        flags: REQUIRES_STANDARD_JOBS,
        vendor: env!("CARGO_PKG_NAME").to_owned(),
        hardware_version: "ping".to_owned(),
        firmware: env!("CARGO_PKG_VERSION").to_owned(),
        device_id: String::new(),
        certificate,
    };
    let tell = |step: Step, took| match step {
        Step::Resolved(addresses) => {
            let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
            report.add("resolved", took, addresses.join(" "));
        }
        Step::Connected(address) => report.add("connected", took, format!("TCP to {address}")),
        Step::Verified(verified) => report.add("verified", took, verified.to_string()),
        Step::SetUp => report.add("set up", took, SET_UP.to_owned()),
    };
    let mut client = Client::connect_with(&args.url, &device, &Roots::System, tell).await?;
    let mut last = Instant::now();
    let mut lap = || std::mem::replace(&mut last, Instant::now()).elapsed();
    if !report.has("set up") {
        client.set_up().await?;
        report.add("set up", lap(), SET_UP.to_owned());
    }
    client.queue(&OpenStandardMiningChannel {
        request_id: RequestId(1),
        user_identity: Str255::truncated(&args.user),
        nominal_hash_rate: 1e12,
        max_target: U256([0xff; 32]),
    })?;
    let (channel, target) = match client.next().await? {
        Mining::OpenStandardMiningChannelSuccess(m) => (m.channel_id, m.target.into()),
        Mining::OpenMiningChannelError(m) => {
            report.add("refused", lap(), format!("no channel for {:?}: {}", args.user, m.error_code));
            client.close().await;
            return Ok(());
        }
        other => return Err(ClientError::Unexpected(other.msg_type())),
    };
    report.add("opened", lap(), format!("channel {channel} for {:?}", args.user));
    let mut assignments = Assignments::new(channel, target);
    while assignments.current().is_none() {
        assignments.handle(&client.next().await?);
    }
    if let Some(job) = assignments.current() {
        report.add(
            "job",
            lap(),
            format!("job {}, share difficulty {:.3}", job.job_id, job.target.difficulty().0),
        );
    }
    client.close().await;
    Ok(())
}

const SET_UP: &str = "Stratum V2 mining, version 2";

/// The steps so far.
struct Report {
    json: bool,
    steps: Vec<Value>,
}

impl Report {
    fn add(&mut self, name: &str, took: Duration, detail: String) {
        let took = milliseconds(took);
        if !self.json {
            println!("{name:<10} {took:>9.1} ms  {detail}");
        }
        self.steps.push(json!({ "step": name, "ms": took, "detail": detail }));
    }

    fn has(&self, name: &str) -> bool {
        self.steps.iter().any(|step| step["step"] == name)
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
