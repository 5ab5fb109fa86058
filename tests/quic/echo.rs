//! A plain QUIC server for the tools to prove themselves on.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Connection, Endpoint, Incoming, ServerConfig};
use rustls::crypto::ring;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::sync::mpsc;

use crate::raw::{ALPN, soon};

/// What it does with those who knock.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// Lets them in.
    Open,
    /// Lets them in after a Retry.
    Retry,
    /// Ignores them.
    Shut,
}

pub(crate) struct Echo {
    pub(crate) addr: SocketAddr,
    /// Of those who have knocked, repeatedly if sent away with a Retry.
    pub(crate) knocks: Arc<Mutex<Vec<SocketAddr>>>,
    accepted: mpsc::UnboundedReceiver<Connection>,
    endpoint: Endpoint,
}

impl Echo {
    /// Echoes the bidirectional streams.
    pub(crate) fn start(door: Door) -> Self {
        Self::serve(door, true)
    }

    /// Leaves streams to the test.
    pub(crate) fn idle() -> Self {
        Self::serve(Door::Open, false)
    }

    fn serve(door: Door, echoes: bool) -> Self {
        let endpoint = Endpoint::server(config(), (Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let addr = endpoint.local_addr().unwrap();
        let knocks = Arc::new(Mutex::new(Vec::new()));
        let (accept, accepted) = mpsc::unbounded_channel();
        let (outside, seen) = (endpoint.clone(), knocks.clone());
        tokio::spawn(async move {
            while let Some(incoming) = outside.accept().await {
                seen.lock().unwrap().push(incoming.remote_address());
                tokio::spawn(welcome(incoming, door, echoes, accept.clone()));
            }
        });
        Self { addr, knocks, accepted, endpoint }
    }

    /// The server's side of the next connection.
    pub(crate) async fn accepted(&mut self) -> Connection {
        soon("a client comes", self.accepted.recv()).await.unwrap()
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.endpoint.close(0u32.into(), b"the test is over");
    }
}

async fn welcome(incoming: Incoming, door: Door, echoes: bool, accept: mpsc::UnboundedSender<Connection>) {
    match door {
        Door::Shut => return incoming.ignore(),
        Door::Retry if incoming.may_retry() => return incoming.retry().unwrap(),
        Door::Open | Door::Retry => {}
    }
    let Ok(connection) = incoming.await else { return };
    let _ = accept.send(connection.clone());
    while echoes && let Ok((mut send, mut recv)) = connection.accept_bi().await {
        tokio::spawn(async move {
            while let Ok(Some(chunk)) = recv.read_chunk(usize::MAX, true).await {
                if send.write_chunk(chunk.bytes).await.is_err() {
                    return;
                }
            }
        });
    }
}

fn config() -> ServerConfig {
    ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls()).unwrap()))
}

/// A server that proves nothing.
pub(crate) fn tls() -> rustls::ServerConfig {
    let made = rcgen::generate_simple_self_signed(["sv2".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let mut tls = rustls::ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls
}
