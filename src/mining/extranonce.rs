//! The part of the extranonce that tells channels apart (§5.1.2.1).
//!
//! Of the [`EXTRANONCE_LEN`] bytes in every coinbase the first [`PREFIX_LEN`] are the server's. As
//! a number, most significant byte first, they are
//!
//! ```text
//!  31      26 25      20 19                              0
//! +----------+----------+---------------------------------+
//! | server   | epoch    | slot                            |
//! +----------+----------+---------------------------------+
//! ```
//!
//! - *server*: which of up to 64 servers that mine on the same templates for the same payee. Two
//!   servers with one id would search the same space twice.
//! - *epoch*: which start of the server, counted modulo 64. A crash forgets which prefixes are in
//!   use, so the next start takes none of them. They come round at the 64th restart, which is safe
//!   unless all of those happened within one block.
//! - *slot*: one per channel. With 2^20 of them in use or in quarantine no channel can be opened:
//!   `channel-capacity-exhausted`.

use std::collections::{HashSet, VecDeque};

/// How many bytes of extranonce a coinbase holds.
pub const EXTRANONCE_LEN: usize = PREFIX_LEN + ROLLABLE;
/// How many of them the server sets.
pub const PREFIX_LEN: usize = 4;
/// How many of them an extended channel may roll.
pub const ROLLABLE: usize = 16;

const SLOT_BITS: u32 = 20;
const EPOCH_BITS: u32 = 6;
const SERVER_BITS: u32 = 32 - EPOCH_BITS - SLOT_BITS;

/// Names a server among those that share templates and payee.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ServerId(u8);

impl ServerId {
    /// None from 64 on.
    pub fn new(id: u8) -> Option<ServerId> {
        (id < 1 << SERVER_BITS).then_some(ServerId(id))
    }
}

/// Tells a server's starts apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct BootEpoch(u8);

impl BootEpoch {
    /// The epoch of the server's `start`th start: its last six bits.
    pub fn of_start(start: u64) -> BootEpoch {
        BootEpoch((start % (1 << EPOCH_BITS)) as u8)
    }
}

/// The bytes that one channel's extranonces begin with, and no other channel's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ExtranoncePrefix([u8; PREFIX_LEN]);

impl ExtranoncePrefix {
    /// As an extended channel's `extranonce_prefix` (§5.3.5).
    pub fn as_bytes(&self) -> &[u8; PREFIX_LEN] {
        &self.0
    }

    /// A standard channel's `extranonce_prefix` (§5.3.3), which is its whole extranonce: nothing
    /// is left to roll.
    pub fn standard(self) -> [u8; EXTRANONCE_LEN] {
        let mut extranonce = [0; EXTRANONCE_LEN];
        extranonce[..PREFIX_LEN].copy_from_slice(&self.0);
        extranonce
    }
}

/// Hands out prefixes, none to two channels that could find the same header.
///
/// A slot goes from *unused* or *free* to *in use* to *quarantine*, and with the next template to
/// *free*: until then a new channel would search what the last one searched. Slots never used go
/// first, then those free for longest. No operation but [`new_template`](Self::new_template) takes
/// longer the more slots there are; what is remembered is four bytes a slot once used, and a hash
/// table of those in use.
#[derive(Debug)]
pub struct ExtranonceAllocator {
    /// Server and epoch, in place.
    base: u32,
    /// The first slot never used. All below are in exactly one of the following.
    unused: u32,
    free: VecDeque<u32>,
    in_use: HashSet<u32>,
    quarantine: Vec<u32>,
}

impl ExtranonceAllocator {
    /// With all slots unused.
    pub fn new(server: ServerId, epoch: BootEpoch) -> ExtranonceAllocator {
        ExtranonceAllocator {
            base: u32::from(server.0) << (EPOCH_BITS + SLOT_BITS) | u32::from(epoch.0) << SLOT_BITS,
            unused: 0,
            free: VecDeque::new(),
            in_use: HashSet::new(),
            quarantine: Vec::new(),
        }
    }

    /// A prefix for a new channel. None if all are in use or in quarantine.
    ///
    /// The channel must not be given jobs on an earlier template than that of the latest
    /// [`new_template`](Self::new_template): there the prefix may have been another's.
    pub fn allocate(&mut self) -> Option<ExtranoncePrefix> {
        self.allocate_unused().or_else(|| {
            let slot = self.free.pop_front()?;
            Some(self.take(slot))
        })
    }

    /// A prefix that no channel has had, whatever the new one is to work on. None if there are no
    /// more.
    pub fn allocate_unused(&mut self) -> Option<ExtranoncePrefix> {
        if self.unused == 1 << SLOT_BITS {
            return None;
        }
        self.unused += 1;
        Some(self.take(self.unused - 1))
    }

    fn take(&mut self, slot: u32) -> ExtranoncePrefix {
        self.in_use.insert(slot);
        ExtranoncePrefix((self.base | slot).to_be_bytes())
    }

