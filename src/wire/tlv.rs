//! Fields that extensions add at the end of a message (§3.4.3).

use super::WireError;
use super::codec::{Reader, Str255, Wire};
use super::extensions::WORKER_HASHRATE_TRACKING;

/// `user_identity`, the one field of extension 0x0002.
const USER_IDENTITY: u8 = 0x01;

/// The type-length-value fields at the end of a SubmitSharesExtended: all that is left of it.
///
/// The specification's example has the extension's number and the length in big-endian order,
/// deployed software has them in little-endian order like all else. Both are understood, and
/// little-endian is written. Fields other than `user_identity` are skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tlvs<'a> {
    bytes: &'a [u8],
    user_identity: Option<Str255<'a>>,
}

impl<'a> Tlvs<'a> {
    /// The most bytes of `user_identity` (extension 0x0002 §1.1).
    pub const MAX_USER_IDENTITY: usize = 32;
    /// The length of a field's type and length.
    const HEADER: usize = 5;
    /// The most bytes that a field with a user identity takes.
    pub const MAX_USER_IDENTITY_FIELD: usize = Self::HEADER + Self::MAX_USER_IDENTITY;

    /// One field, written into `buffer`, that names the worker who found the share. Refuses names
    /// of more than 32 bytes.
    pub fn with_user_identity(
        name: &str,
        buffer: &'a mut [u8; Tlvs::MAX_USER_IDENTITY_FIELD],
    ) -> Result<Self, WireError> {
        let [e0, e1] = WORKER_HASHRATE_TRACKING.to_le_bytes();
        let len = u8::try_from(name.len()).map_err(|_| WireError::TooLong)?;
        let value = buffer[Self::HEADER..].get_mut(..name.len()).ok_or(WireError::TooLong)?;
        value.copy_from_slice(name.as_bytes());
        buffer[..Self::HEADER].copy_from_slice(&[e0, e1, USER_IDENTITY, len, 0]);
        Self::parse(&buffer[..Self::HEADER + name.len()])
    }

    /// Who found the share, if the message says so. It says nothing unless extension 0x0002 was
    /// negotiated.
    #[must_use]
    pub fn user_identity(&self) -> Option<Str255<'a>> {
        self.user_identity
    }

    /// The fields as they came.
    #[must_use]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// A length of 256 or more cannot be right, so bytes that are fields in the one order are
    /// none in the other, but for fields without a value: those are taken for little-endian.
    fn parse(bytes: &'a [u8]) -> Result<Self, WireError> {
        if bytes.len() > Self::MAX_LEN {
            return Err(WireError::TooLong);
        }
        let user_identity = match scan(bytes, u16::from_le_bytes) {
            Err(WireError::Truncated) => scan(bytes, u16::from_be_bytes),
            scanned => scanned,
        }?;
        Ok(Self { bytes, user_identity })
    }
}

impl<'a> Wire<'a> for Tlvs<'a> {
    /// Not from the specification, which sets no limit: no field but `user_identity` can be
    /// negotiated with this crate, so this is twice what an honest client sends, and a share
    /// stays small.
    const MAX_LEN: usize = 64;

    fn read(from: &mut Reader<'a>) -> Result<Self, WireError> {
        from.take(from.rest().len()).and_then(Self::parse)
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.bytes);
    }
}

/// Walks the fields to the last byte, and returns the first user identity.
fn scan(bytes: &[u8], u16_from: fn([u8; 2]) -> u16) -> Result<Option<Str255<'_>>, WireError> {
    let mut reader = Reader::new(bytes);
    let mut user_identity = None;
    while !reader.rest().is_empty() {
        let extension = u16_from(reader.array()?);
        let [field] = reader.array()?;
        let value = usize::from(u16_from(reader.array()?));
        let value = reader.take(value)?;
        if (extension, field) == (WORKER_HASHRATE_TRACKING, USER_IDENTITY) {
            if value.len() > Tlvs::MAX_USER_IDENTITY {
                return Err(WireError::TooLong);
            }
            user_identity = user_identity.or(Some(Str255::from_bytes(value)?));
        }
    }
    Ok(user_identity)
}

#[cfg(test)]
mod tests {
    use super::super::Message;
    use super::super::mining::SubmitSharesExtended;
    use super::*;

