//! The data types of §3.1: total and symmetric.
//!
//! [`Wire::read`] borrows from the bytes it is given and copies nothing that has a length;
//! [`Wire::write`] appends to a caller's buffer. What can be constructed can be written: every
//! type that has a length limit enforces it when it is made.

use std::cmp::Ordering;
use std::fmt;

use super::WireError;

/// A cursor over the bytes of one payload.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the first byte of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read yet.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next `len` bytes.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], WireError> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(*head)
    }
}

/// A value with a wire representation (§3.1).
pub trait Wire<'a>: Sized {
    /// The most bytes that a value can take; `usize::MAX` if that is more than a `usize` holds.
    const MAX_LEN: usize;

    /// Reads one value from the front of `from`.
    fn read(from: &mut Reader<'a>) -> Result<Self, WireError>;

    /// Appends the value to `out`.
    fn write(&self, out: &mut Vec<u8>);
}

macro_rules! integers {
    ($($int:ty),*) => {$(
        impl Wire<'_> for $int {
            const MAX_LEN: usize = size_of::<$int>();

            fn read(from: &mut Reader<'_>) -> Result<Self, WireError> {
                from.array().map(<$int>::from_le_bytes)
            }

            fn write(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
        }
    )*};
}

integers!(u8, u16, u32, u64, f32);

/// BOOL: only the lowest bit counts, the others are reserved and written as zero.
impl Wire<'_> for bool {
    const MAX_LEN: usize = 1;

    fn read(from: &mut Reader<'_>) -> Result<Self, WireError> {
        u8::read(from).map(|byte| byte & 1 == 1)
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
}

/// U256: 32 bytes, little-endian, as SHA-256 puts them out. Ordered as the number that it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct U256(pub [u8; 32]);

impl Wire<'_> for U256 {
    const MAX_LEN: usize = 32;

    fn read(from: &mut Reader<'_>) -> Result<Self, WireError> {
        from.array().map(U256)
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
}

impl Ord for U256 {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.iter().rev().cmp(other.0.iter().rev())
    }
}

impl PartialOrd for U256 {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Big-endian hex, as block hashes and targets are commonly printed.
impl fmt::Debug for U256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().rev().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The length prefix of a value of at most `max` bytes or elements.
const fn prefix_len(max: usize) -> usize {
    match max {
        0..=0xff => 1,
        0x100..=0xffff => 2,
        _ => 3,
    }
}

fn read_len(from: &mut Reader<'_>, max: usize) -> Result<usize, WireError> {
    let prefix = from.take(prefix_len(max))?;
    let len = prefix.iter().rev().fold(0, |len, byte| len << 8 | usize::from(*byte));
    if len > max { Err(WireError::TooLong) } else { Ok(len) }
}

fn write_len(len: usize, max: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&len.to_le_bytes()[..prefix_len(max)]);
}

/// A byte string of at most `MAX` bytes behind a length of one, two or three bytes: B0_32,
/// B0_255, B0_64K, B0_16M.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Bytes<'a, const MAX: usize>(&'a [u8]);

/// B0_32
pub type B032<'a> = Bytes<'a, 32>;
/// B0_255
pub type B0255<'a> = Bytes<'a, 0xff>;
/// B0_64K
pub type B064K<'a> = Bytes<'a, 0xffff>;
/// B0_16M
pub type B016M<'a> = Bytes<'a, 0xff_ffff>;

impl<'a, const MAX: usize> Bytes<'a, MAX> {
    /// Refuses what is longer than `MAX`.
    pub fn new(bytes: &'a [u8]) -> Result<Self, WireError> {
        if bytes.len() > MAX { Err(WireError::TooLong) } else { Ok(Self(bytes)) }
    }

    /// Takes an array, whose length is checked when this is compiled.
    #[must_use]
    pub fn of<const N: usize>(bytes: &'a [u8; N]) -> Self {
        const { assert!(N <= MAX) };
        Self(bytes)
    }

    /// The bytes, without their length.
    #[must_use]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.0
    }
}

impl<'a, const MAX: usize> Wire<'a> for Bytes<'a, MAX> {
    const MAX_LEN: usize = prefix_len(MAX) + MAX;

    fn read(from: &mut Reader<'a>) -> Result<Self, WireError> {
        let len = read_len(from, MAX)?;
        from.take(len).map(Self)
    }

    fn write(&self, out: &mut Vec<u8>) {
        write_len(self.0.len(), MAX, out);
        out.extend_from_slice(self.0);
    }
}

impl<const MAX: usize> fmt::Debug for Bytes<'_, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// STR0_255. The specification asks for printable text but lets a peer send any bytes, so they
/// are kept as they came.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Str255<'a>(&'a [u8]);

