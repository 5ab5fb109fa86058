//! Servers that do one thing, most of them wrong.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use blvm_stratum_v2::wire::noise::{ACT1_LEN, StaticIdentity};
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Connection, Endpoint};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A server on a socket of its own, until it is dropped.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    visits: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Fake {
    /// Handshakes over QUIC with this identity, then does this with every connection.
    pub(crate) fn quic<F: Future<Output = ()> + Send + 'static>(
        tls: Arc<rustls::ServerConfig>,
        then: impl Fn(Connection, usize) -> F + Send + 'static,
    ) -> Self {
        Self::quic_with(quic_config(tls), then)
    }

    /// The same, of a server that is set up otherwise.
    pub(crate) fn quic_with<F: Future<Output = ()> + Send + 'static>(
        config: quinn::ServerConfig,
        then: impl Fn(Connection, usize) -> F + Send + 'static,
    ) -> Self {
        let endpoint = Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let address = endpoint.local_addr().unwrap();
        let visits = Arc::new(AtomicUsize::new(0));
        let visit = visits.clone();
        let task = tokio::spawn(async move {
            while let Some(incoming) = endpoint.accept().await {
                let number = visit.fetch_add(1, Relaxed);
                // a client that does not like what it sees goes away
                if let Ok(connection) = incoming.await {
                    tokio::spawn(then(connection, number));
                }
            }
        });
        Self { address, visits, task }
    }

    /// Handshakes over QUIC, and stays connected until the client goes.
    pub(crate) fn quic_only(tls: Arc<rustls::ServerConfig>) -> Self {
        Self::quic(tls, |connection, _| async move {
            connection.closed().await;
        })
    }

    /// Does this with every TCP connection.
    pub(crate) async fn tcp<F: Future<Output = ()> + Send + 'static>(
        then: impl Fn(TcpStream, usize) -> F + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let visits = Arc::new(AtomicUsize::new(0));
        let visit = visits.clone();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(then(stream, visit.fetch_add(1, Relaxed)));
            }
        });
        Self { address, visits, task }
    }

    /// Listens on TCP and says nothing.
    pub(crate) async fn mute() -> Self {
        Self::tcp(|mut stream, _| async move {
            let _ = stream.read_to_end(&mut Vec::new()).await;
        })
        .await
    }

    /// Says this to whoever has said something, and hangs up.
    pub(crate) async fn answering(answer: &'static [u8]) -> Self {
        Self::tcp(move |mut stream, _| async move {
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(answer).await;
        })
        .await
    }

    /// Handshakes over Noise with this identity, and says nothing more.
    pub(crate) async fn noise(identity: StaticIdentity) -> Self {
        let identity = Arc::new(identity);
        Self::tcp(move |mut stream, _| {
            let identity = identity.clone();
            async move {
                let mut act1 = [0; ACT1_LEN];
                stream.read_exact(&mut act1).await.unwrap();
                let (act2, _, _) = identity.respond(&act1, &mut StdRng::seed_from_u64(7));
                stream.write_all(&act2).await.unwrap();
                let _ = stream.read_to_end(&mut Vec::new()).await;
            }
        })
        .await
    }

    /// How many clients have come.
    pub(crate) fn visits(&self) -> usize {
        self.visits.load(Relaxed)
    }
}

pub(crate) fn quic_config(tls: Arc<rustls::ServerConfig>) -> quinn::ServerConfig {
    quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()))
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}
