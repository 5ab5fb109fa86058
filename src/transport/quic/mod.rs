#![doc = include_str!("protocol.md")]

mod code;
mod dialled;
mod endpoint;
mod listener;
mod reading;
mod routes;
mod served;
mod streams;

pub use code::Code;
pub(crate) use dialled::Dialled;
pub use endpoint::{EndpointKeys, Options};
pub use listener::QuicListener;
