//! Noise NX over secp256k1 (§4): an authenticated key agreement, then encrypted frames.
//!
//! ```text
//! Initiator::new --act 1--> StaticIdentity::respond
//! Initiator::finish <--act 2--+        |
//!          |                           |
//!   (Sealer, Opener)            (Sealer, Opener)
//! ```

mod cipher;
mod decoder;
mod handshake;

pub use cipher::{Opener, SEALED_HEADER_LEN, Sealer, ciphertext_len};
pub use decoder::FrameDecoder;
pub use handshake::{ACT1_LEN, ACT2_LEN, IdentityError, Initiator, StaticIdentity};

use super::Header;
use super::certificate::CertificateError;

/// Why a handshake failed, or why a connection can no longer be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoiseError {
    /// The bytes were changed on their way, or were not meant for this connection.
    #[error("the bytes do not decrypt")]
    Decrypt,
    /// The other side is not whom the authority vouches for.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// What was to be sealed is not one whole frame.
    #[error("not one whole frame")]
    NotAFrame,
    /// The receiver does not take such a frame, or not that long.
    #[error(
        "a frame of extension {}, type {:#04x} and {} bytes is not accepted",
        .0.extension, .0.msg_type, .0.payload_len
    )]
    Refused(Header),
    /// An earlier error ended this direction, or its nonces are used up.
    #[error("the cipher cannot be used any more")]
    Spent,
}
