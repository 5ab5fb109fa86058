//! Which transport to use, and when to try again.

use std::fmt;
use std::pin::pin;
use std::time::Duration;

use getrandom::SysRng;
use rand_core::{Rng, UnwrapErr};
use tokio::time::sleep;

use super::{Client, ClientError, Device};
use crate::wire::url::{StratumUrl, Transport};

/// When a [`Dialer`] tries what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pace {
    /// How long QUIC is tried alone.
    pub head_start: Duration,
    /// How often QUIC is tried again by a client that had to make do with TCP.
    pub retry_quic: Duration,
    /// The first wait after a failure; it doubles with each.
    pub first_wait: Duration,
    /// The longest.
    pub longest_wait: Duration,
    /// The wait after a failure that someone has to do something about.
    pub lasting_wait: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            head_start: Duration::from_secs(2),
            retry_quic: Duration::from_secs(600),
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(60),
            lasting_wait: Duration::from_secs(300),
        }
    }
}

/// A server by the URLs of its transports, of which it has one or both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    quic: Option<StratumUrl>,
    tcp: Option<StratumUrl>,
}

/// Not one URL, or one for each transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("give one URL, or one stratum2+quic:// and one stratum2+tcp:// URL of the same server")]
pub struct NotOneServer;

impl Server {
    /// The server that has all these URLs: one, or one for each transport.
    pub fn at(urls: impl IntoIterator<Item = StratumUrl>) -> Result<Self, NotOneServer> {
        let mut server = Self { quic: None, tcp: None };
        for url in urls {
            let place = match url.transport {
                Transport::Quic => &mut server.quic,
                Transport::Tcp => &mut server.tcp,
            };
            if place.replace(url).is_some() {
                return Err(NotOneServer);
            }
        }
        if server.quic.is_none() && server.tcp.is_none() { Err(NotOneServer) } else { Ok(server) }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.quic, &self.tcp) {
            (Some(quic), Some(tcp)) => write!(f, "{quic} or {tcp}"),
            (Some(url), None) | (None, Some(url)) => url.fmt(f),
            (None, None) => Ok(()),
        }
    }
}

/// Connects to a server, again and again if need be.
#[derive(Debug)]
pub struct Dialer {
    server: Server,
    device: Device,
    pace: Pace,
    /// Failures in a row.
    failures: u32,
}

impl Dialer {
    /// Of one device.
    #[must_use]
    pub fn new(server: Server, device: Device, pace: Pace) -> Self {
        Self { server, device, pace, failures: 0 }
    }

    /// The server.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Connects: over QUIC if that works, else over TCP.
    pub async fn connect(&self) -> Result<Client, ClientError> {
        let Server { quic, tcp } = &self.server;
        match (quic, tcp) {
            (Some(quic), Some(tcp)) => self.connect_by_either(quic, tcp).await,
            (Some(url), None) | (None, Some(url)) => Client::connect(url, &self.device).await,
            (None, None) => Err(ClientError::Timeout),
        }
    }

    async fn connect_by_either(&self, quic: &StratumUrl, tcp: &StratumUrl) -> Result<Client, ClientError> {
        let mut by_quic = pin!(Client::connect(quic, &self.device));
        let by_tcp = Client::connect(tcp, &self.device);
        let head_start = tokio::select! {
            connected = &mut by_quic => Some(connected),
            () = sleep(self.pace.head_start) => None,
        };
        match head_start {
            Some(Ok(client)) => Ok(client),
            Some(Err(error)) => {
                tracing::warn!(%error, "no connection over QUIC, trying TCP");
                by_tcp.await
            }
            None => {
                tracing::info!("QUIC takes long, trying TCP too");
                let mut by_tcp = pin!(by_tcp);
                tokio::select! {
                    connected = &mut by_quic => match connected {
                        Ok(client) => Ok(client),
                        Err(error) => {
                            tracing::warn!(%error, "no connection over QUIC");
                            by_tcp.await
                        }
                    },
                    connected = &mut by_tcp => match connected {
                        Ok(client) => Ok(client),
                        Err(error) => {
                            tracing::warn!(%error, "no connection over TCP");
                            by_quic.await
                        }
                    },
                }
            }
        }
    }

    /// Waits as long as is decent after this failure, which is [lasting](ClientError::is_lasting)
    /// or not.
    pub async fn wait_after(&mut self, error: &(dyn std::error::Error + Sync), lasting: bool) {
        let wait = self.wait(lasting);
        tracing::warn!(%error, "trying again in {} s", wait.as_secs_f64().ceil());
        sleep(wait).await;
    }

    /// The connection works: the next failure is a first one again.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }

    fn wait(&mut self, lasting: bool) -> Duration {
        let wait = if lasting {
            self.pace.lasting_wait
        } else {
            self.pace.first_wait.saturating_mul(1 << self.failures.min(16)).min(self.pace.longest_wait)
        };
        self.failures = self.failures.saturating_add(1);
        // not all of a server's miners at once
        let jitter = f64::from(UnwrapErr(SysRng).next_u32()) / f64::from(u32::MAX);
        wait.mul_f64(0.75 + jitter / 2.0)
    }

    /// A connection over QUIC in place of one over TCP, once there can be one.
    pub async fn better_than(&self, transport: Transport) -> Client {
        let (Transport::Tcp, Some(quic)) = (transport, &self.server.quic) else {
            return std::future::pending().await;
        };
        loop {
            sleep(self.pace.retry_quic).await;
            let connected = async {
                let mut client = Client::connect(quic, &self.device).await?;
                client.set_up().await?;
                Ok::<_, ClientError>(client)
            };
            match connected.await {
                Ok(client) => return client,
                Err(error) => tracing::info!(%error, "still no connection over QUIC"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "9bXiEd8boQVhq7WddEcERUL5tyyJVFYdU8th3HfbNXK3Yw6GRXh";

    fn urls(urls: &[&str]) -> Result<Server, NotOneServer> {
        Server::at(urls.iter().map(|url| format!("{url}/{KEY}").parse().unwrap()))
    }

    #[test]
    fn a_server_has_one_url_for_each_transport() {
        assert!(urls(&["stratum2+quic://a"]).is_ok());
        assert!(urls(&["stratum2+tcp://a"]).is_ok());
        let both = urls(&["stratum2+tcp://a", "stratum2+quic://a"]).unwrap();
        assert_eq!(both.to_string(), format!("stratum2+quic://a:3333/{KEY} or stratum2+tcp://a:3333/{KEY}"));
        assert_eq!(urls(&[]), Err(NotOneServer));
        assert_eq!(urls(&["stratum2+tcp://a", "stratum2+tcp://b"]), Err(NotOneServer));
    }

    #[test]
    fn waits_grow_to_a_limit_and_start_over() {
        let mut dialer =
            Dialer::new(urls(&["stratum2+quic://a"]).unwrap(), Device::default(), Pace::default());
        let about = |wait: Duration, seconds: f64| {
            let wait = wait.as_secs_f64();
            assert!((0.75 * seconds..=1.25 * seconds).contains(&wait), "{wait} s for {seconds} s");
        };
        for seconds in [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0] {
            about(dialer.wait(false), seconds);
        }
        about(dialer.wait(true), 300.0);
        dialer.failures = u32::MAX;
        about(dialer.wait(false), 60.0);
        dialer.succeeded();
        about(dialer.wait(false), 1.0);
        let mut waits: Vec<_> = (0..10).map(|_| dialer.wait(true)).collect();
        waits.dedup();
        assert!(waits.len() > 1, "miners do not all come back at once");
    }
}
