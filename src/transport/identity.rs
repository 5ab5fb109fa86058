//! The server's Noise identity, renewed before it expires.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand_core::CryptoRng;

use crate::wire::certificate::Certificate;
use crate::wire::keys::AuthoritySecretKey;
use crate::wire::noise::StaticIdentity;

/// Certifies static keys by the authority key, one at a time: a handshake costs no signature.
#[derive(Debug)]
pub struct NoiseIdentity {
    authority: AuthoritySecretKey,
    validity: Duration,
    current: Mutex<Option<Arc<StaticIdentity>>>,
}

impl NoiseIdentity {
    /// Certificates of this validity, each replaced when half of it is over.
    #[must_use]
    pub fn new(authority: AuthoritySecretKey, validity: Duration) -> Self {
        Self { authority, validity, current: Mutex::default() }
    }

    /// The identity to present at unix time `now`.
    pub(crate) fn at(&self, now: u32, rng: &mut impl CryptoRng) -> Arc<StaticIdentity> {
        let validity = u32::try_from(self.validity.as_secs()).unwrap_or(u32::MAX);
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(identity) = &*current {
            let certificate = identity.certificate();
            let left = certificate.not_valid_after().saturating_sub(now);
            // a clock that was set back may leave a certificate in the future
            if left > validity / 2 && certificate.valid_from() <= now {
                return identity.clone();
            }
        }
        let valid_from = now.saturating_sub(Certificate::BACKDATED);
        let identity = StaticIdentity::new(&self.authority, valid_from, now.saturating_add(validity), rng);
        current.insert(Arc::new(identity)).clone()
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn one_certificate_serves_until_half_its_validity_is_over() {
        let mut rng = rand::rngs::StdRng::seed_from_u64(1);
        let authority = AuthoritySecretKey::generate(&mut rng);
        let identity = NoiseIdentity::new(authority, Duration::from_secs(1000));
        let first = identity.at(1_000_000, &mut rng);
        assert!(Arc::ptr_eq(&first, &identity.at(1_000_499, &mut rng)));
        let second = identity.at(1_000_500, &mut rng);
        assert!(!Arc::ptr_eq(&first, &second));
        assert_eq!(second.certificate().not_valid_after(), 1_001_500);
        let set_back = identity.at(900_000, &mut rng);
        assert!(set_back.certificate().valid_from() <= 900_000);
    }
}
