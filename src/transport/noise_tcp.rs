//! Noise over TCP: what the SV2 firmware of today speaks (§4).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use getrandom::SysRng;
use rand_core::UnwrapErr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::drive::{Peer, drive};
use super::pipe::{Pipe, prepare};
use super::{Admission, NoiseIdentity};
use crate::clock::{Clock, unix_now};
use crate::pool::StratumV2Pool;
use crate::wire::max_payload_to_mining_server;
use crate::wire::noise::ACT1_LEN;
use crate::wire::url::Transport;

/// How long to wait when no connection can be accepted, as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often the log says that there is no room, at most.
const FULL_PAUSE: Duration = Duration::from_secs(60);

/// What holds for the miners that come over TCP from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoiseLimits {
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
    /// No more than so many at a time, so that file descriptors are left for the rest.
    pub max_connections: usize,
}

/// A TCP socket that takes miners.
#[derive(Debug)]
pub struct NoiseListener {
    listener: TcpListener,
    limits: Arc<watch::Sender<NoiseLimits>>,
    identity: Arc<NoiseIdentity>,
    admission: Arc<Admission>,
}

impl NoiseListener {
    /// Listens on `address`; port 0 takes a free one.
    pub async fn bind(
        address: SocketAddr,
        handshake_timeout: Duration,
        identity: Arc<NoiseIdentity>,
        admission: Arc<Admission>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let limits = NoiseLimits { handshake_timeout, max_connections: usize::MAX };
        Ok(Self { listener, limits: Arc::new(watch::Sender::new(limits)), identity, admission })
    }

    /// Takes no more than `max` miners at a time, so that file descriptors are left for the rest.
    #[must_use]
    pub fn with_max_connections(self, max: usize) -> Self {
        self.limits.send_modify(|limits| limits.max_connections = max);
        self
    }

    /// To change the limits while it runs.
    #[must_use]
    pub fn limits(&self) -> Arc<watch::Sender<NoiseLimits>> {
        self.limits.clone()
    }

    /// Where it listens.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves miners until `shutdown` turns true; connections have ended when this returns.
    pub async fn run(self, pool: Arc<StratumV2Pool>, clock: Clock, mut shutdown: watch::Receiver<bool>) {
        let mut connections = JoinSet::new();
        let mut told_full: Option<Instant> = None;
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                _ = shutdown.wait_for(|stop| *stop) => break,
                Some(ended) = connections.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "a connection's task failed; please report this");
                    }
                    continue;
                }
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a TCP connection");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let NoiseLimits { handshake_timeout, max_connections } = *self.limits.borrow();
            if connections.len() >= max_connections {
                if told_full.is_none_or(|told| told.elapsed() >= FULL_PAUSE) {
                    told_full = Some(Instant::now());
                    tracing::warn!(
                        "miners over TCP are refused: there are {} already, and each takes a file of the \
                         limit of open files; raise that, or let them use QUIC",
                        max_connections
                    );
                }
                continue;
            }
            let permit = match self.admission.admit(address.ip()) {
                Ok(permit) => permit,
                Err(refusal) => {
                    tracing::debug!(peer = %address, %refusal, "connection refused");
                    continue;
                }
            };
            // boxed: a connection that is served need not keep the room that its handshake took
            let shakes = Box::pin(timeout(handshake_timeout, handshake(stream, self.identity.clone())));
            let (pool, mut shutdown) = (pool.clone(), shutdown.clone());
            connections.spawn(async move {
                let _permit = permit;
                let shaken = tokio::select! {
                    shaken = shakes => shaken,
                    _ = shutdown.wait_for(|stop| *stop) => return,
                };
                match shaken {
                    Ok(Ok(pipe)) => {
                        let peer = Peer { transport: Transport::Tcp, address };
                        drive(pipe, peer, pool, clock, shutdown).await;
                    }
                    Ok(Err(error)) => tracing::debug!(peer = %address, %error, "no handshake"),
                    Err(_) => tracing::debug!(peer = %address, "handshake timed out"),
                }
            });
        }
        drop(self.listener);
        while connections.join_next().await.is_some() {}
    }
}

/// §4.5, the responder's side.
async fn handshake(mut stream: TcpStream, identity: Arc<NoiseIdentity>) -> io::Result<Pipe> {
    prepare(&stream)?;
    let mut act1 = [0; ACT1_LEN];
    stream.read_exact(&mut act1).await?;
    let mut rng = UnwrapErr(SysRng);
    let (act2, sealer, opener) = identity.at(unix_now(), &mut rng).respond(&act1, &mut rng);
    stream.write_all(&act2).await?;
    Ok(Pipe::new(stream, (sealer, opener), max_payload_to_mining_server))
}
