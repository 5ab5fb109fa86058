//! Who is connected.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::mining::Difficulty;
use crate::mining::share::Account;
use crate::session::Tally;
use crate::wire::ChannelId;
use crate::wire::url::Transport;

/// No more of what a client says about its device is kept, in bytes.
const DEVICE_LEN: usize = 64;

/// The clients that have introduced themselves, in the order in which they did.
///
/// Locked when one comes, when one goes, and while somebody reads a page of it.
#[derive(Debug, Default)]
pub struct Roster(Mutex<Seats>);

#[derive(Debug, Default)]
struct Seats {
    last: u64,
    entries: BTreeMap<u64, Arc<Entry>>,
}

impl Roster {
    /// Takes a client in, at `now` in unix seconds.
    pub(crate) fn enter(&self, transport: Transport, peer: SocketAddr, device: &str, now: u32) -> Arc<Entry> {
        let mut seats = lock(&self.0);
        seats.last += 1;
        let entry = Arc::new(Entry {
            id: seats.last,
            transport,
            came_from: peer,
            peer: Mutex::new(peer),
            since: now,
            device: device[..device.floor_char_boundary(DEVICE_LEN)].into(),
            channels: Mutex::default(),
            accepted: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            difficulty: AtomicU64::new(0),
            last_share: AtomicU32::new(0),
        });
        seats.entries.insert(entry.id, entry.clone());
        entry
    }

    pub(crate) fn leave(&self, entry: &Entry) {
        lock(&self.0).entries.remove(&entry.id);
    }

    /// How many there are.
    #[must_use]
    pub fn total(&self) -> usize {
        lock(&self.0).entries.len()
    }

    /// The first `limit` of them.
    #[must_use]
    pub fn miners(&self, limit: usize) -> Vec<Arc<Entry>> {
        self.miners_after(0, limit)
    }

    /// The first `limit` of those that came after the one with this [id](Entry::id): for reading
    /// them all without holding anyone up.
    #[must_use]
    pub fn miners_after(&self, id: u64, limit: usize) -> Vec<Arc<Entry>> {
        let seats = lock(&self.0);
        seats.entries.range(id.saturating_add(1)..).take(limit).map(|(_, entry)| entry.clone()).collect()
    }
}

/// A client that is connected. Its counts are written by its own connection alone, so writing them
/// costs no more than writing to any memory.
#[derive(Debug)]
pub struct Entry {
    id: u64,
    transport: Transport,
    came_from: SocketAddr,
    /// Locked when the peer moves, and to be read.
    peer: Mutex<SocketAddr>,
    since: u32,
    device: Box<str>,
    /// Locked when a channel opens or closes, and to be read.
    channels: Mutex<BTreeMap<ChannelId, Arc<Account>>>,
    accepted: AtomicU64,
    rejected: AtomicU64,
    /// The bits of a float.
    difficulty: AtomicU64,
    last_share: AtomicU32,
}

