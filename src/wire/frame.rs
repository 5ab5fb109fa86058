//! Framing (§3.2): six bytes of header, then the payload.

use super::{Reader, Wire, WireError};

/// The `channel_msg` bit of `extension_type` (§3.2.1).
const CHANNEL_MSG: u16 = 0x8000;

/// A frame's header.
///
/// The `channel_msg` bit is not kept: peers differ in where they set it, so nothing here depends
/// on it (a message's type says whether it addresses a channel).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The extension that defines the message, 0 for the core protocol.
    pub extension: u16,
    /// The message within its extension.
    pub msg_type: u8,
    /// The payload's length in bytes.
    pub payload_len: usize,
}

impl Header {
    /// The length of an encoded header.
    pub const LEN: usize = 6;
    /// The longest payload that a header can announce: 2^24 - 1 bytes.
    pub const MAX_PAYLOAD: usize = 0xff_ffff;

    /// Reads a header. Total: every six bytes are one.
    #[must_use]
    pub fn read(bytes: &[u8; Self::LEN]) -> Self {
        let [e0, e1, msg_type, l0, l1, l2] = *bytes;
        Self {
            extension: u16::from_le_bytes([e0, e1]) & !CHANNEL_MSG,
            msg_type,
            payload_len: u32::from_le_bytes([l0, l1, l2, 0]) as usize,
        }
    }
}

/// A message of the protocol: its place in the message table (§8) and its payload.
pub trait Message<'a>: Wire<'a> {
    /// The extension that defines it, 0 for the core protocol.
    const EXTENSION: u16 = 0;
    /// `msg_type`.
    const TYPE: u8;
    /// Whether the payload starts with the channel it is for.
    const CHANNEL: bool;

    /// Reads a payload to its last byte.
    fn decode(payload: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(payload);
        let message = Self::read(&mut reader)?;
        if reader.rest().is_empty() { Ok(message) } else { Err(WireError::Trailing) }
    }

    /// Appends the message as a frame. A payload over 2^24 - 1 bytes is refused, and `out` left
    /// as it was; only messages that carry whole transactions can be that long.
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        write_frame(Self::EXTENSION, Self::TYPE, Self::CHANNEL, out, |out| self.write(out))
    }
}

/// Appends a frame whose payload `write` appends.
pub fn write_frame(
    extension: u16,
    msg_type: u8,
    channel: bool,
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>),
) -> Result<(), WireError> {
    let start = out.len();
    let extension = if channel { extension | CHANNEL_MSG } else { extension };
    out.extend_from_slice(&extension.to_le_bytes());
    out.extend_from_slice(&[msg_type, 0, 0, 0]);
    write(out);
    let len = out.len() - start - Header::LEN;
    if len > Header::MAX_PAYLOAD {
        out.truncate(start);
        return Err(WireError::TooLong);
    }
    out[start + 3..start + Header::LEN].copy_from_slice(&len.to_le_bytes()[..3]);
    Ok(())
}

