//! What happens, for whoever listens.
//!
//! While nobody listens, it costs one look at a flag that nobody writes.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use tokio::sync::mpsc;

use crate::mining::TemplateSerial;
use crate::mining::share::Share;
use crate::wire::url::Transport;

/// Happenings that may wait for the listener. What finds no room is dropped and counted: a listener
/// that is behind must not hold up the miners.
const QUEUE: usize = 256;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happening {
    /// A client has introduced itself.
    Connected {
        /// Where it is, as [`endpoint`] writes it.
        endpoint: String,
        /// The version of Stratum that it speaks.
        version: u32,
    },
    /// Such a client is gone.
    Disconnected {
        /// Where it was when it came.
        endpoint: String,
        /// Why.
        reason: String,
    },
    /// A share was accepted, the first since one was [asked for](Journal::want_share).
    Share {
        /// What its job was made of.
        job: TemplateSerial,
        /// The header's hash, as SHA-256 puts it out.
        hash: [u8; 32],
        /// Whose it is.
        user: String,
    },
}

/// An address as URLs have it: `quic://192.0.2.1:5678`.
#[must_use]
pub fn endpoint(transport: Transport, peer: SocketAddr) -> String {
    format!("{}://{peer}", transport_name(transport))
}

/// `quic` or `tcp`.
#[must_use]
pub fn transport_name(transport: Transport) -> &'static str {
    match transport {
        Transport::Quic => "quic",
        Transport::Tcp => "tcp",
    }
}

/// Tells one listener what happens.
#[derive(Debug, Default)]
pub struct Journal {
    listened_to: AtomicBool,
    share_wanted: AtomicBool,
    listener: Mutex<Option<mpsc::Sender<Happening>>>,
    dropped: AtomicU64,
}

impl Journal {
    /// What happens from now on, in place of whoever listened before.
    pub fn listen(&self) -> mpsc::Receiver<Happening> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        *self.lock() = Some(sender);
        self.listened_to.store(true, Relaxed);
        receiver
    }

    /// The next share that is accepted is to be told of, and no more until this is called again.
    /// How many there are in all is in the [stats](crate::stats).
    pub fn want_share(&self) {
        self.share_wanted.store(true, Relaxed);
    }

    /// Happenings that the listener was not told of because it was behind.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// Tells the listener, if there is one.
    pub(crate) fn tell(&self, happening: impl FnOnce() -> Happening) {
        if self.listened_to.load(Relaxed) {
            self.send(happening());
        }
    }

    /// These were accepted.
    pub(crate) fn shares(&self, shares: &[Share]) {
        if self.share_wanted.load(Relaxed)
            && let Some(share) = shares.last()
            && self.share_wanted.swap(false, Relaxed)
        {
            self.tell(|| Happening::Share {
                job: share.template,
                hash: share.hash,
                user: share.account.user.to_string(),
            });
        }
    }

    fn send(&self, happening: Happening) {
        let mut listener = self.lock();
        match listener.as_ref().map(|listener| listener.try_send(happening)) {
            Some(Err(mpsc::error::TrySendError::Full(_))) => {
                self.dropped.fetch_add(1, Relaxed);
            }
            Some(Err(mpsc::error::TrySendError::Closed(_))) => {
                *listener = None;
                self.listened_to.store(false, Relaxed);
                self.share_wanted.store(false, Relaxed);
            }
            Some(Ok(())) | None => {}
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<mpsc::Sender<Happening>>> {
        self.listener.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::mining::Difficulty;
    use crate::mining::payout::PayoutClass;
    use crate::mining::share::Account;

    fn connected(number: u16) -> Happening {
        let endpoint = endpoint(Transport::Quic, ([192, 0, 2, 1], number).into());
        Happening::Connected { endpoint, version: 2 }
    }

    fn share(hash: u8) -> Share {
        Share {
            account: Arc::new(Account { user: "rig".into(), class: PayoutClass::Pool }),
            worker: None,
            difficulty: Difficulty(1.0),
            height: 1,
            template: TemplateSerial(7),
            hash: [hash; 32],
            solution: false,
        }
    }

    #[test]
    fn nothing_is_made_while_nobody_listens() {
        let journal = Journal::default();
        journal.tell(|| unreachable!("nobody listens"));
        drop(journal.listen());
        journal.tell(|| connected(1));
        journal.tell(|| unreachable!("nobody listens any more"));
        assert_eq!(journal.dropped(), 0);
    }

    #[test]
    fn a_listener_that_is_behind_misses_some() {
        let journal = Journal::default();
        let mut listener = journal.listen();
        for number in 0..QUEUE as u16 + 3 {
            journal.tell(|| connected(number));
        }
        assert_eq!(journal.dropped(), 3);
        assert_eq!(listener.try_recv().unwrap(), connected(0));
        let Happening::Connected { endpoint, .. } = connected(5) else { unreachable!() };
        assert_eq!(endpoint, "quic://192.0.2.1:5");
    }

    #[test]
    fn one_share_is_told_of_each_time_one_is_wanted() {
        let journal = Journal::default();
        let mut listener = journal.listen();
        journal.shares(&[share(1)]);
        journal.want_share();
        journal.shares(&[]);
        journal.shares(&[share(2), share(3)]);
        journal.shares(&[share(4)]);
        let told = Happening::Share { job: TemplateSerial(7), hash: [3; 32], user: "rig".into() };
        assert_eq!(listener.try_recv().unwrap(), told);
        assert!(listener.try_recv().is_err());
    }

    #[test]
    fn the_last_who_listens_is_told() {
        let journal = Journal::default();
        let (mut first, mut second) = (journal.listen(), journal.listen());
        journal.tell(|| connected(1));
        assert_eq!(first.try_recv(), Err(mpsc::error::TryRecvError::Disconnected));
        assert_eq!(second.try_recv().unwrap(), connected(1));
    }
}
