//! `run`: the server.

use std::error::Error;
use std::fmt::Display;
use std::future;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, interval, sleep, sleep_until};

use super::Failure;
use super::control::{Asked, Control, Question};
use super::limits::Limits;
use super::log::LogLevel;
use super::module::Node;
use super::notify;
use super::origin::Origin;
use super::reload::Running;
use super::report::Report;
use crate::aside::aside;
use crate::certs::{Rotation, Started};
use crate::clock::unix_now;
use crate::config::Config;
use crate::instance::{Instance, InstanceError};
use crate::module::api::Info;
use crate::server::{Identity, Options, StratumV2Server};

/// How often the log has what is about to expire.
const DAY: Duration = Duration::from_secs(24 * 3600);
/// How long the last instance of a module may take to leave.
const PREDECESSOR: Duration = Duration::from_secs(15);
/// What is said after a second signal.
const AT_ONCE: &str = "told a second time to stop: left at once, without waiting for connections to end";

/// Who has started the server, and is told how it is.
#[derive(Debug)]
pub(super) enum StartedBy {
    /// A person, or a script, who reads standard output.
    Hand,
    /// blvm-node, who does not.
    Node(Node),
}

impl StartedBy {
    fn tell(&self, what: impl Display) {
        match self {
            // whoever reads this may have gone: no reason not to go on
            Self::Hand => drop(writeln!(io::stdout(), "{what}")),
            Self::Node(_) => tracing::info!("{what}"),
        }
    }

    /// Returns when there is nobody left to serve for.
    async fn gone(&self) {
        match self {
            Self::Hand => future::pending().await,
            Self::Node(node) => node.gone().await,
        }
    }
}

pub(super) async fn run(path: Option<PathBuf>, log: LogLevel) -> Result<(), Failure> {
    let origin = Origin::File(path);
    if origin.path().is_none() {
        println!("no config.toml here: starting with defaults");
    }
    serve(origin, StartedBy::Hand, log).await
}

/// Serves miners until it is told to stop, or whoever has started it is gone.
pub(super) async fn serve(origin: Origin, by: StartedBy, log: LogLevel) -> Result<(), Failure> {
    let content = origin.content();
    let config = origin.load()?;
    if !config.stratum_v2.enabled {
        by.tell("stratum_v2.enabled is false: nothing to do");
        if let StartedBy::Hand = by {
            // systemd takes who leaves without a word for failed, and tries again
            notify::ready("disabled (stratum_v2.enabled)".to_owned()).await;
        }
        return Ok(());
    }
    let mut options = config.options()?;
    log.set(&config.log.level);
    let limits = Limits::of_process();
    options.max_tcp_connections = limits.tcp_connections();
    for too_low in limits.too_low(&options, matches!(by, StartedBy::Node(_))) {
        tracing::warn!("{too_low}");
    }
    let running = |rotation| Running::new(origin, config.clone(), content, rotation, log);
    Ok(serve_with(&config, options, &by, running).await?)
}

async fn serve_with(
    config: &Config,
    options: Options,
    by: &StartedBy,
    running: impl FnOnce(Rotation) -> Running,
) -> Result<(), Box<dyn Error>> {
    let data_dir = &config.stratum_v2.data_dir;
    let instance = acquire(data_dir, by).await?;
    let certs = config.certs();
    let Started { rotation, parts, told, warnings, problems } =
        aside(move || Rotation::start(certs, unix_now())).await??;
    told.iter().for_each(|line| by.tell(line));
    warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    problems.iter().for_each(|problem| tracing::error!("{problem}"));
    // from here on it does not end the process
    let hang_up = signal(SignalKind::hangup())?;
    let mut signals = Signals::new()?;
    let control = Control::listen(data_dir);
    if let Err(error) = &control {
        tracing::warn!("no socket in {} to be asked by ({error}): use SIGHUP to reload", data_dir.display());
    }
    let node = config.blvm.node(matches!(by, StartedBy::Node(_)), &options.template.sources);
    let mut server = StratumV2Server::start(options, Identity::of(parts, instance.epoch())).await?;
    if !config.has_source() {
        by.tell("no node is configured: mining on the embedded regtest chain, whose coins are worth nothing");
    }
    let listen_urls = tell_urls(&server, by);
    // the environment that a node's module has from its node is the node's
    if let StartedBy::Hand = by {
        notify::ready(status(&listen_urls)).await;
        tokio::spawn(notify::watchdog());
    }
    if let Some(node) = node {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        server.join_node(node, Info { config_path: config.path.clone(), listen_urls, version });
    }
    let mut running = running(rotation);
    let mut ended = Ok(());
    tokio::select! {
        () = signals.stop() => by.tell("stopping"),
        () = by.gone() => by.tell("the node is gone: stopping"),
        () = follow(&mut running, &mut server, control.ok(), hang_up, by) => {
            ended = Err("a part of the server has failed, see the log".into());
        }
    }
    if let StartedBy::Hand = by {
        notify::stopping().await;
    }
    tokio::select! {
        () = server.shutdown() => ended,
        () = signals.stop() => Err(AT_ONCE.into()),
    }
}

