//! A Bitcoin node's JSON-RPC as a source of work: Bitcoin Core, Knots, blvm-node.
//!
//! ```text
//!  getblocktemplate, when told to ─┐                    ┌─> Feed
//!  getblocktemplate, longpolling  ─┼─Event──> Follower ─┤
//!  waitfornewblock, getblockheader ┘                    └─> ask for a template
//!
//!  Deliveries ──> submitblock ──> Verdict
//! ```
//!
//! Each of the four has a connection of its own, and keeps it: some nodes allow few new ones.

mod answer;
mod asker;
mod auth;
mod draft;
mod empty;
mod error;
mod fit;
mod follow;
mod line;
mod longpoll;
mod session;
mod submit;
mod template;
mod tips;
mod url;

use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bitcoin::Network;
use serde::Deserialize;
use tokio::task::JoinSet;
use tokio::time::Instant;

pub use self::auth::{Auth, Password};
pub use self::url::UrlError;

use self::asker::{Asker, Reader};
use self::line::{Endpoint, Line};
use self::session::Node;
use super::Transactions;
use super::backoff::Backoff;
use super::source::{Deliveries, Feed};
use crate::mining::payout::Room;

/// No node is asked for templates more often, as some count requests.
const SHORTEST_POLL: Duration = Duration::from_secs(1);

/// A node that had work for less than this is no better than one that had none.
const STEADY: Duration = Duration::from_secs(60);

/// What an operator can set about a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Where its RPC is: `http://HOST:PORT`.
    pub url: String,
    /// What it knows us by.
    pub auth: Auth,
    /// The network it must be on.
    pub network: Network,
    /// What the payout takes of a block.
    pub room: Room,
    /// How often it is asked for a better template on the same tip; not more than once a second.
    pub poll_interval: Duration,
    /// How long miners wait on a new tip for its template before they start on an empty block.
    pub empty_after: Duration,
}

/// A node that is asked for work over JSON-RPC, and given blocks.
#[derive(Debug)]
pub struct BitcoinRpc {
    endpoint: Arc<Endpoint>,
    reader: Arc<Reader>,
    settings: Settings,
}

#[derive(Debug)]
struct Settings {
    network: Network,
    poll_interval: Duration,
    empty_after: Duration,
}

impl BitcoinRpc {
    /// Checks the options; the node is not asked anything yet.
    ///
    /// # Errors
    ///
    /// The URL is none of a node's RPC.
    pub fn new(options: Options) -> Result<Self, UrlError> {
        let Options { url, auth, network, room, poll_interval, empty_after } = options;
        let poll_interval = poll_interval.max(SHORTEST_POLL);
        Ok(Self {
            endpoint: Arc::new(Endpoint { url: url.parse()?, auth }),
            reader: Arc::new(Reader { network, room, transactions: Mutex::new(Transactions::default()) }),
            settings: Settings { network, poll_interval, empty_after },
        })
    }

    /// What the operator calls it.
    #[must_use]
    pub fn name(&self) -> Arc<str> {
        format!("bitcoin_rpc {}", self.endpoint.url).into()
    }

    /// What program the node says that it is, as BIP14 has it: `/NAME:VERSION/`. Asked on a connection of its own.
    ///
    /// # Errors
    ///
    /// The node cannot be asked, in words for the log.
    pub async fn subversion(&self, patience: Duration) -> Result<String, Box<dyn Error + Send + Sync>> {
        #[derive(Deserialize)]
        struct NetworkInfo {
            subversion: String,
        }
        let mut line = Line::new(self.endpoint.clone());
        let answer = line.call("getnetworkinfo", [(); 0], patience).await?;
        Ok(answer.some::<NetworkInfo>()?.subversion)
    }

    /// How many blocks the node has, if it is on the right chain and has all of it. Asked on a connection of its own.
    ///
    /// # Errors
    ///
    /// The node cannot be asked, or has no work, in words for the log.
    pub async fn height(&self) -> Result<u64, Box<dyn Error + Send + Sync>> {
        Ok(Asker::new(self.endpoint.clone(), self.reader.clone()).look().await?)
    }

    /// Feeds the generator, and takes blocks, until dropped.
    pub async fn run(self, feed: Feed, deliveries: Deliveries) {
        let Self { endpoint, reader, settings } = self;
        let deliveries = Arc::new(tokio::sync::Mutex::new(deliveries));
        // in a task of its own: a block waits for nothing
        let submitting = keep_up(feed.name(), || submit::run(endpoint.clone(), deliveries.clone()));
        let following = async {
            let mut node = Node::new(&endpoint, &reader);
            let mut backoff = Backoff::default();
            loop {
                let mut up = None;
                let trouble = node.follow(&settings, &feed, &mut up).await;
                feed.down(&trouble);
                if up.is_some_and(|since: Instant| since.elapsed() >= STEADY) {
                    backoff.succeeded();
                }
                backoff.wait().await;
            }
        };
        tokio::join!(submitting, following);
    }
}

/// Has a task run to its end, and starts it anew should it panic.
async fn keep_up<T: Future<Output = ()> + Send + 'static>(source: &str, start: impl Fn() -> T) {
    let mut task = JoinSet::new();
    task.spawn(start());
    while let Some(Err(error)) = task.join_next().await {
        tracing::error!(source, %error, "handing in blocks has failed, and starts anew");
        task.spawn(start());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_starts_anew() {
        let started = Arc::new(AtomicUsize::new(0));
        keep_up("a node", || {
            let started = started.clone();
            async move { assert_eq!(started.fetch_add(1, Relaxed), 1) }
        })
        .await;
        assert_eq!(started.load(Relaxed), 2);
    }
}
