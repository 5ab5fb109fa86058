//! What a template provider can get wrong.

use super::body::BodyError;
use super::draft::DraftError;
use super::network::WrongNetwork;
use crate::wire::{TemplateId, WireError};

/// A message that has no place, or makes no sense. The connection is of no use any more.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub(in crate::template) enum ProtocolError {
    /// It is not what its type says.
    #[error("it has sent a message of type {0:#04x} that cannot be read: {1}")]
    Unreadable(u8, WireError),
    /// A provider does not send it, or not now.
    #[error("it has sent a message of type {0:#04x}, which a template provider does not send here")]
    Unexpected(u8),
    /// The template cannot be mined on.
    #[error("its template {0} is of no use: {1}")]
    Draft(TemplateId, DraftError),
    /// Two templates are not told apart.
    #[error("it has given two templates the number {0}")]
    SameId(TemplateId),
    /// A template is for now, but nobody knows what to build on.
    #[error("its template {0} is to be mined on at once, but it has not named a block to build on")]
    NoTip(TemplateId),
    /// A template is not for the block that it was said to be for. Some providers forget to tell
    /// one of several clients of a new block: connecting anew helps.
    #[error("its template {id} is for height {height}, but the last SetNewPrevHash was for {expected}")]
    OtherHeight {
        /// The template.
        id: TemplateId,
        /// What its coinbase says.
        height: u32,
        /// That of the block to be found.
        expected: u32,
    },
    /// A block came that no template is for.
    #[error("its SetNewPrevHash names template {0}, which is none of its future templates")]
    UnknownTemplate(TemplateId),
    /// No header can have these nBits.
    #[error("its SetNewPrevHash has nBits {0:#010x}, which no block can have")]
    Nbits(u32),
    /// No hash can meet this target.
    #[error("its SetNewPrevHash has a target of zero, which no block meets")]
    ZeroTarget,
    /// Another chain.
    #[error(transparent)]
    WrongNetwork(#[from] WrongNetwork),
}

/// Why there are no transactions for a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::template) enum NoTransactions {
    /// The provider has none.
    #[error("it says {0}")]
    Refused(String),
    /// Not those of the template.
    #[error("{0}")]
    Wrong(#[from] BodyError),
}
