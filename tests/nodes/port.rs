//! Ports for nodes.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};

/// A free port, and not one that the system gives to whoever asks for any: it must stay free until
/// it is used, and while a node is down.
pub(crate) fn port() -> u16 {
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 20_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        // processes at the same time start at different ones
        let start = std::process::id().wrapping_mul(64) as u16;
        let port = FIRST + start.wrapping_add(NEXT.fetch_add(1, Relaxed)) % COUNT;
        let address = (Ipv4Addr::LOCALHOST, port);
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return port;
        }
    }
}
