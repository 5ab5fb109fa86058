//! Has the node say when there is a better template (BIP22).

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use bitcoin::BlockHash;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::asker::Asker;
use super::error::{CallError, Trouble};
use super::follow::Event;
use crate::template::backoff::Backoff;

/// How long the node may have nothing to say. As long as the other lines work there is no hurry,
/// and a call that is given up keeps one of the node's few threads busy until the next block.
const PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);
/// A node that has nothing new and says so sooner than this does not wait at all.
const AT_ONCE: Duration = Duration::from_secs(1);
/// Not even for a burst of blocks is a node asked more often.
const SHORTEST_PERIOD: Duration = Duration::from_millis(200);

/// Tells `events` of templates that come after the one with this `id`, on this tip. `waiting` says
/// whether a new tip's template is going to come from here. `source` is what the operator calls the
/// node.
pub(super) async fn run(
    asker: &mut Asker,
    source: &str,
    id: Option<String>,
    mut tip: BlockHash,
    waiting: &AtomicBool,
    events: mpsc::Sender<Event>,
) -> Infallible {
    let Some(mut id) = id else { return std::future::pending().await };
    let mut backoff = Backoff::default();
    let mut hasty = 0;
    loop {
        let asked = Instant::now();
        waiting.store(true, Relaxed);
        let answer = asker.template(Some(&id), PATIENCE).await;
        waiting.store(false, Relaxed);
        let mut heard = match answer {
            Ok(heard) => heard,
            Err(Trouble::Call(error @ (CallError::Refused { .. } | CallError::Forbidden { .. }))) => {
                tracing::info!(source, %error, "the node does not say when it has better templates: it is asked");
                // which shows, too, whether anything else is wrong
                let _ = events.send(Event::Doubt).await;
                return std::future::pending().await;
            }
            Err(_) => {
                // the next template that is asked for in the usual way shows what is wrong
                let _ = events.send(Event::Doubt).await;
                backoff.wait().await;
                continue;
            }
        };
        backoff.succeeded();
        let same_tip = heard.fresh.tip.prev_hash == tip;
        if !same_tip {
            // it was the new tip that the node answered on
            heard.made_after = heard.received;
            heard.by_itself = true;
        }
        hasty = if same_tip && asked.elapsed() < AT_ONCE { hasty + 1 } else { 0 };
        if hasty >= 2 {
            tracing::debug!(source, "the node answers a longpoll at once: it is asked for templates instead");
            return std::future::pending().await;
        }
        tip = heard.fresh.tip.prev_hash;
        let next = heard.fresh.longpollid.clone();
        let _ = events.send(Event::Template(Box::new(heard))).await;
        match next {
            Some(next) => id = next,
            None => return std::future::pending().await,
        }
        sleep_until(asked + SHORTEST_PERIOD).await;
    }
}
