//! A Stratum V2 (SV2) mining server.
//!
//! Work flows down, results flow up:
//!
//! ```text
//!  source of work ──> BlockTemplateGenerator ──Work──> StratumV2Pool ──watch──> Session, one per
//!        ^                                                   │                  connection
//!        └───────────────── Solution (bounded queue) ────────┴──Share──> ShareSink    ^
//!                                                                                     │ frames by lane
//!                                                              transport::drive, the one loop
//!                                                                    ┌────┴─────┐
//!                                                                  QUIC   Noise over TCP
//! ```
//!
//! - [`wire`], [`mining`] and [`session`] are pure: bytes, numbers and state machines. They read
//!   no clock, no socket, no file and no randomness of their own; time and random bytes come in as
//!   arguments.
//! - [`pool`] is what all sessions share. Nothing in it is locked when a share comes in.
//! - [`stats`], [`roster`] and [`journal`] tell how it goes: in sum, who is connected, and what happens.
//! - [`template`] makes [`Work`](mining::Work) and takes [`Solution`](mining::share::Solution)s.
//! - [`transport`] runs sessions over sockets, one task per connection, and has the client. What goes
//!   on which QUIC stream is laid down in [`transport::quic`].
//! - [`module`] is what makes the server a module of blvm-node.
//! - [`certs`] keeps what the server is known by.
//! - [`instance`] keeps a second server off a data directory, and counts the starts.
//! - [`server`] starts and stops it all; [`cli`] is the binary.
//!
//! The modules are declared in the order in which they may use each other: none uses one that
//! comes after it.

pub mod wire;
pub mod mining;
pub mod session;
pub mod clock;
pub mod aside;
pub mod stats;
pub mod roster;
pub mod journal;
pub mod pool;
pub mod transport;
pub mod template;
pub mod module;
pub mod miner;
pub mod certs;
pub mod instance;
pub mod server;
pub mod config;
pub mod cli;
