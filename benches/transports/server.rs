//! The server under load, in a process of its own.

use std::fs;
use std::io::{BufRead, BufReader, Write, stdin};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use blvm_stratum_v2::clock::{Clock, unix_now};
use blvm_stratum_v2::config::Config;
use blvm_stratum_v2::mining::extranonce::BootEpoch;
use blvm_stratum_v2::mining::vardiff;
use blvm_stratum_v2::mining::{Hashrate, Target, TemplateSerial, Tip};
use blvm_stratum_v2::pool::{CountOnly, StratumV2Pool};
use blvm_stratum_v2::server::Identity;
use blvm_stratum_v2::template::regtest::{self, RegtestChain};
use blvm_stratum_v2::transport::quic::QuicListener;
use blvm_stratum_v2::transport::{Admission, NoiseListener};
use blvm_stratum_v2::wire::keys::AuthoritySecretKey;
use blvm_stratum_v2::wire::url::{StratumUrl, Transport, Trust};
use getrandom::SysRng;
use rand_core::UnwrapErr;
use tokio::sync::watch;

/// The argument that makes this process the server.
pub(crate) const ROLE: &str = "serve";

/// A running server. It ends when this is dropped.
pub(crate) struct Server {
    child: Child,
    commands: ChildStdin,
    url: StratumUrl,
}

impl Server {
    /// One that acknowledges so many shares at a time.
    pub(crate) fn start(share_batch_size: u32) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([ROLE, &share_batch_size.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { commands: child.stdin.take().unwrap(), child, url: line.trim().parse().unwrap() }
    }

    pub(crate) fn url(&self, transport: Transport) -> StratumUrl {
        StratumUrl { transport, ..self.url.clone() }
    }

    /// Has a new template published.
    pub(crate) fn refresh(&mut self) {
        writeln!(self.commands, "refresh").unwrap();
    }

    /// The CPU time that it has used.
    pub(crate) fn cpu(&self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let of_task = |path: std::path::PathBuf| {
            let stat = fs::read_to_string(path.join("schedstat")).unwrap_or_default();
            stat.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0)
        };
        Duration::from_nanos(tasks.map(|task| of_task(task.unwrap().path())).sum())
    }

    /// Its resident memory, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        1024 * line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves until its standard input ends.
pub(crate) fn run() {
    let share_batch_size = std::env::args().nth(2).unwrap().parse().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut options = Config::default().options().unwrap();
    let limits = &mut options.pool.session;
    // every hash is a share, however many there are
    limits.vardiff = vardiff::Options { shares_per_minute: 1e9, slowest: Hashrate::new(1.0).unwrap() };
    limits.share_batch_size = share_batch_size;
    limits.max_seen_shares = usize::MAX;
    let (pool, _found) = StratumV2Pool::new(options.pool, BootEpoch::of_start(1), Box::new(CountOnly));
    let chain = regtest::Options { future_templates: true, ..Default::default() };
    let mut chain = RegtestChain::open(chain, TemplateSerial(1), unix_now()).unwrap();
    let publish = |chain: &mut RegtestChain| {
        let mut work = chain.refresh(unix_now());
        // and none is a block
        work.tip = Arc::new(Tip {
            network_target: Target::ZERO,
            report_target: Target::ZERO,
            ..(*work.tip).clone()
        });
        pool.publish(Arc::new(work));
    };
    publish(&mut chain);

    let authority = AuthoritySecretKey::generate(&mut UnwrapErr(SysRng));
    let trust = Trust::Authority(authority.public_key());
    let Identity { noise: identity, tls, endpoint, .. } = Identity::issue(authority).unwrap();
    let identity = identity.unwrap();
    let admission = Admission::new(usize::MAX, usize::MAX);
    let (_stop, stopped) = watch::channel(false);
    let clock = Clock::start();
    let _in = runtime.enter();
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let noise = NoiseListener::bind(any, options.handshake_timeout, identity, admission.clone());
    let noise = runtime.block_on(noise).unwrap();
    let address = noise.local_addr().unwrap();
    let quic = QuicListener::bind(address, tls.config, &endpoint, options.quic, admission).unwrap();
    runtime.spawn(noise.run(pool.clone(), clock, stopped.clone()));
    runtime.spawn(quic.run(pool.clone(), clock, stopped));
    let (host, port) = (address.ip().to_string(), address.port());
    println!("{}", StratumUrl { transport: Transport::Quic, host, port, trust });
    for _ in stdin().lines().map_while(Result::ok) {
        publish(&mut chain);
    }
}
