//! Peers that mean no good, on real sockets: each gets the error or the close that it is due, in
//! time, and the honest miner beside it goes on as if nothing were.

mod floods;
mod frames;
mod fuzz;
mod handshake;
mod limits;
mod raw;

#[path = "../house/mod.rs"]
mod house;