impl<'a> Str255<'a> {
    /// Refuses what is longer than 255 bytes.
    pub fn new(text: &'a str) -> Result<Self, WireError> {
        Self::from_bytes(text.as_bytes())
    }

    /// Refuses what is longer than 255 bytes, but not what is not UTF-8.
    pub fn from_bytes(bytes: &'a [u8]) -> Result<Self, WireError> {
        B0255::new(bytes).map(|bytes| Self(bytes.0))
    }

    /// As much of `text` as fits.
    #[must_use]
    pub fn truncated(text: &'a str) -> Self {
        let mut fitting = (0..=text.len().min(0xff)).rev();
        let end = fitting.find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        Self(&text.as_bytes()[..end])
    }

    /// The bytes as they came.
    #[must_use]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.0
    }

    /// The text, if it is UTF-8.
    #[must_use]
    pub fn as_str(&self) -> Option<&'a str> {
        std::str::from_utf8(self.0).ok()
    }
}

impl<'a> Wire<'a> for Str255<'a> {
    const MAX_LEN: usize = B0255::MAX_LEN;

    fn read(from: &mut Reader<'a>) -> Result<Self, WireError> {
        B0255::read(from).map(|bytes| Self(bytes.0))
    }

    fn write(&self, out: &mut Vec<u8>) {
        Bytes::<0xff>(self.0).write(out);
    }
}

/// Escaped, so that a peer's text cannot forge a log line.
impl fmt::Debug for Str255<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

/// Escaped like its `Debug`, without the quotes.
impl fmt::Display for Str255<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

/// `OPTION[T]`
impl<'a, T: Wire<'a>> Wire<'a> for Option<T> {
    const MAX_LEN: usize = 1 + T::MAX_LEN;

    fn read(from: &mut Reader<'a>) -> Result<Self, WireError> {
        match u8::read(from)? {
            0 => Ok(None),
            1 => T::read(from).map(Some),
            _ => Err(WireError::TooLong),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.is_some()));
        if let Some(value) = self {
            value.write(out);
        }
    }
}

/// A sequence of at most `MAX` elements: SEQ0_255 and SEQ0_64K.
///
/// Either a slice to be written, or the checked bytes of a received one, decoded as it is
/// iterated; neither costs an allocation.
#[derive(Clone, Copy)]
pub struct Seq<'a, T, const MAX: usize>(Elements<'a, T>);

#[derive(Clone, Copy)]
enum Elements<'a, T> {
    Slice(&'a [T]),
    Encoded { count: usize, bytes: &'a [u8] },
}

/// `SEQ0_255[T]`
pub type Seq255<'a, T> = Seq<'a, T, 0xff>;
/// `SEQ0_64K[T]`
pub type Seq64K<'a, T> = Seq<'a, T, 0xffff>;

impl<'a, T: Wire<'a> + Clone, const MAX: usize> Seq<'a, T, MAX> {
    /// Refuses more than `MAX` elements.
    pub fn new(elements: &'a [T]) -> Result<Self, WireError> {
        if elements.len() > MAX {
            return Err(WireError::TooLong);
        }
        Ok(Self(Elements::Slice(elements)))
    }

    /// Takes an array, whose length is checked when this is compiled.
    #[must_use]
    pub fn of<const N: usize>(elements: &'a [T; N]) -> Self {
        const { assert!(N <= MAX) };
        Self(Elements::Slice(elements))
    }

    /// How many elements there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self.0 {
            Elements::Slice(elements) => elements.len(),
            Elements::Encoded { count, .. } => count,
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements in order.
    pub fn iter(&self) -> impl Iterator<Item = T> + use<'a, T, MAX> {
        let (slice, mut encoded) = match self.0 {
            Elements::Slice(elements) => (elements, Reader::new(&[])),
            Elements::Encoded { bytes, .. } => (&[][..], Reader::new(bytes)),
        };
        let mut slice = slice.iter();
        // `read` checked the bytes, so the decoder stops exactly at their end
        std::iter::from_fn(move || slice.next().cloned().or_else(|| T::read(&mut encoded).ok()))
    }
}

impl<T, const MAX: usize> Default for Seq<'_, T, MAX> {
    fn default() -> Self {
        Self(Elements::Slice(&[]))
    }
}

impl<'a, T: Wire<'a> + Clone, const MAX: usize> Wire<'a> for Seq<'a, T, MAX> {
    const MAX_LEN: usize = MAX.saturating_mul(T::MAX_LEN).saturating_add(prefix_len(MAX));

    fn read(from: &mut Reader<'a>) -> Result<Self, WireError> {
        let count = read_len(from, MAX)?;
        let start = from.rest();
        for _ in 0..count {
            T::read(from)?;
        }
        let bytes = &start[..start.len() - from.rest().len()];
        Ok(Self(Elements::Encoded { count, bytes }))
    }

