//! `run`: the server.

use std::error::Error;
use std::fmt::Display;
use std::future;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr, UdpSocket};

use tokio::signal::unix::{SignalKind, signal};

use super::Failure;
use super::limits::Limits;
use super::module::Node;
use crate::certs::{authority, endpoint, tls};
use crate::clock::unix_now;
use crate::config::Config;
use crate::module::api::Info;
use crate::server::{Identity, Options, StratumV2Server};
use crate::transport::quic::EndpointKeys;

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

pub(super) async fn run(config: Option<Config>) -> Result<(), Failure> {
    if config.is_none() {
        println!("no config.toml here: starting with defaults");
    }
    serve(config.unwrap_or_default(), StartedBy::Hand).await
}

/// Serves miners until it is told to stop, or whoever has started it is gone.
pub(super) async fn serve(config: Config, by: StartedBy) -> Result<(), Failure> {
    if !config.stratum_v2.enabled {
        by.tell("stratum_v2.enabled is false: nothing to do");
        return Ok(());
    }
    let mut options = config.options()?;
    let limits = Limits::of_process();
    options.max_tcp_connections = limits.tcp_connections();
    for too_low in limits.too_low(&options, matches!(by, StartedBy::Node(_))) {
        tracing::warn!("{too_low}");
    }
    Ok(serve_with(&config, options, &by).await?)
}

async fn serve_with(config: &Config, options: Options, by: &StartedBy) -> Result<(), Box<dyn Error>> {
    let certs = &config.stratum_v2.certs_dir;
    let key_path = certs.join(authority::FILE_NAME);
    let (authority, new) = authority::load_or_create(&key_path)?;
    if new {
        by.tell(format_args!(
            "made the authority key {}; keep a copy of it in a safe place",
            key_path.display()
        ));
    }
    let tls = tls::load_or_issue(certs, &authority, unix_now())?;
    by.tell(&tls);
    let (secret, new) = endpoint::load_or_create(certs)?;
    if new {
        by.tell(format_args!("made the endpoint's secret {}", certs.join(endpoint::FILE_NAME).display()));
    }
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let endpoint = EndpointKeys::derive(secret.as_bytes());
    let identity = Identity { authority, tls: tls.identity, endpoint };
    let node = config.blvm.node(matches!(by, StartedBy::Node(_)), &options.template.sources);
    let mut server = StratumV2Server::start(options, identity).await?;
    if !config.has_source() {
        by.tell("no node is configured: mining on the embedded regtest chain, whose coins are worth nothing");
    }
    let host = host(server.address());
    let (quic, tcp) = (server.quic_url(&host).to_string(), server.tcp_url(&host).to_string());
    by.tell(format_args!("miners connect to {quic}"));
    by.tell(format_args!("            or to {tcp}"));
    if let Some(node) = node {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        server.join_node(
            node,
            Info { config_path: config.path.clone(), listen_urls: vec![quic, tcp], version },
        );
    }
    tokio::select! {
        _ = terminate.recv() => by.tell("stopping"),
        _ = interrupt.recv() => by.tell("stopping"),
        () = by.gone() => by.tell("the node is gone: stopping"),
        () = server.failed() => return Err("a part of the server has failed, see the log".into()),
    }
    server.shutdown().await;
    Ok(())
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