    /// The example of §3.4.3.
    const BIG_ENDIAN: &[u8] = b"\x00\x02\x01\x00\x0aWorker_001";
    const LITTLE_ENDIAN: &[u8] = b"\x02\x00\x01\x0a\x00Worker_001";

    fn read(bytes: &[u8]) -> Result<Tlvs<'_>, WireError> {
        Tlvs::read(&mut Reader::new(bytes))
    }

    fn name<'a>(tlvs: &Tlvs<'a>) -> Option<&'a [u8]> {
        tlvs.user_identity().map(|name| name.as_bytes())
    }

    #[test]
    fn both_byte_orders_are_understood() {
        for bytes in [BIG_ENDIAN, LITTLE_ENDIAN] {
            assert_eq!(name(&read(bytes).unwrap()), Some(&b"Worker_001"[..]));
        }
    }

    #[test]
    fn little_endian_is_written() {
        let mut buffer = [0; Tlvs::MAX_USER_IDENTITY_FIELD];
        let tlvs = Tlvs::with_user_identity("Worker_001", &mut buffer).unwrap();
        assert_eq!(tlvs.as_bytes(), LITTLE_ENDIAN);
        assert_eq!(Ok(tlvs), read(LITTLE_ENDIAN));
    }

    #[test]
    fn nothing_is_no_field() {
        assert_eq!(read(b""), Ok(Tlvs::default()));
        assert_eq!(Tlvs::default().user_identity(), None);
    }

    #[test]
    fn other_fields_are_skipped_and_the_first_name_counts() {
        let bytes = [b"\x03\x00\x01\x02\x00xx\x02\x00\x02\x00\x00", LITTLE_ENDIAN].concat();
        assert_eq!(name(&read(&bytes).unwrap()), Some(&b"Worker_001"[..]));
        let bytes = [BIG_ENDIAN, b"\x00\x02\x01\x00\x01x"].concat();
        assert_eq!(name(&read(&bytes).unwrap()), Some(&b"Worker_001"[..]));
    }

    #[test]
    fn names_have_at_most_32_bytes() {
        let mut buffer = [0; Tlvs::MAX_USER_IDENTITY_FIELD];
        let longest = "w".repeat(32);
        let tlvs = Tlvs::with_user_identity(&longest, &mut buffer).unwrap();
        assert_eq!(name(&tlvs), Some(longest.as_bytes()));
        for too_long in [33, 255, 256] {
            let refused = Tlvs::with_user_identity(&"w".repeat(too_long), &mut buffer);
            assert_eq!(refused, Err(WireError::TooLong));
        }
        for header in [b"\x02\x00\x01\x21\x00", b"\x00\x02\x01\x00\x21"] {
            assert_eq!(read(&[&header[..], &[b'w'; 33]].concat()), Err(WireError::TooLong));
        }
    }

    #[test]
    fn anything_but_whole_fields_is_refused() {
        for bytes in [BIG_ENDIAN, LITTLE_ENDIAN] {
            for len in 1..bytes.len() {
                assert_eq!(read(&bytes[..len]), Err(WireError::Truncated));
            }
            for extra in 0..=0xff {
                assert_eq!(read(&[bytes, &[extra]].concat()), Err(WireError::Truncated));
            }
        }
        let field = [&b"\x03\x00\x01\x3b\x00"[..], &[0; 59]].concat();
        assert!(read(&field).is_ok());
        let field = [&b"\x03\x00\x01\x3c\x00"[..], &[0; 60]].concat();
        assert_eq!(read(&field), Err(WireError::TooLong));
    }

    #[test]
    fn a_share_ends_with_its_fields() {
        let share = [&[0; 24], &b"\x02ab"[..]].concat();
        assert_eq!(SubmitSharesExtended::decode(&share).unwrap().tlvs, Tlvs::default());
        for fields in [BIG_ENDIAN, LITTLE_ENDIAN] {
            let share = [&share[..], fields].concat();
            let decoded = SubmitSharesExtended::decode(&share).unwrap();
            assert_eq!(name(&decoded.tlvs), Some(&b"Worker_001"[..]));
            let mut frame = Vec::new();
            decoded.encode(&mut frame).unwrap();
            assert_eq!(frame[6..], share);
        }
    }
}
