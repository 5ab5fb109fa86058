#![doc = include_str!("protocol.md")]

mod code;
mod control;
mod dialled;
mod endpoint;
mod listener;
mod reading;
mod routes;
mod served;
mod streams;

pub use code::Code;
pub use control::Control;
pub(crate) use dialled::Dialled;
pub use endpoint::{EndpointKeys, Options};
pub use listener::QuicListener;
