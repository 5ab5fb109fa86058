//! The miner's side of a connection, over either transport.

mod dialer;
mod error;
mod noise;
mod quic;
mod race;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{timeout, timeout_at};

pub use dialer::{Dialer, NotOneServer, Pace, Server};
pub use error::{CertificateRefusal, ClientError};
pub(crate) use noise::NoiseClient;

use super::pipe::Pipe;
use super::quic::Dialled;
use super::tls::{Roots, TlsIdentity, Verified};
use super::{Arrived, Ending, Link, LinkError};
use crate::session::Lane;
use crate::wire::codec::Str255;
use crate::wire::common::{Common, SetupConnection, protocol};
use crate::wire::mining::Mining;
use crate::wire::url::{StratumUrl, Transport, Trust};
use crate::wire::{Header, Message, max_payload};

/// How long connecting may take, and then the answer to SetupConnection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How a client introduces itself (§3.6.1).
#[derive(Debug, Clone, Default)]
pub struct Device {
    /// The flags of SetupConnection.
    pub flags: u32,
    /// Who made it.
    pub vendor: String,
    /// What it is.
    pub hardware_version: String,
    /// What runs on it.
    pub firmware: String,
    /// Which one it is. May stay empty.
    pub device_id: String,
    /// What it shows a server over QUIC that wants a certificate.
    pub certificate: Option<Arc<TlsIdentity>>,
}

/// A step on the way to a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The host's name has these addresses.
    Resolved(Vec<SocketAddr>),
    /// There is a TCP connection to this address.
    Connected(SocketAddr),
    /// The server has proved who it is.
    Verified(Verified),
    /// The server has accepted SetupConnection.
    SetUp,
}

/// A connection to a mining server.
///
/// Over QUIC it can be used before the server has answered SetupConnection: whatever is queued
/// goes out at once, and a refusal comes out of [`next`](Self::next).
#[derive(Debug)]
pub struct Client {
    carrier: Carrier,
    /// Until when SetupConnection must be answered, if it has not been yet.
    setting_up: Option<tokio::time::Instant>,
    scratch: Vec<u8>,
    received: Vec<u8>,
}

/// What carries the messages.
#[derive(Debug)]
enum Carrier {
    Tcp(Box<Pipe>),
    Quic(Box<Dialled>),
}

impl Client {
    /// Connects to the server at `url`, makes sure that it is the one that the URL means, and
    /// introduces the device.
    pub async fn connect(url: &StratumUrl, device: &Device) -> Result<Self, ClientError> {
        Self::connect_with(url, device, &Roots::System, |_, _| {}).await
    }

    /// [`connect`](Self::connect) with a choice of whom WebPKI trusts, telling of each step how
    /// long it took.
    pub async fn connect_with(
        url: &StratumUrl,
        device: &Device,
        roots: &Roots,
        mut tell: impl FnMut(Step, Duration),
    ) -> Result<Self, ClientError> {
        let mut last = Instant::now();
        let mut tell = |step| tell(step, std::mem::replace(&mut last, Instant::now()).elapsed());
        let carrier = timeout(CONNECT_TIMEOUT, Carrier::connect(url, roots, device, &mut tell));
        let carrier = carrier.await.map_err(|_| ClientError::Timeout)??;
        let setting_up = Some(tokio::time::Instant::now() + CONNECT_TIMEOUT);
        let mut client = Self { carrier, setting_up, scratch: Vec::new(), received: Vec::new() };
        client.queue(&SetupConnection {
            protocol: protocol::MINING,
            min_version: 2,
            max_version: 2,
            flags: device.flags,
            endpoint_host: Str255::truncated(&url.host),
            endpoint_port: url.port,
            vendor: Str255::truncated(&device.vendor),
            hardware_version: Str255::truncated(&device.hardware_version),
            firmware: Str255::truncated(&device.firmware),
            device_id: Str255::truncated(&device.device_id),
        })?;
        if client.transport() == Transport::Tcp {
            // §3.6.1: nothing may be sent before the answer
            client.set_up().await?;
            tell(Step::SetUp);
        }
        Ok(client)
    }

    /// Waits until the server has accepted SetupConnection, if it has not yet. Before anything else
    /// is queued, nothing else can come.
    pub async fn set_up(&mut self) -> Result<(), ClientError> {
        while let Some(deadline) = self.setting_up {
            let header = self.receive_until(deadline).await?;
            self.answered(header)?;
        }
        Ok(())
    }

    /// The server has answered SetupConnection.
    fn answered(&mut self, header: Header) -> Result<(), ClientError> {
        match Common::decode(header.msg_type, &self.received)? {
            Common::SetupConnectionSuccess(_) => {
                self.setting_up = None;
                Ok(())
            }
            Common::SetupConnectionError(m) => {
                Err(ClientError::Refused { code: m.error_code.to_string(), flags: m.flags })
            }
            _ => Err(ClientError::Unexpected(header.msg_type)),
        }
    }

