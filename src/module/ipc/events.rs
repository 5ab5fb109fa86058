//! Events as they are on the wire.

use super::DecodeError;
use super::bincode::{Bincode, Reader, put};
use super::indices::{Pair, Table};
use crate::module::event::Event;

/// An event that a module can ask to be told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// [`Event::NewBlock`]
    NewBlock,
    /// [`Event::BlockDisconnected`]
    BlockDisconnected,
    /// [`Event::ChainReorg`]
    ChainReorg,
    /// [`Event::BlockMined`]
    BlockMined,
    /// [`Event::BlockTemplateUpdated`]
    BlockTemplateUpdated,
    /// [`Event::MiningDifficultyChanged`]
    MiningDifficultyChanged,
}

impl EventKind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::NewBlock,
        Self::BlockDisconnected,
        Self::ChainReorg,
        Self::BlockMined,
        Self::BlockTemplateUpdated,
        Self::MiningDifficultyChanged,
    ];

    pub(super) fn index(self, table: &Table) -> u32 {
        let events = &table.events;
        let pair = match self {
            Self::NewBlock => events.new_block,
            Self::BlockDisconnected => events.block_disconnected,
            Self::ChainReorg => events.chain_reorg,
            Self::BlockMined => events.block_mined,
            Self::BlockTemplateUpdated => events.block_template_updated,
            Self::MiningDifficultyChanged => events.mining_difficulty_changed,
        };
        pair.kind
    }
}

/// Every event, where it is in the table, and its fields in the order of the wire.
macro_rules! events {
    ($($variant:ident: $row:ident { $($field:ident),+ },)+) => {
        /// Writes an event's two numbers and its fields.
        pub(super) fn write(event: &Event, table: &Table, out: &mut Vec<u8>) {
            match event {
                $(Event::$variant { $($field),+ } => put!(out, &table.events.$row, $($field),+),)+
            }
        }

        /// Reads an event. None if it is one that we do not know. Modules publish what they like, and that
        /// may be an event with the fields of another: that is none that we know either.
        pub(super) fn read(from: &mut Reader<'_>, table: &Table) -> Result<Option<Event>, DecodeError> {
            let pair = Pair::read(from).map_err(DecodeError::of("event"))?;
            $(if pair == table.events.$row {
                let mut fields = || Ok(Event::$variant { $($field: Bincode::read(from)?),+ });
                return fields().map(Some).map_err(DecodeError::of(stringify!($variant)));
            })+
            Ok(None)
        }
    };
}

events! {
    NewBlock: new_block { block_hash, height },
    BlockDisconnected: block_disconnected { hash, height },
    ChainReorg: chain_reorg { old_tip, new_tip },
    BlockMined: block_mined { block_hash, height, miner_id },
    BlockTemplateUpdated: block_template_updated { prev_hash, height, tx_count },
    MiningDifficultyChanged: mining_difficulty_changed { old_difficulty, new_difficulty, height },
    MiningJobCreated: mining_job_created { job_id, prev_hash, height },
    ShareSubmitted: share_submitted { job_id, share_hash, miner_id },
    MiningPoolConnected: mining_pool_connected { pool_url, pool_id },
    MiningPoolDisconnected: mining_pool_disconnected { pool_url, reason },
    StratumClientConnected: stratum_client_connected { endpoint, protocol_version },
    StratumClientDisconnected: stratum_client_disconnected { endpoint, reason },
}
