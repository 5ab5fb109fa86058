//! Job ids: one counter for all channels of a connection, so that no id names two different jobs.

use core::time::Duration;

use crate::wire::JobId;

/// How many ids the clock passes each second.
const PER_SECOND: u128 = 4096;

/// The first job id of a connection that is made this long after 1970.
///
/// A connection counts on from the time of its making, so an id that a miner has kept from an earlier one, or from
/// before a restart, lies before its first. That holds as long as none is sent more than 4,096 new jobs a second, on
/// average over its life (2,000 channels with eight future jobs each for a new tip take four seconds of this), and
/// the time of day does not go back. Ids come round after twelve days; for the first six of these an old one is told
/// from one that has not been given out yet.
#[must_use]
pub fn first_job(since_1970: Duration) -> JobId {
    JobId((since_1970.as_micros() * PER_SECOND / 1_000_000) as u32)
}

#[derive(Debug)]
pub(super) struct JobIds {
    first: JobId,
    next: JobId,
}

impl JobIds {
    pub(super) fn from(first: JobId) -> Self {
        Self { first, next: first }
    }

    /// Never 0, which a client may take for none.
    pub(super) fn next(&mut self) -> JobId {
        if self.next == JobId(0) {
            self.next = JobId(1);
        }
        let JobId(id) = self.next;
        self.next = JobId(id.wrapping_add(1));
        JobId(id)
    }

    /// Whether an id is from before this connection: less than half the way round back from its first.
    pub(super) fn began_after(&self, JobId(id): JobId) -> bool {
        (id.wrapping_sub(self.first.0) as i32) < 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_go_round_without_zero() {
        let mut ids = JobIds::from(JobId(u32::MAX));
        assert_eq!([ids.next(), ids.next(), ids.next()], [JobId(u32::MAX), JobId(1), JobId(2)]);
        assert!(ids.began_after(JobId(u32::MAX - 1)));
        assert!(
            !ids.began_after(JobId(u32::MAX)) && !ids.began_after(JobId(2)) && !ids.began_after(JobId(1000))
        );
    }

    #[test]
    fn the_first_of_all_is_not_zero_either() {
        assert_eq!(JobIds::from(JobId(0)).next(), JobId(1));
    }

    proptest! {
        #[test]
        fn ids_of_an_earlier_connection_are_known(
            made in 0_u64..1 << 50,
            lasted in 1_u64..6 * 24 * 3600 * 1_000_000,
            given in any::<prop::sample::Index>(),
        ) {
            let (earlier, later) = (Duration::from_micros(made), Duration::from_micros(made + lasted));
            // as many as hold the bound
            let count = (u128::from(lasted) * PER_SECOND / 1_000_000) as usize;
            prop_assume!(count > 0);
            let mut ids = JobIds::from(JobId(first_job(earlier).0.wrapping_add(given.index(count) as u32)));
            let kept = ids.next();
            prop_assume!(kept != JobId(1), "moved past zero");
            let now = JobIds::from(first_job(later));
            prop_assert!(now.began_after(kept), "{kept:?} {now:?}");
        }
    }
}
