//! A server that stops, well or badly, and starts again.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use blvm_stratum_v2::clock::unix_now;
use blvm_stratum_v2::config::Config;
use blvm_stratum_v2::mining::vardiff;
use blvm_stratum_v2::server::{Identity, Options, StratumV2Server};
use blvm_stratum_v2::transport::quic::EndpointKeys;
use blvm_stratum_v2::transport::tls::TlsIdentity;
use blvm_stratum_v2::wire::url::{StratumUrl, Transport};
use tokio::runtime::Runtime;

use super::support::authority;
use super::{trust, url};

/// Ten shares a second, whoever mines.
pub(crate) fn brisk(options: &mut Options) {
    options.pool.session.vardiff =
        vardiff::Options { shares_per_minute: 600.0, ..vardiff::Options::default() };
}

/// A server in a runtime of its own, that can stop well or badly, and start again.
pub(crate) struct Restarting {
    address: SocketAddr,
    running: Option<(Runtime, Box<StratumV2Server>)>,
}

impl Restarting {
    pub(crate) fn new() -> Self {
        Self { address: (Ipv4Addr::LOCALHOST, 0).into(), running: None }
    }

    /// With the keys that it had before.
    pub(crate) async fn start(&mut self) {
        let mut options = Config::default().options().unwrap();
        brisk(&mut options);
        options.listen_addr = self.address;
        let tls = TlsIdentity::issue(&authority(1), unix_now() - 3600, unix_now() + 3600).unwrap();
        let endpoint = EndpointKeys::derive(&[9; 32]);
        let identity = Identity::with_tls(authority(1), &tls, endpoint).unwrap();
        let runtime = Runtime::new().unwrap();
        let server = runtime.spawn(StratumV2Server::start(options, identity)).await.unwrap().unwrap();
        self.address = server.address();
        self.running = Some((runtime, Box::new(server)));
    }

    pub(crate) fn url(&self, transport: Transport) -> StratumUrl {
        url(transport, self.address, trust(&authority(1)))
    }

    pub(crate) fn accepted(&self, transport: Transport) -> u64 {
        let (_, server) = self.running.as_ref().unwrap();
        server.pool().stats().of(transport).shares_accepted.get()
    }

    pub(crate) async fn stop(&mut self, politely: bool) {
        let (runtime, server) = self.running.take().unwrap();
        if politely {
            runtime.spawn(server.shutdown()).await.unwrap();
        }
        // sockets are closed when this returns
        tokio::task::spawn_blocking(move || runtime.shutdown_timeout(Duration::from_secs(5))).await.unwrap();
    }
}

impl Drop for Restarting {
    fn drop(&mut self) {
        if let Some((runtime, _)) = self.running.take() {
            runtime.shutdown_background();
        }
    }
}
