//! One connection with the node.

use std::collections::HashMap;
use std::convert::Infallible;
use std::time::Duration;

use bitcoin::BlockHash;
use tokio::time::{Instant, sleep_until, timeout};

use super::api::{self, Answer};
use super::block;
use super::client::Client;
use super::commands::{self, COMMANDS};
use super::datum::{self, Datum};
use super::event::Event;
use super::events::Events;
use super::ipc::{
    CliArg, CliSpec, CliSubcommand, DecodeError, EventKind, Handshake, Incoming, Invocation,
    InvocationResult, Link, LinkError, Outcome, Reply, Request, Table,
};
use crate::template::FoundBlock;

/// What this module is called. The node keeps what it grants to a module under this name, and looks it up by the
/// id that a connection gives: so that is the id.
pub(super) const NAME: &str = "blvm-stratum-v2";

/// How long the node may take to answer before the log has it that it does not.
const GREETING: Duration = Duration::from_secs(10);
/// How long it may take to answer anything after that. It answers one request after the other, and gives another
/// module that it calls a minute.
const ANSWER: Duration = Duration::from_secs(150);
/// How long a module may take to which a call is passed on.
const CALL: Duration = Duration::from_secs(50);
/// How long it may take to accept a message.
const SEND: Duration = Duration::from_secs(10);

/// Requests that may be on their way. Events wait then, and calls are refused.
const UNDER_WAY: usize = 32;

/// Why a connection has ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("{error}")]
    Closed {
        error: LinkError,
        /// A capability that the node had not shown to grant when it was asked for something that takes it.
        asked_for: Option<&'static str>,
    },
    #[error("{0}")]
    Unreadable(#[from] DecodeError),
    #[error("the node has not answered for {} s: does its process still run?", ANSWER.as_secs())]
    Silent,
    #[error("the node takes nothing of what it is sent: does its process still run?")]
    NotReading,
    #[error("the node is of version {0:?}, whose IPC this server does not know: an update of it may")]
    NoTable(String),
    #[error("the node does not want to be connected with: {0:?}")]
    NotWelcome(String),
}

impl From<LinkError> for Ended {
    fn from(error: LinkError) -> Self {
        Self::Closed { error, asked_for: None }
    }
}

/// A request that is on its way.
struct Asked {
    what: What,
    since: Instant,
}

/// What has been asked for.
enum What {
    Subscription,
    Chain,
    Api,
    Commands,
    Publication,
    /// Whether a module is there that a call is to be passed on to: one that is not is not to be called.
    Forwarding(Call),
    /// A call that is passed on. The answer is for that invocation.
    Forwarded(u64),
    /// Whether blvm-datum is there to be asked whom blocks are to pay.
    Looking,
    /// Whom they are to pay.
    Payout,
    /// Whether blvm-datum is there to be offered a block, which is these bytes.
    Offering(BlockHash, Vec<u8>),
    /// The block.
    Offered(BlockHash),
}

/// A call of another module's, for a third one.
struct Call {
    invocation: u64,
    module: String,
    method: &'static str,
    params: Vec<u8>,
}

impl What {
    /// What has to be granted for it. Of calls it is not said: the node hangs up at whatever goes wrong with one.
    fn capability(&self) -> Option<&'static str> {
        match self {
            Self::Subscription | Self::Chain | Self::Forwarded(_) | Self::Payout | Self::Offered(_) => None,
            Self::Api => Some("register_module_api"),
            Self::Commands => Some("register_rpc_endpoint"),
            Self::Publication => Some("publish_events"),
            Self::Forwarding(_) | Self::Looking | Self::Offering(..) => Some("discover_modules"),
        }
    }
}

/// One connection, on which the node has given its version.
pub(super) struct Conversation<'c> {
    link: Link,
    table: &'static Table,
    client: &'c mut Client,
    /// What the node is told, as long as it does not refuse that.
    events: Option<Events>,
    last_id: u64,
    asked: HashMap<u64, Asked>,
}

