//! The socket, and where a message begins and ends on it: a u32, big-endian, then so many bytes.

use std::io;
use std::mem;
use std::path::Path;

use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// The longest message that the node takes.
pub const MAX_FRAME: usize = 40 * 1024 * 1024;

/// The longest message that makes sense for this module. The node sends longer ones if another module wants it to, and
/// memory may be scarce here.
const MAX_RECEIVED: usize = 1024 * 1024;

/// Room for what the next read brings.
const READ: usize = 4096;

/// A buffer that has grown beyond this is given back when it is empty.
const KEEP: usize = 1 << 20;

/// A connection with the node.
#[derive(Debug)]
pub struct Link {
    stream: UnixStream,
    /// The message that was returned last, then what has come after it.
    inbox: BytesMut,
    /// The length of that message with its length field.
    returned: usize,
    /// What has not been written yet.
    outbox: BytesMut,
}

/// Why there is no connection, or not any more.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Nobody is there.
    #[error("cannot connect: {0}: does the node run, with its modules enabled?")]
    Unreachable(io::Error),
    /// The node has closed it.
    #[error("the node has closed the connection")]
    Closed,
    /// The node has closed it too soon.
    #[error("the node has closed the connection in the middle of a message")]
    Cut,
    /// The node is about to send too much.
    #[error(
        "the node announces a message of {0} bytes, more than the {MAX_RECEIVED} that any for this module has"
    )]
    TooLong(usize),
    /// The node would not take it. The connection is as good as before.
    #[error("a message for the node has {0} bytes, more than the {MAX_FRAME} that it takes")]
    NotSent(usize),
    /// It has failed.
    #[error("the connection with the node has failed: {0}")]
    Io(#[from] io::Error),
}

impl Link {
    /// Connects to the node's socket.
    pub async fn connect(path: &Path) -> Result<Self, LinkError> {
        UnixStream::connect(path).await.map(Self::from).map_err(LinkError::Unreachable)
    }

    /// Sends a message. What is left of it when this is dropped goes out before the next one.
    pub async fn send(&mut self, message: &[u8]) -> Result<(), LinkError> {
        let len = u32::try_from(message.len()).ok().filter(|_| message.len() <= MAX_FRAME);
        self.outbox.put_u32(len.ok_or(LinkError::NotSent(message.len()))?);
        self.outbox.put_slice(message);
        self.stream.write_all_buf(&mut self.outbox).await?;
        release(&mut self.outbox);
        Ok(())
    }

    /// Waits for the next message. Dropping this while it waits loses nothing.
    pub async fn next(&mut self) -> Result<&[u8], LinkError> {
        self.inbox.advance(mem::take(&mut self.returned));
        release(&mut self.inbox);
        let len = loop {
            if let Some(len) = complete(&self.inbox)? {
                break len;
            }
            // grows with what has come, whatever is announced
            self.inbox.reserve(READ);
            if self.stream.read_buf(&mut self.inbox).await? == 0 {
                return Err(if self.inbox.is_empty() { LinkError::Closed } else { LinkError::Cut });
            }
        };
        self.returned = 4 + len;
        Ok(&self.inbox[4..self.returned])
    }
}

impl From<UnixStream> for Link {
    fn from(stream: UnixStream) -> Self {
        Self { stream, inbox: BytesMut::new(), returned: 0, outbox: BytesMut::new() }
    }
}

/// The length of the first message, if all of it is there.
fn complete(inbox: &[u8]) -> Result<Option<usize>, LinkError> {
    let Some((len, rest)) = inbox.split_first_chunk() else { return Ok(None) };
    let len = u32::from_be_bytes(*len) as usize;
    if len > MAX_RECEIVED {
        return Err(LinkError::TooLong(len));
    }
    Ok((len <= rest.len()).then_some(len))
}

