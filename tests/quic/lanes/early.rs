//! No session is resumed, and nothing is heard before the handshake is over.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use blvm_stratum_v2::wire::common::SetupConnectionSuccess;
use blvm_stratum_v2::wire::url::Transport;
use blvm_stratum_v2::wire::{Header, Message};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Connecting, Endpoint, ServerConfig};
use tokio::time::sleep;

use super::miner::setup;
use crate::echo;
use crate::house::{House, frame_of};
use crate::raw::{Dial, Stream, soon};

/// A client that keeps tickets, and makes use of them.
struct Hasty {
    endpoint: Endpoint,
    config: ClientConfig,
}

impl Hasty {
    fn new() -> Self {
        let mut tls = Dial::new().tls();
        tls.enable_early_data = true;
        let config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
        Self { endpoint: Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap(), config }
    }

    fn begin(&self, server: SocketAddr) -> Connecting {
        self.endpoint.connect_with(self.config.clone(), server, "sv2").unwrap()
    }
}

/// A server that gives tickets, for early data too.
fn generous() -> Endpoint {
    let mut tls = echo::tls();
    tls.max_early_data_size = u32::MAX;
    let config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
    let endpoint = Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let server = endpoint.clone();
    tokio::spawn(async move {
        while let Some(incoming) = server.accept().await {
            tokio::spawn(async move { incoming.await.unwrap().closed().await });
        }
    });
    endpoint
}

async fn is_set_up(stream: &mut Stream) {
    stream.send(&setup(0)).await.unwrap();
    let (Header { msg_type, .. }, _) = stream.next().await.unwrap();
    assert_eq!(msg_type, SetupConnectionSuccess::TYPE);
}

#[tokio::test]
async fn no_tickets_are_given() {
    let house = House::listener(1, |_| {}).await;
    let hasty = Hasty::new();
    for _ in 0..3 {
        let connecting = hasty.begin(house.address).into_0rtt();
        let Err(connecting) = connecting else { panic!("there was a ticket") };
        let connection = soon("a handshake ends", connecting).await.unwrap();
        let (send, recv) = connection.open_bi().await.unwrap();
        is_set_up(&mut Stream { send, recv }).await;
    }
}

#[tokio::test]
async fn early_data_are_not_heard() {
    let house = House::listener(1, |_| {}).await;
    let generous = generous();
    let hasty = Hasty::new();
    let with_ticket = async {
        loop {
            let other = hasty.begin(generous.local_addr().unwrap()).await.unwrap();
            sleep(Duration::from_millis(50)).await;
            other.close(0u32.into(), b"");
            if let Ok(early) = hasty.begin(house.address).into_0rtt() {
                break early;
            }
        }
    };
    let (connection, accepted) = soon("a ticket", with_ticket).await;
    let (mut send, _recv) = connection.open_bi().await.unwrap();
    send.write_all(&frame_of(&setup(0))).await.unwrap();
    assert!(!soon("the handshake ends", accepted).await);
    let connections = &house.stats_of(Transport::Quic).connections;
    sleep(Duration::from_millis(200)).await;
    assert_eq!(connections.get(), 0);
    let (send, recv) = connection.open_bi().await.unwrap();
    is_set_up(&mut Stream { send, recv }).await;
    assert_eq!(connections.get(), 1);
}
