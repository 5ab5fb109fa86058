//! Whom a client takes for the server in its URL, and a server for one of its miners: with rustls on
//! both sides and no sockets, and with whole servers whose certificates change while they run.

mod authority;
mod by_hand;
mod clients;
mod names;
mod pins;
mod protocol;
mod served;
mod support;
mod swap;
mod web_pki;
