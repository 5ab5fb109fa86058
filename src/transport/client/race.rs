//! A host may have several addresses, not all of which work.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::sleep;

use super::ClientError;

/// How long one address may take before the next is tried beside it (RFC 8305 §5).
const STAGGER: Duration = Duration::from_millis(250);

/// The first connection to succeed, of one to each address.
pub(super) async fn race<T, F: Future<Output = Result<T, ClientError>>>(
    addresses: &[SocketAddr],
    connect: impl Fn(SocketAddr) -> F,
) -> Result<T, ClientError> {
    let mut rest = addresses.iter();
    let mut attempts = FuturesUnordered::new();
    let mut failure = ClientError::Timeout;
    loop {
        attempts.extend(rest.next().map(|address| connect(*address)));
        tokio::select! {
            attempt = attempts.next() => match attempt {
                Some(Ok(connection)) => return Ok(connection),
                // a server that answers, but is the wrong one
                Some(Err(error)) if error.is_lasting() => return Err(error),
                Some(Err(error)) => failure = error,
                None => return Err(failure),
            },
            () = sleep(STAGGER), if rest.len() > 0 => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::LinkError;

    fn addresses(count: u16) -> Vec<SocketAddr> {
        (0..count).map(|port| ([127, 0, 0, 1], port).into()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_address_does_not_hold_up_a_live_one() {
        let winner = race(&addresses(3), |address| async move {
            match address.port() {
                0 => std::future::pending().await,
                1 => Err(ClientError::Full),
                port => Ok(port),
            }
        })
        .await;
        assert_eq!(winner.unwrap(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_failure_is_told_and_a_lasting_one_at_once() {
        let lost = || ClientError::Link(LinkError::Silent);
        let outcome = race(&addresses(2), |_| async { Err::<(), _>(lost()) }).await;
        assert!(matches!(outcome, Err(ClientError::Link(LinkError::Silent))));
        let outcome = race(&addresses(2), |address| async move {
            if address.port() == 0 {
                Err::<(), _>(ClientError::NotStratum)
            } else {
                std::future::pending().await
            }
        })
        .await;
        assert!(matches!(outcome, Err(ClientError::NotStratum)));
        assert!(matches!(race(&[], |_| async { Ok(()) }).await, Err(ClientError::Timeout)));
    }
}
