//! The client of Template Providers against one made of SRI's crates, and against Bitcoin Core.

mod blocks;
mod nonsense;
mod rig;
mod setup;
mod templates;
mod work;

#[cfg(feature = "bitcoin-ipc")]
mod node;
#[cfg(feature = "bitcoin-ipc")]
mod preflight;

#[path = "../common/sri_server.rs"]
mod sri_server;

#[cfg(feature = "bitcoin-ipc")]
#[path = "../nodes/core.rs"]
#[allow(dead_code)]
mod core;
#[cfg(feature = "bitcoin-ipc")]
#[path = "../nodes/port.rs"]
mod port;
#[cfg(feature = "bitcoin-ipc")]
#[path = "../nodes/mempool.rs"]
#[allow(dead_code)]
mod mempool;
#[path = "../nodes/provider.rs"]
mod provider;
