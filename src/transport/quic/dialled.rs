//! A connection to a server, as a client has it.

use std::collections::VecDeque;
use std::fmt;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use quinn::{Connection, ConnectionError, RecvStream, SendStream};
use tokio::time::timeout;

use super::routes::{Route, Routes};
use super::streams::{LINGER, Next, Streams};
use crate::session::Lane;
use crate::transport::{Arrived, Ending, Link, LinkError};
use crate::wire::codec::Str255;
use crate::wire::mining::CloseChannel;
use crate::wire::plain::RefusedFrame;
use crate::wire::{ChannelId, Header, Message, Wire, max_payload};

type Opening = BoxFuture<'static, Result<(SendStream, RecvStream), ConnectionError>>;

/// The client opens the control stream and one stream for each channel; the server opens one for
/// the work. Lanes follow from the messages.
pub(crate) struct Dialled {
    streams: Streams,
    routes: Routes,
    /// Lanes whose streams are yet to be opened, in order.
    unopened: VecDeque<Lane>,
    opening: Option<Opening>,
    /// Waits for the server to open the push stream.
    accepting: Option<BoxFuture<'static, Result<RecvStream, ConnectionError>>>,
    /// A channel whose end overtook its opening, and is told next.
    stillborn: Option<ChannelId>,
    /// A message made up for a channel that ended without one.
    ended: Vec<u8>,
}

impl Dialled {
    pub(crate) fn new(connection: Connection) -> Self {
        let push = connection.clone();
        let mut streams = Streams::new(connection, limit);
        streams.reserve(Lane::Control);
        Self {
            streams,
            routes: Routes::default(),
            unopened: [Lane::Control].into(),
            opening: None,
            accepting: Some(Box::pin(async move { push.accept_uni().await })),
            stillborn: None,
            ended: Vec::new(),
        }
    }

    /// Opens streams as far as the server allows it.
    fn poll_open(&mut self, cx: &mut Context<'_>) {
        while let Some(lane) = self.unopened.front().copied() {
            let connection = &self.streams.connection;
            let opening = self.opening.get_or_insert_with(|| {
                let connection = connection.clone();
                Box::pin(async move { connection.open_bi().await })
            });
            let Poll::Ready(opened) = opening.as_mut().poll(cx) else { return };
            self.opening = None;
            self.unopened.pop_front();
            match opened {
                Ok((send, receive)) => {
                    self.streams.transmit(lane, send);
                    self.streams.receive(lane, receive);
                }
                Err(error) => self.streams.lose(error),
            }
        }
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) {
        if let Some(accepting) = &mut self.accepting
            && let Poll::Ready(accepted) = accepting.as_mut().poll(cx)
        {
            self.accepting = None;
            match accepted {
                Ok(push) => self.streams.receive(Lane::Push, push),
                Err(error) => self.streams.lose(error),
            }
        }
    }

    /// The end of a channel's stream counts as CloseChannel.
    fn close_channel(&mut self, channel_id: ChannelId) -> Arrived<'_> {
        let reason_code = Str255::truncated("stream-ended");
        self.ended.clear();
        CloseChannel { channel_id, reason_code }.write(&mut self.ended);
        let header = Header { extension: 0, msg_type: CloseChannel::TYPE, payload_len: self.ended.len() };
        Arrived::Frame(Lane::Push, header, &self.ended)
    }
}

impl fmt::Debug for Dialled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialled").field("routes", &self.routes).finish_non_exhaustive()
    }
}

impl Link for Dialled {
    fn next_arrived(&mut self) -> Result<Option<Arrived<'_>>, LinkError> {
        if let Some(channel) = self.stillborn.take() {
            return Ok(Some(self.close_channel(channel)));
        }
        match self.streams.next()? {
            Some(Next::Frame(..)) => Ok(self.streams.take().map(|(lane, header, payload)| {
                self.stillborn = self.routes.incoming(&header, payload);
                Arrived::Frame(lane, header, payload)
            })),
            Some(Next::End(lane @ Lane::Channel(_))) => {
                self.streams.finish(lane);
                match self.routes.ended(lane) {
                    // unless all comes to its end
                    Some(channel) if !self.streams.is_ending() => Ok(Some(self.close_channel(channel))),
                    _ => Ok(Some(Arrived::End(lane))),
                }
            }
            Some(Next::End(Lane::Control | Lane::Push)) => {
                self.streams.end();
                self.next_arrived()
            }
            None => Ok(None),
        }
    }

    fn send(&mut self, _: Lane, frame: &[u8]) -> Result<(), LinkError> {
        match self.routes.outgoing(frame) {
            Route::On(lane) => self.streams.send(lane, frame),
            Route::First(lane) => {
                self.streams.reserve(lane);
                self.unopened.push_back(lane);
                self.streams.send(lane, frame);
            }
            Route::Last(lane) => {
                self.streams.send(lane, frame);
                self.streams.finish(lane);
            }
            Route::Nowhere => {}
        }
        Ok(())
    }

    fn flush(&mut self) {
        self.streams.flush();
    }

    fn backlog(&self) -> usize {
        self.streams.backlog()
    }

    async fn progress(&mut self, read: bool) -> Result<(), LinkError> {
        std::future::poll_fn(|cx| {
            self.poll_open(cx);
            self.poll_accept(cx);
            // with the connection goes all that was to be sent
            let mut done = !read && self.streams.backlog() == 0;
            done |= self.streams.poll_progress(cx, read)?.is_ready();
            if done { Poll::Ready(Ok(())) } else { Poll::Pending }
        })
        .await
    }

    async fn close(mut self, ending: &Ending) {
        // streams that could not be opened yet have something to say, too
        let opened = async {
            while !self.unopened.is_empty() {
                self.progress(false).await?;
            }
            Ok::<_, LinkError>(())
        };
        let _ = timeout(LINGER, opened).await;
        self.streams.close(ending).await;
    }
}

/// What a server sends where is its own business: a client can do with all of it.
fn limit(header: &Header, _: Lane, _: bool) -> Result<usize, LinkError> {
    max_payload(header).ok_or(LinkError::Refused(RefusedFrame(*header)))
}
