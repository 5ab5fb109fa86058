//! How many may connect, in all and from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Counts connections and refuses those over the limits.
#[derive(Debug)]
pub struct Admission {
    open: Mutex<Open>,
}

#[derive(Debug)]
struct Open {
    max: usize,
    max_per_address: usize,
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// Lets one connection be. Counted until it is dropped.
#[derive(Debug)]
pub struct Permit {
    admission: Arc<Admission>,
    address: IpAddr,
}

/// Why a connection is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The server is full.
    #[error("the limit of connections is reached (max_connections)")]
    Full,
    /// This address has as many as one may have.
    #[error("the limit of connections from one address is reached (max_connections_per_ip)")]
    AddressFull,
}

impl Admission {
    /// At most `max` connections at a time, and `max_per_address` from one address.
    #[must_use]
    pub fn new(max: usize, max_per_address: usize) -> Arc<Self> {
        let open = Open { max, max_per_address, total: 0, by_address: HashMap::new() };
        Arc::new(Self { open: Mutex::new(open) })
    }

    /// Other limits, for those who come from now on. Who is there stays.
    pub fn set_limits(&self, max: usize, max_per_address: usize) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        (open.max, open.max_per_address) = (max, max_per_address);
    }

    /// Whether half of all places, or of those for one address, are taken.
    #[must_use]
    pub fn is_crowded(&self, address: IpAddr) -> bool {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let here = open.by_address.get(&subscriber(address)).copied().unwrap_or(0);
        open.total >= open.max.div_ceil(2) || here >= open.max_per_address.div_ceil(2)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).total
    }

    /// Admits a connection from `address`. An IPv6 host has a whole /64, so that counts as one
    /// address.
    pub fn admit(self: &Arc<Self>, address: IpAddr) -> Result<Permit, Refusal> {
        let address = subscriber(address);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.total >= open.max {
            return Err(Refusal::Full);
        }
        let max_per_address = open.max_per_address;
        let count = open.by_address.entry(address).or_default();
        if *count >= max_per_address {
            return Err(Refusal::AddressFull);
        }
        *count += 1;
        open.total += 1;
        Ok(Permit { admission: self.clone(), address })
    }
}

impl Permit {
    /// The peer has another address now. It stays, even where that has as many as it may have:
    /// a miner behind a new NAT binding is not a new one.
    pub(crate) fn move_to(&mut self, address: IpAddr) {
        let address = subscriber(address);
        let mut open = self.admission.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.leave(self.address);
        *open.by_address.entry(address).or_default() += 1;
        drop(open);
        self.address = address;
    }
}

impl Open {
    fn leave(&mut self, address: IpAddr) {
        if let Some(count) = self.by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&address);
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut open = self.admission.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.total -= 1;
        open.leave(self.address);
    }
}

fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn limits_hold_and_places_come_back() {
        let admission = Admission::new(3, 2);
        let first = admission.admit(ip("192.0.2.1")).unwrap();
        let _second = admission.admit(ip("::ffff:192.0.2.1")).unwrap();
        assert_eq!(admission.admit(ip("192.0.2.1")).unwrap_err(), Refusal::AddressFull);
        let _third = admission.admit(ip("192.0.2.2")).unwrap();
        assert_eq!(admission.admit(ip("192.0.2.3")).unwrap_err(), Refusal::Full);
        drop(first);
        assert!(admission.admit(ip("192.0.2.1")).is_ok());
    }

    #[test]
    fn a_slash_64_is_one_address() {
        let admission = Admission::new(10, 1);
        let _first = admission.admit(ip("2001:db8:0:1::1")).unwrap();
        assert_eq!(admission.admit(ip("2001:db8:0:1:ffff::2")).unwrap_err(), Refusal::AddressFull);
        assert!(admission.admit(ip("2001:db8:0:2::1")).is_ok());
    }

    #[test]
    fn half_full_is_crowded() {
        let admission = Admission::new(8, 4);
        let _first = admission.admit(ip("192.0.2.1")).unwrap();
        assert!(!admission.is_crowded(ip("192.0.2.1")));
        let _second = admission.admit(ip("192.0.2.1")).unwrap();
        assert!(admission.is_crowded(ip("192.0.2.1")) && !admission.is_crowded(ip("192.0.2.2")));
        let _third = admission.admit(ip("192.0.2.2")).unwrap();
        let _fourth = admission.admit(ip("192.0.2.3")).unwrap();
        assert!(admission.is_crowded(ip("192.0.2.4")));
    }

    #[test]
    fn limits_change_for_those_who_come() {
        let admission = Admission::new(2, 1);
        let first = admission.admit(ip("192.0.2.1")).unwrap();
        assert_eq!(admission.admit(ip("192.0.2.1")).unwrap_err(), Refusal::AddressFull);
        admission.set_limits(2, 2);
        let second = admission.admit(ip("192.0.2.1")).unwrap();
        assert_eq!(admission.admit(ip("192.0.2.2")).unwrap_err(), Refusal::Full);
        admission.set_limits(1, 2);
        assert_eq!(admission.count(), 2);
        drop(first);
        assert_eq!(admission.admit(ip("192.0.2.2")).unwrap_err(), Refusal::Full);
        drop(second);
        assert!(admission.admit(ip("192.0.2.2")).is_ok());
    }

    #[test]
    fn a_place_moves_with_its_owner() {
        let admission = Admission::new(3, 1);
        let mut first = admission.admit(ip("192.0.2.1")).unwrap();
        let second = admission.admit(ip("192.0.2.2")).unwrap();
        // over the limit, but it is no new connection
        first.move_to(ip("192.0.2.2"));
        assert!(admission.admit(ip("192.0.2.1")).is_ok());
        drop(second);
        assert_eq!(admission.admit(ip("192.0.2.2")).unwrap_err(), Refusal::AddressFull);
        drop(first);
        assert!(admission.admit(ip("192.0.2.2")).is_ok());
        assert!(admission.open.lock().unwrap().by_address.is_empty());
    }
}
