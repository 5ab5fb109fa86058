//! Stratum V2 on the wire: bytes to messages and back (§3, §4, §8).
//!
//! Pure: no clock, no socket, no randomness of its own.

pub(crate) mod base64;
pub mod certificate;
pub mod codec;
pub mod common;
pub mod declare;
pub mod extensions;
pub mod frame;
pub mod keys;
mod limits;
pub mod mining;
pub mod noise;
pub mod plain;
pub mod template;
mod tlv;
pub mod url;

pub use codec::{Reader, U256, Wire};
pub use frame::{Header, Message, write_frame};
pub use limits::{max_payload, max_payload_from_template_provider, max_payload_to_mining_server};
pub use tlv::Tlvs;

/// Why bytes are not what they claim to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The bytes end before the value does.
    #[error("the message ends too early")]
    Truncated,
    /// A length or a count exceeds its type's limit.
    #[error("a length exceeds its limit")]
    TooLong,
    /// Bytes are left after the last field.
    #[error("bytes are left over after the message")]
    Trailing,
    /// No message of this sub-protocol has this type.
    #[error("unknown message type {0:#04x}")]
    UnknownType(u8),
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident($int:ty);)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
        pub struct $name(pub $int);

        impl Wire<'_> for $name {
            const MAX_LEN: usize = size_of::<$int>();

            fn read(from: &mut Reader<'_>) -> Result<Self, WireError> {
                <$int>::read(from).map(Self)
            }

            fn write(&self, out: &mut Vec<u8>) {
                self.0.write(out);
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

ids! {
    /// A standard, extended or group channel of one connection (§5.2).
    ChannelId(u32);
    /// A job of one connection (§5.1).
    JobId(u32);
    /// Pairs an answer with its request.
    RequestId(u32);
    /// Numbers the shares of a channel, in the client's own way (§5.3.11).
    SequenceNumber(u32);
    /// A template of one template provider (§7).
    TemplateId(u64);
}