impl<'c> Conversation<'c> {
    /// Returns when it has ended, and why.
    pub(super) async fn hold(mut link: Link, client: &'c mut Client) -> Result<Infallible, Ended> {
        let version = greet(&mut link).await?;
        let table = Table::of(&version).ok_or_else(|| Ended::NoTable(version.clone()))?;
        let events = client.all_capabilities.then(|| Events::new(client.pool.clone()));
        let mut this = Self { link, table, client, events, last_id: GREETED, asked: HashMap::new() };
        tracing::info!(version, "connected with the node's IPC");
        this.run().await.map_err(|ended| match ended {
            Ended::Closed { error: error @ (LinkError::Closed | LinkError::Io(_)), .. } => {
                // requests are answered in their order: it was the first of them
                let takes = this.asked.iter().filter_map(|(id, asked)| Some((id, asked.what.capability()?)));
                let denied = takes.filter(|(_, capability)| !this.client.granted.contains(capability));
                let asked_for = denied.min_by_key(|(id, _)| **id).map(|(_, capability)| capability);
                Ended::Closed { error, asked_for }
            }
            other => other,
        })
    }

    async fn run(&mut self) -> Result<Infallible, Ended> {
        self.ask(What::Subscription, Request::SubscribeEvents(&EventKind::ALL)).await?;
        self.ask(What::Chain, Request::GetChainInfo).await?;
        if self.client.all_capabilities {
            let methods = api::METHODS.iter().map(|&method| method.to_owned()).collect();
            let register = Request::RegisterModuleApi { methods, api_version: api::API_VERSION };
            self.ask(What::Api, register).await?;
            self.ask(What::Commands, Request::RegisterCliSpec(commands())).await?;
            if let Some(datum) = &mut self.client.datum {
                datum.connected(Instant::now());
            }
        }
        loop {
            self.step().await?;
        }
    }

    async fn step(&mut self) -> Result<(), Ended> {
        let overdue = self.asked.values().map(|asked| asked.since + ANSWER).min();
        let look = self.client.news.due();
        let may_ask = self.client.all_capabilities && self.asked.len() < UNDER_WAY;
        let late = self.asked.values().filter(|asked| matches!(asked.what, What::Forwarded(_)));
        let late = late.map(|asked| asked.since + CALL).min();
        let datum = self.client.datum.as_ref().filter(|_| may_ask).and_then(Datum::due);
        tokio::select! {
            message = self.link.next() => {
                let incoming = Incoming::decode(message?, Some(self.table))?;
                self.hear(incoming).await?;
            }
            event = next_event(&mut self.events), if may_ask => {
                self.ask(What::Publication, Request::PublishEvent(event)).await?;
            }
            () = until(look) => {
                self.client.news.look(Instant::now());
                tracing::debug!("the sources of work are asked what there is, as the node has news");
                self.client.refresh.ask();
            }
            () = until(datum) => self.look_for_datum().await?,
            block = next_block(&mut self.client.datum), if may_ask => self.offer(&block).await?,
            () = until(late) => self.give_calls_up().await?,
            () = until(overdue) => return Err(Ended::Silent),
        }
        Ok(())
    }

    async fn hear(&mut self, incoming: Incoming) -> Result<(), Ended> {
        match incoming {
            Incoming::Response { correlation_id, result } => {
                if let Some(asked) = self.asked.remove(&correlation_id) {
                    self.answered(asked.what, result).await?;
                }
            }
            Incoming::Event(event) => self.happened(&event),
            Incoming::Invocation { correlation_id, invocation } => {
                self.invoked(correlation_id, invocation).await?
            }
            Incoming::Unknown => {}
        }
        Ok(())
    }

