//! An encrypted TCP connection: all lanes on one pipe.

use std::io::{self, ErrorKind};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Arrived, Ending, Link, LinkError};
use crate::session::Lane;
use crate::wire::Header;
use crate::wire::noise::{FrameDecoder, Opener, Sealer};

/// A peer that has gone without a word is noticed within some two minutes.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(60))
    .with_interval(Duration::from_secs(15))
    .with_retries(4);

/// How long a last message may take to be sent, and a peer to hang up after it.
const LINGER: Duration = Duration::from_secs(1);
/// An empty buffer larger than this is given back.
const KEPT: usize = 4 * 1024;

/// One read and one write per wake-up; frames are decrypted and encrypted in their buffers.
#[derive(Debug)]
pub(super) struct Pipe {
    stream: TcpStream,
    decoder: FrameDecoder,
    sealer: Sealer,
    limit: fn(&Header) -> Option<usize>,
    unsent: Unsent,
    /// The peer has gone and hears nothing any more; but what it sent before may still be there.
    deaf: bool,
}

impl Pipe {
    /// `limit` is the longest payload to accept behind a header.
    pub(super) fn new(
        stream: TcpStream,
        (sealer, opener): (Sealer, Opener),
        limit: fn(&Header) -> Option<usize>,
    ) -> Self {
        let decoder = FrameDecoder::new(opener);
        Self { stream, decoder, sealer, limit, unsent: Unsent::default(), deaf: false }
    }

    fn read(&mut self) -> Result<(), LinkError> {
        match self.stream.try_read_buf(self.decoder.buffer()) {
            Ok(0) => Err(LinkError::Closed),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(ended(error)),
        }
    }
}

impl Link for Pipe {
    fn next_arrived(&mut self) -> Result<Option<Arrived<'_>>, LinkError> {
        let frame = self.decoder.next(self.limit)?;
        Ok(frame.map(|(header, payload)| Arrived::Frame(Lane::Control, header, payload)))
    }

    fn send(&mut self, _: Lane, frame: &[u8]) -> Result<(), LinkError> {
        if self.deaf {
            return Ok(());
        }
        Ok(self.sealer.seal_frame(frame, &mut self.unsent.bytes)?)
    }

    fn flush(&mut self) {
        if self.backlog() == 0 {
            return;
        }
        match self.stream.try_write(self.unsent.rest()) {
            Ok(len) => self.unsent.sent(len),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => {
                // reading tells how it ended, after the last share
                self.deaf = true;
                self.unsent = Unsent::default();
            }
        }
    }

    fn backlog(&self) -> usize {
        self.unsent.rest().len()
    }

    async fn progress(&mut self, read: bool) -> Result<(), LinkError> {
        let interest = match (read, self.backlog() > 0) {
            (true, true) => Interest::READABLE | Interest::WRITABLE,
            (true, false) => Interest::READABLE,
            (false, _) => Interest::WRITABLE,
        };
        let ready = self.stream.ready(interest).await?;
        if ready.is_writable() {
            self.flush();
        }
        if read && ready.is_readable() {
            self.read()?;
        }
        Ok(())
    }

    async fn close(mut self, ending: &Ending) {
        if let Ending::Link(_) = ending {
            return;
        }
        // closing a socket that has unread data resets it, and the peer may lose what it was
        // sent last: so first wait for the peer to hang up, reading on for a moment
        let polite = async {
            self.stream.write_all(self.unsent.rest()).await?;
            self.stream.shutdown().await?;
            let mut discarded = [0; 1024];
            while self.stream.read(&mut discarded).await? > 0 {}
            io::Result::Ok(())
        };
        let _ = timeout(LINGER, polite).await;
    }
}

/// Bytes on their way to a socket.
#[derive(Debug, Default)]
struct Unsent {
    bytes: Vec<u8>,
    sent: usize,
}

impl Unsent {
    fn rest(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    fn sent(&mut self, len: usize) {
        self.sent += len;
        // a peer that is always a little behind must not have all that it was ever sent kept
        if self.sent >= self.bytes.len() / 2 {
            self.bytes.drain(..self.sent);
            self.sent = 0;
            self.bytes.shrink_to(KEPT.max(2 * self.bytes.len()));
        }
    }
}

/// Sets a socket up for small messages that do not wait, and for peers that go without a word.
pub(super) fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_keepalive(&KEEPALIVE)
}

/// A peer that resets its connection has closed it.
fn ended(error: io::Error) -> LinkError {
    match error.kind() {
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted => {
            LinkError::Closed
        }
        _ => LinkError::Io(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_is_always_behind_does_not_make_the_buffer_grow() {
        let mut unsent = Unsent::default();
        for round in 0..1000_u32 {
            unsent.bytes.extend(std::iter::repeat_n(round as u8, 1000));
            let behind = unsent.rest().len() - 1;
            unsent.sent(behind);
            assert_eq!(unsent.rest(), [round as u8]);
            assert!(unsent.bytes.capacity() <= 2 * KEPT, "{} bytes are kept", unsent.bytes.capacity());
        }
    }
}
