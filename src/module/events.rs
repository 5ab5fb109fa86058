//! From what happens here to what the node is told, no faster than it takes it.

use std::collections::VecDeque;
use std::mem::discriminant;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::event::Event;
use crate::journal::Happening;
use crate::mining::{TemplateSerial, Work};
use crate::pool::StratumV2Pool;

/// Events of all kinds together. The node hangs up on a module that makes more than 100 requests of any sort in a
/// second, and other requests have to fit in too.
pub const EVENTS_PER_SECOND: u32 = 20;

/// No event tells of a share more often than this: shares never end, and say little.
const SHARE_INTERVAL: Duration = Duration::from_secs(1);

/// What is to be published, for as long as the server runs.
#[derive(Debug)]
pub struct Events {
    pool: Arc<StratumV2Pool>,
    happenings: mpsc::Receiver<Happening>,
    work: watch::Receiver<Option<Arc<Work>>>,
    digest: Digest,
    /// When the next share is wanted, unless one is by now.
    next_share: Option<Instant>,
}

impl Events {
    /// From now on; the present work is the first event, if there is any. Takes over the pool's
    /// [journal](crate::journal).
    #[must_use]
    pub fn new(pool: Arc<StratumV2Pool>) -> Self {
        let happenings = pool.journal().listen();
        pool.journal().want_share();
        let mut work = pool.work();
        work.mark_changed();
        let digest = Digest::new(Instant::now(), accepted(&pool));
        Self { pool, happenings, work, digest, next_share: None }
    }

    /// Waits for the next event. Nothing is lost if this is dropped while it waits.
    pub async fn next(&mut self) -> Event {
        loop {
            let now = Instant::now();
            if self.next_share.is_some_and(|at| at <= now) {
                self.next_share = None;
                self.pool.journal().want_share();
            }
            if let Some(event) = self.digest.pop(now, accepted(&self.pool)) {
                if let Event::ShareSubmitted { .. } = event {
                    self.next_share = Some(now + SHARE_INTERVAL);
                }
                return event;
            }
            let wake = self.digest.due().into_iter().chain(self.next_share).min();
            tokio::select! {
                Some(happening) = self.happenings.recv() => self.digest.happened(happening),
                Ok(()) = self.work.changed() => {
                    if let Some(work) = &*self.work.borrow_and_update() {
                        self.digest.work(work);
                    }
                }
                () = sleep_until(wake.unwrap_or(now)), if wake.is_some() => {}
                else => std::future::pending().await,
            }
        }
    }
}

fn accepted(pool: &StratumV2Pool) -> u64 {
    pool.stats().sum(|stats| stats.shares_accepted.get())
}

/// What waits to be told: one event of each kind at most, the kind that has waited longest first.
#[derive(Debug)]
struct Digest {
    /// Events, and how many others each stands for.
    waiting: VecDeque<(Event, u64)>,
    not_before: Instant,
    /// The work last told of.
    job: Option<(TemplateSerial, BlockHash)>,
    /// Shares accepted when a share was last told of.
    accepted: u64,
}

impl Digest {
    fn new(now: Instant, accepted: u64) -> Self {
        Self { waiting: VecDeque::new(), not_before: now, job: None, accepted }
    }

    fn work(&mut self, work: &Work) {
        let job = (work.template.serial, work.tip.prev_hash);
        if self.job.replace(job) != Some(job) {
            self.add(Event::MiningJobCreated {
                job_id: job.0.0.to_string(),
                prev_hash: job.1.to_byte_array(),
                height: work.tip.height.into(),
            });
        }
    }

    fn happened(&mut self, happening: Happening) {
        self.add(match happening {
            Happening::Connected { endpoint, version } => {
                Event::StratumClientConnected { endpoint, protocol_version: version }
            }
            Happening::Disconnected { endpoint, reason } => {
                // there may be a peer's own words in it
                Event::StratumClientDisconnected { endpoint, reason: reason.escape_debug().to_string() }
            }
            Happening::Share { job, hash, user } => {
                Event::ShareSubmitted { job_id: job.0.to_string(), share_hash: hash, miner_id: Some(user) }
            }
        });
    }

    fn add(&mut self, event: Event) {
        let kind = discriminant(&event);
        match self.waiting.iter_mut().find(|(waiting, _)| discriminant(waiting) == kind) {
            // of work only the newest matters
            Some((waiting @ Event::MiningJobCreated { .. }, _)) => *waiting = event,
            Some((_, others)) => *others += 1,
            None => self.waiting.push_back((event, 0)),
        }
    }

    /// When there is something to tell next.
    fn due(&self) -> Option<Instant> {
        (!self.waiting.is_empty()).then_some(self.not_before)
    }

