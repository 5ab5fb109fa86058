//! Frames out of a byte stream that something else encrypts, such as a QUIC stream (§3.2).

use super::Header;

/// Memory that may be kept for the next frame: a connection may have many streams.
const KEPT: usize = 128;

/// A frame that the receiver does not take: no such message, or not that long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a frame of extension {}, type {:#04x} and {} bytes is not accepted",
    .0.extension, .0.msg_type, .0.payload_len
)]
pub struct RefusedFrame(pub Header);

/// Collects bytes and yields the frames in them.
#[derive(Debug, Default)]
pub struct FrameReader {
    bytes: Vec<u8>,
    /// What comes before this has been used.
    start: usize,
    /// The header whose payload starts at `start`, if it was accepted.
    header: Option<Header>,
}

impl FrameReader {
    /// Takes in what has arrived.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Gives back what is not needed to wait for more. Returns how many bytes are kept: those of a
    /// frame that has not all come.
    pub fn compact(&mut self) -> usize {
        self.bytes.drain(..self.start);
        self.start = 0;
        self.bytes.shrink_to(KEPT);
        self.bytes.len()
    }

    /// Whether there is a whole frame.
    ///
    /// `limit` says how long a payload with such a header may be; it is asked before any of the
    /// payload is awaited.
    pub fn ready<E: From<RefusedFrame>>(
        &mut self,
        limit: impl FnOnce(&Header) -> Result<usize, E>,
    ) -> Result<bool, E> {
        let header = match self.header {
            Some(header) => header,
            None => {
                let Some(header) = self.bytes[self.start..].first_chunk() else { return Ok(false) };
                let header = Header::read(header);
                if header.payload_len > limit(&header)? {
                    return Err(RefusedFrame(header).into());
                }
                self.start += Header::LEN;
                *self.header.insert(header)
            }
        };
        Ok(self.bytes.len() - self.start >= header.payload_len)
    }

    /// The frame that is [`ready`](Self::ready): its header and its payload.
    pub fn take(&mut self) -> Option<(Header, &[u8])> {
        let header = self.header?;
        let payload = self.bytes.get(self.start..self.start + header.payload_len)?;
        self.start += header.payload_len;
        self.header = None;
        Some((header, payload))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(msg_type: u8, payload: &[u8]) -> Vec<u8> {
        let len = payload.len().to_le_bytes();
        [&[0, 0, msg_type], &len[..3], payload].concat()
    }

    fn thousand(_: &Header) -> Result<usize, RefusedFrame> {
        Ok(1000)
    }

    #[test]
    fn frames_come_out_however_the_bytes_arrive() {
        let payloads: Vec<Vec<u8>> = [0, 1, 24, 1000, 0, 7].map(|len| vec![len as u8; len]).to_vec();
        let bytes: Vec<u8> = payloads.iter().flat_map(|payload| frame(0x1a, payload)).collect();
        for step in [1, 2, 5, 6, 7, 30, 1006, bytes.len()] {
            let mut reader = FrameReader::default();
            let mut seen = Vec::new();
            for piece in bytes.chunks(step) {
                reader.extend(piece);
                while reader.ready(thousand).unwrap() {
                    let (header, payload) = reader.take().unwrap();
                    assert_eq!((header.msg_type, header.payload_len), (0x1a, payload.len()));
                    seen.push(payload.to_vec());
                }
                let kept = reader.compact();
                assert!(reader.bytes.capacity() <= KEPT.max(kept), "{}", reader.bytes.capacity());
            }
            assert_eq!(seen, payloads, "in steps of {step}");
            assert_eq!(reader.take(), None);
        }
    }

    #[test]
    fn a_length_over_the_limit_is_refused_from_the_header_alone() {
        let mut reader = FrameReader::default();
        reader.extend(&frame(0x1a, &[0; 1001])[..Header::LEN]);
        let header = Header { extension: 0, msg_type: 0x1a, payload_len: 1001 };
        assert_eq!(reader.ready(thousand), Err(RefusedFrame(header)));
        let none = |header: &Header| Err(RefusedFrame(*header));
        assert_eq!(reader.ready(none), Err(RefusedFrame(header)));
    }
}
