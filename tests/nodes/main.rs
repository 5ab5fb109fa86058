//! The server with real nodes: Bitcoin Core on regtest, which says itself what it has.
//!
//! `tests/peers/bitcoin_core.sh` builds it. Where it is missing these tests are skipped, except in CI.

mod confirmed;
mod core;
mod crash;
mod fallback;
mod fees;
mod log;
mod mempool;
mod miners;
mod mining;
mod outages;
mod port;
mod provider;
mod refusals;
mod replay;
mod stage;
mod tips;
mod tools;
mod upstream;
mod verdicts;

#[path = "../regtest_chain/miner.rs"]
mod miner;
