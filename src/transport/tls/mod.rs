//! Who a server is in TLS, and how a client makes sure of it.
//!
//! The server's leaf certificate carries, in an [extension](extension_value), the authority's word for the
//! TLS key: the same [`Certificate`](crate::wire::certificate::Certificate) that Noise uses, over
//! `SHA256(T || T || version || valid_from || not_valid_after || SHA256(SPKI))` with
//! `T = SHA256("sv2-quic/1 tls key")`. A client that knows the authority key needs no names and no
//! other issuers. A certificate from a public CA has no such extension: it is verified as a web
//! server's is, or by a pin.

mod error;
mod extension;
mod facts;
mod identity;
mod leaf;
mod pem;
mod serving;
mod verdict;
mod verify;

pub use error::{Date, IdentityError, TlsError};
pub use extension::{OID, extension_value};
pub use facts::Facts;
pub use identity::TlsIdentity;
pub(crate) use pem::{decode as pem_decode, encode as pem_encode};
pub use serving::{ClientCa, Serving};
pub use verdict::{Proof, Verdict, Verified};
pub use verify::{Roots, client_config, client_config_with};

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

/// The only protocol that is offered and accepted. A change to the mapping that an old peer would
/// misread takes a new number.
pub const ALPN: &[u8] = b"sv2-quic/1";

/// The name in certificates that we make for no name. Miners do not look at it, and it exists
/// nowhere (RFC 6761 §6.4).
pub const NAME: &str = "sv2.invalid";

/// Handed to every configuration: the process has no default, so that no library's choice is ours.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
