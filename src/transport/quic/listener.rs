//! Miners that come over QUIC.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use quinn::{Connecting, Endpoint, Incoming};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Code;
use super::control::{Control, per_address};
use super::endpoint::{self, EndpointKeys, Options};
use super::served::Served;
use crate::clock::Clock;
use crate::pool::StratumV2Pool;
use crate::transport::drive::{Peer, drive};
use crate::transport::{Admission, LinkError, Permit};
use crate::wire::url::Transport;

/// How long closed connections may take to say so at shutdown.
const FAREWELL: Duration = Duration::from_secs(1);

/// A UDP socket that takes miners.
#[derive(Debug)]
pub struct QuicListener {
    endpoint: Endpoint,
    control: Control,
    /// Those that are in a handshake.
    handshakes: Arc<Admission>,
    admission: Arc<Admission>,
}

impl QuicListener {
    /// Listens on `address`; port 0 takes a free one.
    pub fn bind(
        address: SocketAddr,
        tls: Arc<rustls::ServerConfig>,
        keys: &EndpointKeys,
        options: Options,
        admission: Arc<Admission>,
    ) -> io::Result<Self> {
        let endpoint = endpoint::serve(address, tls.clone(), keys, &options)?;
        let handshakes = Admission::new(options.max_handshakes, per_address(&options));
        let control = Control::new(endpoint.clone(), tls, keys.clone(), options, handshakes.clone());
        Ok(Self { endpoint, control, handshakes, admission })
    }

    /// A way to change it while it runs.
    #[must_use]
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Where it listens.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// Serves miners until `shutdown` turns true; connections have ended when this returns.
    pub async fn run(self, pool: Arc<StratumV2Pool>, clock: Clock, mut shutdown: watch::Receiver<bool>) {
        let mut connections = JoinSet::new();
        loop {
            let incoming = tokio::select! {
                incoming = self.endpoint.accept() => incoming,
                _ = shutdown.wait_for(|stop| *stop) => break,
                Some(ended) = connections.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "a connection's task failed; please report this");
                    }
                    continue;
                }
            };
            let Some(incoming) = incoming else {
                tracing::error!("the QUIC socket has failed");
                break;
            };
            let Some((connecting, seat)) = self.admit(incoming) else { continue };
            let (pool, mut shutdown) = (pool.clone(), shutdown.clone());
            let options = self.control.options();
            connections.spawn(async move {
                if let Some((link, address)) = handshake(connecting, seat, &options, &mut shutdown).await {
                    let peer = Peer { transport: Transport::Quic, address };
                    drive(link, peer, pool, clock, shutdown).await;
                }
            });
        }
        // whoever comes now has a stateless reset for an answer, and is not left to wait
        self.control.close();
        while connections.join_next().await.is_some() {}
        let _ = timeout(FAREWELL, self.endpoint.wait_idle()).await;
    }

    /// Who may begin a handshake, and who has to show first that its address is its own.
    fn admit(&self, incoming: Incoming) -> Option<(Connecting, Seat)> {
        let peer = incoming.remote_address();
        // who only claims an address must not take the places of those who have it
        let busy = self.handshakes.count() >= self.control.options().validate_above
            || self.admission.is_crowded(peer.ip());
        if busy && !incoming.remote_address_validated() {
            // cannot fail: an address that is not validated may be asked
            let _ = incoming.retry();
            return None;
        }
        let seat = match self.seat(peer.ip()) {
            Ok(seat) => seat,
            Err(refusal) => {
                tracing::debug!(%peer, refusal, "connection refused");
                incoming.refuse();
                return None;
            }
        };
        match incoming.accept() {
            Ok(connecting) => Some((connecting, seat)),
            Err(error) => {
                tracing::debug!(%peer, %error, "no handshake");
                None
            }
        }
    }

    fn seat(&self, address: IpAddr) -> Result<Seat, String> {
        let handshake = self.handshakes.admit(address).map_err(|_| "too many handshakes are under way")?;
        let permit = self.admission.admit(address).map_err(|refusal| refusal.to_string())?;
        Ok(Seat { permit, handshake })
    }
}

/// A connection's place among all, and among those in a handshake.
struct Seat {
    permit: Permit,
    handshake: Permit,
}

/// The TLS handshake, and the client's first stream.
async fn handshake(
    connecting: Connecting,
    seat: Seat,
    options: &Options,
    shutdown: &mut watch::Receiver<bool>,
) -> Option<(Served, SocketAddr)> {
    let peer = connecting.remote_address();
    let shaken = tokio::select! {
        shaken = timeout(options.handshake_timeout, connecting) => shaken,
        _ = shutdown.wait_for(|stop| *stop) => return None,
    };
    let connection = match shaken {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            tracing::debug!(%peer, error = %LinkError::from(error), "no handshake");
            return None;
        }
        Err(_) => {
            tracing::debug!(%peer, "handshake timed out");
            return None;
        }
    };
    drop(seat.handshake);
    let opened = tokio::select! {
        opened = timeout(options.handshake_timeout, connection.accept_bi()) => opened,
        _ = shutdown.wait_for(|stop| *stop) => {
            connection.close(Code::DRAINING.into(), b"");
            return None;
        }
    };
    match opened {
        Ok(Ok(control)) => {
            let Options { max_streams, handshake_timeout, .. } = *options;
            let link = Served::new(connection, control, max_streams, handshake_timeout, seat.permit);
            Some((link, peer))
        }
        Ok(Err(error)) => {
            tracing::debug!(%peer, error = %LinkError::from(error), "no stream was opened");
            None
        }
        Err(_) => {
            connection.close(Code::SETUP_FAILED.into(), b"no stream was opened");
            tracing::debug!(%peer, "no stream was opened in time");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::clock::unix_now;
    use crate::transport::client::{Client, Device};
    use crate::transport::tls::TlsIdentity;
    use crate::wire::keys::AuthoritySecretKey;
    use crate::wire::url::{StratumUrl, Trust};

    #[tokio::test]
    async fn a_swap_does_not_open_what_is_closed() {
        let authority = AuthoritySecretKey::generate(&mut rand::rng());
        let now = unix_now();
        let tls = TlsIdentity::issue(&authority, now - 100, now + 100).unwrap().server_config().unwrap();
        let any = (Ipv4Addr::LOCALHOST, 0).into();
        let keys = EndpointKeys::derive(&[1; 32]);
        let listener = QuicListener::bind(any, tls.clone(), &keys, Options::default(), Admission::new(9, 9));
        let listener = listener.unwrap();
        let address = listener.local_addr().unwrap();
        let url = StratumUrl {
            transport: Transport::Quic,
            host: address.ip().to_string(),
            port: address.port(),
            trust: Trust::Authority(authority.public_key()),
        };
        let comes = async |within| {
            let connecting = tokio::spawn({
                let url = url.clone();
                async move { Client::connect(&url, &Device::default()).await }
            });
            let came = timeout(within, listener.endpoint.accept()).await;
            connecting.abort();
            came.is_ok_and(|incoming| incoming.is_some())
        };
        let control = listener.control();
        control.set_tls(tls.clone()).unwrap();
        assert!(comes(Duration::from_secs(30)).await);
        listener.control.close();
        control.set_tls(tls).unwrap();
        control.set_options(&Options { validate_above: 1, ..Options::default() }).unwrap();
        // a client's first packets are sent again within this time
        assert!(!comes(Duration::from_secs(2)).await);
    }
}
