//! At home in blvm-node: its module IPC, events and APIs.
//!
//! ```text
//!  node ──ipc──> Conversation ──news──> Refresh (the sources of work look)
//!    ^                │ ^  ├──────────> api, commands (other modules, the node's command line)
//!    │                │ └──┴──datum───> the pool's payees
//!    └──events────────┘ <── journal and work of the pool
//! ```
//!
//! [`client::Client`] keeps one connection with the node, for as long as there is a node, and runs a conversation on
//! it. Nothing here is needed for mining: that goes over the node's JSON-RPC.
//!
//! A connection costs something, too. blvm-node 0.1.83 serves one at a time, ends its IPC when one is gone before it was
//! served, and does not get on if another is there before its own. So a module that the node has started first asks the
//! node's JSON-RPC for its version, and connects if that version is known to serve it ([`ipc::Table::many`]); nobody
//! connects to a socket that has just come up; and a connection that is not answered is left to wait.

pub mod api;
pub mod block;
pub mod client;
pub mod commands;
mod conversation;
mod datum;
pub mod event;
pub mod events;
pub mod ipc;
mod news;
mod served;
pub mod socket;