    /// What is to be told now, when so many shares have been accepted.
    fn pop(&mut self, now: Instant, accepted: u64) -> Option<Event> {
        if now < self.due()? {
            return None;
        }
        let (mut event, mut others) = self.waiting.pop_front()?;
        self.not_before = now + Duration::from_secs(1) / EVENTS_PER_SECOND;
        let text = match &mut event {
            Event::StratumClientConnected { endpoint, .. }
            | Event::StratumClientDisconnected { endpoint, .. } => Some(endpoint),
            Event::ShareSubmitted { miner_id, .. } => {
                others = accepted.saturating_sub(self.accepted + 1);
                self.accepted = accepted;
                miner_id.as_mut()
            }
            _ => None,
        };
        if let Some(text) = text.filter(|_| others > 0) {
            text.push_str(&format!(" and {others} {}", if others == 1 { "other" } else { "others" }));
        }
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::module::api::tests::{pool, work};

    fn connected(number: u32) -> Happening {
        Happening::Connected { endpoint: format!("quic://192.0.2.1:{number}"), version: 2 }
    }

    fn disconnected(number: u32) -> Happening {
        Happening::Disconnected { endpoint: format!("quic://192.0.2.1:{number}"), reason: "gone".to_owned() }
    }

    fn share(user: &str) -> Happening {
        Happening::Share { job: TemplateSerial(7), hash: [9; 32], user: user.to_owned() }
    }

    fn client(endpoint: &str) -> Event {
        Event::StratumClientConnected { endpoint: endpoint.to_owned(), protocol_version: 2 }
    }

    const PAUSE: Duration = Duration::from_millis(50);

    #[test]
    fn what_waits_becomes_one_event_of_each_kind() {
        let now = Instant::now();
        let mut digest = Digest::new(now, 10);
        assert_eq!((digest.pop(now, 10), digest.due()), (None, None));
        digest.happened(connected(1));
        assert_eq!(digest.pop(now, 10), Some(client("quic://192.0.2.1:1")));
        digest.happened(connected(2));
        digest.happened(disconnected(1));
        digest.happened(share("rig"));
        digest.work(&work(3, 1));
        digest.work(&work(3, 2));
        digest.work(&work(4, 2));
        for number in 3..=5 {
            digest.happened(connected(number));
        }
        digest.happened(disconnected(2));
        assert_eq!(digest.pop(now + PAUSE / 2, 10), None, "too early");
        let mut told = Vec::new();
        for step in 1.. {
            assert_eq!(digest.pop(now + step * PAUSE - PAUSE / 2, 15), None);
            let Some(event) = digest.pop(now + step * PAUSE, 15) else { break };
            told.push(event);
        }
        let gone = Event::StratumClientDisconnected {
            endpoint: "quic://192.0.2.1:1 and 1 other".to_owned(),
            reason: "gone".to_owned(),
        };
        let share = Event::ShareSubmitted {
            job_id: "7".to_owned(),
            share_hash: [9; 32],
            miner_id: Some("rig and 4 others".to_owned()),
        };
        let job = Event::MiningJobCreated { job_id: "2".to_owned(), prev_hash: [4; 32], height: 100 };
        assert_eq!(told, [client("quic://192.0.2.1:2 and 3 others"), gone, share, job]);
    }

    #[test]
    fn the_same_work_is_told_of_once() {
        let now = Instant::now();
        let mut digest = Digest::new(now, 0);
        digest.work(&work(1, 1));
        assert!(digest.pop(now, 0).is_some());
        digest.work(&work(1, 1));
        assert_eq!(digest.due(), None);
        digest.work(&work(2, 1));
        assert!(digest.due().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_happenings_keeps_to_the_budget() {
        let pool = pool();
        let mut events = Events::new(pool.clone());
        let start = Instant::now();
        let flood = async {
            for number in 0.. {
                pool.journal().tell(|| connected(number));
                pool.journal().tell(|| disconnected(number));
                pool.publish(Arc::new(work(1, u64::from(number))));
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let told = async {
            let (mut kinds, mut count) = ([0; 3], 0);
            while start.elapsed() < Duration::from_secs(10) {
                // dropped while it waits, again and again
                let Ok(event) = tokio::time::timeout(Duration::from_millis(7), events.next()).await else {
                    continue;
                };
                count += 1;
                kinds[match event {
                    Event::MiningJobCreated { .. } => 0,
                    Event::StratumClientConnected { .. } => 1,
                    Event::StratumClientDisconnected { .. } => 2,
                    other => panic!("{other:?}"),
                }] += 1;
            }
            (kinds, count)
        };
        tokio::select! {
            () = flood => unreachable!(),
            (kinds, count) = told => {
                assert!((195..=201).contains(&count), "{count} events in 10 s");
                assert!(kinds.iter().all(|kind| *kind > 60), "{kinds:?}: each has its turn");
            }
        }
        assert_eq!(pool.journal().dropped(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_present_work_comes_first() {
        let pool = pool();
        let mut events = Events::new(pool.clone());
        assert!(tokio::time::timeout(SHARE_INTERVAL, events.next()).await.is_err());
        pool.publish(Arc::new(work(1, 1)));
        let mut events = Events::new(pool.clone());
        assert!(matches!(events.next().await, Event::MiningJobCreated { .. }));
    }
}
