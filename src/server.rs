//! The server as a whole: what is started in which order, and stopped.

mod live;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

pub use self::live::ApplyError;
use self::live::Live;
use crate::certs::{self, endpoint::EndpointSecret};
use crate::clock::{Clock, unix_now};
use crate::mining::TemplateSerial;
use crate::mining::extranonce::BootEpoch;
use crate::module;
use crate::module::api::Api;
use crate::module::client::Client;
use crate::pool::{self, CountOnly, StratumV2Pool};
use crate::template::solutions::StoreError;
use crate::template::source::OpenError;
use crate::template::{self, BlockTemplateGenerator, Blocks, Refresh};
use crate::transport::quic::{self, EndpointKeys, QuicListener};
use crate::transport::tls::{Serving, TlsError, TlsIdentity};
use crate::transport::{Admission, NoiseIdentity, NoiseListener};
use crate::wire::certificate::Certificate;
use crate::wire::keys::{AuthorityPublicKey, AuthoritySecretKey};
use crate::wire::url::{StratumUrl, Transport, Trust};

/// For how long a TLS certificate is made, in seconds.
const TLS_VALIDITY: u32 = 30 * 24 * 3600;
/// For how long the server certifies its Noise key at a time.
const CERTIFICATE_VALIDITY: Duration = Duration::from_secs(24 * 3600);
/// How often a free TCP port is looked for whose UDP twin is free too.
const PORTS_TRIED: u32 = 16;
/// How long connections may take to end at shutdown.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// What the server is to do.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen, for QUIC on UDP and for Noise on TCP. Port 0 takes one that is free on
    /// both.
    pub listen_addr: SocketAddr,
    /// How long the Noise handshake may take.
    pub handshake_timeout: Duration,
    /// Connections in all.
    pub max_connections: usize,
    /// Connections from one address.
    pub max_connections_per_ip: usize,
    /// Connections over TCP, each of which takes a file descriptor.
    pub max_tcp_connections: usize,
    /// Whether to listen on TCP at all.
    pub noise_enabled: bool,
    /// QUIC.
    pub quic: quic::Options,
    /// What all sessions share.
    pub pool: pool::Options,
    /// Where work comes from.
    pub template: template::Options,
}

/// What the server is known by.
#[derive(Debug)]
pub struct Identity {
    /// Vouches for it over TCP, and over QUIC too if the TLS certificate says so.
    pub authority: AuthorityPublicKey,
    /// What miners over TCP are shown. Without it there is nothing to show them, and no listener.
    pub noise: Option<Arc<NoiseIdentity>>,
    /// What miners over QUIC are shown.
    pub tls: Serving,
    /// What must outlast a restart.
    pub endpoint: EndpointKeys,
    /// Which start this is.
    pub boot: BootEpoch,
}

impl Identity {
    /// Everything but the authority key made now, for a server that nobody needs to find again.
    pub fn issue(authority: AuthoritySecretKey) -> Result<Self, TlsError> {
        let (from, until) = Certificate::span(unix_now(), TLS_VALIDITY);
        let tls = TlsIdentity::issue(&authority, from, until)?;
        Self::with_tls(authority, &tls, EndpointKeys::derive(EndpointSecret::generate().as_bytes()))
    }

    /// What was found on disk, for the start with this epoch.
    #[must_use]
    pub fn of(parts: certs::Parts, boot: BootEpoch) -> Self {
        let certs::Parts { authority, noise, tls, endpoint } = parts;
        Self { authority, noise, tls, endpoint, boot }
    }

    /// With a TLS certificate that there is already.
    pub fn with_tls(
        authority: AuthoritySecretKey,
        tls: &TlsIdentity,
        endpoint: EndpointKeys,
    ) -> Result<Self, TlsError> {
        let public = authority.public_key();
        Ok(Self {
            authority: public,
            noise: Some(Arc::new(NoiseIdentity::new(authority, CERTIFICATE_VALIDITY))),
            tls: Serving::new(tls, &[], None, &public)?,
            endpoint,
            // differs from that of the start before, unless it came a multiple of 64 seconds earlier
            boot: BootEpoch::of_start(unix_now().into()),
        })
    }
}

