//! Work that takes too long for a thread on which miners wait for an answer.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use tokio::task::{JoinError, spawn_blocking};

/// Whether this process can have no other thread.
static ALONE: AtomicBool = AtomicBool::new(false);

/// This process has one thread, and can have no other: from now on all work is done on that.
pub(crate) fn be_alone() {
    ALONE.store(true, Relaxed);
}

/// Does it on another thread, if there is one to be had. Fails if it panics there.
pub(crate) async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    if ALONE.load(Relaxed) { Ok(work()) } else { spawn_blocking(work).await }
}

/// The addresses of a host.
pub(crate) async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let host = host.to_owned();
    aside(move || Ok((&*host, port).to_socket_addrs()?.collect())).await.map_err(io::Error::other)?
}
