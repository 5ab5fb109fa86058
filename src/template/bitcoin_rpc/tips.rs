//! Learns of new tips, sooner than there are templates for them.

use std::convert::Infallible;
use std::time::Duration;

use bitcoin::BlockHash;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::answer::Answer;
use super::asker::PATIENCE;
use super::error::CallError;
use super::follow::Event;
use super::line::Line;
use crate::template::backoff::Backoff;

/// How long `waitfornewblock` is to wait. For Bitcoin Core these are milliseconds, for blvm-node
/// seconds; both are a fair time to wait.
const WAIT: u32 = 1_000;
/// How long it may take: longer than any node waits.
const WAIT_PATIENCE: Duration = Duration::from_secs(1_000 + 60);
/// How often a node is asked that does not wait.
const PERIOD: Duration = Duration::from_secs(1);
/// Not even for a burst of blocks is a node asked more often.
const SHORTEST_PERIOD: Duration = Duration::from_millis(200);
/// How long the news of a tip may wait for what else is known of it.
const HEADER_PATIENCE: Duration = Duration::from_secs(1);

/// A tip that is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NewTip {
    pub(super) hash: BlockHash,
    /// What else is known of it.
    pub(super) header: Option<TipHeader>,
}

/// What a block without transactions on top of it has to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TipHeader {
    pub(super) height: u32,
    pub(super) prev_hash: BlockHash,
    pub(super) median_time: u32,
}

/// How to learn of a tip, best first.
#[derive(Debug, Clone, Copy)]
enum Way {
    Wait,
    Poll,
}

/// Tells `events` of every tip after `last`, as long as the node lets itself be asked. `source` is
/// what the operator calls it.
pub(super) async fn watch(
    line: &mut Line,
    source: &str,
    mut last: BlockHash,
    events: mpsc::Sender<Event>,
) -> Infallible {
    let mut way = Way::Wait;
    let mut backoff = Backoff::default();
    loop {
        let asked = Instant::now();
        let next = match best(line, way, last).await {
            Ok(hash) if hash == last => asked + PERIOD,
            Ok(hash) => {
                last = hash;
                let header = header(line, hash).await;
                // nobody listens only when all of this ends
                let _ = events.send(Event::Tip(NewTip { hash, header })).await;
                asked + SHORTEST_PERIOD
            }
            Err(error @ (CallError::Refused { .. } | CallError::Forbidden { .. })) => match way {
                Way::Wait => {
                    tracing::debug!(source, %error, "asking for new tips each second instead");
                    way = Way::Poll;
                    asked + PERIOD
                }
                Way::Poll => {
                    tracing::info!(source, %error, "new tips are only learnt from templates");
                    return std::future::pending().await;
                }
            },
            Err(_) => {
                // it shows with the next template whether that is a reason to worry
                let _ = events.send(Event::Doubt).await;
                backoff.wait().await;
                continue;
            }
        };
        backoff.succeeded();
        sleep_until(next).await;
    }
}

/// The best block, once it is not `last` or some time has passed.
async fn best(line: &mut Line, way: Way, last: BlockHash) -> Result<BlockHash, CallError> {
    #[derive(Deserialize)]
    struct Block {
        hash: String,
    }
    match way {
        Way::Wait => {
            // Nodes wait for what comes after they were asked: what came before that has to be seen.
            match best_now(line).await {
                Err(CallError::Refused { .. } | CallError::Forbidden { .. }) => {}
                Ok(hash) if hash == last => {}
                other => return other,
            }
            let answer = line.call("waitfornewblock", [WAIT], WAIT_PATIENCE).await?;
            hash(&answer, &answer.some::<Block>()?.hash)
        }
        Way::Poll => best_now(line).await,
    }
}

async fn best_now(line: &mut Line) -> Result<BlockHash, CallError> {
    let answer = line.call("getbestblockhash", [(); 0], PATIENCE).await?;
    hash(&answer, &answer.some::<String>()?)
}

/// What is known of a block. If that is nothing, there is no empty block on it, and nothing worse.
async fn header(line: &mut Line, of: BlockHash) -> Option<TipHeader> {
    #[derive(Deserialize)]
    struct Header {
        height: u32,
        previousblockhash: String,
        mediantime: u32,
    }
    let answer = line.call("getblockheader", json!([of.to_string(), true]), HEADER_PATIENCE).await.ok()?;
    let header: Header = answer.some().ok()?;
    Some(TipHeader {
        height: header.height,
        prev_hash: header.previousblockhash.parse().ok()?,
        median_time: header.mediantime,
    })
}

fn hash(answer: &Answer, text: &str) -> Result<BlockHash, CallError> {
    text.parse().map_err(|_| answer.unexpected("its hash is none"))
}
