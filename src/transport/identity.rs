//! The server's Noise identity: renewed before it expires, or made elsewhere.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand_core::CryptoRng;

use crate::wire::certificate::Certificate;
use crate::wire::keys::AuthoritySecretKey;
use crate::wire::noise::StaticIdentity;

/// What handshakes over Noise present. One identity at a time: a handshake costs no signature.
#[derive(Debug)]
pub struct NoiseIdentity(Mutex<Kept>);

#[derive(Debug)]
enum Kept {
    /// The authority's secret is at hand: static keys are made and certified as needed.
    Certified { authority: Arc<AuthoritySecretKey>, validity: Duration, current: Option<Arc<StaticIdentity>> },
    /// It is not.
    Fixed(Arc<StaticIdentity>),
}

impl NoiseIdentity {
    /// Certifies static keys by the authority key for this long, each replaced when half of it is
    /// over.
    #[must_use]
    pub fn new(authority: impl Into<Arc<AuthoritySecretKey>>, validity: Duration) -> Self {
        Self(Mutex::new(Kept::Certified { authority: authority.into(), validity, current: None }))
    }

    /// A key that was certified elsewhere, until it is [replaced](Self::replace).
    #[must_use]
    pub fn fixed(identity: impl Into<Arc<StaticIdentity>>) -> Self {
        Self(Mutex::new(Kept::Fixed(identity.into())))
    }

    /// Has later handshakes present this identity, until it is replaced in turn. Those under way
    /// go on with theirs.
    pub fn replace(&self, identity: impl Into<Arc<StaticIdentity>>) {
        *self.lock() = Kept::Fixed(identity.into());
    }

    /// For how long keys are certified from now on, if that is done here.
    pub fn set_validity(&self, wanted: Duration) {
        if let Kept::Certified { validity, .. } = &mut *self.lock() {
            *validity = wanted;
        }
    }

    /// The identity to present at unix time `now`.
    pub(crate) fn at(&self, now: u32, rng: &mut impl CryptoRng) -> Arc<StaticIdentity> {
        let mut kept = self.lock();
        let (authority, validity, current) = match &mut *kept {
            Kept::Certified { authority, validity, current } => (authority, validity, current),
            Kept::Fixed(identity) => return identity.clone(),
        };
        let validity = u32::try_from(validity.as_secs()).unwrap_or(u32::MAX);
        if let Some(identity) = &*current {
            let certificate = identity.certificate();
            let left = certificate.not_valid_after().saturating_sub(now);
            // a clock that was set back may leave a certificate in the future
            if left > validity / 2 && certificate.valid_from() <= now {
                return identity.clone();
            }
        }
        let (from, until) = Certificate::span(now, validity);
        let identity = StaticIdentity::new(authority, from, until, rng);
        current.insert(Arc::new(identity)).clone()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn one_certificate_serves_until_half_its_validity_is_over() {
        let mut rng = StdRng::seed_from_u64(1);
        let authority = AuthoritySecretKey::generate(&mut rng);
        let identity = NoiseIdentity::new(authority, Duration::from_secs(1000));
        let mut at = |now| identity.at(now, &mut rng);
        let first = at(1_000_000);
        assert!(Arc::ptr_eq(&first, &at(1_000_499)));
        let second = at(1_000_500);
        assert!(!Arc::ptr_eq(&first, &second));
        assert_eq!(second.certificate().not_valid_after(), 1_001_500);
        let set_back = at(900_000);
        assert!(set_back.certificate().valid_from() <= 900_000);
        identity.set_validity(Duration::from_secs(10_000));
        assert_eq!(at(900_000).certificate().not_valid_after(), 910_000);
    }

    #[test]
    fn what_was_made_elsewhere_serves_until_it_is_replaced() {
        let mut rng = StdRng::seed_from_u64(1);
        let authority = AuthoritySecretKey::generate(&mut rng);
        let mut made = |until| StaticIdentity::new(&authority, 0, until, &mut rng);
        let (one, other) = (made(1000), made(2000));
        let identity = NoiseIdentity::fixed(one);
        let mut rng = StdRng::seed_from_u64(2);
        let mut until = |now| identity.at(now, &mut rng).certificate().not_valid_after();
        // to have expired is for the miner to say
        assert_eq!((until(10), until(5000)), (1000, 1000));
        identity.replace(other);
        assert_eq!(until(10), 2000);
    }
}
