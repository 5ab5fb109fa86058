//! What a module sends.

use super::bincode::{put, records};
use super::events::{self, EventKind};
use super::indices::{HANDSHAKE, Pair, Table, frame, invocation};
use crate::module::event::Event;

records! {
    /// The first message: who this is.
    pub struct Handshake {
        /// What the node calls this module. The node looks up what a module may do by it.
        pub module_id: String,
        /// The module's name.
        pub module_name: String,
        /// The module's version.
        pub version: String,
    }

    /// The commands that the node's command line gets from this module.
    pub struct CliSpec {
        /// Of this description: 1.
        pub version: u32,
        /// The word that the commands stand behind.
        pub name: String,
        /// A line for its help.
        pub about: Option<String>,
        /// The commands.
        pub subcommands: Vec<CliSubcommand>,
    }

    /// A command.
    pub struct CliSubcommand {
        /// What is typed.
        pub name: String,
        /// A line for its help.
        pub about: Option<String>,
        /// What can be typed behind it.
        pub args: Vec<CliArg>,
    }

    /// An argument of a command.
    pub struct CliArg {
        /// What it is called.
        pub name: String,
        /// What is typed behind `--`, if that is not its name.
        pub long_name: Option<String>,
        /// What is typed behind `-`.
        pub short_name: Option<String>,
        /// Whether the command makes no sense without it.
        pub required: Option<bool>,
        /// Whether a value follows it.
        pub takes_value: Option<bool>,
        /// The value if there is none.
        pub default: Option<String>,
    }
}

impl Handshake {
    /// The message, which is the same for every version of the node.
    #[must_use]
    pub fn encode(&self, correlation_id: u64) -> Vec<u8> {
        let mut out = Vec::new();
        put!(&mut out, &frame::REQUEST, &correlation_id, &HANDSHAKE, self);
        out
    }
}

/// What a module asks of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// To be told of events.
    SubscribeEvents(&'static [EventKind]),
    /// The hash of the tip.
    GetChainTip,
    /// The tip and its height, and whether the node has caught up.
    GetChainInfo,
    /// Whether another module is there.
    IsModuleAvailable {
        /// Which.
        name: String,
    },
    /// To tell other modules of an event.
    PublishEvent(Event),
    /// To call another module.
    CallModule {
        /// Which. Without one the node looks for one that has the method.
        target: Option<String>,
        /// What of it.
        method: String,
        /// As the method wants them.
        params: Vec<u8>,
    },
    /// To let other modules call this one.
    RegisterModuleApi {
        /// What of it.
        methods: Vec<String>,
        /// Of the methods.
        api_version: u32,
    },
    /// To have commands on the node's command line.
    RegisterCliSpec(CliSpec),
}

impl Request {
    /// The message for a node with this table.
    #[must_use]
    pub fn encode(&self, correlation_id: u64, table: &Table) -> Vec<u8> {
        let mut out = Vec::new();
        put!(&mut out, &frame::REQUEST, &correlation_id, &self.index(table));
        match self {
            Self::SubscribeEvents(kinds) => {
                let kinds: Vec<u32> = kinds.iter().map(|kind| kind.index(table)).collect();
                put!(&mut out, &kinds);
            }
            Self::GetChainTip | Self::GetChainInfo => {}
            Self::IsModuleAvailable { name } => put!(&mut out, name),
            Self::PublishEvent(event) => events::write(event, table, &mut out),
            Self::CallModule { target, method, params } => put!(&mut out, target, method, params),
            Self::RegisterModuleApi { methods, api_version } => put!(&mut out, methods, api_version),
            Self::RegisterCliSpec(spec) => put!(&mut out, spec),
        }
        out
    }

    fn index(&self, table: &Table) -> Pair {
        let requests = &table.requests;
        match self {
            Self::SubscribeEvents(_) => requests.subscribe_events,
            Self::GetChainTip => requests.get_chain_tip,
            Self::GetChainInfo => requests.get_chain_info,
            Self::IsModuleAvailable { .. } => requests.is_module_available,
            Self::PublishEvent(_) => requests.publish_event,
            Self::CallModule { .. } => requests.call_module,
            Self::RegisterModuleApi { .. } => requests.register_module_api,
            Self::RegisterCliSpec(_) => requests.register_cli_spec,
        }
    }
}

/// The answer to an [`Invocation`](super::Invocation).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvocationResult {
    /// That of the invocation.
    pub correlation_id: u64,
    /// What came of it, or why nothing did.
    pub outcome: Result<Outcome, String>,
}

/// What came of an invocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Of a command.
    Cli {
        /// What it prints.
        stdout: String,
        /// What it complains of.
        stderr: String,
        /// 0 if all is well.
        exit_code: i32,
    },
    /// Of a call by another module.
    ModuleApi(Vec<u8>),
}

impl InvocationResult {
    /// The message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let success = self.outcome.is_ok();
        put!(&mut out, &frame::INVOCATION_RESULT, &self.correlation_id, &success);
        // an outcome that is there or not, then an error that is there or not
        match &self.outcome {
            Ok(Outcome::Cli { stdout, stderr, exit_code }) => {
                put!(&mut out, &true, &invocation::CLI, stdout, stderr, exit_code, &false);
            }
            Ok(Outcome::ModuleApi(answer)) => {
                put!(&mut out, &true, &invocation::MODULE_API, answer, &false);
            }
            Err(reason) => put!(&mut out, &false, &true, reason),
        }
        out
    }
}
