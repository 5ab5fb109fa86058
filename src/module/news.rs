//! When the miners' work is looked at again because of what the node says.

use std::time::Duration;

use tokio::time::Instant;

use super::event::{Event, Hash};

/// The node is asked no more often: it counts requests, and answers five a second.
const GAP: Duration = Duration::from_millis(250);

/// How long after the last look a template that somebody asked the node for is a reason for another. Mostly it was
/// the last look itself.
const ECHO: Duration = Duration::from_secs(30);

/// What the node has said since the last look.
#[derive(Debug, Default)]
pub(super) struct News {
    looked: Option<Instant>,
    due: Option<Instant>,
    /// What the last template was built on that the node has told of, or the next is going to be.
    template: Option<Hash>,
}

impl News {
    /// The node has told of this. Answers whether it is a reason to look again, at some time.
    pub(super) fn heard(&mut self, event: &Event, now: Instant) -> bool {
        let gap = match event {
            Event::NewBlock { block_hash: tip, .. }
            | Event::BlockMined { block_hash: tip, .. }
            | Event::ChainReorg { new_tip: tip, .. } => {
                self.template = Some(*tip);
                GAP
            }
            Event::BlockDisconnected { .. } | Event::MiningDifficultyChanged { .. } => GAP,
            Event::BlockTemplateUpdated { prev_hash, .. } => {
                if self.template.replace(*prev_hash) == Some(*prev_hash) { ECHO } else { GAP }
            }
            _ => return false,
        };
        let at = self.looked.map_or(now, |looked| now.max(looked + gap));
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
        true
    }

    /// When to look, if there is reason to.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// It is looked now.
    pub(super) fn look(&mut self, now: Instant) {
        (self.looked, self.due) = (Some(now), None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(height: u64) -> Event {
        Event::NewBlock { block_hash: [height as u8; 32], height }
    }

    fn template(prev: u8) -> Event {
        Event::BlockTemplateUpdated { prev_hash: [prev; 32], height: 7, tx_count: 1 }
    }

    #[test]
    fn a_block_is_looked_at_at_once_and_many_not_too_often() {
        let (mut news, now) = (News::default(), Instant::now());
        assert_eq!(news.due(), None);
        assert!(news.heard(&block(1), now));
        assert_eq!(news.due(), Some(now));
        news.look(now);
        assert_eq!(news.due(), None);
        for height in 2..9 {
            news.heard(&block(height), now + Duration::from_millis(height));
        }
        assert_eq!(news.due(), Some(now + GAP), "the last of them counts too");
        news.look(now + GAP);
        assert!(news.heard(&block(9), now + 5 * GAP));
        assert_eq!(news.due(), Some(now + 5 * GAP));
    }

    #[test]
    fn every_kind_of_news() {
        let (old_tip, new_tip, hash) = ([1; 32], [2; 32], [3; 32]);
        for event in [
            Event::BlockDisconnected { hash, height: 1 },
            Event::ChainReorg { old_tip, new_tip },
            Event::BlockMined { block_hash: hash, height: 1, miner_id: None },
            Event::MiningDifficultyChanged { old_difficulty: 1, new_difficulty: 2, height: 2016 },
            block(1),
            template(1),
        ] {
            let (mut news, now) = (News::default(), Instant::now());
            assert!(news.heard(&event, now), "{event:?}");
            assert_eq!(news.due(), Some(now), "{event:?}");
        }
        let ours = Event::MiningJobCreated { job_id: "1".into(), prev_hash: hash, height: 1 };
        let mut news = News::default();
        assert!(!news.heard(&ours, Instant::now()));
        assert_eq!(news.due(), None);
    }

    #[test]
    fn looking_is_no_reason_to_look_again() {
        let (mut news, now) = (News::default(), Instant::now());
        news.heard(&template(1), now);
        news.look(now);
        // the node says so each time that it is asked, thus also this time
        news.heard(&template(1), now);
        assert_eq!(news.due(), Some(now + ECHO));
        news.heard(&template(2), now + GAP);
        assert_eq!(news.due(), Some(now + GAP), "on another block");
        news.look(now + GAP);
        news.heard(&template(2), now + 2 * GAP);
        news.heard(&block(3), now + 3 * GAP);
        assert_eq!(news.due(), Some(now + 3 * GAP), "what is soonest");
        news.look(now + 3 * GAP);
        news.heard(&template(3), now + 4 * GAP);
        assert_eq!(news.due(), Some(now + 3 * GAP + ECHO), "it was that block that was looked for");
    }
}
