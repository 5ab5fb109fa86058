//! The numbers that stand for kinds of messages.
//!
//! They are positions in the node's enums, and new variants have come into the middle of these: a
//! number means something for one version of the node only.

use super::bincode::records;

/// What a frame is.
pub(super) mod frame {
    pub(in super::super) const REQUEST: u32 = 0;
    pub(in super::super) const RESPONSE: u32 = 1;
    pub(in super::super) const EVENT: u32 = 2;
    pub(in super::super) const INVOCATION: u32 = 4;
    pub(in super::super) const INVOCATION_RESULT: u32 = 5;
}

/// What the node asks of a module, and what the answer is to.
pub(super) mod invocation {
    pub(in super::super) const CLI: u32 = 0;
    pub(in super::super) const MODULE_API: u32 = 2;
}

/// The request that comes first: before it is answered, nobody knows the node's version.
pub(super) const HANDSHAKE: Pair = pair(8, 0);

/// The answer to that.
pub(super) const HANDSHAKE_ACK: u32 = 0;

records! {
    /// Requests and events have a type, and fields that are of a type of their own. The two mostly have the
    /// same number, but not always.
    #[derive(Copy)]
    pub(super) struct Pair {
        pub(super) kind: u32,
        pub(super) payload: u32,
    }
}

/// All numbers of one version of the node that this module uses.
#[derive(Debug)]
pub struct Table {
    /// Whether the node serves several connections at the same time.
    pub many: bool,
    pub(super) requests: Requests,
    pub(super) replies: Replies,
    pub(super) events: Events,
}

#[derive(Debug)]
pub(super) struct Requests {
    pub(super) get_chain_tip: Pair,
    pub(super) subscribe_events: Pair,
    pub(super) get_chain_info: Pair,
    pub(super) is_module_available: Pair,
    pub(super) publish_event: Pair,
    pub(super) call_module: Pair,
    pub(super) register_module_api: Pair,
    pub(super) register_cli_spec: Pair,
}

#[derive(Debug)]
pub(super) struct Replies {
    pub(super) bool: u32,
    pub(super) hash: u32,
    pub(super) u64: u32,
    pub(super) subscribe_ack: u32,
    pub(super) chain_info: u32,
    pub(super) module_available: u32,
    pub(super) event_published: u32,
    pub(super) module_api_response: u32,
    pub(super) module_api_registered: u32,
}

#[derive(Debug)]
pub(super) struct Events {
    pub(super) new_block: Pair,
    pub(super) block_disconnected: Pair,
    pub(super) chain_reorg: Pair,
    pub(super) block_mined: Pair,
    pub(super) block_template_updated: Pair,
    pub(super) mining_difficulty_changed: Pair,
    pub(super) mining_job_created: Pair,
    pub(super) share_submitted: Pair,
    pub(super) mining_pool_connected: Pair,
    pub(super) mining_pool_disconnected: Pair,
    pub(super) stratum_client_connected: Pair,
    pub(super) stratum_client_disconnected: Pair,
}

/// The versions of the node that are known, each with its table.
pub const TABLES: &[(&str, &Table)] = &[("0.1.83", &V0_1_83)];

impl Table {
    /// The table of a version, which is what the node answers to the handshake. None if it is
    /// not known: to guess would be to ask the node for something else. A module does without such a
    /// node's IPC, and says so.
    #[must_use]
    pub fn of(node_version: &str) -> Option<&'static Self> {
        TABLES.iter().find(|(version, _)| *version == node_version).map(|(_, table)| *table)
    }
}

static V0_1_83: Table = Table {
    many: false,
    requests: Requests {
        get_chain_tip: pair(4, 5),
        subscribe_events: pair(7, 8),
        get_chain_info: pair(14, 14),
        is_module_available: pair(40, 40),
        publish_event: pair(41, 41),
        call_module: pair(42, 42),
        register_module_api: pair(43, 43),
        register_cli_spec: pair(64, 64),
    },
    replies: Replies {
        bool: 4,
        hash: 5,
        u64: 6,
        subscribe_ack: 8,
        chain_info: 14,
        module_available: 38,
        event_published: 39,
        module_api_response: 40,
        module_api_registered: 41,
    },
    events: Events {
        new_block: pair(0, 0),
        block_disconnected: pair(2, 2),
        chain_reorg: pair(3, 3),
        block_mined: pair(12, 12),
        block_template_updated: pair(13, 13),
        mining_difficulty_changed: pair(14, 14),
        mining_job_created: pair(15, 15),
        share_submitted: pair(18, 16),
        mining_pool_connected: pair(20, 18),
        mining_pool_disconnected: pair(21, 19),
        stratum_client_connected: pair(110, 110),
        stratum_client_disconnected: pair(111, 111),
    },
};

const fn pair(kind: u32, payload: u32) -> Pair {
    Pair { kind, payload }
}
