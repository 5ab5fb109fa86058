//! Time as the core sees it.

use core::ops::Add;
use core::time::Duration;

/// Microseconds since an epoch of the caller's choice. It is passed in, never read.
///
/// All moments given to one object must count from the same epoch and should not run backwards;
/// where they do, no time has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Moment(pub u64);

impl Moment {
    /// How much time has passed since `earlier`: none if that lies in the future.
    pub fn since(self, earlier: Moment) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// Stops at the last moment that can be told.
impl Add<Duration> for Moment {
    type Output = Moment;

    fn add(self, duration: Duration) -> Moment {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        Moment(self.0.saturating_add(micros))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates() {
        let moment = Moment(5) + Duration::from_millis(1);
        assert_eq!(moment, Moment(1005));
        assert_eq!(moment.since(Moment(5)), Duration::from_millis(1));
        assert_eq!(Moment(5).since(moment), Duration::ZERO);
        assert_eq!(moment + Duration::MAX, Moment(u64::MAX));
    }
}
