//! Which of several sources to mine on.

use std::time::Duration;

use tokio::time::Instant;

use super::State;

/// For how long a source may be behind another, or behind what was mined on before: a block takes
/// its time from node to node.
const BEHIND_FOR: Duration = Duration::from_secs(20);

/// The first source that has work, but no step back for it: one that comes back has to catch up
/// before it is used again, and one that falls behind for a while is taken for stuck.
#[derive(Debug, Default)]
pub(super) struct Failover {
    active: Option<usize>,
    /// Of the block that is being mined on.
    height: u32,
    behind_since: Option<Instant>,
}

impl Failover {
    /// The sources are others now: `new_place` says where those are that have stayed.
    pub(super) fn rearranged(&mut self, new_place: impl Fn(usize) -> Option<usize>) {
        self.active = self.active.and_then(new_place);
        self.behind_since = None;
    }

    /// The source to mine on now, and when to ask again at the latest if nothing happens.
    pub(super) fn choose(&mut self, states: &[State], now: Instant) -> (Option<usize>, Option<Instant>) {
        let height = |source: usize| states.get(source)?.offer().map(|offer| offer.tip.height);
        let first = |at_least| (0..states.len()).find(|source| height(*source) >= Some(at_least));
        let active = self.active.filter(|active| height(*active).is_some());
        if let Some(active) = active.and_then(height) {
            // its own reorganisations are followed, whichever way they go
            self.height = active;
        }
        let best = first(self.height);
        let behind = match active {
            Some(_) => first(self.height.saturating_add(1)),
            None if best.is_none() => first(0),
            None => None,
        };
        let since = behind.map(|_| *self.behind_since.get_or_insert(now));
        let patient_until = since.map(|since| since + BEHIND_FOR);
        let chosen = if patient_until.is_some_and(|until| now >= until) { behind } else { best };
        if let Some(chosen) = chosen
            && Some(chosen) != active
        {
            self.active = Some(chosen);
            self.height = height(chosen).unwrap_or(self.height);
            self.behind_since = None;
            return (Some(chosen), None);
        }
        if behind.is_none() {
            self.behind_since = None;
        }
        (chosen, patient_until)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::template::tests::offer;

    const DOWN: Option<u32> = None;

    /// Sources at these heights.
    fn at(heights: &[Option<u32>]) -> Vec<State> {
        let state = |height: &Option<u32>| match height {
            Some(height) => State::Up(offer(*height, 0)),
            None => State::Down { reason: Arc::from("gone"), since: Instant::now() },
        };
        heights.iter().map(state).collect()
    }

    /// Seconds since the start, heights, and the source to be chosen.
    type Moment<'m> = (u64, &'m [Option<u32>], Option<usize>);

    fn story(moments: &[Moment<'_>]) {
        let start = Instant::now();
        let mut failover = Failover::default();
        for (seconds, heights, expected) in moments {
            let now = start + Duration::from_secs(*seconds);
            let (chosen, again) = failover.choose(&at(heights), now);
            assert_eq!(chosen, *expected, "after {seconds} s at {heights:?}");
            assert!(again.is_none_or(|again| again > now), "after {seconds} s: asks again in the past");
        }
    }

    #[test]
    fn the_first_that_has_work_is_used() {
        story(&[
            (0, &[DOWN, DOWN], None),
            (1, &[DOWN, Some(7)], Some(1)),
            (2, &[Some(7), Some(7)], Some(0)),
            (3, &[DOWN, Some(7)], Some(1)),
            (4, &[DOWN, DOWN], None),
            (5, &[Some(7), DOWN], Some(0)),
        ]);
    }

    #[test]
    fn one_that_comes_back_catches_up_first() {
        story(&[
            (0, &[DOWN, Some(9)], Some(1)),
            (1, &[Some(7), Some(9)], Some(1)),
            (90, &[Some(8), Some(9)], Some(1)),
            (91, &[Some(9), Some(9)], Some(0)),
        ]);
    }

    #[test]
    fn one_that_stays_behind_is_taken_for_stuck() {
        story(&[
            (0, &[Some(7), Some(7)], Some(0)),
            (10, &[Some(7), Some(8)], Some(0)),
            (29, &[Some(7), Some(8)], Some(0)),
            (30, &[Some(7), Some(8)], Some(1)),
            (31, &[Some(7), Some(9)], Some(1)),
            (32, &[Some(9), Some(9)], Some(0)),
            (40, &[Some(9), Some(10)], Some(0)),
            // a block later it has caught up: what counts starts anew
            (59, &[Some(10), Some(10)], Some(0)),
            (61, &[Some(10), Some(11)], Some(0)),
            (80, &[Some(10), Some(11)], Some(0)),
            (81, &[Some(10), Some(11)], Some(1)),
        ]);
    }

    #[test]
    fn no_step_back_to_a_source_that_will_catch_up() {
        story(&[
            (0, &[Some(7), Some(6)], Some(0)),
            (10, &[DOWN, Some(6)], None),
            (29, &[DOWN, Some(6)], None),
            (30, &[DOWN, Some(6)], Some(1)),
        ]);
        story(&[
            (0, &[Some(7), Some(6)], Some(0)),
            (10, &[DOWN, Some(6)], None),
            (12, &[DOWN, Some(7)], Some(1)),
        ]);
    }

    #[test]
    fn no_step_back_to_a_source_that_is_put_before_the_active_one() {
        let now = Instant::now();
        let mut failover = Failover::default();
        assert_eq!(failover.choose(&at(&[Some(7), Some(6)]), now).0, Some(0));
        failover.rearranged(|place| Some(1 - place));
        assert_eq!(failover.choose(&at(&[Some(6), Some(7)]), now).0, Some(1));
        // nor when the active one goes, for a while
        failover.rearranged(|place| place.checked_sub(2));
        assert_eq!(failover.choose(&at(&[Some(6)]), now).0, None);
        assert_eq!(failover.choose(&at(&[Some(6)]), now + BEHIND_FOR).0, Some(0));
    }

    #[test]
    fn a_reorganisation_is_followed_down() {
        story(&[
            (0, &[Some(7)], Some(0)),
            (1, &[Some(5)], Some(0)),
            (2, &[DOWN], None),
            (3, &[Some(5)], Some(0)),
        ]);
    }

    #[test]
    fn a_preferred_source_is_taken_back_though_another_is_ahead() {
        story(&[
            (0, &[DOWN, Some(7), Some(7)], Some(1)),
            (1, &[Some(7), Some(7), Some(8)], Some(0)),
            (2, &[Some(7), Some(7), Some(8)], Some(0)),
            (21, &[Some(7), Some(7), Some(8)], Some(0)),
            (22, &[Some(7), Some(7), Some(8)], Some(2)),
        ]);
    }
}
