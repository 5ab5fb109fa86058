//! Encrypted frames (§4.6).

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use super::NoiseError;
use crate::wire::Header;

/// The length of an authentication tag.
pub(super) const TAG_LEN: usize = 16;
/// The length of an encrypted header.
pub const SEALED_HEADER_LEN: usize = Header::LEN + TAG_LEN;
/// The longest ciphertext of one Noise message.
const MAX_CIPHERTEXT: usize = 65_535;
/// The longest plaintext of one Noise message.
const MAX_PLAINTEXT: usize = MAX_CIPHERTEXT - TAG_LEN;

/// The bytes that a payload takes once encrypted: a tag for each block, none for no payload.
#[must_use]
pub const fn ciphertext_len(plaintext_len: usize) -> usize {
    plaintext_len + plaintext_len.div_ceil(MAX_PLAINTEXT) * TAG_LEN
}

/// An AEAD key. ring does not erase it on drop.
pub(super) fn aead(key: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key).expect("ChaCha20 keys are 32 bytes"))
}

/// §4.3.3: 32 zero bits, then the counter, little-endian.
pub(super) fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&counter.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

/// CipherState (§4.4.1) without associated data. Once spent, it stays so.
#[derive(Debug)]
struct Cipher {
    key: LessSafeKey,
    /// The next nonce; the last value of all is never used and means spent.
    counter: u64,
}

impl Cipher {
    fn new(key: &[u8; 32]) -> Self {
        Self { key: aead(key), counter: 0 }
    }

    fn usable(&self) -> Result<(), NoiseError> {
        if self.counter == u64::MAX { Err(NoiseError::Spent) } else { Ok(()) }
    }

    fn next_nonce(&mut self) -> Result<Nonce, NoiseError> {
        self.usable()?;
        self.counter += 1;
        Ok(nonce(self.counter - 1))
    }

    fn spend(&mut self) {
        self.counter = u64::MAX;
    }
}

/// The sending direction of a connection.
#[derive(Debug)]
pub struct Sealer(Cipher);

impl Sealer {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        Self(Cipher::new(key))
    }

    /// Appends `frame`, one header and its payload, to `out`, encrypted. After an error `out`
    /// is as it was, and nothing more can be sealed.
    pub fn seal_frame(&mut self, frame: &[u8], out: &mut Vec<u8>) -> Result<(), NoiseError> {
        let start = out.len();
        self.try_seal(frame, out).inspect_err(|_| {
            self.0.spend();
            out.truncate(start);
        })
    }

    fn try_seal(&mut self, frame: &[u8], out: &mut Vec<u8>) -> Result<(), NoiseError> {
        let (header, payload) = frame.split_first_chunk().ok_or(NoiseError::NotAFrame)?;
        if Header::read(header).payload_len != payload.len() {
            return Err(NoiseError::NotAFrame);
        }
        out.reserve(SEALED_HEADER_LEN + ciphertext_len(payload.len()));
        self.seal(header, out)?;
        payload.chunks(MAX_PLAINTEXT).try_for_each(|block| self.seal(block, out))
    }

    /// EncryptWithAd
    fn seal(&mut self, plaintext: &[u8], out: &mut Vec<u8>) -> Result<(), NoiseError> {
        let nonce = self.0.next_nonce()?;
        let start = out.len();
        out.extend_from_slice(plaintext);
        let tag = self
            .0
            .key
            .seal_in_place_separate_tag(nonce, Aad::empty(), &mut out[start..])
            .expect("a block is far below the cipher's limit");
        out.extend_from_slice(tag.as_ref());
        Ok(())
    }
}

/// The receiving direction of a connection.
#[derive(Debug)]
pub struct Opener(Cipher);

