//! What a client found out about a server.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use super::IdentityError;
use super::error::Date;

/// The judgement of a handshake, kept outside of it: QUIC tells the two sides no more than an
/// alert's number. For one handshake at a time, as the configuration it comes with.
#[derive(Debug, Default)]
pub struct Verdict(Mutex<State>);

/// ```text
/// Open ──certificate accepted──> Shown ──signed by its key──> Known(Ok)
///   └──────── refused ─────────────┴────────────────────────> Known(Err)
/// ```
#[derive(Debug, Default, Clone)]
enum State {
    #[default]
    Open,
    /// The certificate is good, but anybody may have a copy of it.
    Shown(Verified),
    Known(Result<Verified, IdentityError>),
}

impl Verdict {
    /// The judgement of the latest handshake. `None` while it is not that far, and if it failed
    /// for a reason that is not the server's identity.
    #[must_use]
    pub fn get(&self) -> Option<Result<Verified, IdentityError>> {
        match &*self.lock() {
            State::Known(known) => Some(known.clone()),
            State::Open | State::Shown(_) => None,
        }
    }

    pub(super) fn shown(&self, verified: Verified) {
        *self.lock() = State::Shown(verified);
    }

    pub(super) fn refused(&self, error: IdentityError) {
        *self.lock() = State::Known(Err(error));
    }

    /// The server has signed with the key of the certificate that was shown.
    pub(super) fn signed(&self) {
        let mut state = self.lock();
        if let State::Shown(verified) = &*state {
            *state = State::Known(Ok(*verified));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A server that is the one in the URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// What proves it.
    pub by: Proof,
    /// The first second of validity, in unix time: the authority's if it vouches, else X.509's.
    pub valid_from: u32,
    /// The last second of validity, in unix time.
    pub not_valid_after: u32,
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "verified by {}, valid until {}", self.by, Date(self.not_valid_after))
    }
}

/// What proves who a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// The authority key in the URL vouches for its TLS key.
    AuthorityKey,
    /// Its TLS key is pinned in the URL.
    Pin,
    /// A CA vouches for its name.
    WebPki,
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AuthorityKey => "the pool's authority key",
            Self::Pin => "a pin",
            Self::WebPki => "a certificate authority of the web",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERIFIED: Verified = Verified { by: Proof::Pin, valid_from: 1, not_valid_after: 2 };

    #[test]
    fn a_certificate_alone_proves_nothing() {
        let verdict = Verdict::default();
        verdict.signed();
        assert_eq!(verdict.get(), None);
        verdict.shown(VERIFIED);
        assert_eq!(verdict.get(), None);
        verdict.signed();
        assert_eq!(verdict.get(), Some(Ok(VERIFIED)));
        // the next handshake starts anew
        verdict.shown(VERIFIED);
        assert_eq!(verdict.get(), None);
        verdict.refused(IdentityError::NotItsKey);
        verdict.signed();
        assert_eq!(verdict.get(), Some(Err(IdentityError::NotItsKey)));
    }

    #[test]
    fn the_text_is_for_people() {
        let text = VERIFIED.to_string();
        assert_eq!(text, "verified by a pin, valid until 1970-01-01 00:00:02 UTC");
    }
}
