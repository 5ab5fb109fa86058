//! The encoding of messages: bincode 1.3 with its defaults.
//!
//! Integers have their full length and are little-endian. A variant of an enum is a u32, then its fields. A
//! list or a text is a u64, its length, then what is in it. An optional value is a byte, 0 or 1, then
//! the value if it is there. The fields of a structure follow each other, and nothing is in between.

/// Why bytes are not what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Bytes are missing.
    #[error("it ends too early")]
    Truncated,
    /// A list is said to be longer than what is left could hold.
    #[error("a length of {0} in it is more than what follows")]
    Length(u64),
    /// What is true or false, or there or not, is neither.
    #[error("a byte in it that should be 0 or 1 is {0}")]
    Flag(u8),
    /// A text is none.
    #[error("a text in it is not UTF-8")]
    Text,
}

/// A cursor over the bytes of one message.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    /// The length of a list whose items take `each` bytes or more: no more than there is room for.
    fn len(&mut self, each: usize) -> Result<usize, Malformed> {
        let len = u64::read(self)?;
        let room = self.rest.len() / each;
        usize::try_from(len).ok().filter(|len| *len <= room).ok_or(Malformed::Length(len))
    }
}

/// A value that messages are made of.
pub(super) trait Bincode: Sized {
    /// The fewest bytes that a value takes.
    const MIN_LEN: usize;

    /// Reads one value.
    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed>;

    /// Appends the value to `out`.
    fn write(&self, out: &mut Vec<u8>);
}

macro_rules! integers {
    ($($int:ty),*) => {$(
        impl Bincode for $int {
            const MIN_LEN: usize = size_of::<$int>();

            fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
                from.array().map(<$int>::from_le_bytes)
            }

            fn write(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
        }
    )*};
}

integers!(u8, u32, u64, i32, f64);

impl Bincode for bool {
    const MIN_LEN: usize = 1;

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        match u8::read(from)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(Malformed::Flag(other)),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
}

/// A hash: an array has no length in front.
impl Bincode for [u8; 32] {
    const MIN_LEN: usize = 32;

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        from.array()
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
}

impl<T: Bincode> Bincode for Option<T> {
    const MIN_LEN: usize = 1;

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        bool::read(from)?.then(|| T::read(from)).transpose()
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.is_some().write(out);
        if let Some(value) = self {
            value.write(out);
        }
    }
}

impl<T: Bincode> Bincode for Vec<T> {
    const MIN_LEN: usize = 8;

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let len = from.len(T::MIN_LEN)?;
        let mut items = Vec::with_capacity(len);
        for _ in 0..len {
            items.push(T::read(from)?);
        }
        Ok(items)
    }

    fn write(&self, out: &mut Vec<u8>) {
        (self.len() as u64).write(out);
        for item in self {
            item.write(out);
        }
    }
}

impl Bincode for String {
    const MIN_LEN: usize = 8;

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        String::from_utf8(Vec::read(from)?).map_err(|_| Malformed::Text)
    }

    fn write(&self, out: &mut Vec<u8>) {
        (self.len() as u64).write(out);
        out.extend_from_slice(self.as_bytes());
    }
}

/// Appends values to `out`, in this order.
macro_rules! put {
    ($out:expr, $($value:expr),+ $(,)?) => {{
        let out: &mut Vec<u8> = $out;
        $($crate::module::ipc::bincode::Bincode::write($value, out);)+
    }};
}

