//! The server as a module of blvm-node, and beside one: a real node on regtest.
//!
//! `tests/peers/blvm_node.sh` builds it. Where it is missing these tests are skipped, except in CI.
//! Each test has a node of its own.

mod beside;
mod by_hand;
mod facts;
mod loaded;
mod log;
mod manifest;
mod module;
mod node;
mod patience;
mod programs;
mod rpc;
mod scripted;
mod spawned;

/// What the miners of `tests/nodes` wait with.
mod core {
    pub(crate) use crate::patience::soon;
}

#[path = "../nodes/port.rs"]
mod port;
#[path = "../nodes/miners.rs"]
#[allow(dead_code)] // these tests need a part of it
mod miners;
