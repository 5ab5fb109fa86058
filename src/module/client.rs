//! Keeps in touch with the node.

use std::collections::HashSet;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::api::Api;
use super::conversation::{Conversation, Ended};
use super::datum::Datum;
use super::ipc::{Link, LinkError};
use super::news::News;
use super::served::is_served;
use super::socket::Socket;
use crate::pool::StratumV2Pool;
use crate::template::backoff::Backoff;
use crate::template::{Blocks, Refresh, bitcoin_rpc};

/// A connection that has lasted so long was a good one: after it the next may be made soon.
const STEADY: Duration = Duration::from_secs(60);

/// How often it is looked whether the node's socket is there.
const LOOK: Duration = Duration::from_secs(2);

/// What is to be known of the node.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it listens for its modules.
    pub socket: PathBuf,
    /// Whether the node grants this module what its `module.toml` lists. Without, nothing is asked for that a node
    /// denies to strangers: it would hang up.
    pub all_capabilities: bool,
    /// Whether blocks pay whom the module blvm-datum says.
    pub datum: bool,
    /// A node that has started this process, which is to be asked first whether it serves its modules at all.
    pub ask_first: Option<bitcoin_rpc::Options>,
}

/// Tells the node what happens here, does what it asks for, and has the miners' work looked at when something
/// happens there. Mining needs none of it.
#[derive(Debug)]
pub struct Client {
    socket: Socket,
    ask_first: Option<bitcoin_rpc::Options>,
    pub(super) all_capabilities: bool,
    /// Capabilities that have been used already.
    pub(super) granted: HashSet<&'static str>,
    /// One that the node has hung up at.
    suspected: Option<&'static str>,
    pub(super) api: Arc<Api>,
    pub(super) refresh: Refresh,
    pub(super) pool: Arc<StratumV2Pool>,
    pub(super) news: News,
    pub(super) datum: Option<Datum>,
}

impl Client {
    /// Nothing is done yet.
    #[must_use]
    pub fn new(
        options: Options,
        api: Arc<Api>,
        pool: Arc<StratumV2Pool>,
        refresh: Refresh,
        blocks: &Blocks,
    ) -> Self {
        let datum = options.datum.then(|| Datum::new(pool.clone(), blocks.clone()));
        Self {
            socket: Socket::new(options.socket),
            ask_first: options.ask_first,
            all_capabilities: options.all_capabilities,
            granted: HashSet::new(),
            suspected: None,
            api,
            refresh,
            pool,
            news: News::default(),
            datum,
        }
    }

    /// Keeps in touch until dropped. Returns if the node does not serve this module.
    pub async fn run(mut self) {
        if let Some(node) = self.ask_first.take()
            && !is_served(node).await
        {
            return;
        }
        let mut backoff = Backoff::default();
        let mut said = String::new();
        loop {
            let begun = Instant::now();
            let Err(ended) = self.connection().await;
            if let Some(datum) = &mut self.datum {
                datum.lost();
            }
            if begun.elapsed() >= STEADY {
                backoff.succeeded();
            }
            let socket = self.socket.path().display();
            let reason = ended.to_string();
            if reason == said {
                tracing::debug!(%socket, reason, "still no connection with the node's IPC");
            } else {
                tracing::warn!(%socket, reason, "no connection with the node's IPC: miners are served all the same");
            }
            said = reason;
            self.may_be_denied(&ended);
            if matches!(ended, Ended::NoTable(_)) {
                // another start of the node may be of another version
                self.socket.replaced().await;
            }
            backoff.wait().await;
        }
    }

    async fn connection(&mut self) -> Result<Infallible, Ended> {
        while let Some(wait) = self.socket.wait(Instant::now()).map_err(LinkError::Unreachable)? {
            sleep(wait.min(LOOK)).await;
        }
        let link = Link::connect(self.socket.path()).await?;
        Conversation::hold(link, self).await
    }

    /// The node hangs up when it is asked for what it does not grant. Once it may as well have been stopped then.
    fn may_be_denied(&mut self, ended: &Ended) {
        let Ended::Closed { asked_for: Some(capability), .. } = ended else { return };
        if self.suspected.replace(capability) != Some(capability) {
            return;
        }
        self.all_capabilities = false;
        tracing::error!(
            capability,
            "the node has hung up twice when it was asked for what takes this capability. It probably does not grant \
             it: is this server a module of the node, whose module.toml lists it? Until this server's next start \
             the node is asked for nothing that takes a capability; blvm.all_capabilities = false has it so \
             for good"
        );
    }
}
