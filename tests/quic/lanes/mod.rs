//! Each message on its stream, each stream to its end.

mod closing;
mod early;
mod ends;
mod flights;
mod grants;
mod library;
mod many;
pub(crate) mod miner;
mod order;
pub(crate) mod work;