impl Opener {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        Self(Cipher::new(key))
    }

    /// Decrypts a header in place. After an error nothing more can be opened.
    pub fn open_header(&mut self, sealed: &mut [u8; SEALED_HEADER_LEN]) -> Result<Header, NoiseError> {
        self.open(sealed, 0)?;
        let (header, _) = sealed.split_first_chunk().expect("the header comes before its tag");
        Ok(Header::read(header))
    }

    /// Decrypts a whole payload of [`ciphertext_len`] bytes in place and returns its plaintext,
    /// whose blocks are moved together. After an error nothing more can be opened.
    pub fn open_payload<'a>(&mut self, sealed: &'a mut [u8]) -> Result<&'a mut [u8], NoiseError> {
        let (mut read, mut written) = (0, 0);
        while read < sealed.len() {
            let end = sealed.len().min(read + MAX_CIPHERTEXT);
            written += self.open(&mut sealed[written..end], read - written)?;
            read = end;
        }
        Ok(&mut sealed[..written])
    }

    /// Whether anything more can be opened.
    pub(super) fn usable(&self) -> Result<(), NoiseError> {
        self.0.usable()
    }

    /// Ends this direction: nothing more can be opened.
    pub(super) fn spend(&mut self) {
        self.0.spend();
    }

    /// DecryptWithAd, of what starts at `from`, to the front of `bytes`. Returns how much.
    fn open(&mut self, bytes: &mut [u8], from: usize) -> Result<usize, NoiseError> {
        let nonce = self.0.next_nonce()?;
        match self.0.key.open_within(nonce, Aad::empty(), bytes, from..) {
            Ok(plaintext) => Ok(plaintext.len()),
            Err(_) => {
                self.spend();
                Err(NoiseError::Decrypt)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(payload_len: usize) -> Vec<u8> {
        let mut frame = vec![0, 0, 0x1a];
        frame.extend_from_slice(&payload_len.to_le_bytes()[..3]);
        frame.extend((0..payload_len).map(|i| (i / 251) as u8 ^ i as u8));
        frame
    }

    fn pair() -> (Sealer, Opener) {
        (Sealer::new(&[9; 32]), Opener::new(&[9; 32]))
    }

    #[test]
    fn lengths_of_the_specification() {
        // pt_len_to_ct_len of §4.6
        let specified = |len: usize| {
            let rest = len % MAX_PLAINTEXT;
            len / MAX_PLAINTEXT * MAX_CIPHERTEXT + if rest > 0 { rest + TAG_LEN } else { 0 }
        };
        for len in [0, 1, 65_518, 65_519, 65_520, 131_038, 131_039, Header::MAX_PAYLOAD] {
            assert_eq!(ciphertext_len(len), specified(len));
        }
    }

    #[test]
    fn what_is_sealed_opens() {
        let (mut sealer, mut opener) = pair();
        for len in [0, 1, 24, 65_518, 65_519, 65_520, 131_038, 200_000] {
            let frame = frame(len);
            let mut out = vec![0xee];
            sealer.seal_frame(&frame, &mut out).unwrap();
            let (header, payload) = out[1..].split_first_chunk_mut().unwrap();
            assert_eq!(payload.len(), ciphertext_len(len));
            assert_eq!(opener.open_header(header).unwrap().payload_len, len);
            assert_eq!(opener.open_payload(payload).unwrap(), &frame[6..]);
        }
    }

    #[test]
    fn a_frame_and_nothing_else_is_sealed() {
        let whole = frame(3);
        for bytes in [&whole[..8], &whole[..5], &[], &[&whole[..], &[0]].concat()] {
            let (mut sealer, _) = pair();
            let mut out = vec![1, 2];
            assert_eq!(sealer.seal_frame(bytes, &mut out), Err(NoiseError::NotAFrame));
            assert_eq!(sealer.seal_frame(&whole, &mut out), Err(NoiseError::Spent));
            assert_eq!(out, [1, 2]);
        }
    }

    #[test]
    fn an_error_is_final() {
        let (mut sealer, mut opener) = pair();
        let mut out = Vec::new();
        sealer.seal_frame(&frame(0), &mut out).unwrap();
        let good: [u8; SEALED_HEADER_LEN] = out[..].try_into().unwrap();
        let mut bad = good;
        bad[21] ^= 0x80;
        assert_eq!(opener.open_header(&mut bad), Err(NoiseError::Decrypt));
        assert_eq!(opener.open_header(&mut good.clone()), Err(NoiseError::Spent));
        assert_eq!(opener.open_payload(&mut [0; 20]), Err(NoiseError::Spent));
    }

    #[test]
    fn ciphertext_without_room_for_a_tag_does_not_decrypt() {
        for len in [1, 15, 16, 65_535 + 15] {
            let (_, mut opener) = pair();
            assert_eq!(opener.open_payload(&mut vec![0; len]), Err(NoiseError::Decrypt));
        }
    }

    #[test]
    fn nonces_end_and_do_not_wrap() {
        let (mut sealer, mut opener) = pair();
        sealer.0.counter = u64::MAX - 3;
        opener.0.counter = u64::MAX - 3;
        let frame = frame(1);
        let mut out = Vec::new();
        sealer.seal_frame(&frame, &mut out).unwrap();
        let sealed = out.clone();
        // The header would take the last nonce, the payload finds none.
        assert_eq!(sealer.seal_frame(&frame, &mut out), Err(NoiseError::Spent));
        assert_eq!(out, sealed);
        let (header, payload) = out.split_first_chunk_mut().unwrap();
        opener.open_header(header).unwrap();
        assert_eq!(opener.open_payload(payload).unwrap(), &frame[6..]);
        assert_eq!(opener.0.counter, u64::MAX - 1);
        opener.spend();
        assert_eq!(opener.open_header(&mut [0; SEALED_HEADER_LEN]), Err(NoiseError::Spent));
    }

    #[test]
    fn keys_are_not_printed() {
        let (sealer, opener) = pair();
        let printed = format!("{sealer:?} {opener:?}");
        assert!(!printed.contains("9, 9") && !printed.contains("0909"), "{printed}");
    }
}
