//! Noise over TCP, whatever sub-protocol is then spoken.

use std::io;
use std::net::SocketAddr;

use getrandom::SysRng;
use rand_core::UnwrapErr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::race::race;
use super::{CONNECT_TIMEOUT, ClientError};
use crate::aside;
use crate::clock::unix_now;
use crate::session::Lane;
use crate::transport::pipe::{Pipe, prepare};
use crate::transport::tls::{Proof, Verified};
use crate::transport::{Arrived, Ending, Link, LinkError};
use crate::wire::Header;
use crate::wire::keys::AuthorityPublicKey;
use crate::wire::noise::{ACT2_LEN, Initiator, NoiseError};

/// What is read into stays this large, however much came once.
const KEPT: usize = 64 * 1024;

/// A connection to a server of any sub-protocol, frame by frame. It does not introduce itself.
#[derive(Debug)]
pub(crate) struct NoiseClient {
    pipe: Pipe,
    received: Vec<u8>,
}

impl NoiseClient {
    /// Connects to the server at `host`, and makes sure that `authority` vouches for it; without
    /// an authority, whoever answers will do. `limit` is the longest payload to accept behind a
    /// header.
    pub(crate) async fn connect(
        host: &str,
        port: u16,
        authority: Option<&AuthorityPublicKey>,
        limit: fn(&Header) -> Option<usize>,
    ) -> Result<Self, ClientError> {
        let connecting = async {
            let addresses = resolve(host, port).await?;
            let stream = dial(&addresses).await?;
            handshake(stream, authority, limit).await
        };
        let (pipe, _) = timeout(CONNECT_TIMEOUT, connecting).await.map_err(|_| ClientError::Timeout)??;
        Ok(Self { pipe, received: Vec::new() })
    }

    /// Sends a frame.
    pub(crate) async fn send(&mut self, frame: &[u8]) -> Result<(), LinkError> {
        self.pipe.send(Lane::Control, frame)?;
        while self.pipe.backlog() > 0 {
            self.pipe.progress(false).await?;
        }
        Ok(())
    }

    /// Waits for the next frame, whose payload is then [`received`](Self::received). Dropping
    /// this while it waits loses nothing.
    pub(crate) async fn next(&mut self) -> Result<Header, LinkError> {
        loop {
            match self.pipe.next_arrived()? {
                Some(Arrived::Frame(_, header, payload)) => {
                    self.received.clear();
                    self.received.shrink_to(KEPT);
                    self.received.extend_from_slice(payload);
                    return Ok(header);
                }
                Some(Arrived::End(_)) => {}
                None => self.pipe.progress(true).await?,
            }
        }
    }

    /// The payload of the last frame.
    pub(crate) fn received(&self) -> &[u8] {
        &self.received
    }

    /// Ends the connection once the server has what was sent.
    pub(crate) async fn close(self) {
        self.pipe.close(&Ending::Finished).await;
    }
}

/// The addresses of a host.
pub(super) async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, ClientError> {
    let unknown = |error| ClientError::UnknownHost { host: host.to_owned(), error };
    aside::resolve(host, port).await.map_err(unknown)
}

/// A TCP connection to one of these addresses.
pub(super) async fn dial(addresses: &[SocketAddr]) -> Result<TcpStream, ClientError> {
    let connect =
        |address| async move { TcpStream::connect(address).await.map_err(ClientError::Unreachable) };
    race(addresses, connect).await
}

/// §4.5, the initiator's side. Without an authority nothing is verified.
pub(super) async fn handshake(
    mut stream: TcpStream,
    authority: Option<&AuthorityPublicKey>,
    limit: fn(&Header) -> Option<usize>,
) -> Result<(Pipe, Option<Verified>), ClientError> {
    prepare(&stream).map_err(ClientError::Unreachable)?;
    let (initiator, act1) = Initiator::new(&mut UnwrapErr(SysRng));
    stream.write_all(&act1).await.map_err(ClientError::Handshake)?;
    let mut act2 = [0; ACT2_LEN];
    stream.read_exact(&mut act2).await.map_err(ClientError::Handshake)?;
    let finished = match authority {
        Some(authority) => initiator.finish(&act2, authority, unix_now()).map(|(ciphers, certificate)| {
            let verified = Verified {
                by: Proof::AuthorityKey,
                valid_from: certificate.valid_from(),
                not_valid_after: certificate.not_valid_after(),
            };
            (ciphers, Some(verified))
        }),
        None => initiator.finish_unverified(&act2).map(|ciphers| (ciphers, None)),
    };
    let (ciphers, verified) = finished.map_err(|error| match error {
        NoiseError::Certificate(error) => ClientError::Identity(error.into()),
        error => ClientError::Handshake(io::Error::other(error)),
    })?;
    Ok((Pipe::new(stream, ciphers, limit), verified))
}