    /// What the connection runs over.
    #[must_use]
    pub fn transport(&self) -> Transport {
        match self.carrier {
            Carrier::Tcp(_) => Transport::Tcp,
            Carrier::Quic(_) => Transport::Quic,
        }
    }

    /// Puts a message in the queue; it is sent when something is next waited for. Over QUIC, a
    /// message for a channel that is not open any more is dropped, and requests to open channels
    /// that have not been answered must differ in their ids.
    pub fn queue<'m>(&mut self, message: &impl Message<'m>) -> Result<(), ClientError> {
        self.scratch.clear();
        message.encode(&mut self.scratch)?;
        Ok(self.carrier.send(&self.scratch)?)
    }

    /// Sends what is queued.
    pub async fn flush(&mut self) -> Result<(), ClientError> {
        while self.carrier.backlog() > 0 {
            self.carrier.progress(false).await?;
        }
        Ok(())
    }

    /// Sends what is queued, then waits for the server's next message on mining. Messages of
    /// extensions are passed over. Dropping this while it waits loses nothing.
    pub async fn next(&mut self) -> Result<Mining<'_>, ClientError> {
        let header = loop {
            let (header, _) = self.next_frame().await?;
            if header.extension == 0 {
                break header;
            }
        };
        Ok(Mining::decode(header.msg_type, &self.received)?)
    }

    /// Like [`next`](Self::next), of any sub-protocol and not decoded.
    pub async fn next_frame(&mut self) -> Result<(Header, &[u8]), ClientError> {
        let header = loop {
            let Some(deadline) = self.setting_up else { break self.receive().await? };
            let header = self.receive_until(deadline).await?;
            if header.extension != 0 || Common::max_payload(header.msg_type).is_none() {
                // on a stream of its own it may overtake the answer
                break header;
            }
            self.answered(header)?;
        };
        Ok((header, &self.received))
    }

    /// Has the server receive what is queued, then ends the connection.
    pub async fn close(self) {
        match self.carrier {
            Carrier::Tcp(pipe) => pipe.close(&Ending::Finished).await,
            Carrier::Quic(dialled) => dialled.close(&Ending::Finished).await,
        }
    }

    async fn receive_until(&mut self, deadline: tokio::time::Instant) -> Result<Header, ClientError> {
        timeout_at(deadline, self.receive()).await.map_err(|_| ClientError::Timeout)?
    }

    async fn receive(&mut self) -> Result<Header, ClientError> {
        loop {
            match self.carrier.next_arrived()? {
                Some(Arrived::Frame(_, header, payload)) => {
                    self.received.clear();
                    self.received.extend_from_slice(payload);
                    return Ok(header);
                }
                Some(Arrived::End(_)) => {}
                None => self.carrier.progress(true).await?,
            }
        }
    }
}

impl Carrier {
    async fn connect(
        url: &StratumUrl,
        roots: &Roots,
        device: &Device,
        tell: &mut impl FnMut(Step),
    ) -> Result<Self, ClientError> {
        let addresses = noise::resolve(&url.host, url.port).await?;
        tell(Step::Resolved(addresses.clone()));
        match (url.transport, &url.trust) {
            (Transport::Quic, trust) => {
                // read once, not for each address
                let roots = match trust {
                    Trust::WebPki => &Roots::Given(roots.clone().load()),
                    Trust::Authority(_) | Trust::Pins(_) => roots,
                };
                let own = device.certificate.as_deref();
                let (link, verified) =
                    race::race(&addresses, |address| quic::dial(url, address, roots, own)).await?;
                tell(Step::Verified(verified));
                Ok(Self::Quic(Box::new(link)))
            }
            (Transport::Tcp, Trust::Authority(authority)) => {
                let stream = noise::dial(&addresses).await?;
                tell(Step::Connected(stream.peer_addr().map_err(ClientError::Unreachable)?));
                let (pipe, verified) = noise::handshake(stream, Some(authority), max_payload).await?;
                verified.map(Step::Verified).map(tell);
                Ok(Self::Tcp(Box::new(pipe)))
            }
            (Transport::Tcp, Trust::WebPki | Trust::Pins(_)) => Err(ClientError::NoKey),
        }
    }

    fn next_arrived(&mut self) -> Result<Option<Arrived<'_>>, LinkError> {
        match self {
            Self::Tcp(link) => link.next_arrived(),
            Self::Quic(link) => link.next_arrived(),
        }
    }

    fn send(&mut self, frame: &[u8]) -> Result<(), LinkError> {
        match self {
            Self::Tcp(link) => link.send(Lane::Control, frame),
            Self::Quic(link) => link.send(Lane::Control, frame),
        }
    }

    fn backlog(&self) -> usize {
        match self {
            Self::Tcp(link) => link.backlog(),
            Self::Quic(link) => link.backlog(),
        }
    }

    async fn progress(&mut self, read: bool) -> Result<(), LinkError> {
        match self {
            Self::Tcp(link) => link.progress(read).await,
            Self::Quic(link) => link.progress(read).await,
        }
    }
}
