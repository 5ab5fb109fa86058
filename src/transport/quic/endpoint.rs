//! The server's UDP socket and how QUIC is set up on it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Endpoint, EndpointConfig, IdleTimeout, ServerConfig, TokioRuntime, TransportConfig, VarInt};
use quinn_proto::RandomConnectionIdGenerator;
use ring::{hkdf, hmac};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::served::LEAST_STREAMS;

/// Connection ids are random and of this length: a packet with one that is not known is answered
/// by a stateless reset, so that a miner learns of a restart.
const CONNECTION_ID_LEN: usize = 8;
/// Connections that wait to be looked at, and the bytes that may have come for them.
const MAX_INCOMING: usize = 1024;
const MAX_INCOMING_BYTES: u64 = 8 * 1024 * 1024;

/// What an operator can set about QUIC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// How long the TLS handshake may take, then the client to open its first stream, then to let
    /// the server open one.
    pub handshake_timeout: Duration,
    /// After so long without a word from it a miner is given up.
    pub idle_timeout: Duration,
    /// A packet is sent this often to keep NAT bindings alive.
    pub keep_alive: Duration,
    /// Streams that a connection may use at a time, of which each channel takes one. A quarter more
    /// are granted.
    pub max_streams: u32,
    /// With so many handshakes under way, clients have to show first that they are where they
    /// claim to be (Retry).
    pub validate_above: usize,
    /// With so many handshakes under way, no more are begun. From one address, an eighth of it.
    pub max_handshakes: usize,
    /// Bytes that may come on one stream before they are read.
    pub stream_window: u32,
    /// Bytes that may come on all streams of a connection before they are read.
    pub receive_window: u32,
    /// Bytes that are kept for a connection until they are acknowledged.
    pub send_window: u32,
    /// Bytes that the socket's buffers are to hold, for bursts from many miners.
    pub socket_buffer: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            keep_alive: Duration::from_secs(20),
            max_streams: 2048 + LEAST_STREAMS,
            validate_above: 64,
            max_handshakes: 1024,
            stream_window: 32 * 1024,
            receive_window: 128 * 1024,
            send_window: 256 * 1024,
            socket_buffer: 4 * 1024 * 1024,
        }
    }
}

/// What the server must remember over a restart, so that miners can be told of it (stateless
/// resets), and so that those that were asked for their address just before are let in (Retry).
#[derive(Clone)]
pub struct EndpointKeys {
    reset: hmac::Key,
    token: hkdf::Prk,
}

impl EndpointKeys {
    /// Both keys, derived from one secret.
    #[must_use]
    pub fn derive(secret: &[u8; 32]) -> Self {
        let root = hkdf::Salt::new(hkdf::HKDF_SHA256, b"sv2-quic endpoint").extract(secret);
        let reset = root.expand(&[b"stateless reset"], hmac::HMAC_SHA256);
        let token = root.expand(&[b"address token"], hkdf::HKDF_SHA256);
        let fits = "an output of the hash's own length can always be had";
        Self { reset: reset.expect(fits).into(), token: token.expect(fits).into() }
    }
}

impl std::fmt::Debug for EndpointKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EndpointKeys(<redacted>)")
    }
}

/// A QUIC server on `address`.
pub(super) fn serve(
    address: SocketAddr,
    tls: Arc<rustls::ServerConfig>,
    keys: &EndpointKeys,
    options: &Options,
) -> io::Result<Endpoint> {
    let server = server_config(tls, keys, options)?;
    let mut endpoint = EndpointConfig::new(Arc::new(keys.reset.clone()));
    endpoint
        .cid_generator(|| Box::new(RandomConnectionIdGenerator::new(CONNECTION_ID_LEN)))
        // all the miners of a server that was restarted ask at once; an answer is shorter than its
        // question, so nobody is attacked by it
        .min_reset_interval(Duration::ZERO);
    Endpoint::new(endpoint, Some(server), bind(address, options.socket_buffer)?, Arc::new(TokioRuntime))
}

/// What holds for connections that begin from now on.
pub(super) fn server_config(
    tls: Arc<rustls::ServerConfig>,
    keys: &EndpointKeys,
    options: &Options,
) -> io::Result<ServerConfig> {
    let tls = QuicServerConfig::try_from(tls).map_err(io::Error::other)?;
    let mut server = ServerConfig::new(Arc::new(tls), Arc::new(keys.token.clone()));
    server
        .transport_config(Arc::new(transport(options)?))
        .migration(true)
        .max_incoming(MAX_INCOMING)
        .incoming_buffer_size_total(MAX_INCOMING_BYTES);
    Ok(server)
}

fn transport(options: &Options) -> io::Result<TransportConfig> {
    let idle = IdleTimeout::try_from(options.idle_timeout).map_err(io::Error::other)?;
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(LEAST_STREAMS.into())
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(options.stream_window.into())
        .receive_window(options.receive_window.into())
        .send_window(options.send_window.into())
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(Some(options.keep_alive));
    Ok(config)
}

fn bind(address: SocketAddr, buffer: usize) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    let socket = std::net::UdpSocket::from(socket);
    enlarge(&socket, buffer);
    Ok(socket)
}

fn enlarge(socket: &std::net::UdpSocket, wanted: usize) {
    let socket = SockRef::from(socket);
    // both fail quietly: what counts is what the kernel grants
    let _ = socket.set_recv_buffer_size(wanted);
    let _ = socket.set_send_buffer_size(wanted);
    let granted = socket.recv_buffer_size().unwrap_or(0);
    if granted < wanted {
        tracing::warn!(
            granted,
            wanted,
            "the kernel grants the UDP socket a small receive buffer: bursts from many miners will lose \
             packets; set net.core.rmem_max to the wanted size"
        );
    }
}
