//! A deterministic simulation of many sessions: everything that is random comes from one seed,
//! and time is a number that events advance.
//!
//! - [`model`]: what the specification lets a server say, and what a share is worth.
//! - [`miner`]: a client that hashes, and takes stock of what it is owed.
//! - [`network`]: delay, loss, and order by lane or on one pipe.
//! - [`lanes`]: where each message belongs, and when a lane is finished.
//! - [`oscillator`]: a miner who bends what he says about himself.
//! - [`source`]: where work comes from.
//! - [`rig`]: one client that says whatever it is told to.
//! - [`shared`]: the pool that all sessions share, nearly out of search space.
//! - [`books`]: what is credited, stored and acknowledged.
//! - [`world`]: one run.

pub(crate) mod books;
pub(crate) mod lanes;
pub(crate) mod miner;
pub(crate) mod model;
pub(crate) mod network;
pub(crate) mod oscillator;
pub(crate) mod rig;
pub(crate) mod shared;
pub(crate) mod source;
pub(crate) mod world;
