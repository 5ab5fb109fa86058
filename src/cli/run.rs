//! `run`: the server.

use std::error::Error;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr, UdpSocket};

use tokio::signal::unix::{SignalKind, signal};

use super::Failure;
use crate::certs::{authority, endpoint, tls};
use crate::clock::unix_now;
use crate::config::Config;
use crate::server::{Identity, StratumV2Server};
use crate::transport::quic::EndpointKeys;

pub(super) async fn run(config: Option<Config>) -> Result<(), Failure> {
    if config.is_none() {
        println!("no config.toml here: starting with defaults");
    }
    let config = config.unwrap_or_default();
    if !config.stratum_v2.enabled {
        println!("stratum_v2.enabled is false: nothing to do");
        return Ok(());
    }
    let options = config.options()?;
    Ok(serve(&config, options).await?)
}

async fn serve(config: &Config, options: crate::server::Options) -> Result<(), Box<dyn Error>> {
    let certs = &config.stratum_v2.certs_dir;
    let key_path = certs.join(authority::FILE_NAME);
    let (authority, new) = authority::load_or_create(&key_path)?;
    if new {
        println!("made the authority key {}; keep a copy of it in a safe place", key_path.display());
    }
    let tls = tls::load_or_issue(certs, &authority, unix_now())?;
    println!("{tls}");
    let (secret, new) = endpoint::load_or_create(certs)?;
    if new {
        println!("made the endpoint's secret {}", certs.join(endpoint::FILE_NAME).display());
    }
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let endpoint = EndpointKeys::derive(secret.as_bytes());
    let identity = Identity { authority, tls: tls.identity, endpoint };
    let mut server = StratumV2Server::start(options, identity).await?;
    if config.source.is_empty() {
        println!(
            "no node is configured: mining on the embedded regtest chain, whose coins are worth nothing"
        );
    }
    let host = host(server.address());
    println!("miners connect to {}", server.quic_url(&host));
    println!("            or to {}", server.tcp_url(&host));
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = server.failed() => return Err("a part of the server has failed, see the log".into()),
    }
    // whoever reads this may have gone: no reason not to stop in order
    let _ = writeln!(io::stdout(), "stopping");
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