    /// Takes back the prefix of a closed channel. Whether it was in use: if not, nothing changes.
    pub fn release(&mut self, prefix: ExtranoncePrefix) -> bool {
        let slot = u32::from_be_bytes(prefix.0) ^ self.base;
        let was_in_use = self.in_use.remove(&slot);
        if was_in_use {
            self.quarantine.push(slot);
        }
        was_in_use
    }

    /// Ends the quarantine: to be called when there is another template, and no new channel gets
    /// a job on an earlier one any more.
    pub fn new_template(&mut self) {
        self.free.extend(self.quarantine.drain(..));
    }

    /// How many prefixes are in use.
    pub fn in_use(&self) -> usize {
        self.in_use.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SLOTS: usize = 1 << SLOT_BITS;

    /// In its last lap, with `left` slots unused and the rest free.
    fn worn(left: u32) -> ExtranonceAllocator {
        let mut allocator = ExtranonceAllocator::new(ServerId(5), BootEpoch(9));
        allocator.unused = (1 << SLOT_BITS) - left;
        allocator
    }

    #[test]
    fn server_epoch_and_slot_in_their_places() {
        let mut allocator =
            ExtranonceAllocator::new(ServerId::new(0b10_0001).unwrap(), BootEpoch::of_start(64 * 7 + 0b11));
        assert_eq!(allocator.allocate().unwrap().as_bytes(), &[0b1000_0100, 0b0011_0000, 0, 0]);
        let second = allocator.allocate().unwrap();
        assert_eq!(second.as_bytes(), &[0b1000_0100, 0b0011_0000, 0, 1]);
        let mut whole = [0; EXTRANONCE_LEN];
        whole[..4].copy_from_slice(&[0b1000_0100, 0b0011_0000, 0, 1]);
        assert_eq!(second.standard(), whole);
        assert_eq!(ServerId::new(64), None);
    }

    #[test]
    fn the_capacity_is_two_to_the_twentieth() {
        let mut allocator = ExtranonceAllocator::new(ServerId(63), BootEpoch(63));
        let all: HashSet<_> = std::iter::from_fn(|| allocator.allocate()).collect();
        assert_eq!((all.len(), allocator.in_use()), (SLOTS, SLOTS));

        let prefix = ExtranoncePrefix([0xff; 4]);
        assert!(allocator.release(prefix));
        assert_eq!(allocator.allocate(), None, "still in quarantine");
        allocator.new_template();
        assert_eq!(allocator.allocate(), Some(prefix));
    }

    #[test]
    fn what_is_not_in_use_cannot_be_released() {
        let mut allocator = worn(1);
        let prefix = allocator.allocate().unwrap();
        let mut of_another_server = prefix;
        of_another_server.0[0] ^= 0x80;
        assert!(!allocator.release(of_another_server));
        assert!(allocator.release(prefix));
        assert!(!allocator.release(prefix));
        allocator.new_template();
        assert!(!allocator.release(prefix));
        assert_eq!(allocator.allocate(), Some(prefix));
        assert_eq!(allocator.allocate(), None);
    }

    #[test]
    fn what_was_used_before_is_not_unused() {
        let mut allocator = worn(1);
        let prefix = allocator.allocate_unused().unwrap();
        allocator.release(prefix);
        allocator.new_template();
        assert_eq!(allocator.allocate_unused(), None);
        assert_eq!(allocator.allocate(), Some(prefix));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Allocate,
        Release(prop::sample::Index),
        NewTemplate,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            5 => Just(Step::Allocate),
            4 => any::<prop::sample::Index>().prop_map(Step::Release),
            1 => Just(Step::NewTemplate),
        ];
        prop::collection::vec(step, 0..400)
    }

    proptest! {
        #[test]
        fn no_prefix_twice_within_a_template(left in 1_u32..20, steps in steps()) {
            let mut allocator = worn(left);
            let mut in_use = Vec::new();
            let mut quarantine = HashSet::new();
            for step in steps {
                match step {
                    Step::Allocate => match allocator.allocate() {
                        Some(prefix) => {
                            prop_assert!(!in_use.contains(&prefix));
                            prop_assert!(!quarantine.contains(&prefix));
                            in_use.push(prefix);
                        }
                        None => prop_assert_eq!(in_use.len() + quarantine.len(), left as usize),
                    },
                    Step::Release(_) if in_use.is_empty() => {}
                    Step::Release(index) => {
                        let prefix = in_use.swap_remove(index.index(in_use.len()));
                        prop_assert!(allocator.release(prefix));
                        quarantine.insert(prefix);
                    }
                    Step::NewTemplate => {
                        allocator.new_template();
                        quarantine.clear();
                    }
                }
                prop_assert_eq!(allocator.in_use(), in_use.len());
            }
        }
    }
}