    fn write(&self, out: &mut Vec<u8>) {
        write_len(self.len(), MAX, out);
        match self.0 {
            Elements::Slice(elements) => elements.iter().for_each(|element| element.write(out)),
            Elements::Encoded { bytes, .. } => out.extend_from_slice(bytes),
        }
    }
}

impl<'a, T: Wire<'a> + Clone + PartialEq, const MAX: usize> PartialEq for Seq<'a, T, MAX> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl<'a, T: Wire<'a> + Clone + fmt::Debug, const MAX: usize> fmt::Debug for Seq<'a, T, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded<'a>(value: &impl Wire<'a>) -> Vec<u8> {
        let mut out = Vec::new();
        value.write(&mut out);
        out
    }

    fn read<'a, T: Wire<'a>>(bytes: &'a [u8]) -> Result<T, WireError> {
        T::read(&mut Reader::new(bytes))
    }

    #[test]
    fn only_the_lowest_bit_of_a_bool_counts() {
        assert_eq!(
            [0x00, 0xfe, 0x01, 0xff].map(|byte| read(&[byte])),
            [Ok(false), Ok(false), Ok(true), Ok(true)]
        );
        assert_eq!((encoded(&false), encoded(&true)), (vec![0], vec![1]));
    }

    #[test]
    fn an_option_has_one_element_at_most() {
        assert_eq!(read(&[0]), Ok(None::<u16>));
        assert_eq!(read(&[1, 2, 3]), Ok(Some(0x0302_u16)));
        assert_eq!(read::<Option<u16>>(&[2, 0, 0, 0, 0]), Err(WireError::TooLong));
    }

    #[test]
    fn hashes_are_ordered_as_numbers() {
        let [mut low, mut high] = [[0; 32]; 2];
        (low[0], high[31]) = (0xff, 0x01);
        assert!(U256(low) < U256(high));
        assert_eq!(format!("{:?}", U256(high)), format!("01{}", "00".repeat(31)));
    }

    #[test]
    fn lengths_have_one_two_or_three_bytes() {
        assert_eq!(encoded(&B032::new(&[7]).unwrap()), [1, 7]);
        assert_eq!(encoded(&B064K::new(&[7]).unwrap()), [1, 0, 7]);
        assert_eq!(encoded(&B016M::new(&[7]).unwrap()), [1, 0, 0, 7]);
        let long = [7; 0x1_0000];
        assert_eq!(encoded(&B016M::new(&long).unwrap())[..4], [0, 0, 1, 7]);
        assert_eq!(read::<B016M<'_>>(&[0, 0, 1, 7]), Err(WireError::Truncated));
    }

    #[test]
    fn nothing_is_made_or_read_beyond_its_limit() {
        let long = [33; 0x1_0000];
        assert_eq!(B032::new(&long[..33]), Err(WireError::TooLong));
        assert_eq!(B0255::new(&long[..256]), Err(WireError::TooLong));
        assert_eq!(B064K::new(&long), Err(WireError::TooLong));
        assert_eq!(Seq255::new(&long[..256]), Err(WireError::TooLong));
        assert_eq!(Seq64K::new(&long), Err(WireError::TooLong));
        assert_eq!(Str255::from_bytes(&long[..256]), Err(WireError::TooLong));
        assert_eq!(read::<B032<'_>>(&long), Err(WireError::TooLong));
    }

    #[test]
    fn text_is_cut_at_a_character_and_printed_on_one_line() {
        let long = "ä".repeat(200);
        assert_eq!(Str255::truncated(&long).as_str(), Some("ä".repeat(127).as_str()));
        let forged = Str255::from_bytes(b"a\n\xff").unwrap();
        assert_eq!((forged.to_string(), forged.as_str()), (r"a\n\xff".into(), None));
    }

    #[test]
    fn a_sequence_is_the_same_from_a_slice_and_from_bytes() {
        let texts = ["", "a", "bc"].map(|text| Str255::new(text).unwrap());
        let from_slice = Seq64K::new(&texts).unwrap();
        let bytes = encoded(&from_slice);
        assert_eq!(bytes, b"\x03\x00\x00\x01a\x02bc");
        let from_bytes: Seq64K<'_, Str255<'_>> = read(&bytes).unwrap();
        assert_eq!(from_bytes, from_slice);
        assert!(from_bytes.iter().eq(texts));
        assert_eq!(encoded(&from_bytes), bytes);
        assert_eq!(read::<Seq64K<'_, Str255<'_>>>(&bytes[..6]), Err(WireError::Truncated));
    }
}
