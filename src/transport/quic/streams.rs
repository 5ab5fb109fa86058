//! The streams of a connection, on either side, as lanes.

use std::collections::{HashMap, HashSet, VecDeque};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use quinn::{Connection, ConnectionError, RecvStream, SendStream, WriteError};
use tokio::time::timeout;

use super::Code;
use super::reading::{Incoming, Reading};
use crate::session::Lane;
use crate::transport::{Ending, LinkError};
use crate::wire::Header;

/// How long the peer may take to acknowledge the last messages.
pub(super) const LINGER: Duration = Duration::from_secs(1);
/// How long the peer may take from the end of the control stream to that of the connection.
const FAREWELL: Duration = Duration::from_secs(2);
/// Streams that are read before what they brought is handled.
const READS: usize = 64;
/// Bytes of unfinished frames that a connection may have us keep: several of the longest.
const MAX_HELD: usize = 512 * 1024;
/// An empty buffer larger than this is given back: a connection may have many streams.
const KEPT: usize = 256;

/// Reads whatever stream has something, and writes to each at most once a wake-up.
pub(super) struct Streams {
    pub(super) connection: Connection,
    limit: Limit,
    reading: FuturesUnordered<Reading>,
    /// Bytes of frames that have not all come, on the streams that are being read.
    held: usize,
    /// Streams that were read, whose frames have not all been taken.
    arrived: VecDeque<Incoming>,
    /// Lanes of channels that the peer has stopped.
    stopped: VecDeque<Lane>,
    /// The control or the push stream, if the peer has stopped that.
    refused: Option<Lane>,
    /// Lanes of which it has not been told that nothing more comes.
    receiving: HashSet<Lane>,
    outgoing: HashMap<Lane, Outgoing>,
    /// Those that are finished, until the peer has acknowledged all.
    leaving: FuturesUnordered<BoxFuture<'static, ()>>,
    /// Lanes with something unsent.
    dirty: Vec<Lane>,
    unsent: usize,
    /// The peer has gone and hears nothing any more; but what it sent before may still be there.
    deaf: bool,
    /// Waits to hear why the peer ends the connection.
    ending: Option<BoxFuture<'static, ConnectionError>>,
    /// How the connection was lost, to be told once all that arrived before has been handled.
    lost: Option<ConnectionError>,
}

/// The longest payload to accept behind a header on a lane, where it is the first or not.
pub(super) type Limit = fn(&Header, Lane, bool) -> Result<usize, LinkError>;

/// What has arrived.
pub(super) enum Next {
    /// A frame, to be taken: the first on its lane or not.
    Frame(Lane, bool),
    /// The end of a lane.
    End(Lane),
}

/// What goes out on one lane.
#[derive(Default)]
struct Outgoing {
    /// None until the stream could be opened.
    stream: Option<SendStream>,
    unsent: Vec<u8>,
    /// The stream ends with what is unsent.
    last: bool,
    /// It is on the list.
    dirty: bool,
}

impl Streams {
    pub(super) fn new(connection: Connection, limit: Limit) -> Self {
        Self {
            connection,
            limit,
            reading: FuturesUnordered::new(),
            held: 0,
            arrived: VecDeque::new(),
            stopped: VecDeque::new(),
            refused: None,
            receiving: HashSet::new(),
            outgoing: HashMap::new(),
            leaving: FuturesUnordered::new(),
            dirty: Vec::new(),
            unsent: 0,
            deaf: false,
            ending: None,
            lost: None,
        }
    }

    /// What comes on this stream is of this lane.
    pub(super) fn receive(&mut self, lane: Lane, stream: RecvStream) {
        self.receiving.insert(lane);
        self.reading.push(Reading::new(Incoming::new(lane, stream)));
    }

    /// Reads on. What has come of a frame stays in memory meanwhile.
    fn read_on(&mut self, mut incoming: Incoming) -> Result<(), LinkError> {
        incoming.held = incoming.frames.compact();
        self.held += incoming.held;
        if self.held > MAX_HELD {
            return Err(LinkError::Unfinished);
        }
        self.reading.push(Reading::new(incoming));
        Ok(())
    }

    /// Something may be sent on this lane from now on, and waits until it has its stream.
    pub(super) fn reserve(&mut self, lane: Lane) {
        self.outgoing.insert(lane, Outgoing::default());
    }

    /// What goes out on this lane goes to this stream.
    pub(super) fn transmit(&mut self, lane: Lane, stream: SendStream) {
        let priority = match lane {
            Lane::Push => 2,
            Lane::Channel(_) => 1,
            Lane::Control => 0,
        };
        // fails if the peer has stopped it already, as writing will tell
        let _ = stream.set_priority(priority);
        self.outgoing.entry(lane).or_default().stream = Some(stream);
    }

    /// The connection is lost.
    pub(super) fn lose(&mut self, error: ConnectionError) {
        self.lost = Some(error);
        self.go_deaf();
    }

