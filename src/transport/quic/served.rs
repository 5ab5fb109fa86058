//! A miner's connection, as the server has it.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::future::BoxFuture;
use quinn::{Connection, ConnectionError, RecvStream, SendStream};
use tokio::time::{Instant, timeout};

use super::streams::{Next, Streams};
use crate::session::Lane;
use crate::transport::{Arrived, Ending, Link, LinkError, Permit};
use crate::wire::common::SetupConnection;
use crate::wire::extensions::EXTENSIONS_NEGOTIATION;
use crate::wire::mining::{
    OpenExtendedMiningChannel, OpenStandardMiningChannel, SetCustomMiningJob, SubmitSharesExtended,
    SubmitSharesStandard,
};
use crate::wire::plain::RefusedFrame;
use crate::wire::{Header, Message, max_payload_to_mining_server};

/// Streams that a client may have open, whatever it uses.
pub(super) const LEAST_STREAMS: u32 = 16;

/// A client is believed to be where it is once it has stayed there for longer than any path takes to
/// be validated: until then it may have forged the address (RFC 9000 §9.3).
const SETTLED: Duration = Duration::from_secs(10);

/// The client opened the control stream; it opens one for each channel, and the server one for
/// the work.
pub(super) struct Served {
    streams: Streams,
    /// Waits for the client to open a stream.
    accepting: Option<BoxFuture<'static, Result<(SendStream, RecvStream), ConnectionError>>>,
    /// Waits for the client to let the push stream be opened, for so long.
    opening: Option<BoxFuture<'static, Result<SendStream, LinkError>>>,
    setup_timeout: Duration,
    /// Streams for channels that the client has opened so far.
    opened: u64,
    /// Lanes with a channel.
    channels: HashSet<Lane>,
    /// Streams that the client may have open now.
    allowed: u32,
    /// And ever.
    most: u32,
    address: SocketAddr,
    /// Since when it has been there, if it is not counted there yet.
    moved: Option<Instant>,
    permit: Permit,
}

impl Served {
    /// A connection whose control stream has been opened. `setup_timeout` is how long the client
    /// may take to let the push stream be opened.
    pub(super) fn new(
        connection: Connection,
        (send, receive): (SendStream, RecvStream),
        max_streams: u32,
        setup_timeout: Duration,
        permit: Permit,
    ) -> Self {
        let address = connection.remote_address();
        let mut streams = Streams::new(connection, limit);
        streams.receive(Lane::Control, receive);
        streams.transmit(Lane::Control, send);
        Self {
            streams,
            accepting: None,
            opening: None,
            setup_timeout,
            opened: 0,
            channels: HashSet::new(),
            allowed: LEAST_STREAMS,
            // quinn announces only raises above an eighth: a client that uses nearly all would wait
            // for the place of a stream that it has ended
            most: max_streams.saturating_add(max_streams / 4),
            address,
            moved: None,
            permit,
        }
    }

    fn accept(&mut self) {
        let connection = self.streams.connection.clone();
        self.accepting = Some(Box::pin(async move { connection.accept_bi().await }));
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut accepted = Poll::Pending;
        while let Some(accepting) = &mut self.accepting
            && let Poll::Ready(stream) = accepting.as_mut().poll(cx)
        {
            self.accepting = None;
            // reading tells how the connection was lost, after the last share
            let Ok((send, receive)) = stream else { break };
            self.opened += 1;
            let lane = Lane::Channel(self.opened);
            self.streams.transmit(lane, send);
            self.streams.receive(lane, receive);
            self.accept();
            accepted = Poll::Ready(());
        }
        accepted
    }

