//! QUIC on real sockets: what the tests of the transport are made of, and the proof that it works.

mod attack;
mod echo;
mod farewell;
mod fleet;
mod floods;
mod forwarder;
mod lanes;
mod loss;
mod migration;
mod process;
mod raw;
mod restart;
mod scenarios;
mod siege;
mod tools;
mod usage;
mod victim;

#[path = "../house/mod.rs"]
mod house;
