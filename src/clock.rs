//! The clocks that the pure modules are not to read.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::mining::moment::Moment;

/// Time since the process began to serve, for everything that measures durations.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that starts at zero.
    #[must_use]
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// The time on it.
    #[must_use]
    pub fn now(&self) -> Moment {
        Moment(self.start.elapsed().as_micros() as u64)
    }

    /// When the clock shows this.
    pub(crate) fn instant(&self, moment: Moment) -> Instant {
        self.start + moment.since(Moment(0))
    }
}

/// The time of day, in unix seconds.
#[must_use]
pub fn unix_now() -> u32 {
    u32::try_from(since_1970().as_secs()).unwrap_or(u32::MAX)
}

/// The time of day, in all its digits.
#[must_use]
pub(crate) fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