    /// The peer has ended the control stream, and with it the connection. What else has arrived
    /// still counts, and its code is on its way.
    pub(super) fn end(&mut self) {
        let connection = self.connection.clone();
        self.ending.get_or_insert_with(|| {
            Box::pin(async move {
                let closed = timeout(FAREWELL, connection.closed()).await;
                closed.unwrap_or(ConnectionError::LocallyClosed)
            })
        });
    }

    pub(super) fn is_ending(&self) -> bool {
        self.ending.is_some() || self.lost.is_some()
    }

    /// What is still to be sent has nobody to go to.
    fn go_deaf(&mut self) {
        self.deaf = true;
        self.outgoing.clear();
        self.dirty.clear();
        self.unsent = 0;
    }

    /// What has arrived next, without waiting.
    pub(super) fn next(&mut self) -> Result<Option<Next>, LinkError> {
        while let Some(incoming) = self.arrived.front_mut() {
            let (lane, first) = (incoming.lane, incoming.fresh);
            if incoming.frames.ready(|header| (self.limit)(header, lane, first))? {
                return Ok(Some(Next::Frame(lane, first)));
            }
            let Some(used) = self.arrived.pop_front() else { break };
            if !used.ended {
                self.read_on(used)?;
            } else if self.receiving.remove(&lane) {
                return Ok(Some(Next::End(lane)));
            }
        }
        // what came before the peer stopped a lane counts
        while let Some(lane) = self.stopped.pop_front() {
            if self.receiving.remove(&lane) {
                return Ok(Some(Next::End(lane)));
            }
        }
        Ok(None)
    }

    /// The frame that is [`next`](Self::next).
    pub(super) fn take(&mut self) -> Option<(Lane, Header, &[u8])> {
        let incoming = self.arrived.front_mut()?;
        incoming.fresh = false;
        let (header, payload) = incoming.frames.take()?;
        Some((incoming.lane, header, payload))
    }

    /// Waits for a stream to have something, and reads it and all others that do.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LinkError>> {
        while let Poll::Ready(Some(())) = self.leaving.poll_next_unpin(cx) {}
        // a stream that is lost with the connection leaves others that may have more to be read
        while self.arrived.len() < READS {
            match self.reading.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok(incoming))) => {
                    self.held -= incoming.held;
                    // else it is dropped, and the peer told to stop
                    if self.receiving.contains(&incoming.lane) {
                        self.arrived.push_back(incoming);
                    }
                }
                Poll::Ready(Some(Err(error))) => self.lose(error),
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        if let Some(ending) = &mut self.ending
            && let Poll::Ready(error) = ending.as_mut().poll(cx)
        {
            self.ending = None;
            self.lose(error);
        }
        if !self.arrived.is_empty() || !self.stopped.is_empty() {
            return Poll::Ready(Ok(()));
        }
        match (&self.lost, self.refused) {
            (Some(lost), _) => Poll::Ready(Err(lost.clone().into())),
            // it may do so because it leaves, and then says so
            (None, Some(lane)) if self.ending.is_none() => Poll::Ready(Err(match lane {
                Lane::Push => LinkError::NoPush,
                Lane::Control | Lane::Channel(_) => LinkError::Closed,
            })),
            (None, _) => Poll::Pending,
        }
    }

    /// Queues a frame. On a lane that has ended it is dropped.
    pub(super) fn send(&mut self, lane: Lane, frame: &[u8]) {
        if self.deaf {
            return;
        }
        let Some(outgoing) = self.outgoing.get_mut(&lane) else { return };
        outgoing.unsent.extend_from_slice(frame);
        self.unsent += frame.len();
        outgoing.mark(lane, &mut self.dirty);
    }

    /// Nothing more will be sent on this lane.
    pub(super) fn finish(&mut self, lane: Lane) {
        let Some(outgoing) = self.outgoing.get_mut(&lane) else { return };
        outgoing.last = true;
        outgoing.mark(lane, &mut self.dirty);
    }

    pub(super) fn backlog(&self) -> usize {
        self.unsent
    }

    pub(super) fn flush(&mut self) {
        let _ = self.poll_write(&mut Context::from_waker(Waker::noop()));
    }

    /// Waits until something can be written or, if `read`, has arrived, and does it.
    pub(super) fn poll_progress(&mut self, cx: &mut Context<'_>, read: bool) -> Poll<Result<(), LinkError>> {
        // the end of a stream is to be written, too
        let mut done = !self.dirty.is_empty() && self.poll_write(cx).is_ready();
        if read {
            done |= self.poll_read(cx)?.is_ready();
        }
        if done { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// Writes to every lane that has something unsent, as far as it takes it. Pending if none took
    /// anything.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Self { dirty, outgoing, leaving, unsent, stopped, refused, deaf, .. } = self;
        let mut moved = Poll::Pending;
        dirty.retain(|lane| {
            let Some(out) = outgoing.get_mut(lane) else { return false };
            let Poll::Ready(written) = out.poll_write(cx) else { return true };
            moved = Poll::Ready(());
            match written {
                Ok(written) => {
                    *unsent -= written;
                    out.dirty = !out.unsent.is_empty();
                    if out.last && !out.dirty {
                        leaving.extend(outgoing.remove(lane).and_then(leave));
                        return false;
                    }
                    return out.dirty;
                }
                // reading tells how it ended, after the last share
                Err(WriteError::ConnectionLost(_)) => *deaf = true,
                Err(_) => {
                    *unsent -= out.unsent.len();
                    abandon(outgoing.remove(lane));
                    match lane {
                        Lane::Channel(_) => stopped.push_back(*lane),
                        Lane::Push | Lane::Control => *refused = Some(*lane),
                    }
                }
            }
            false
        });
        if self.deaf {
            self.go_deaf();
        }
        moved
    }

    /// Has the peer receive what is queued, if it can, then ends the connection.
    pub(super) async fn close(mut self, ending: &Ending) {
        if !matches!(ending, Ending::Link(_)) {
            // closing a connection discards what has not been acknowledged
            let _ = timeout(LINGER, self.deliver()).await;
        }
        let reason = match ending {
            Ending::Finished | Ending::Draining => String::new(),
            Ending::Session(reason) => reason.to_string(),
            Ending::Link(error) => error.to_string(),
        };
        self.connection.close(Code::of(ending).into(), reason.as_bytes());
    }

    /// Until the peer has acknowledged all.
    async fn deliver(&mut self) {
        while self.unsent > 0 {
            std::future::poll_fn(|cx| self.poll_write(cx)).await;
        }
        // the end of the work first: by it a client knows the others' ends to be the connection's
        let push = self.outgoing.remove(&Lane::Push);
        let others = self.outgoing.drain().map(|(_, outgoing)| outgoing);
        self.leaving.extend(push.into_iter().chain(others).filter_map(leave));
        while self.leaving.next().await.is_some() {}
    }
}

