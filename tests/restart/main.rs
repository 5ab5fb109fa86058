//! A server that stops, well or badly, and starts again, as systemd, its miners and a second server see it.

mod again;
mod miner;
#[allow(dead_code)] // each test uses a part
#[path = "../bitcoin_rpc/node.rs"]
mod node;
mod server;
mod stop;
mod supervised;
#[path = "../operator/work.rs"]
mod work;

use std::future::Future;
use std::time::Duration;

use tokio::time::timeout;

/// Long enough for a busy machine; what is tested takes seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for what is bound to happen.
async fn soon<T>(what: &str, happens: impl Future<Output = T>) -> T {
    match timeout(PATIENCE, happens).await {
        Ok(happened) => happened,
        Err(_) => panic!("waited in vain: {what}"),
    }
}
