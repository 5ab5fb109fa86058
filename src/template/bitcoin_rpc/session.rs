//! Follows one node until something goes wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, sleep_until};

use super::asker::{Asker, PATIENCE, Reader};
use super::error::{CallError, Trouble};
use super::follow::{Event, Follower, Step};
use super::line::{Endpoint, Line};
use super::{Settings, longpoll, tips};
use crate::clock::unix_now;
use crate::template::source::Feed;

/// Events under way. Those who have more to tell wait.
const EVENTS: usize = 8;
/// What a node is given that was too busy for a template.
const BREATHER: Duration = Duration::from_secs(1);

/// Ways to one node: none of them waits for another.
#[derive(Debug)]
pub(super) struct Node {
    templates: Asker,
    longpoll: Asker,
    tips: Line,
}

impl Node {
    pub(super) fn new(endpoint: &Arc<Endpoint>, reader: &Arc<Reader>) -> Self {
        Self {
            templates: Asker::new(endpoint.clone(), reader.clone()),
            longpoll: Asker::new(endpoint.clone(), reader.clone()),
            tips: Line::new(endpoint.clone()),
        }
    }

    /// Feeds what the node has into `feed`, and answers why it has no more. `up` is since when
    /// there has been something.
    pub(super) async fn follow(
        &mut self,
        settings: &Settings,
        feed: &Feed,
        up: &mut Option<Instant>,
    ) -> Trouble {
        let Self { templates, longpoll, tips } = self;
        // it may have changed its mind since the last time, or its chain
        templates.doubt();
        longpoll.doubt();
        let first = match templates.template(None, PATIENCE).await {
            Ok(first) => first,
            Err(trouble) => return trouble,
        };
        let (id, tip) = (first.fresh.longpollid.clone(), first.fresh.tip.prev_hash);
        log_dropped(feed, first.fresh.dropped);
        let (network, interval, empty_after) =
            (settings.network, settings.poll_interval, settings.empty_after);
        let (mut follower, offer) = Follower::start(first, network, interval, empty_after, Instant::now());
        feed.offer(offer);
        *up = Some(Instant::now());

        let (events, mut heard) = mpsc::channel(EVENTS);
        let (ask, longpolling) = (Notify::new(), AtomicBool::new(false));
        let mut news = feed.refresh().asked();
        let take = |step: Step| {
            if let Some(offer) = step.offer {
                feed.offer(offer);
            }
            if step.ask {
                ask.notify_one();
            }
        };
        let follow = async {
            loop {
                tokio::select! {
                    Some(event) = heard.recv() => match event {
                        Event::Template(heard) => {
                            log_dropped(feed, heard.fresh.dropped);
                            match follower.template(*heard, Instant::now()) {
                                Ok(step) => take(step),
                                Err(trouble) => return trouble,
                            }
                        }
                        Event::Tip(new) => take(follower.tip(new, longpolling.load(Relaxed), Instant::now())),
                        Event::Doubt => ask.notify_one(),
                    },
                    Ok(()) = news.changed() => ask.notify_one(),
                    () = sleep_until(follower.due()) => take(follower.tick(Instant::now(), unix_now())),
                }
            }
        };
        tokio::select! {
            trouble = follow => trouble,
            trouble = ask_when_told(templates, &ask, &longpolling, events.clone()) => trouble,
            never = longpoll::run(longpoll, feed.name(), id, tip, &longpolling, events.clone()) => match never {},
            never = tips::watch(tips, feed.name(), tip, events.clone()) => match never {},
        }
    }
}

/// Asks for a template each time there is reason to. What comes up meanwhile is a reason to ask once
/// more. A node that is busy for a moment is asked again, as long as there is a longpoll to lose.
async fn ask_when_told(
    asker: &mut Asker,
    ask: &Notify,
    longpolling: &AtomicBool,
    events: mpsc::Sender<Event>,
) -> Trouble {
    let mut failed = false;
    loop {
        ask.notified().await;
        match asker.template(None, PATIENCE).await {
            // nobody listens only when all of this ends
            Ok(heard) => {
                failed = false;
                drop(events.send(Event::Template(Box::new(heard))).await);
            }
            Err(Trouble::Call(CallError::Status { .. } | CallError::Timeout { .. }))
                if !failed && longpolling.load(Relaxed) =>
            {
                failed = true;
                sleep(BREATHER).await;
                ask.notify_one();
            }
            Err(trouble) => return trouble,
        }
    }
}

fn log_dropped(feed: &Feed, dropped: usize) {
    if dropped > 0 {
        let source = feed.name();
        tracing::debug!(source, dropped, "transactions left out, to have room for the coinbase");
    }
}