/// Ends a lane of which all is written. What is returned ends when the peer has it all.
fn leave(outgoing: Outgoing) -> Option<BoxFuture<'static, ()>> {
    let mut stream = outgoing.stream?;
    // fails if the peer has stopped it: it does not matter any more
    let _ = stream.finish();
    Some(Box::pin(async move {
        let _ = stream.stopped().await;
    }))
}

/// Ends a lane without a last word.
fn abandon(outgoing: Option<Outgoing>) {
    if let Some(mut stream) = outgoing.and_then(|outgoing| outgoing.stream) {
        // fails if it has ended already
        let _ = stream.reset(Code::NONE.into());
    }
}

impl Outgoing {
    /// Puts it on the list of what is to be written, once.
    fn mark(&mut self, lane: Lane, dirty: &mut Vec<Lane>) {
        if !self.dirty {
            self.dirty = true;
            dirty.push(lane);
        }
    }

    /// One write.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, WriteError>> {
        let Some(stream) = &mut self.stream else { return Poll::Pending };
        let mut written = 0;
        while written < self.unsent.len() {
            match Pin::new(&mut *stream).poll_write(cx, &self.unsent[written..]) {
                Poll::Ready(Ok(len)) => written += len,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if written == 0 => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        self.unsent.drain(..written);
        if self.unsent.is_empty() {
            self.unsent.shrink_to(KEPT);
        }
        Poll::Ready(Ok(written))
    }
}

/// The TLS alert in a code of QUIC's own (RFC 9001 §4.8).
fn alert(code: u64) -> Option<u8> {
    code.checked_sub(0x100).and_then(|number| u8::try_from(number).ok())
}

fn printable(error: &ConnectionError) -> String {
    error.to_string().escape_debug().take(200).collect()
}

impl From<ConnectionError> for LinkError {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::ApplicationClosed(close) if close.error_code == Code::NONE.into() => {
                Self::Closed
            }
            ConnectionError::ApplicationClosed(close) => Self::ClosedFor {
                code: close.error_code.into(),
                // a peer's words go to the log
                reason: String::from_utf8_lossy(&close.reason).escape_debug().take(200).collect(),
            },
            ConnectionError::LocallyClosed => Self::Closed,
            ConnectionError::Reset => Self::Reset,
            ConnectionError::TimedOut => Self::Silent,
            ConnectionError::ConnectionClosed(ref close) => {
                let text = printable(&error);
                match alert(close.error_code.into()) {
                    Some(number) => Self::Alert { number, text },
                    None => Self::Quic(text),
                }
            }
            ConnectionError::TransportError(_)
            | ConnectionError::VersionMismatch
            | ConnectionError::CidsExhausted => Self::Quic(printable(&error)),
        }
    }
}
