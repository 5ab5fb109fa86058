//! What a module receives.

use super::bincode::{Bincode, Malformed, Reader};
use super::events;
use super::indices::{HANDSHAKE_ACK, Table, frame, invocation};
use crate::module::event::{Event, Hash};

/// A message of the node's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// The answer to a request.
    Response {
        /// That of the request.
        correlation_id: u64,
        /// What the node has to say, or why it does not do as it was asked, in its words.
        result: Result<Option<Reply>, String>,
    },
    /// Something has happened.
    Event(Event),
    /// The node wants something of this module.
    Invocation {
        /// For the answer.
        correlation_id: u64,
        /// What it wants.
        invocation: Invocation,
    },
    /// A message that this module has no use for, to be passed over.
    Unknown,
}

/// What the node answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Welcome.
    HandshakeAck {
        /// Finds its [`Table`].
        node_version: String,
    },
    /// To [`RegisterCliSpec`](super::Request::RegisterCliSpec), and to much else.
    Bool(bool),
    /// To [`GetChainTip`](super::Request::GetChainTip).
    Hash(Hash),
    /// A number.
    U64(u64),
    /// To [`SubscribeEvents`](super::Request::SubscribeEvents).
    SubscribeAck,
    /// To [`GetChainInfo`](super::Request::GetChainInfo).
    ChainInfo {
        /// The tip's hash.
        tip: Hash,
        /// The tip's height.
        height: u64,
        /// Whether the node thinks that it has caught up with the network.
        is_synced: bool,
    },
    /// To [`IsModuleAvailable`](super::Request::IsModuleAvailable).
    ModuleAvailable(bool),
    /// To [`PublishEvent`](super::Request::PublishEvent).
    EventPublished,
    /// To [`CallModule`](super::Request::CallModule): what the other module answers.
    ModuleApiResponse(Vec<u8>),
    /// To [`RegisterModuleApi`](super::Request::RegisterModuleApi).
    ModuleApiRegistered,
    /// Something that this module never asks for.
    Other,
}

/// What the node wants of a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invocation {
    /// Somebody has typed a command.
    Cli {
        /// Which.
        subcommand: String,
        /// What is behind it.
        args: Vec<String>,
    },
    /// Another module calls this one.
    ModuleApi {
        /// Which method.
        method: String,
        /// As the method wants them.
        params: Vec<u8>,
        /// The module that calls, by its id.
        caller: String,
    },
    /// A call that this module does not take. A call of an RPC is one: its arguments are written in a way in
    /// which nobody can read them.
    Other,
}

/// A message that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the node has sent a message ({what}) that cannot be read: {why}")]
pub struct DecodeError {
    /// The message, by its name in the node.
    pub what: &'static str,
    /// What is wrong with it.
    pub why: Malformed,
}

impl DecodeError {
    pub(super) fn of(what: &'static str) -> impl Fn(Malformed) -> Self {
        move |why| Self { what, why }
    }
}

impl Incoming {
    /// Reads a message. Until the node's version is known there is no table: answers to the handshake can
    /// be read without. Bytes that are left over are passed over, as the node does it.
    pub fn decode(frame: &[u8], table: Option<&Table>) -> Result<Self, DecodeError> {
        let from = &mut Reader::new(frame);
        match u32::read(from).map_err(DecodeError::of("any"))? {
            frame::RESPONSE => response(from, table),
            frame::EVENT => {
                let event = table.map(|table| events::read(from, table)).transpose()?.flatten();
                Ok(event.map_or(Self::Unknown, Self::Event))
            }
            frame::INVOCATION => invocation(from).map_err(DecodeError::of("Invocation")),
            _ => Ok(Self::Unknown),
        }
    }
}

fn response(from: &mut Reader<'_>, table: Option<&Table>) -> Result<Incoming, DecodeError> {
    let named = DecodeError::of("Response");
    let correlation_id = u64::read(from).map_err(&named)?;
    let success = bool::read(from).map_err(&named)?;
    let has_reply = bool::read(from).map_err(&named)?;
    let reply = has_reply.then(|| reply(from, table)).transpose()?;
    let error = match reply {
        // nobody knows how long it is, thus where the error is
        Some(Reply::Other) => None,
        _ => Option::read(from).map_err(&named)?,
    };
    let result = if success { Ok(reply) } else { Err(error.unwrap_or_else(|| "no reason given".to_owned())) };
    Ok(Incoming::Response { correlation_id, result })
}

fn reply(from: &mut Reader<'_>, table: Option<&Table>) -> Result<Reply, DecodeError> {
    let index = u32::read(from).map_err(DecodeError::of("Response"))?;
    if index == HANDSHAKE_ACK {
        let ack = String::read(from).map(|node_version| Reply::HandshakeAck { node_version });
        return ack.map_err(DecodeError::of("HandshakeAck"));
    }
    let Some(Table { replies, .. }) = table else { return Ok(Reply::Other) };
    let (name, reply) = match index {
        i if i == replies.bool => ("Bool", bool::read(from).map(Reply::Bool)),
        i if i == replies.hash => ("Hash", Hash::read(from).map(Reply::Hash)),
        i if i == replies.u64 => ("U64", u64::read(from).map(Reply::U64)),
        i if i == replies.subscribe_ack => ("SubscribeAck", Ok(Reply::SubscribeAck)),
        i if i == replies.chain_info => ("ChainInfo", chain_info(from)),
        i if i == replies.module_available => {
            ("ModuleAvailable", bool::read(from).map(Reply::ModuleAvailable))
        }
        i if i == replies.event_published => ("EventPublished", Ok(Reply::EventPublished)),
        i if i == replies.module_api_response => {
            ("ModuleApiResponse", Vec::read(from).map(Reply::ModuleApiResponse))
        }
        i if i == replies.module_api_registered => ("ModuleApiRegistered", Ok(Reply::ModuleApiRegistered)),
        _ => return Ok(Reply::Other),
    };
    reply.map_err(DecodeError::of(name))
}

fn chain_info(from: &mut Reader<'_>) -> Result<Reply, Malformed> {
    let (tip, height) = (Hash::read(from)?, u64::read(from)?);
    let (_difficulty, _chain_work) = (f64::read(from)?, u64::read(from)?);
    Ok(Reply::ChainInfo { tip, height, is_synced: bool::read(from)? })
}

fn invocation(from: &mut Reader<'_>) -> Result<Incoming, Malformed> {
    let correlation_id = u64::read(from)?;
    let invocation = match u32::read(from)? {
        invocation::CLI => Invocation::Cli { subcommand: Bincode::read(from)?, args: Bincode::read(from)? },
        invocation::MODULE_API => Invocation::ModuleApi {
            method: Bincode::read(from)?,
            params: Bincode::read(from)?,
            caller: Bincode::read(from)?,
        },
        _ => Invocation::Other,
    };
    Ok(Incoming::Invocation { correlation_id, invocation })
}