    /// Grants twice the streams that are in use, one for control and one for each channel: a raise by
    /// less than an eighth would not be announced, and the client would wait for it.
    fn allow_more(&mut self) {
        let used = u32::try_from(1 + self.channels.len()).unwrap_or(u32::MAX);
        let allowed = used.saturating_mul(2).min(self.most);
        if allowed > self.allowed {
            self.allowed = allowed;
            self.streams.connection.set_max_concurrent_bi_streams(allowed.into());
        }
    }

    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LinkError>> {
        let Some(opening) = &mut self.opening else { return Poll::Pending };
        let opened = ready!(opening.as_mut().poll(cx));
        self.opening = None;
        self.streams.transmit(Lane::Push, opened?);
        Poll::Ready(Ok(()))
    }
}

impl Link for Served {
    fn next_arrived(&mut self) -> Result<Option<Arrived<'_>>, LinkError> {
        match self.streams.next()? {
            // its opening, or it would have been refused
            Some(Next::Frame(lane @ Lane::Channel(_), true)) => {
                self.channels.insert(lane);
                self.allow_more();
            }
            Some(Next::Frame(..)) => {}
            // without it nothing can be agreed on
            Some(Next::End(Lane::Control)) => {
                self.streams.end();
                return self.next_arrived();
            }
            Some(Next::End(lane)) => return Ok(Some(Arrived::End(lane))),
            None => return Ok(None),
        }
        Ok(self.streams.take().map(|(lane, header, payload)| Arrived::Frame(lane, header, payload)))
    }

    fn send(&mut self, lane: Lane, frame: &[u8]) -> Result<(), LinkError> {
        self.streams.send(lane, frame);
        Ok(())
    }

    fn set_up(&mut self) {
        self.streams.reserve(Lane::Push);
        let connection = self.streams.connection.clone();
        let opening = timeout(self.setup_timeout, async move { connection.open_uni().await });
        self.opening = Some(Box::pin(async move { Ok(opening.await.map_err(|_| LinkError::NoPush)??) }));
        self.accept();
    }

    fn finish(&mut self, lane: Lane) {
        self.channels.remove(&lane);
        self.streams.finish(lane);
    }

    fn flush(&mut self) {
        self.streams.flush();
    }

    fn backlog(&self) -> usize {
        self.streams.backlog()
    }

    async fn progress(&mut self, read: bool) -> Result<(), LinkError> {
        std::future::poll_fn(|cx| {
            let mut done = self.poll_open(cx)?.is_ready();
            if read {
                // before reading, as a new stream's first message mostly comes with it
                done |= self.poll_accept(cx).is_ready();
            }
            done |= self.streams.poll_progress(cx, read)?.is_ready();
            if done { Poll::Ready(Ok(())) } else { Poll::Pending }
        })
        .await
    }

    fn moved(&mut self) -> Option<SocketAddr> {
        let address = self.streams.connection.remote_address();
        if address != self.address {
            self.address = address;
            self.moved = Some(Instant::now());
            return Some(address);
        }
        if self.moved.take_if(|moved| moved.elapsed() > SETTLED).is_some() {
            self.permit.move_to(address.ip());
        }
        None
    }

    async fn close(self, ending: &Ending) {
        self.streams.close(ending).await;
    }
}

/// Which messages a client may send on which lane, and how long. What has no business anywhere is
/// left to the session.
fn limit(header: &Header, lane: Lane, first: bool) -> Result<usize, LinkError> {
    let is = |types: &[u8]| header.extension == 0 && types.contains(&header.msg_type);
    let opens = is(&[OpenStandardMiningChannel::TYPE, OpenExtendedMiningChannel::TYPE]);
    let of_channels = is(&[SubmitSharesStandard::TYPE, SubmitSharesExtended::TYPE, SetCustomMiningJob::TYPE]);
    let of_control = is(&[SetupConnection::TYPE]) || header.extension == EXTENSIONS_NEGOTIATION;
    let belongs = match lane {
        Lane::Control => !opens && !of_channels,
        // the channel's opening comes first, and only then
        Lane::Channel(_) => opens == first && !of_control,
        Lane::Push => false,
    };
    if !belongs {
        return Err(LinkError::Misplaced(header.msg_type));
    }
    max_payload_to_mining_server(header).ok_or(LinkError::Refused(RefusedFrame(*header)))
}
