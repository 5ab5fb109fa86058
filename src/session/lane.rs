//! Where a message travels.

/// One of the ordered byte streams of a connection. On QUIC each lane is a stream; on TCP all of
/// them are the one pipe, in the order in which the session produced the messages.
///
/// Whatever determines what work means travels in one order, the answer to a successful Open*
/// too: a client never hears of work for a channel that it does not know yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Setup, extension negotiation, and what a client says about groups.
    Control,
    /// One channel: the request to open it and its refusal, its shares and their answers, its
    /// end. The transport picks the number and never uses it twice; a channel keeps the lane on
    /// which it was opened, and the lane ends with it.
    Channel(u64),
    /// Channels that were opened and their work, in one order for all of them.
    Push,
}