    async fn answered(&mut self, what: What, result: Result<Option<Reply>, String>) -> Result<(), Ended> {
        if let (Some(capability), Ok(_)) = (what.capability(), &result) {
            self.client.granted.insert(capability);
        }
        match (what, result) {
            (What::Forwarding(call), Ok(Some(Reply::ModuleAvailable(true)))) => {
                let Call { invocation, module, method, params } = call;
                let call = Request::CallModule { target: Some(module), method: method.to_owned(), params };
                self.ask(What::Forwarded(invocation), call).await?;
            }
            (What::Forwarding(Call { invocation, module, .. }), result) => {
                if result.is_ok() {
                    self.client.api.module_gone(&module);
                }
                let why = result.err().unwrap_or_else(|| "it is not loaded any more".to_owned());
                self.reply(invocation, Err(format!("the module {module} cannot be called: {why}"))).await?;
            }
            (What::Forwarded(invocation), result) => {
                self.reply(invocation, called(result).map(Outcome::ModuleApi)).await?;
            }
            (What::Looking, Ok(Some(Reply::ModuleAvailable(true)))) => {
                self.ask(What::Payout, datum_call(datum::PAYOUT, Vec::new())).await?;
            }
            (What::Looking, result) => {
                let why = result.err().unwrap_or_else(|| "it is not loaded".to_owned());
                if let Some(datum) = &mut self.client.datum {
                    datum.away(&why, Instant::now());
                }
            }
            (What::Payout, result) => {
                if let Some(datum) = &mut self.client.datum {
                    datum.answered(called(result).as_deref().map_err(Clone::clone), Instant::now());
                }
            }
            (What::Offering(hash, block), Ok(Some(Reply::ModuleAvailable(true)))) => {
                self.ask(What::Offered(hash), datum_call(datum::SUBMIT, block)).await?;
            }
            (What::Offering(hash, _), result) => {
                let why = result.err().unwrap_or_else(|| "it is not loaded any more".to_owned());
                datum::heard_of_block(hash, Err(why));
            }
            (What::Offered(hash), result) => {
                datum::heard_of_block(hash, called(result).as_deref().map_err(Clone::clone));
            }
            (What::Chain, Ok(Some(Reply::ChainInfo { height, is_synced, .. }))) => {
                tracing::info!(height, is_synced, "the node's chain");
            }
            (What::Subscription, Ok(_)) => tracing::info!("the node tells of blocks by its IPC"),
            (What::Api, Ok(_)) => tracing::info!("other modules can call this one"),
            (What::Commands, Ok(_)) => tracing::info!("the node has this module's commands"),
            (What::Chain | What::Publication, Ok(_)) => {}
            (What::Publication, Err(reason)) => {
                if self.events.take().is_some() {
                    tracing::warn!(reason, "the node refuses events: it is told of none on this connection");
                }
            }
            (what, Err(reason)) => {
                tracing::warn!(
                    capability = what.capability(),
                    reason,
                    "the node's IPC has refused something"
                );
            }
        }
        Ok(())
    }

    fn happened(&mut self, event: &Event) {
        if self.client.news.heard(event, Instant::now()) {
            tracing::debug!(%event, "news from the node");
        }
    }

    async fn invoked(&mut self, correlation_id: u64, invocation: Invocation) -> Result<(), Ended> {
        let outcome = match invocation {
            Invocation::Cli { subcommand, args } => {
                let commands::Output { stdout, stderr, exit_code } =
                    commands::run(&self.client.api, &subcommand, &args);
                Ok(Outcome::Cli { stdout, stderr, exit_code })
            }
            Invocation::ModuleApi { method, params, caller } => {
                match self.client.api.call(&method, &params, &caller) {
                    Answer::Done(done) => done.map(Outcome::ModuleApi).map_err(|error| error.to_string()),
                    Answer::Forward { .. } if self.asked.len() >= UNDER_WAY => {
                        Err("too many calls are under way: try again".to_owned())
                    }
                    Answer::Forward { module, method, params } => {
                        let there = Request::IsModuleAvailable { name: module.clone() };
                        let call = Call { invocation: correlation_id, module, method, params };
                        return self.ask(What::Forwarding(call), there).await;
                    }
                }
            }
            Invocation::Other => Err("this module takes commands and calls of its API only".to_owned()),
        };
        self.reply(correlation_id, outcome).await
    }

    /// Answers calls that the module to which they were passed on does not answer.
    async fn give_calls_up(&mut self) -> Result<(), Ended> {
        let now = Instant::now();
        let late = |_: &u64, asked: &mut Asked| {
            matches!(asked.what, What::Forwarded(_)) && asked.since + CALL <= now
        };
        let late: Vec<_> = self.asked.extract_if(late).collect();
        for (_, asked) in late {
            if let What::Forwarded(invocation) = asked.what {
                self.reply(invocation, Err("the module that it was passed on to does not answer".to_owned()))
                    .await?;
            }
        }
        Ok(())
    }

    async fn look_for_datum(&mut self) -> Result<(), Ended> {
        if let Some(datum) = &mut self.client.datum {
            datum.looked();
        }
        self.ask(What::Looking, Request::IsModuleAvailable { name: datum::NAME.to_owned() }).await
    }