/// Defines messages of one sub-protocol, in the order of the specification, and the enum of them
/// all. The fields are written and read in the order in which they stand.
macro_rules! messages {
    (
        $(#[$enum_doc:meta])* enum $all:ident, extension $extension:literal;
        $(
            $(#[$doc:meta])*
            struct $name:ident $(<$lt:lifetime>)? = $ty:literal, channel $channel:literal {
                $($(#[$field_doc:meta])* $field:ident: $field_ty:ty,)*
            }
        )*
    ) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Copy, PartialEq)]
            pub struct $name $(<$lt>)? {
                $($(#[$field_doc])* pub $field: $field_ty,)*
            }

            messages!(@wire $name $($lt)? { $($field: $field_ty,)* } $extension $ty $channel);
        )*

        $(#[$enum_doc])*
        #[derive(Debug, Clone, Copy, PartialEq)]
        #[allow(missing_docs)]
        pub enum $all<'a> {
            $($name(messages!(@ty $name $($lt)?)),)*
        }

        impl<'a> $all<'a> {
            /// Reads the payload of a message of type `msg_type`.
            pub fn decode(msg_type: u8, payload: &'a [u8]) -> Result<Self, $crate::wire::WireError> {
                use $crate::wire::Message;
                match msg_type {
                    $($ty => $name::decode(payload).map(Self::$name),)*
                    other => Err($crate::wire::WireError::UnknownType(other)),
                }
            }

            /// Appends the message as a frame.
            pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), $crate::wire::WireError> {
                use $crate::wire::Message;
                match self {
                    $(Self::$name(message) => message.encode(out),)*
                }
            }

            /// `msg_type` of the message.
            #[must_use]
            pub fn msg_type(&self) -> u8 {
                match self {
                    $(Self::$name(_) => $ty,)*
                }
            }

            /// The longest payload of a message of type `msg_type`, if there is one.
            #[must_use]
            pub fn max_payload(msg_type: u8) -> Option<usize> {
                use $crate::wire::{Header, Wire};
                match msg_type {
                    $($ty => Some(<$name as Wire>::MAX_LEN.min(Header::MAX_PAYLOAD)),)*
                    _ => None,
                }
            }
        }
    };
    (@ty $name:ident) => { $name };
    (@ty $name:ident $lt:lifetime) => { $name<'a> };
    (@wire $name:ident { $($field:ident: $field_ty:ty,)* } $extension:literal $ty:literal $channel:literal) => {
        impl<'a> $crate::wire::Wire<'a> for $name {
            messages!(@body $($field: $field_ty,)*);
        }
        impl<'a> $crate::wire::Message<'a> for $name {
            const EXTENSION: u16 = $extension;
            const TYPE: u8 = $ty;
            const CHANNEL: bool = $channel;
        }
    };
    (@wire $name:ident $lt:lifetime { $($field:ident: $field_ty:ty,)* } $extension:literal $ty:literal $channel:literal) => {
        impl<$lt> $crate::wire::Wire<$lt> for $name<$lt> {
            messages!(@body $($field: $field_ty,)*);
        }
        impl<$lt> $crate::wire::Message<$lt> for $name<$lt> {
            const EXTENSION: u16 = $extension;
            const TYPE: u8 = $ty;
            const CHANNEL: bool = $channel;
        }
    };
    (@body $($field:ident: $field_ty:ty,)*) => {
        const MAX_LEN: usize = 0usize$(.saturating_add(<$field_ty as $crate::wire::Wire>::MAX_LEN))*;

        fn read(from: &mut $crate::wire::Reader<'a>) -> Result<Self, $crate::wire::WireError> {
            Ok(Self { $($field: $crate::wire::Wire::read(from)?,)* })
        }

        fn write(&self, out: &mut Vec<u8>) {
            $($crate::wire::Wire::write(&self.$field, out);)*
        }
    };
}

pub(crate) use messages;

#[cfg(test)]
mod tests {
    use super::super::ChannelId;
    use super::super::common::{ChannelEndpointChanged, Common, SetupConnectionSuccess};
    use super::*;

    #[test]
    fn a_header_is_read_without_its_channel_bit() {
        for extension in [[0xbc, 0x0a], [0xbc, 0x8a]] {
            let [e0, e1] = extension;
            let header = Header::read(&[e0, e1, 0x1b, 0x01, 0x02, 0x03]);
            assert_eq!(header, Header { extension: 0x0abc, msg_type: 0x1b, payload_len: 0x03_0201 });
        }
        let header = Header::read(&[0xff; 6]);
        assert_eq!(header, Header { extension: 0x7fff, msg_type: 0xff, payload_len: Header::MAX_PAYLOAD });
    }

    #[test]
    fn a_frame_is_appended() {
        let mut out = vec![0xaa];
        SetupConnectionSuccess { used_version: 2, flags: 1 }.encode(&mut out).unwrap();
        assert_eq!(out, [0xaa, 0, 0, 0x01, 6, 0, 0, 2, 0, 1, 0, 0, 0]);
        out.clear();
        ChannelEndpointChanged { channel_id: ChannelId(7) }.encode(&mut out).unwrap();
        assert_eq!(out, [0, 0x80, 0x03, 4, 0, 0, 7, 0, 0, 0]);
        assert_eq!(Common::decode(0x05, &[]), Err(WireError::UnknownType(0x05)));
    }

    #[test]
    fn a_payload_beyond_the_header_leaves_nothing() {
        let frame = |len| {
            let mut out = vec![0xaa];
            let written = write_frame(1, 2, false, &mut out, |out| out.resize(out.len() + len, 0));
            written.map(|()| out.len()).map_err(|error| (error, out))
        };
        assert_eq!(frame(Header::MAX_PAYLOAD), Ok(1 + Header::LEN + Header::MAX_PAYLOAD));
        assert_eq!(frame(Header::MAX_PAYLOAD + 1), Err((WireError::TooLong, vec![0xaa])));
    }
}