/// A running mining server. Dropping it stops it at once; [`shutdown`](Self::shutdown) is the
/// polite way.
///
/// Inside another program, on the embedded regtest chain; [`Config`](crate::config::Config) says how it is to be
/// otherwise, in the words of `config.toml`:
///
/// ```
/// use blvm_stratum_v2::config::Config;
/// use blvm_stratum_v2::server::{Identity, StratumV2Server};
/// use blvm_stratum_v2::wire::keys::AuthoritySecretKey;
///
/// # async fn embed() -> Result<(), Box<dyn std::error::Error>> {
/// let mut config = Config::default();
/// config.stratum_v2.listen_addr = "127.0.0.1:0".parse()?;
/// // miners know the server by this key: `certs::authority` keeps one
/// let authority = AuthoritySecretKey::generate(&mut rand::rng());
/// let server = StratumV2Server::start(config.options()?, Identity::issue(authority)?).await?;
/// println!("miners connect to {}", server.quic_url("127.0.0.1"));
/// // ... for as long as it is to serve
/// server.shutdown().await;
/// # Ok(())
/// # }
/// # tokio::runtime::Runtime::new().unwrap().block_on(embed()).unwrap();
/// ```
///
/// `examples/embed.rs` has more of it, with a miner.
#[derive(Debug)]
pub struct StratumV2Server {
    pool: Arc<StratumV2Pool>,
    authority: AuthorityPublicKey,
    /// How miners verify it over QUIC.
    quic_trust: Mutex<Trust>,
    address: SocketAddr,
    /// Whether it listens on TCP.
    noise: bool,
    stop_listening: watch::Sender<bool>,
    stop_mining: watch::Sender<bool>,
    listening: JoinSet<()>,
    mining: JoinSet<()>,
    live: Live,
    refresh: Refresh,
    blocks: Blocks,
    /// In touch with the node's modules.
    module: JoinSet<()>,
}

impl StratumV2Server {
    /// Starts serving.
    pub async fn start(options: Options, identity: Identity) -> Result<Self, StartError> {
        let (stop_listening, not_listening) = watch::channel(false);
        let (stop_mining, not_mining) = watch::channel(false);
        let clock = Clock::start();
        // a restart takes no search space that was handed out before it: the serials of the
        // templates go on, as long as there are fewer than 256 of them a second, and the prefixes
        // differ by the boot's epoch
        let now = unix_now();
        let first_serial = TemplateSerial(u64::from(now) << 8);
        let (authority, epoch) = (identity.authority, identity.boot);
        let quic_trust = Mutex::new(identity.tls.trust.clone());
        let admission = Admission::new(options.max_connections, options.max_connections_per_ip);
        let (noise, quic) = listen(&options, identity, &admission).await?;
        let address = quic.local_addr().map_err(|error| StartError::Udp(options.listen_addr, error))?;
        let sources = options.template.sources.iter().map(|source| source.open(first_serial, now));
        let sources = sources.collect::<Result<_, _>>()?;
        let (pool, found) = StratumV2Pool::new(options.pool, epoch, Box::new(CountOnly));
        let generator =
            BlockTemplateGenerator::start(sources, &options.template, first_serial, pool.clone(), found)?;

        let (refresh, blocks) = (generator.refresh(), generator.blocks());
        let limits = noise.as_ref().map(NoiseListener::limits);
        let live = Live::new(admission, limits, quic.control(), generator.control());
        let (mut listening, mut mining) = (JoinSet::new(), JoinSet::new());
        mining.spawn(generator.run(not_mining));
        listening.spawn(quic.run(pool.clone(), clock, not_listening.clone()));
        let has_noise = noise.is_some();
        if let Some(noise) = noise {
            listening.spawn(noise.run(pool.clone(), clock, not_listening));
        }
        let module = JoinSet::new();
        Ok(Self {
            pool,
            authority,
            quic_trust,
            address,
            noise: has_noise,
            stop_listening,
            stop_mining,
            listening,
            mining,
            live,
            refresh,
            blocks,
            module,
        })
    }

