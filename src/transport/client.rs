//! The miner's side of a connection.

use std::time::Duration;

use getrandom::SysRng;
use rand_core::UnwrapErr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::pipe::{Pipe, prepare};
use super::{Link, LinkError};
use crate::clock::unix_now;
use crate::session::Lane;
use crate::wire::codec::Str255;
use crate::wire::common::{Common, SetupConnection, protocol};
use crate::wire::mining::Mining;
use crate::wire::noise::{ACT2_LEN, Initiator, NoiseError};
use crate::wire::url::{StratumUrl, Transport, Trust};
use crate::wire::{Header, Message, WireError, max_payload};

/// How long connecting may take, up to the answer to SetupConnection.
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
}

/// A connection to a mining server, set up and ready to open channels.
#[derive(Debug)]
pub struct Client {
    pipe: Pipe,
    scratch: Vec<u8>,
    received: Vec<u8>,
}

impl Client {
    /// Connects to the server at `url`, makes sure that it is the one that the URL means, and
    /// introduces the device.
    pub async fn connect(url: &StratumUrl, device: &Device) -> Result<Self, ClientError> {
        match timeout(CONNECT_TIMEOUT, Self::handshake(url, device)).await {
            Ok(connected) => connected,
            Err(_) => Err(ClientError::Timeout),
        }
    }

    async fn handshake(url: &StratumUrl, device: &Device) -> Result<Self, ClientError> {
        let (Transport::Tcp, Trust::Authority(authority)) = (url.transport, &url.trust) else {
            return Err(ClientError::Unsupported);
        };
        let connecting = TcpStream::connect((url.host.as_str(), url.port)).await;
        let mut stream = connecting.map_err(ClientError::Unreachable)?;
        let noise = |error| ClientError::Link(LinkError::from(error));
        prepare(&stream).map_err(ClientError::Unreachable)?;
        let (initiator, act1) = Initiator::new(&mut UnwrapErr(SysRng));
        stream.write_all(&act1).await.map_err(ClientError::Handshake)?;
        let mut act2 = [0; ACT2_LEN];
        stream.read_exact(&mut act2).await.map_err(ClientError::Handshake)?;
        let ciphers = initiator.finish(&act2, authority, unix_now()).map_err(noise)?;
        let pipe = Pipe::new(stream, ciphers, max_payload);
        let mut client = Self { pipe, scratch: Vec::new(), received: Vec::new() };
        client.set_up(url, device).await?;
        Ok(client)
    }

    async fn set_up(&mut self, url: &StratumUrl, device: &Device) -> Result<(), ClientError> {
        self.queue(&SetupConnection {
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
        let (header, payload) = self.next_frame().await?;
        match Common::decode(header.msg_type, payload)? {
            Common::SetupConnectionSuccess(_) => Ok(()),
            Common::SetupConnectionError(m) => {
                Err(ClientError::Refused { code: m.error_code.to_string(), flags: m.flags })
            }
            _ => Err(ClientError::Unexpected(header.msg_type)),
        }
    }

    /// Puts a message in the queue; it is sent when something is next waited for.
    pub fn queue<'m>(&mut self, message: &impl Message<'m>) -> Result<(), ClientError> {
        self.scratch.clear();
        message.encode(&mut self.scratch)?;
        Ok(self.pipe.send(Lane::Control, &self.scratch)?)
    }

    /// Sends what is queued.
    pub async fn flush(&mut self) -> Result<(), ClientError> {
        while self.pipe.backlog() > 0 {
            self.pipe.progress(false).await?;
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
            if let Some((_, header, payload)) = self.pipe.next_frame()? {
                self.received.clear();
                self.received.extend_from_slice(payload);
                break header;
            }
            self.pipe.progress(true).await?;
        };
        Ok((header, &self.received))
    }
}

/// Why a client is not connected, or not any more.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection to the address in the URL.
    #[error("cannot connect: {0}")]
    Unreachable(std::io::Error),
    /// The server did not answer in time.
    #[error("the server did not answer in time")]
    Timeout,
    /// There is a server, but it does not speak SV2 over Noise.
    #[error("the server ended the Noise handshake ({0}): is this a Stratum V2 port?")]
    Handshake(std::io::Error),
    /// This client cannot use such a URL.
    #[error("this client connects to stratum2+tcp:// URLs with an authority key")]
    Unsupported,
    /// The server refused SetupConnection.
    #[error("the server refused the connection: {code} (flags {flags:#x})")]
    Refused {
        /// Its `error_code`.
        code: String,
        /// The features that it does not have.
        flags: u32,
    },
    /// The server sent something that has no place here.
    #[error("the server sent an unexpected message of type {0:#04x}")]
    Unexpected(u8),
    /// A message cannot be read or written.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The connection ended.
    #[error(transparent)]
    Link(#[from] LinkError),
}

impl From<NoiseError> for ClientError {
    fn from(error: NoiseError) -> Self {
        Self::Link(error.into())
    }
}
