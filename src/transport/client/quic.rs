//! Connecting over QUIC.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, ConnectError, ConnectionError, Endpoint, TransportConfig, VarInt};
use rustls::pki_types::ServerName;

use super::ClientError;
use crate::transport::LinkError;
use crate::transport::quic::Dialled;
use crate::transport::tls::{NAME, Roots, TlsIdentity, Verified, client_config_with};
use crate::wire::url::StratumUrl;

/// A restart of the server or a new NAT binding shows only when the client sends.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// After so many milliseconds without a word the server has gone.
const IDLE_TIMEOUT: u32 = 60_000;
/// The TLS alert that says that no protocol is common to both (RFC 7301 §3.2), as QUIC has it
/// (RFC 9001 §4.8).
const NO_APPLICATION_PROTOCOL: u64 = 0x100 + 120;
/// The server takes no connection (RFC 9000 §20.1).
const CONNECTION_REFUSED: u64 = 0x02;

/// Connects to one of the addresses of the server in `url`, and makes sure that it is the one that
/// the URL means.
pub(super) async fn dial(
    url: &StratumUrl,
    address: SocketAddr,
    roots: &Roots,
    own: Option<&TlsIdentity>,
) -> Result<(Dialled, Verified), ClientError> {
    let (mut tls, verdict) = client_config_with(&url.trust, roots.clone(), own)?;
    let name = ServerName::try_from(url.host.as_str());
    // what TLS cannot name is not asked for
    tls.enable_sni &= matches!(name, Ok(ServerName::DnsName(_)));
    let name = name.map_or(NAME, |_| &url.host);
    let tls = QuicClientConfig::try_from(tls).map_err(io::Error::other).map_err(ClientError::Unreachable)?;
    let mut config = ClientConfig::new(Arc::new(tls));
    config.transport_config(Arc::new(transport()));
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let endpoint = Endpoint::client((any, 0).into()).map_err(ClientError::Unreachable)?;
    let connecting = endpoint.connect_with(config, address, name).map_err(unreachable)?;
    match (connecting.await, verdict.get()) {
        (Ok(connection), Some(Ok(verified))) => Ok((Dialled::new(connection), verified)),
        // the verdict knows better than the alert that it became
        (_, Some(Err(error))) => Err(error.into()),
        (Err(error), _) => Err(refusal(error)),
        (Ok(_), None) => Err(ClientError::Unreachable(io::Error::other("the server was not verified"))),
    }
}

fn transport() -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(1))
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(Some(VarInt::from_u32(IDLE_TIMEOUT).into()))
        .keep_alive_interval(Some(KEEP_ALIVE));
    config
}

fn unreachable(error: ConnectError) -> ClientError {
    ClientError::Unreachable(io::Error::other(error))
}

fn refusal(error: ConnectionError) -> ClientError {
    let code = match &error {
        ConnectionError::ConnectionClosed(close) => u64::from(close.error_code),
        ConnectionError::TransportError(error) => u64::from(error.code),
        ConnectionError::TimedOut => return ClientError::Timeout,
        _ => 0,
    };
    match code {
        NO_APPLICATION_PROTOCOL => ClientError::NotStratum,
        CONNECTION_REFUSED => ClientError::Full,
        _ => LinkError::from(error).into(),
    }
}
