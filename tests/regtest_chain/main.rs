//! The embedded regtest chain makes blocks that any node would accept, and accepts no others.

mod file;
mod miner;
mod rules;
mod source;
