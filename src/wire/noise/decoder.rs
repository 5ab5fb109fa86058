//! From the bytes of a socket to frames.

use super::{NoiseError, Opener, SEALED_HEADER_LEN, ciphertext_len};
use crate::wire::Header;

/// What a read can take at least. A share is 62 bytes, so this is many of them.
const READ_ROOM: usize = 2 * 1024;
/// The most memory that is kept for the next frame; rare longer ones give theirs back.
const KEPT: usize = 64 * 1024;

/// Collects ciphertext and yields the frames in it, decrypted where they lie.
///
/// A wake-up is one read into [`buffer`](Self::buffer), then [`next`](Self::next) until it gives
/// `None`. What is left then, a part of a frame, is moved to the front once, at the next wake-up.
#[derive(Debug)]
pub struct FrameDecoder {
    opener: Opener,
    bytes: Vec<u8>,
    /// What comes before this has been yielded.
    start: usize,
    /// The header whose payload starts at `start`, if that has been opened and accepted.
    header: Option<Header>,
}

impl FrameDecoder {
    /// Starts with the first byte after the handshake.
    #[must_use]
    pub fn new(opener: Opener) -> Self {
        Self { opener, bytes: Vec::new(), start: 0, header: None }
    }

    /// Where received bytes are to be appended. It has room, and grows no faster than bytes
    /// arrive: what a header announces is not allocated in advance.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        self.bytes.drain(..self.start);
        self.start = 0;
        if self.bytes.is_empty() {
            self.bytes.shrink_to(KEPT);
        }
        self.bytes.reserve(READ_ROOM);
        &mut self.bytes
    }

    /// The next whole frame's header and payload.
    ///
    /// `limit` says how long a payload with such a header may be, or `None` if there must not be
    /// one; it is asked once a frame, before anything of the payload is looked at. After an
    /// error nothing more is yielded.
    pub fn next(
        &mut self,
        limit: impl FnOnce(&Header) -> Option<usize>,
    ) -> Result<Option<(Header, &[u8])>, NoiseError> {
        self.opener.usable()?;
        let header = match self.header {
            Some(header) => header,
            None => match self.open_header(limit)? {
                Some(header) => header,
                None => return Ok(None),
            },
        };
        let len = ciphertext_len(header.payload_len);
        let Some(sealed) = self.bytes[self.start..].get_mut(..len) else {
            return Ok(None);
        };
        self.start += len;
        self.header = None;
        Ok(Some((header, self.opener.open_payload(sealed)?)))
    }

    fn open_header(
        &mut self,
        limit: impl FnOnce(&Header) -> Option<usize>,
    ) -> Result<Option<Header>, NoiseError> {
        let Some(sealed) = self.bytes[self.start..].first_chunk_mut() else {
            return Ok(None);
        };
        let header = self.opener.open_header(sealed)?;
        if limit(&header).is_none_or(|limit| header.payload_len > limit) {
            self.opener.spend();
            return Err(NoiseError::Refused(header));
        }
        self.start += SEALED_HEADER_LEN;
        self.header = Some(header);
        Ok(self.header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::noise::Sealer;

    const ANY: fn(&Header) -> Option<usize> = |_| Some(Header::MAX_PAYLOAD);

    fn frame(msg_type: u8, payload: &[u8]) -> Vec<u8> {
        let len = payload.len().to_le_bytes();
        [&[0, 0, msg_type], &len[..3], payload].concat()
    }

    fn pair() -> (Sealer, FrameDecoder) {
        (Sealer::new(&[3; 32]), FrameDecoder::new(Opener::new(&[3; 32])))
    }

    #[test]
    fn a_length_over_the_limit_is_refused_from_the_header_alone() {
        for (limit, accepted) in [(Some(1000), true), (Some(999), false), (None, false)] {
            let (mut sealer, mut decoder) = pair();
            let mut sealed = Vec::new();
            sealer.seal_frame(&frame(0x15, &[1; 1000]), &mut sealed).unwrap();
            decoder.buffer().extend_from_slice(&sealed[..SEALED_HEADER_LEN]);
            let header = Header { extension: 0, msg_type: 0x15, payload_len: 1000 };
            if accepted {
                assert_eq!(decoder.next(|_| limit), Ok(None));
                decoder.buffer().extend_from_slice(&sealed[SEALED_HEADER_LEN..]);
                assert_eq!(decoder.next(|_| panic!("asked twice")), Ok(Some((header, &[1; 1000][..]))));
            } else {
                assert_eq!(decoder.next(|_| limit), Err(NoiseError::Refused(header)));
                decoder.buffer().extend_from_slice(&sealed[SEALED_HEADER_LEN..]);
                assert_eq!(decoder.next(ANY), Err(NoiseError::Spent));
            }
        }
    }

    #[test]
    fn an_announcement_allocates_nothing() {
        let (mut sealer, mut decoder) = pair();
        let mut sealed = Vec::new();
        sealer.seal_frame(&frame(0x60, &vec![0; Header::MAX_PAYLOAD]), &mut sealed).unwrap();
        decoder.buffer().extend_from_slice(&sealed[..SEALED_HEADER_LEN]);
        assert_eq!(decoder.next(ANY), Ok(None));
        assert!(decoder.buffer().capacity() <= 4 * READ_ROOM);
    }

    #[test]
    fn a_long_frame_gives_its_memory_back() {
        let (mut sealer, mut decoder) = pair();
        let long = vec![7; 1_000_000];
        sealer.seal_frame(&frame(0x60, &long), decoder.buffer()).unwrap();
        assert_eq!(decoder.next(ANY).unwrap().unwrap().1, long);
        assert!(decoder.buffer().capacity() <= KEPT);
    }

    #[test]
    fn a_payload_that_does_not_decrypt_ends_it() {
        let (mut sealer, mut decoder) = pair();
        sealer.seal_frame(&frame(0x1a, &[1; 24]), decoder.buffer()).unwrap();
        *decoder.bytes.last_mut().unwrap() ^= 1;
        assert_eq!(decoder.next(ANY), Err(NoiseError::Decrypt));
        assert_eq!(decoder.next(ANY), Err(NoiseError::Spent));
        sealer.seal_frame(&frame(0x1a, &[1; 24]), decoder.buffer()).unwrap();
        assert_eq!(decoder.next(ANY), Err(NoiseError::Spent));
    }
}
