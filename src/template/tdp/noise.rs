//! A template provider behind a socket: Noise over TCP, as in every other sub-protocol.

use std::io;
use std::time::Duration;

use tokio::time::timeout;

use super::link::{Link, Provider};
use crate::transport::LinkError;
use crate::transport::client::{ClientError, NoiseClient};
use crate::transport::tls::{Date, IdentityError};
use crate::wire::codec::Str255;
use crate::wire::common::{Common, SetupConnection, protocol};
use crate::wire::keys::AuthorityPublicKey;
use crate::wire::template::TemplateDistribution;
use crate::wire::{Message, WireError, max_payload_from_template_provider};

/// How long the answer to SetupConnection may take.
const SETUP: Duration = Duration::from_secs(10);

/// Where it is, and who it is.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) address: String,
    pub(super) authority_key: Option<AuthorityPublicKey>,
}

/// A connection that is set up.
#[derive(Debug)]
pub(super) struct NoiseLink {
    client: NoiseClient,
    frame: Vec<u8>,
}

/// Why there is no connection, or not any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoiseLinkError {
    #[error("{0:?} is not HOST:PORT: correct the address")]
    Address(String),
    #[error("cannot find its host: {0}: check the address")]
    UnknownHost(io::Error),
    #[error("cannot connect: {0}: does the template provider run, and listen there?")]
    Unreachable(io::Error),
    #[error("cannot connect in time: check the address, and that no firewall is in between")]
    Timeout,
    #[error("no Noise handshake ({0}): check that the address is a template provider's")]
    Handshake(io::Error),
    #[error(
        "it is not the one that authority_key is of: compare that with the key in the template provider's log, else somebody is in between"
    )]
    WrongAuthority,
    #[error("its certificate is not valid before {}: check the clocks of both machines", Date(*.0))]
    NotYetValid(u32),
    #[error(
        "its certificate expired at {}: check the clocks of both machines, else restart the template provider",
        Date(*.0)
    )]
    Expired(u32),
    #[error("it refuses to distribute templates: {code} (flags {flags:#x})")]
    Refused { code: String, flags: u32 },
    #[error("it wants to speak version {0} of the protocol, not 2")]
    Version(u16),
    #[error(
        "it has not answered SetupConnection for {} s: check that the address is a template provider's",
        SETUP.as_secs()
    )]
    NoSetup,
    #[error("it answers SetupConnection with type {0:#04x}: check that the address is a template provider's")]
    Unexpected(u8),
    #[error("{0}")]
    Wire(#[from] WireError),
    #[error("{0}")]
    Link(#[from] LinkError),
    /// What no client of Noise over TCP meets.
    #[error("{0}")]
    Other(ClientError),
}

impl Provider for Socket {
    type Link = NoiseLink;
    type Error = NoiseLinkError;

    async fn connect(&mut self) -> Result<NoiseLink, NoiseLinkError> {
        let (host, port) =
            split(&self.address).ok_or_else(|| NoiseLinkError::Address(self.address.clone()))?;
        let limit = max_payload_from_template_provider;
        let client = NoiseClient::connect(host, port, self.authority_key.as_ref(), limit).await?;
        let mut link = NoiseLink { client, frame: Vec::new() };
        timeout(SETUP, link.set_up(host, port)).await.map_err(|_| NoiseLinkError::NoSetup)??;
        Ok(link)
    }
}

/// `HOST:PORT`, where an IPv6 address is in brackets.
fn split(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let host = host.strip_prefix('[').map_or(Some(host), |host| host.strip_suffix(']'))?;
    Some((host, port.parse().ok()?)).filter(|(host, _)| !host.is_empty())
}

impl NoiseLink {
    /// §3.6.1
    async fn set_up(&mut self, host: &str, port: u16) -> Result<(), NoiseLinkError> {
        let setup = SetupConnection {
            protocol: protocol::TEMPLATE_DISTRIBUTION,
            min_version: 2,
            max_version: 2,
            flags: 0,
            endpoint_host: Str255::truncated(host),
            endpoint_port: port,
            vendor: Str255::truncated(env!("CARGO_PKG_NAME")),
            hardware_version: Str255::default(),
            firmware: Str255::truncated(env!("CARGO_PKG_VERSION")),
            device_id: Str255::default(),
        };
        self.frame.clear();
        setup.encode(&mut self.frame)?;
        self.client.send(&self.frame).await?;
        let (msg_type, payload) = self.next().await?;
        if Common::max_payload(msg_type).is_none() {
            return Err(NoiseLinkError::Unexpected(msg_type));
        }
        match Common::decode(msg_type, payload)? {
            Common::SetupConnectionSuccess(m) if m.used_version == 2 => Ok(()),
            Common::SetupConnectionSuccess(m) => Err(NoiseLinkError::Version(m.used_version)),
            Common::SetupConnectionError(m) => {
                Err(NoiseLinkError::Refused { code: m.error_code.to_string(), flags: m.flags })
            }
            other => Err(NoiseLinkError::Unexpected(other.msg_type())),
        }
    }
}

impl Link for NoiseLink {
    type Error = NoiseLinkError;

    async fn next(&mut self) -> Result<(u8, &[u8]), NoiseLinkError> {
        loop {
            let header = self.client.next().await?;
            // messages of extensions that were not asked for are passed over (§3.4.1)
            if header.extension == 0 {
                return Ok((header.msg_type, self.client.received()));
            }
        }
    }

    async fn send(&mut self, message: TemplateDistribution<'_>) -> Result<(), NoiseLinkError> {
        self.frame.clear();
        message.encode(&mut self.frame)?;
        Ok(self.client.send(&self.frame).await?)
    }

    async fn close(self) {
        self.client.close().await;
    }
}

impl From<ClientError> for NoiseLinkError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::UnknownHost { error, .. } => Self::UnknownHost(error),
            ClientError::Unreachable(error) => Self::Unreachable(error),
            ClientError::Timeout => Self::Timeout,
            ClientError::Handshake(error) => Self::Handshake(error),
            ClientError::Identity(IdentityError::WrongAuthority) => Self::WrongAuthority,
            ClientError::Identity(IdentityError::NotYetValid(time)) => Self::NotYetValid(time),
            ClientError::Identity(IdentityError::Expired(time)) => Self::Expired(time),
            ClientError::Link(error) => Self::Link(error),
            other => Self::Other(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        assert_eq!(split("localhost:8442"), Some(("localhost", 8442)));
        assert_eq!(split("127.0.0.1:1"), Some(("127.0.0.1", 1)));
        assert_eq!(split("[::1]:8442"), Some(("::1", 8442)));
        for wrong in ["", "localhost", ":8442", "localhost:", "localhost:65536", "[::1:8442", "[]:1"] {
            assert_eq!(split(wrong), None, "{wrong}");
        }
    }
}
