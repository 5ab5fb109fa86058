//! How long to wait before a source is tried again.

use std::time::Duration;

use getrandom::SysRng;
use rand_core::{Rng, UnwrapErr};
use tokio::time::sleep;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);

/// Waits that double from one failure to the next.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    /// Failures in a row.
    failures: u32,
}

impl Backoff {
    /// It works: the next failure is a first one again.
    pub(crate) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// Waits after another failure.
    pub(crate) async fn wait(&mut self) {
        sleep(self.next()).await;
    }

    fn next(&mut self) -> Duration {
        let wait = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        // a node that comes back does not get all its clients at once
        let jitter = f64::from(UnwrapErr(SysRng).next_u32()) / f64::from(u32::MAX);
        wait.mul_f64(0.75 + jitter / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_a_limit_and_start_over() {
        let mut backoff = Backoff::default();
        let mut about = |seconds: f64| {
            let wait = backoff.next().as_secs_f64();
            assert!((0.75 * seconds..=1.25 * seconds).contains(&wait), "{wait} s for {seconds} s");
        };
        [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0].into_iter().for_each(&mut about);
        backoff.failures = u32::MAX;
        assert!(backoff.next() >= LONGEST.mul_f64(0.75));
        backoff.succeeded();
        assert!(backoff.next() <= FIRST.mul_f64(1.25));
        let mut waits: Vec<_> = (0..10).map(|_| Backoff::default().next()).collect();
        waits.dedup();
        assert!(waits.len() > 1);
    }
}