impl Entry {
    /// Tells it from all others that there have been; later ones have greater ids.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// What carries the connection.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// Where the client is now.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        *lock(&self.peer)
    }

    /// Where it was when it introduced itself: a QUIC client may move.
    #[must_use]
    pub fn came_from(&self) -> SocketAddr {
        self.came_from
    }

    /// Since when it has been connected (unix seconds).
    #[must_use]
    pub fn since(&self) -> u32 {
        self.since
    }

    /// Vendor, hardware and firmware as the client has them, escaped, and cut off if they are long.
    #[must_use]
    pub fn device(&self) -> &str {
        &self.device
    }

    /// How many channels it has, and whose the first `limit` of them are.
    #[must_use]
    pub fn channels(&self, limit: usize) -> (usize, Vec<Arc<Account>>) {
        let channels = lock(&self.channels);
        (channels.len(), channels.values().take(limit).cloned().collect())
    }

    /// Shares accepted.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Relaxed)
    }

    /// Shares refused.
    #[must_use]
    pub fn rejected(&self) -> u64 {
        self.rejected.load(Relaxed)
    }

    /// When the last share was accepted (unix seconds).
    #[must_use]
    pub fn last_share(&self) -> Option<u32> {
        Some(self.last_share.load(Relaxed)).filter(|last| *last > 0)
    }

    /// Hashes per second since it came, as its accepted shares prove them.
    #[must_use]
    pub fn hashrate(&self, now: u32) -> f64 {
        let difficulty = Difficulty(f64::from_bits(self.difficulty.load(Relaxed)));
        difficulty.hashes() / f64::from(now.saturating_sub(self.since).max(1))
    }

    pub(crate) fn moved_to(&self, peer: SocketAddr) {
        *lock(&self.peer) = peer;
    }

    pub(crate) fn opened(&self, channel: ChannelId, account: &Arc<Account>) {
        lock(&self.channels).insert(channel, account.clone());
    }

    pub(crate) fn closed(&self, channel: ChannelId) {
        lock(&self.channels).remove(&channel);
    }

    /// Books what the session has counted. `now` is asked for if shares were accepted.
    pub(crate) fn add(&self, tally: &Tally, now: impl FnOnce() -> u32) {
        // there is one writer: nothing comes between reading and writing
        if tally.accepted > 0 {
            self.accepted.store(self.accepted() + tally.accepted, Relaxed);
            let difficulty = f64::from_bits(self.difficulty.load(Relaxed)) + tally.difficulty;
            self.difficulty.store(difficulty.to_bits(), Relaxed);
            self.last_share.store(now(), Relaxed);
        }
        let rejected: u64 = tally.rejected.iter().sum();
        if rejected > 0 {
            self.rejected.store(self.rejected() + rejected, Relaxed);
        }
    }
}

/// A panic elsewhere leaves nothing half-done in what is locked here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mining::payout::PayoutClass;

    fn peer(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    fn enter(roster: &Roster, port: u16) -> Arc<Entry> {
        roster.enter(Transport::Quic, peer(port), "device", 1000)
    }

    fn ports(entries: &[Arc<Entry>]) -> Vec<u16> {
        entries.iter().map(|entry| entry.peer().port()).collect()
    }

    #[test]
    fn clients_come_and_go() {
        let roster = Roster::default();
        let entries: Vec<_> = (1..=5).map(|port| enter(&roster, port)).collect();
        roster.leave(&entries[1]);
        assert_eq!(roster.total(), 4);
        assert_eq!(ports(&roster.miners(2)), [1, 3]);
        assert_eq!(ports(&roster.miners_after(entries[2].id(), 9)), [4, 5]);
        assert_eq!(ports(&roster.miners_after(u64::MAX, 9)), [0; 0]);
        entries[2].moved_to(peer(33));
        assert_eq!((entries[2].peer(), entries[2].came_from()), (peer(33), peer(3)));
    }

    #[test]
    fn shares_and_channels_are_counted() {
        let entry = enter(&Roster::default(), 1);
        let mut tally = Tally { accepted: 3, difficulty: 4.0, ..Tally::default() };
        tally.rejected[1] = 2;
        entry.add(&tally, || 1008);
        entry.add(&Tally::default(), || unreachable!("no share, no time"));
        assert_eq!((entry.accepted(), entry.rejected(), entry.last_share()), (3, 2, Some(1008)));
        assert_eq!(entry.hashrate(1008), Difficulty(0.5).hashes());
        assert!(entry.hashrate(1000).is_finite());

        let account = |user: &str| Arc::new(Account { user: user.into(), class: PayoutClass::Pool });
        entry.opened(ChannelId(2), &account("a"));
        entry.opened(ChannelId(3), &account("b"));
        entry.closed(ChannelId(2));
        let (count, users) = entry.channels(9);
        assert_eq!((count, &*users[0].user), (1, "b"));
        assert_eq!(entry.channels(0).1.len(), 0);
    }

    #[test]
    fn an_entry_is_small() {
        let device = "é".repeat(300);
        let entry = Roster::default().enter(Transport::Tcp, peer(1), &device, 1);
        assert_eq!(entry.device().len(), DEVICE_LEN);
        assert!(size_of::<Entry>() <= 176, "{} bytes", size_of::<Entry>());
    }
}
