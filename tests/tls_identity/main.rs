//! Whom a client takes for the server in its URL, with rustls on both sides and no sockets.

mod authority;
mod pins;
mod protocol;
mod support;
mod web_pki;
