//! The server as a whole: what is started in which order, and stopped.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::clock::{Clock, unix_now};
use crate::mining::TemplateSerial;
use crate::mining::extranonce::BootEpoch;
use crate::pool::{self, CountOnly, StratumV2Pool};
use crate::template::{BlockTemplateGenerator, regtest};
use crate::transport::{Admission, NoiseIdentity, NoiseListener};
use crate::wire::keys::{AuthorityPublicKey, AuthoritySecretKey};
use crate::wire::url::{StratumUrl, Transport, Trust};

/// For how long the server certifies its Noise key at a time.
const CERTIFICATE_VALIDITY: Duration = Duration::from_secs(24 * 3600);
/// How long connections may take to end at shutdown.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// What the server is to do.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen for Noise over TCP. Port 0 takes a free one.
    pub listen_addr: SocketAddr,
    /// How long the Noise handshake may take.
    pub handshake_timeout: Duration,
    /// Connections in all.
    pub max_connections: usize,
    /// Connections from one address.
    pub max_connections_per_ip: usize,
    /// What all sessions share.
    pub pool: pool::Options,
    /// The embedded chain.
    pub chain: regtest::Options,
}

/// A running mining server. Dropping it stops it at once; [`shutdown`](Self::shutdown) is the
/// polite way.
#[derive(Debug)]
pub struct StratumV2Server {
    pool: Arc<StratumV2Pool>,
    authority: AuthorityPublicKey,
    tcp: SocketAddr,
    stop_listening: watch::Sender<bool>,
    stop_mining: watch::Sender<bool>,
    listening: JoinSet<()>,
    mining: JoinSet<()>,
}

impl StratumV2Server {
    /// Starts serving. Miners know the server by the `authority` key.
    pub async fn start(options: Options, authority: AuthoritySecretKey) -> Result<Self, StartError> {
        let (stop_listening, not_listening) = watch::channel(false);
        let (stop_mining, not_mining) = watch::channel(false);
        let clock = Clock::start();
        // a restart takes no search space that was handed out before it: the serials of the
        // templates go on, as long as there are fewer than 256 of them a second, and the prefixes
        // differ unless it came a multiple of 64 seconds later
        let now = unix_now();
        let first_serial = TemplateSerial(u64::from(now) << 8);
        let epoch = BootEpoch::of_start(now.into());
        let chain = regtest::RegtestChain::open(options.chain, first_serial, now)?;
        let (pool, found) = StratumV2Pool::new(options.pool, epoch, Box::new(CountOnly));
        let generator = BlockTemplateGenerator::new(chain, pool.clone(), found);

        let public = authority.public_key();
        let identity = Arc::new(NoiseIdentity::new(authority, CERTIFICATE_VALIDITY));
        let admission = Admission::new(options.max_connections, options.max_connections_per_ip);
        let address = options.listen_addr;
        let listener = NoiseListener::bind(address, options.handshake_timeout, identity, admission)
            .await
            .map_err(|error| StartError::Listen(address, error))?;
        let tcp = listener.local_addr().map_err(|error| StartError::Listen(address, error))?;

        let (mut listening, mut mining) = (JoinSet::new(), JoinSet::new());
        mining.spawn(generator.run(not_mining));
        listening.spawn(listener.run(pool.clone(), clock, not_listening));
        Ok(Self { pool, authority: public, tcp, stop_listening, stop_mining, listening, mining })
    }

    /// What all its sessions share, its counts among them.
    #[must_use]
    pub fn pool(&self) -> &Arc<StratumV2Pool> {
        &self.pool
    }

    /// Where it listens for Noise over TCP.
    #[must_use]
    pub fn tcp_addr(&self) -> SocketAddr {
        self.tcp
    }

    /// The URL for a miner that reaches this machine as `host`.
    #[must_use]
    pub fn tcp_url(&self, host: &str) -> StratumUrl {
        StratumUrl {
            transport: Transport::Tcp,
            host: host.to_owned(),
            port: self.tcp.port(),
            trust: Trust::Authority(self.authority),
        }
    }

    /// Waits until a part of the server ends that should not: then it is best started anew.
    pub async fn failed(&mut self) {
        tokio::select! {
            _ = self.listening.join_next() => {}
            _ = self.mining.join_next() => {}
        }
    }

    /// Takes no more connections, ends those that there are, hands in what they have found, and
    /// returns when all is still, or after some seconds.
    pub async fn shutdown(mut self) {
        self.stop_listening.send_replace(true);
        let connections = async { while self.listening.join_next().await.is_some() {} };
        if timeout(SHUTDOWN_TIMEOUT, connections).await.is_err() {
            tracing::warn!("connections did not end in time");
        }
        self.stop_mining.send_replace(true);
        let source = async { while self.mining.join_next().await.is_some() {} };
        if timeout(SHUTDOWN_TIMEOUT, source).await.is_err() {
            tracing::warn!("the source of work did not end in time");
        }
    }
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be had.
    #[error("cannot listen on tcp {0}: {1}")]
    Listen(SocketAddr, io::Error),
    /// The embedded chain cannot be had.
    #[error(transparent)]
    Chain(#[from] regtest::FileError),
}
