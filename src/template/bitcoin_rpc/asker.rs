//! Asks a node for templates, after a look at what node it is.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bitcoin::Network;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::answer::Answer;
use super::draft::{self, Fresh};
use super::error::{Trouble, fit_for_log};
use super::line::{Endpoint, Line};
use super::template::Template;
use crate::aside::aside;
use crate::mining::payout::Room;
use crate::template::Transactions;

/// How long a node may take for what it answers from memory.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);

/// Reads templates.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) network: Network,
    pub(super) room: Room,
    pub(super) transactions: Mutex<Transactions>,
}

/// A template, and when it was made.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) fresh: Fresh,
    /// Not before this: what has happened by then is in it.
    pub(super) made_after: Instant,
    /// Before this.
    pub(super) received: Instant,
    /// By longpoll, on a tip that was new: how long before `received` it was so nobody knows.
    pub(super) by_itself: bool,
}

/// A line on which templates are asked for.
#[derive(Debug)]
pub(super) struct Asker {
    line: Line,
    reader: Arc<Reader>,
    /// The connection whose node was looked at.
    checked: Option<u64>,
}

#[derive(Serialize)]
struct Request<'a> {
    rules: &'a [&'a str],
    #[serde(skip_serializing_if = "Option::is_none")]
    longpollid: Option<&'a str>,
}

/// The answer to `getblockchaininfo`. A node that lacks what is not vital gets the benefit of the
/// doubt.
#[derive(Deserialize)]
struct ChainInfo {
    chain: String,
    #[serde(default)]
    initialblockdownload: bool,
    #[serde(default)]
    blocks: u64,
    #[serde(default)]
    headers: u64,
}

impl Asker {
    pub(super) fn new(endpoint: Arc<Endpoint>, reader: Arc<Reader>) -> Self {
        Self { line: Line::new(endpoint), reader, checked: None }
    }

    /// Has the node looked at again, whatever is known of it.
    pub(super) fn doubt(&mut self) {
        self.checked = None;
    }

    /// What the node would mine now; with a `longpollid`, once it would mine something else.
    pub(super) async fn template(
        &mut self,
        longpollid: Option<&str>,
        patience: Duration,
    ) -> Result<Heard, Trouble> {
        let asked = Instant::now();
        self.check().await?;
        // a signet demands that one knows that it is one
        let rules: &[_] =
            if self.reader.network == Network::Signet { &["segwit", "signet"] } else { &["segwit"] };
        let answer = self.line.call("getblocktemplate", [Request { rules, longpollid }], patience).await?;
        let received = Instant::now();
        // the answer may have come on a new connection, so from another node
        self.check().await?;
        Ok(Heard { fresh: self.reader.read(answer).await?, made_after: asked, received, by_itself: false })
    }

    /// Looks at the node, once on each connection.
    async fn check(&mut self) -> Result<(), Trouble> {
        while self.checked != Some(self.line.number()) {
            self.look().await?;
            self.checked = Some(self.line.number());
        }
        Ok(())
    }

    /// Asks whether the node is on the right chain, and has all of it: how many blocks that is.
    pub(super) async fn look(&mut self) -> Result<u64, Trouble> {
        let answer = self.line.call("getblockchaininfo", [(); 0], PATIENCE).await?;
        let info: ChainInfo = answer.some()?;
        if info.chain != self.reader.network.to_core_arg() {
            return Err(Trouble::WrongChain { theirs: fit_for_log(&info.chain), ours: self.reader.network });
        }
        // A regtest chain is never synced until its first block has come.
        if info.initialblockdownload && self.reader.network != Network::Regtest {
            return Err(Trouble::Syncing { blocks: info.blocks, headers: info.headers });
        }
        Ok(info.blocks)
    }
}

impl Reader {
    /// Some megabytes of hexadecimal digits, and thousands of hashes: not for a thread on which
    /// miners wait for an answer.
    async fn read(self: &Arc<Self>, answer: Answer) -> Result<Fresh, Trouble> {
        let reader = self.clone();
        let read = aside(move || {
            let template: Template = answer.some()?;
            let mut transactions = reader.transactions.lock().unwrap_or_else(PoisonError::into_inner);
            Ok(draft::build(&template, reader.network, reader.room, &mut transactions)?)
        });
        read.await.unwrap_or(Err(Trouble::Stopped))
    }
}
