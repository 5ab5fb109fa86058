//! Datagrams for attacks, and clients that fall silent.

#![allow(dead_code)]

use std::collections::HashSet;
use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Connecting, Endpoint, EndpointConfig, Runtime, TokioRuntime, UdpPoller};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::raw::{Dial, soon};

/// First datagrams of real clients, each with a whole ClientHello and connection ids of its own.
pub(crate) async fn initials(count: usize) -> Vec<Vec<u8>> {
    let sink = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let mut clients = HalfOpen::new();
    let mut captured = Vec::with_capacity(count);
    let mut buffer = vec![0; 65_536];
    for _ in 0..count {
        clients.connect(sink.local_addr().unwrap());
        let len = soon("a client's first datagram", sink.recv(&mut buffer)).await.unwrap();
        captured.push(buffer[..len].to_vec());
        clients.forget(); // a silent client would repeat itself to no effect for half a minute
    }
    captured
}

/// Random bytes.
pub(crate) fn garbage(count: usize, len: usize, seed: u64) -> Vec<Vec<u8>> {
    let mut dice = StdRng::seed_from_u64(seed);
    let datagram = |_| {
        let mut bytes = vec![0; len];
        dice.fill_bytes(&mut bytes);
        bytes
    };
    (0..count).map(datagram).collect()
}

/// Short-header packets of connections that do not exist, each with a connection id of its own.
pub(crate) fn short_headers(count: usize, len: usize, seed: u64) -> Vec<Vec<u8>> {
    let mut datagrams = garbage(count, len, seed);
    for datagram in &mut datagrams {
        datagram[0] = datagram[0] & !LONG_HEADER | FIXED_BIT;
    }
    datagrams
}

/// UDP sockets, each with a port of its own.
pub(crate) struct Sources(Vec<UdpSocket>);

impl Sources {
    pub(crate) fn open(count: usize) -> Self {
        let open = |_| {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        };
        Self((0..count).map(open).collect())
    }

    /// Sends each datagram once, from one socket after the other, as fast as the kernel takes them.
    pub(crate) fn send(&self, to: SocketAddr, datagrams: &[Vec<u8>]) {
        for (socket, datagram) in self.0.iter().cycle().zip(datagrams) {
            while let Err(error) = socket.send_to(datagram, to) {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}");
                std::thread::yield_now();
            }
        }
    }

    /// What has come back and fits into the sockets' buffers: nobody reads them but this.
    pub(crate) fn received(&self) -> Vec<Vec<u8>> {
        let mut buffer = vec![0; 65_536];
        let mut datagrams = Vec::new();
        for socket in &self.0 {
            while let Ok(len) = socket.recv(&mut buffer) {
                datagrams.push(buffer[..len].to_vec());
            }
        }
        datagrams
    }
}

/// Clients on one port that say nothing after their first flight. They do answer a Retry with its
/// token, once, and then fall silent.
pub(crate) struct HalfOpen {
    endpoint: Endpoint,
    clients: Vec<Connecting>,
}

impl HalfOpen {
    pub(crate) fn new() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let inner = TokioRuntime.wrap_udp_socket(socket).unwrap();
        let muted = Arc::new(Muted { inner, said: Mutex::default() });
        let endpoint = Endpoint::new_with_abstract_socket(
            EndpointConfig::default(),
            None,
            muted,
            Arc::new(TokioRuntime),
        );
        Self { endpoint: endpoint.unwrap(), clients: Vec::new() }
    }

    /// One more.
    pub(crate) fn connect(&mut self, to: SocketAddr) {
        let config = Dial::new().config();
        self.clients.push(self.endpoint.connect_with(config, to, "sv2").unwrap());
    }

    /// Drops the clients, unheard.
    pub(crate) fn forget(&mut self) {
        self.clients.clear();
    }
}

/// Lets an Initial without a token and one with a token out, for each connection, and no more.
#[derive(Debug)]
struct Muted {
    inner: Arc<dyn AsyncUdpSocket>,
    said: Mutex<HashSet<Initial>>,
}

impl AsyncUdpSocket for Muted {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.inner.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let Some(initial) = Initial::read(transmit.contents) else { return Ok(()) };
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.contains(&initial) {
            return Ok(());
        }
        self.inner.try_send(transmit)?;
        said.insert(initial);
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.inner.poll_recv(cx, bufs, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

const LONG_HEADER: u8 = 0x80;
const FIXED_BIT: u8 = 0x40;
const LONG_TYPE: u8 = 0x30;

/// What a client's Initial says of itself (RFC 9000 §17.2.2).
#[derive(Debug, PartialEq, Eq, Hash)]
struct Initial {
    source_id: Vec<u8>,
    has_token: bool,
}

impl Initial {
    /// None for any other packet.
    fn read(packet: &[u8]) -> Option<Self> {
        let (first, rest) = packet.split_first()?;
        if first & (LONG_HEADER | LONG_TYPE) != LONG_HEADER {
            return None;
        }
        let (_version, rest) = rest.split_at_checked(4)?;
        let (len, rest) = rest.split_first()?;
        let (_destination_id, rest) = rest.split_at_checked(usize::from(*len))?;
        let (len, rest) = rest.split_first()?;
        let (source_id, rest) = rest.split_at_checked(usize::from(*len))?;
        Some(Self { source_id: source_id.to_vec(), has_token: *rest.first()? != 0 })
    }
}