    /// Keeps in touch with blvm-node, for as long as the server runs. Mining goes on without.
    pub fn join_node(&mut self, node: module::client::Options, about: module::api::Info) {
        let api = Arc::new(Api::new(self.pool.clone(), about));
        let client = Client::new(node, api, self.pool.clone(), self.refresh.clone(), &self.blocks);
        self.module.spawn(client.run());
    }

    /// Shows this to miners that connect over QUIC from now on. Those that are connected do not
    /// notice.
    pub fn set_tls(&self, tls: Serving) -> io::Result<()> {
        self.live.set_tls(tls.config)?;
        *self.quic_trust.lock().unwrap_or_else(PoisonError::into_inner) = tls.trust;
        Ok(())
    }

    /// What all its sessions share, its counts among them.
    #[must_use]
    pub fn pool(&self) -> &Arc<StratumV2Pool> {
        &self.pool
    }

    /// Where it listens, on UDP and, if it does, on TCP.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL for a miner that reaches this machine as `host` and speaks QUIC.
    #[must_use]
    pub fn quic_url(&self, host: &str) -> StratumUrl {
        let trust = self.quic_trust.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.url(Transport::Quic, host, trust)
    }

    /// The URL for a miner that reaches this machine as `host` and speaks Noise over TCP, if the
    /// server does.
    #[must_use]
    pub fn tcp_url(&self, host: &str) -> Option<StratumUrl> {
        self.noise.then(|| self.url(Transport::Tcp, host, Trust::Authority(self.authority)))
    }

    fn url(&self, transport: Transport, host: &str, trust: Trust) -> StratumUrl {
        StratumUrl { transport, host: host.to_owned(), port: self.address.port(), trust }
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

/// Both listeners, on one port number; or the one for QUIC alone.
async fn listen(
    options: &Options,
    identity: Identity,
    admission: &Arc<Admission>,
) -> Result<(Option<NoiseListener>, QuicListener), StartError> {
    let wanted = options.listen_addr;
    let bind_udp = |address| {
        let tls = identity.tls.config.clone();
        QuicListener::bind(address, tls, &identity.endpoint, options.quic.clone(), admission.clone())
    };
    let Some(noise) = identity.noise.filter(|_| options.noise_enabled) else {
        return Ok((None, bind_udp(wanted).map_err(|error| StartError::Udp(wanted, error))?));
    };
    let mut tries = if wanted.port() == 0 { PORTS_TRIED } else { 1 };
    loop {
        tries -= 1;
        let tcp = NoiseListener::bind(wanted, options.handshake_timeout, noise.clone(), admission.clone());
        let tcp = tcp.await.map_err(|error| StartError::Tcp(wanted, error))?;
        let tcp = tcp.with_max_connections(options.max_tcp_connections);
        let address = tcp.local_addr().map_err(|error| StartError::Tcp(wanted, error))?;
        match bind_udp(address) {
            Ok(udp) => return Ok((Some(tcp), udp)),
            Err(error) if tries == 0 => return Err(StartError::Udp(address, error)),
            Err(_) => {}
        }
    }
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The TCP address cannot be had.
    #[error("cannot listen on tcp {0} (stratum_v2.listen_addr): {1}")]
    Tcp(SocketAddr, io::Error),
    /// The UDP address cannot be had.
    #[error("cannot listen on udp {0} (stratum_v2.listen_addr): {1}")]
    Udp(SocketAddr, io::Error),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A source of work cannot be used at all.
    #[error(transparent)]
    Source(#[from] OpenError),
    /// Found blocks cannot be kept.
    #[error(transparent)]
    Solutions(#[from] StoreError),
}