/// Declares structures whose fields are on the wire in the order in which they are here.
macro_rules! records {
    ($(
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $($(#[$field_meta:meta])* $field_vis:vis $field:ident: $type:ty,)+
        }
    )+) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        $vis struct $name {
            $($(#[$field_meta])* $field_vis $field: $type,)+
        }

        impl $crate::module::ipc::bincode::Bincode for $name {
            const MIN_LEN: usize = 0 $(+ <$type as $crate::module::ipc::bincode::Bincode>::MIN_LEN)+;

            fn read(
                from: &mut $crate::module::ipc::bincode::Reader<'_>,
            ) -> Result<Self, $crate::module::ipc::bincode::Malformed> {
                Ok(Self { $($field: $crate::module::ipc::bincode::Bincode::read(from)?,)+ })
            }

            fn write(&self, out: &mut Vec<u8>) {
                $crate::module::ipc::bincode::put!(out, $(&self.$field),+);
            }
        }
    )+};
}

pub(super) use {put, records};

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use proptest::prelude::*;

    use super::*;

    records! {
        struct Record {
            number: u32,
            text: Option<String>,
            list: Vec<String>,
        }
    }

    /// What is written is read again, with nothing left, and no part of it is a value.
    fn symmetric<T: Bincode + PartialEq + Debug>(value: &T) {
        let mut bytes = Vec::new();
        value.write(&mut bytes);
        assert!(bytes.len() >= T::MIN_LEN);
        let mut reader = Reader::new(&bytes);
        assert_eq!(T::read(&mut reader).as_ref(), Ok(value));
        assert!(reader.rest.is_empty());
        for len in 0..bytes.len() {
            let cut = T::read(&mut Reader::new(&bytes[..len]));
            assert!(matches!(cut, Err(Malformed::Truncated | Malformed::Length(_))), "{cut:?}");
        }
    }

    proptest! {
        #[test]
        fn all_that_is_written_is_read(
            numbers: (u8, u32, u64, i32, bool),
            hash: [u8; 32],
            bytes: Option<Vec<u8>>,
            number: u32, text: Option<String>, list in prop::collection::vec(".{0,3}", 0..3),
        ) {
            symmetric(&numbers.0);
            symmetric(&numbers.1);
            symmetric(&numbers.2);
            symmetric(&numbers.3);
            symmetric(&numbers.4);
            symmetric(&hash);
            symmetric(&bytes);
            symmetric(&Record { number, text, list });
        }
    }

    #[test]
    fn the_bytes_are_those_of_bincode() {
        let mut out = Vec::new();
        put!(&mut out, &1u32, &2u64, &-1i32, &true, &Some(3u8), &None::<u8>, &"ab".to_owned(), &vec![4u8]);
        let expected = [
            &[1, 0, 0, 0][..],
            &[2, 0, 0, 0, 0, 0, 0, 0],
            &[255, 255, 255, 255],
            &[1],
            &[1, 3],
            &[0],
            &[2, 0, 0, 0, 0, 0, 0, 0, b'a', b'b'],
            &[1, 0, 0, 0, 0, 0, 0, 0, 4],
        ];
        assert_eq!(out, expected.concat());
    }

    #[test]
    fn nonsense_is_named() {
        assert_eq!(bool::read(&mut Reader::new(&[2])), Err(Malformed::Flag(2)));
        assert_eq!(Option::<u8>::read(&mut Reader::new(&[9, 1])), Err(Malformed::Flag(9)));
        let text = [1, 0, 0, 0, 0, 0, 0, 0, 0xff];
        assert_eq!(String::read(&mut Reader::new(&text)), Err(Malformed::Text));
    }

    #[test]
    fn a_length_is_checked_before_anything_is_allocated() {
        for len in [u64::MAX, u64::MAX / 8, 1 << 40, 17] {
            let bytes = [&len.to_le_bytes()[..], &[0; 16]].concat();
            assert_eq!(Vec::<u8>::read(&mut Reader::new(&bytes)), Err(Malformed::Length(len)));
            assert_eq!(String::read(&mut Reader::new(&bytes)), Err(Malformed::Length(len)));
        }
        // each text takes 8 bytes for its length
        let bytes = [&3u64.to_le_bytes()[..], &[0; 16]].concat();
        assert_eq!(Vec::<String>::read(&mut Reader::new(&bytes)), Err(Malformed::Length(3)));
    }
}
