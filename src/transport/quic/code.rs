//! What connections and streams are closed with.

use std::fmt;

use quinn::VarInt;

use crate::session::CloseReason;
use crate::transport::{Ending, LinkError};

/// The code of a CONNECTION_CLOSE, RESET_STREAM or STOP_SENDING. Codes that are not listed count
/// as [`INTERNAL`](Self::INTERNAL).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code(u32);

impl Code {
    /// Nothing is wrong.
    pub const NONE: Self = Self(0);
    /// The sender failed.
    pub const INTERNAL: Self = Self(1);
    /// The peer did what the protocol does not allow.
    pub const PROTOCOL_VIOLATION: Self = Self(2);
    /// A frame is longer than its type allows, or of a type that the receiver does not take.
    pub const FRAME_REFUSED: Self = Self(3);
    /// The peer costs too much, as when it does not read.
    pub const EXCESSIVE_LOAD: Self = Self(4);
    /// SetupConnection was refused, or did not come in time.
    pub const SETUP_FAILED: Self = Self(5);
    /// No channel was opened in time.
    pub const NO_CHANNEL: Self = Self(6);
    /// Too many shares were no good.
    pub const BAD_SHARES: Self = Self(7);
    /// The peer may not do this.
    pub const UNAUTHORIZED: Self = Self(8);
    /// The server stops; another try later, or elsewhere, is welcome.
    pub const DRAINING: Self = Self(9);

    const NAMES: [&str; 10] = [
        "no error",
        "internal error",
        "protocol violation",
        "frame refused",
        "excessive load",
        "setup failed",
        "no channel opened in time",
        "too many bad shares",
        "unauthorized",
        "the server is stopping",
    ];

    /// Whether trying again soon is of no use.
    pub(crate) fn is_lasting(self) -> bool {
        [Self::PROTOCOL_VIOLATION, Self::FRAME_REFUSED, Self::SETUP_FAILED, Self::UNAUTHORIZED]
            .contains(&self)
    }

    pub(super) fn of(ending: &Ending) -> Self {
        match ending {
            Ending::Finished => Self::NONE,
            Ending::Draining => Self::DRAINING,
            Ending::Session(reason) => match reason {
                CloseReason::SetupTimeout | CloseReason::SetupRefused(_) => Self::SETUP_FAILED,
                CloseReason::NoChannel => Self::NO_CHANNEL,
                CloseReason::BadShares(_) => Self::BAD_SHARES,
                CloseReason::Malformed { .. } | CloseReason::Unexpected(_) => Self::PROTOCOL_VIOLATION,
            },
            Ending::Link(error) => match error {
                LinkError::Refused(_) => Self::FRAME_REFUSED,
                LinkError::Misplaced(_) | LinkError::NoPush => Self::PROTOCOL_VIOLATION,
                LinkError::NotReading | LinkError::Unfinished => Self::EXCESSIVE_LOAD,
                LinkError::SharesLost => Self::INTERNAL,
                // these have no one left to be told
                LinkError::Closed
                | LinkError::ClosedFor { .. }
                | LinkError::Reset
                | LinkError::Silent
                | LinkError::Io(_)
                | LinkError::Noise(_)
                | LinkError::Quic(_)
                | LinkError::Alert { .. } => Self::NONE,
            },
        }
    }
}

impl From<VarInt> for Code {
    fn from(code: VarInt) -> Self {
        let known = u32::try_from(code.into_inner()).ok().filter(|code| (*code as usize) < Self::NAMES.len());
        known.map_or(Self::INTERNAL, Self)
    }
}

impl From<Code> for VarInt {
    fn from(code: Code) -> Self {
        code.0.into()
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "code {}, {}", self.0, Self::NAMES[self.0 as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_codes_are_internal_errors() {
        for code in 0..10_u32 {
            assert_eq!(VarInt::from(Code::from(VarInt::from_u32(code))), VarInt::from_u32(code));
        }
        for code in [10, u64::from(u32::MAX) + 1, VarInt::MAX.into_inner()] {
            assert_eq!(Code::from(VarInt::from_u64(code).unwrap()), Code::INTERNAL);
        }
    }
}
