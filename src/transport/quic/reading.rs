//! The receiving half of a stream.

use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use quinn::{ConnectionError, ReadError, RecvStream};
use tokio::io::ReadBuf;

use crate::session::Lane;
use crate::wire::plain::FrameReader;

/// What one read takes at most. A share is 30 bytes.
const READ: usize = 4 * 1024;

/// What comes on one lane.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) lane: Lane,
    pub(super) frames: FrameReader,
    /// No frame has been taken yet.
    pub(super) fresh: bool,
    /// Nothing more will come.
    pub(super) ended: bool,
    /// Bytes of an unfinished frame that were there before the read.
    pub(super) held: usize,
    stream: RecvStream,
}

impl Incoming {
    pub(super) fn new(lane: Lane, stream: RecvStream) -> Self {
        Self { lane, stream, frames: FrameReader::default(), fresh: true, ended: false, held: 0 }
    }
}

/// One read of a stream. Owns it meanwhile, so that a set of these is woken only for those that
/// have something.
#[derive(Debug)]
pub(super) struct Reading(Option<Incoming>);

impl Reading {
    pub(super) fn new(incoming: Incoming) -> Self {
        Self(Some(incoming))
    }
}

impl Future for Reading {
    type Output = Result<Incoming, ConnectionError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let incoming = self.0.as_mut().expect("not polled again once it is done");
        let mut room = [MaybeUninit::uninit(); READ];
        let mut read = ReadBuf::uninit(&mut room);
        match ready!(incoming.stream.poll_read_buf(cx, &mut read)) {
            Ok(()) if read.filled().is_empty() => incoming.ended = true,
            Ok(()) => incoming.frames.extend(read.filled()),
            Err(ReadError::ConnectionLost(error)) => return Poll::Ready(Err(error)),
            Err(
                ReadError::Reset(_)
                | ReadError::ClosedStream
                | ReadError::IllegalOrderedRead
                | ReadError::ZeroRttRejected,
            ) => {
                incoming.ended = true;
                // a frame that was cut off is no frame
                incoming.frames = FrameReader::default();
            }
        }
        Poll::Ready(Ok(self.0.take().expect("it was there a moment ago")))
    }
}
