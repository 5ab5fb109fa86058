//! Where a message travels.

/// One of the ordered byte streams of a connection. On QUIC each lane is a stream; on TCP all of
/// them are the one pipe, in the order in which the session produced the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Setup, extension negotiation, and what a client says about groups.
    Control,
    /// One channel: its opening, its shares and their answers. The transport picks the number; a
    /// channel keeps the lane on which it was opened.
    Channel(u64),
    /// The work, in one order for all channels.
    Push,
}