/// The data directory. A node that was killed may start the module again before the last one has left.
async fn acquire(data_dir: &Path, by: &StartedBy) -> Result<Instance, InstanceError> {
    let until = Instant::now() + PREDECESSOR;
    loop {
        match Instance::acquire(data_dir) {
            Err(InstanceError::Taken { .. })
                if matches!(by, StartedBy::Node(_)) && Instant::now() < until =>
            {
                sleep(Duration::from_millis(200)).await;
            }
            acquired => return acquired,
        }
    }
}

/// Takes changes as they come, until the server fails.
async fn follow(
    running: &mut Running,
    server: &mut StratumV2Server,
    mut control: Option<Control>,
    mut hang_up: Signal,
    by: &StartedBy,
) {
    let mut daily = interval(DAY);
    let mut look_at = Instant::now() + running.poll_interval();
    loop {
        let asked = async {
            match &mut control {
                Some(control) => control.asked().await,
                None => future::pending().await,
            }
        };
        tokio::select! {
            () = server.failed() => return,
            _ = hang_up.recv() => reload(running, server, by).await.log(),
            Some(Asked { question, answer }) = asked => {
                let report = match question {
                    Question::Reload => reload(running, server, by).await,
                    Question::ReloadCertificates => running.reload_certificates(server).await,
                    Question::ShowCertificates => {
                        // who has asked may not wait any more
                        let _ = answer.send(running.served());
                        continue;
                    }
                };
                report.log();
                let _ = answer.send(report.answer());
            }
            () = sleep_until(look_at) => running.poll(server).await.log(),
            _ = daily.tick() => {
                running.expiring().log();
                continue;
            }
        }
        look_at = Instant::now() + running.poll_interval();
    }
}

async fn reload(running: &mut Running, server: &mut StratumV2Server, by: &StartedBy) -> Report {
    let by_hand = matches!(by, StartedBy::Hand);
    if by_hand {
        notify::reloading().await;
    }
    let report = running.reload(server).await;
    if by_hand {
        notify::ready(format!("{}; reloaded: {}", status(&urls(server)), report.summary())).await;
    }
    report
}

/// Tells what miners connect to.
fn tell_urls(server: &StratumV2Server, by: &StartedBy) -> Vec<String> {
    let urls = urls(server);
    for (number, url) in urls.iter().enumerate() {
        by.tell(format_args!(
            "{} {url}",
            if number == 0 { "miners connect to" } else { "            or to" }
        ));
    }
    urls
}

fn urls(server: &StratumV2Server) -> Vec<String> {
    let host = host(server.address());
    let tcp = server.tcp_url(&host).map(|url| url.to_string());
    [server.quic_url(&host).to_string()].into_iter().chain(tcp).collect()
}

/// For systemd.
fn status(urls: &[String]) -> String {
    format!("miners connect to {}", urls.join(" or to "))
}

/// What tells the server to stop.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// What miners may call this machine. No packet is sent to find out.
fn host(listening: SocketAddr) -> String {
    let own_address = || {
        let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
        socket.connect("192.0.2.1:9").ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    let address = match listening.ip() {
        any if any.is_unspecified() => own_address().unwrap_or(IpAddr::from([127, 0, 0, 1])),
        one => one,
    };
    address.to_string()
}
