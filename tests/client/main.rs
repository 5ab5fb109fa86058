//! The client and the miner on real sockets: whom they trust, which way they go, what they say when
//! it fails.

mod channels;
mod dialer;
mod examples;
mod fakes;
mod identity;
mod mining;
mod restarting;
mod scripted;

#[path = "../quic/forwarder.rs"]
mod forwarder;
#[path = "../house/mod.rs"]
mod house;
#[allow(dead_code)] // each test uses a part
#[path = "../tls_identity/support.rs"]
mod support;

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use blvm_stratum_v2::transport::client::{Client, ClientError, Device};
use blvm_stratum_v2::wire::common::flags::REQUIRES_STANDARD_JOBS;
use blvm_stratum_v2::wire::keys::AuthoritySecretKey;
use blvm_stratum_v2::wire::url::{StratumUrl, Transport, Trust};
use tokio::time::timeout;

/// What takes longer will not happen any more, on a machine however busy.
const PATIENCE: Duration = Duration::from_secs(60);

async fn soon<T>(what: &str, happens: impl Future<Output = T>) -> T {
    match timeout(PATIENCE, happens).await {
        Ok(happened) => happened,
        Err(_) => panic!("waited in vain: {what}"),
    }
}

fn url(transport: Transport, address: SocketAddr, trust: Trust) -> StratumUrl {
    StratumUrl { transport, host: address.ip().to_string(), port: address.port(), trust }
}

fn trust(authority: &AuthoritySecretKey) -> Trust {
    Trust::Authority(authority.public_key())
}

fn device() -> Device {
    Device { flags: REQUIRES_STANDARD_JOBS, ..Device::default() }
}

/// Connects, and waits for the answer to SetupConnection.
async fn set_up(url: &StratumUrl, device: &Device) -> Result<Client, ClientError> {
    let mut client = Client::connect(url, device).await?;
    client.set_up().await?;
    Ok(client)
}

/// Waits until a count is as it must become.
async fn becomes(what: &str, holds: impl Fn() -> bool) {
    soon(what, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}
