//! Waiting for what is bound to happen.

use std::future::Future;
use std::time::Duration;

use tokio::time::{sleep, timeout};

/// What takes longer will not happen any more.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// Waits for what is bound to happen.
pub(crate) async fn soon<T>(what: &str, happens: impl Future<Output = T>) -> T {
    match timeout(PATIENCE, happens).await {
        Ok(happened) => happened,
        Err(_) => panic!("waited in vain: {what}"),
    }
}

/// Waits until something holds that no one tells of.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    // a node answers five requests a second
    soon(what, async {
        while !holds().await {
            sleep(Duration::from_millis(250)).await;
        }
    })
    .await;
}