fn release(buffer: &mut BytesMut) {
    if buffer.is_empty() && buffer.capacity() > KEEP {
        *buffer = BytesMut::new();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    fn pair() -> (Link, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Link::from(ours), theirs)
    }

    fn framed(message: &[u8]) -> Vec<u8> {
        [&(message.len() as u32).to_be_bytes()[..], message].concat()
    }

    /// Whether it still waits when all that was written has been read.
    async fn waits(link: &mut Link) -> bool {
        timeout(Duration::from_millis(5), link.next()).await.is_err()
    }

    #[tokio::test]
    async fn many_messages_come_in_one_read() {
        let (mut link, mut node) = pair();
        let messages = [&b"one"[..], b"", b"three", b"", &[7; 5000]];
        node.write_all(&messages.map(framed).concat()).await.unwrap();
        for message in messages {
            assert_eq!(link.next().await.unwrap(), message);
        }
        assert!(waits(&mut link).await);
        drop(node);
        assert!(matches!(link.next().await, Err(LinkError::Closed)));
    }

    #[tokio::test]
    async fn a_message_comes_in_many_reads_and_waiting_for_it_can_be_given_up() {
        let (mut link, mut node) = pair();
        for message in [&b"slow"[..], b"slower"] {
            for byte in framed(message) {
                assert!(waits(&mut link).await);
                node.write_all(&[byte]).await.unwrap();
            }
            assert_eq!(link.next().await.unwrap(), message);
        }
    }

    #[tokio::test]
    async fn an_announcement_allocates_nothing() {
        let (mut link, mut node) = pair();
        node.write_all(&(MAX_RECEIVED as u32).to_be_bytes()).await.unwrap();
        assert!(waits(&mut link).await);
        assert!(link.inbox.capacity() <= 2 * READ);

        for len in [MAX_RECEIVED as u32 + 1, u32::MAX] {
            let (mut link, mut node) = pair();
            node.write_all(&len.to_be_bytes()).await.unwrap();
            let refused = timeout(Duration::from_secs(10), link.next()).await;
            let error = refused.expect("it waits for none of it").unwrap_err();
            assert!(matches!(error, LinkError::TooLong(told) if told == len as usize), "{error}");
            assert!(link.inbox.capacity() <= 2 * READ);
        }
    }

    #[tokio::test]
    async fn the_longest_message_comes_and_its_memory_is_given_back() {
        let (mut link, node) = pair();
        let mut node = Link::from(node);
        let message = vec![3; MAX_RECEIVED];
        let (sent, ()) = tokio::join!(node.send(&message), async {
            // not assert_eq: nobody wants to read it
            assert!(link.next().await.unwrap() == message);
            assert!(link.inbox.capacity() <= 2 * (MAX_RECEIVED + READ));
        });
        sent.unwrap();
        assert!(waits(&mut link).await);
        assert!(link.inbox.capacity() <= KEEP && node.outbox.capacity() <= KEEP);
    }

    #[tokio::test]
    async fn an_end_in_the_middle_is_no_good_end() {
        let whole = framed(b"cut");
        for len in 1..whole.len() {
            let (mut link, mut node) = pair();
            node.write_all(&whole[..len]).await.unwrap();
            drop(node);
            assert!(matches!(link.next().await, Err(LinkError::Cut)), "{len}");
            assert!(matches!(link.next().await, Err(LinkError::Cut)), "{len}");
        }
    }

    #[tokio::test]
    async fn a_message_has_its_length_in_front() {
        let (mut link, mut node) = pair();
        link.send(b"hello").await.unwrap();
        let mut read = [0; 100];
        assert_eq!(node.read(&mut read).await.unwrap(), 9);
        assert_eq!(read[..9], framed(b"hello"));
    }

    #[tokio::test]
    async fn what_the_node_does_not_take_is_not_sent() {
        let (mut link, node) = pair();
        let error = link.send(&vec![0; MAX_FRAME + 1]).await.unwrap_err();
        assert!(matches!(error, LinkError::NotSent(len) if len == MAX_FRAME + 1), "{error}");
        link.send(b"fine").await.unwrap();
        assert_eq!(Link::from(node).next().await.unwrap(), b"fine");
    }

    #[tokio::test]
    async fn a_message_that_was_given_up_is_not_cut_short() {
        let (mut link, node) = pair();
        let long = vec![5; MAX_RECEIVED];
        {
            // more than the socket takes
            let mut sending = pin!(link.send(&long));
            assert!(timeout(Duration::from_millis(5), &mut sending).await.is_err());
        }
        let mut node = Link::from(node);
        let (sent, ()) = tokio::join!(link.send(b"next"), async {
            assert!(node.next().await.unwrap() == long);
            assert_eq!(node.next().await.unwrap(), b"next");
        });
        sent.unwrap();
    }

    #[tokio::test]
    async fn a_node_that_is_not_there_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let error = Link::connect(&directory.path().join("node.sock")).await.unwrap_err();
        assert!(matches!(error, LinkError::Unreachable(_)), "{error}");
    }
}