    /// Offers a block to blvm-datum, if it is still there.
    async fn offer(&mut self, found: &FoundBlock) -> Result<(), Ended> {
        match block::encode(found) {
            Ok(Some(bytes)) => {
                let there = Request::IsModuleAvailable { name: datum::NAME.to_owned() };
                self.ask(What::Offering(found.hash, bytes), there).await?;
            }
            Ok(None) => {}
            Err(error) => {
                tracing::error!(hash = %found.hash, %error, "a block has a transaction that is none: blvm-datum is not offered it");
            }
        }
        Ok(())
    }

    async fn reply(&mut self, correlation_id: u64, outcome: Result<Outcome, String>) -> Result<(), Ended> {
        self.send(&InvocationResult { correlation_id, outcome }.encode()).await
    }

    async fn ask(&mut self, what: What, request: Request) -> Result<(), Ended> {
        self.last_id += 1;
        self.asked.insert(self.last_id, Asked { what, since: Instant::now() });
        let message = request.encode(self.last_id, self.table);
        self.send(&message).await
    }

    async fn send(&mut self, message: &[u8]) -> Result<(), Ended> {
        Ok(timeout(SEND, self.link.send(message)).await.map_err(|_| Ended::NotReading)??)
    }
}

const GREETED: u64 = 1;

fn datum_call(method: &str, params: Vec<u8>) -> Request {
    Request::CallModule { target: Some(datum::NAME.to_owned()), method: method.to_owned(), params }
}

/// What a module that was called answers.
fn called(result: Result<Option<Reply>, String>) -> Result<Vec<u8>, String> {
    match result? {
        Some(Reply::ModuleApiResponse(answer)) => Ok(answer),
        _ => Err("the node has not said what that module answers".to_owned()),
    }
}

async fn next_event(events: &mut Option<Events>) -> Event {
    match events {
        Some(events) => events.next().await,
        None => std::future::pending().await,
    }
}

async fn next_block(datum: &mut Option<Datum>) -> FoundBlock {
    match datum {
        Some(datum) => datum.block().await,
        None => std::future::pending().await,
    }
}

/// Says who this is; answers which version the node is of.
///
/// A node that does not answer is not hung up on: blvm-node 0.1.83 serves one connection after the other, and ends
/// its IPC if one is gone when its turn comes.
async fn greet(link: &mut Link) -> Result<String, Ended> {
    let name = NAME.to_owned();
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let handshake = Handshake { module_id: name.clone(), module_name: name, version };
    link.send(&handshake.encode(GREETED)).await?;
    let mut patience = std::pin::pin!(tokio::time::sleep(GREETING));
    let mut complained = false;
    loop {
        tokio::select! {
            message = link.next() => {
                if let Incoming::Response { correlation_id: GREETED, result } = Incoming::decode(message?, None)? {
                    return match result {
                        Ok(Some(Reply::HandshakeAck { node_version })) => Ok(node_version),
                        Ok(_) => Err(Ended::NotWelcome("its answer is another one".to_owned())),
                        Err(reason) => Err(Ended::NotWelcome(reason)),
                    };
                }
            }
            () = &mut patience, if !complained => {
                complained = true;
                tracing::warn!(
                    "the node's IPC does not answer: it probably serves somebody else, as blvm-node 0.1.83 serves one \
                     connection at a time, and its own for this module is one. Miners are served all the same"
                );
            }
        }
    }
}

/// The commands, as the node wants to know them.
fn commands() -> CliSpec {
    let subcommands = COMMANDS.iter().map(|command| CliSubcommand {
        name: command.name.to_owned(),
        about: Some(command.about.to_owned()),
        args: command.args.iter().map(argument).collect(),
    });
    let about = Some("The Stratum V2 mining server".to_owned());
    CliSpec { version: 1, name: NAME.to_owned(), about, subcommands: subcommands.collect() }
}

fn argument(argument: &commands::Argument) -> CliArg {
    CliArg {
        name: argument.name.to_owned(),
        long_name: None,
        short_name: argument.short_name.map(str::to_owned),
        required: Some(argument.required),
        takes_value: Some(true),
        default: argument.default.map(str::to_owned),
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
