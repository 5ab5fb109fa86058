//! The node's end of the module IPC, on a script: `blvm_script SOCKET [VERSION]`. For what a blvm-node does not do
//! when it is asked to.
//!
//! It serves one connection after the other, as the node does. What it sees is printed, a line of JSON each, with a
//! key `saw`: `connected`, `request`, `result` (of an invocation), `other` and `ended`. On standard input it takes
//!
//! - `cli SUBCOMMAND ARG...` and `api CALLER METHOD JSON`: invokes the module;
//! - `event KIND`: an event of that kind, with values that do not vary;
//! - `available NAME`: there is a module of that name;
//! - `answer METHOD TEXT`: what other modules say when this method is called;
//! - `deny REQUEST`: ends the connection at the next request of that kind, as the node does when a permission is
//!   missing;
//! - `silent`: answers nothing any more, and `speak`: does so again;
//! - `close`: ends the connection.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, bail};
use blvm_node::module::ipc::protocol::{
    EventMessage, EventPayload, InvocationMessage, InvocationResultPayload, InvocationType, ModuleMessage,
    RequestMessage, RequestPayload, ResponseMessage, ResponsePayload,
};
use blvm_node::module::traits::{ChainInfo, EventType};
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader, stdin};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_util::codec::{Framed, LengthDelimitedCodec};

/// The tip, in all that names one.
const TIP: [u8; 32] = [7; 32];
const HEIGHT: u64 = 7;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let (socket, version) = match &arguments[..] {
        [socket] => (socket, "0.1.83"),
        [socket, version] => (socket, &**version),
        _ => bail!("usage: blvm_script SOCKET [VERSION]"),
    };
    let listener = UnixListener::bind(Path::new(socket))?;
    let (sender, commands) = mpsc::channel(100);
    tokio::spawn(async move {
        let mut lines = BufReader::new(stdin()).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if sender.send(line).await.is_err() {
                break;
            }
        }
    });
    let script = Script { version: version.to_owned(), ..Script::default() };
    script.play(listener, commands).await
}

/// What it has been told.
#[derive(Default)]
struct Script {
    version: String,
    available: BTreeSet<String>,
    answers: BTreeMap<String, String>,
    denies: Option<String>,
    is_silent: bool,
    invocations: u64,
}

type Connection = Framed<UnixStream, LengthDelimitedCodec>;

impl Script {
    /// Until there is nobody to give commands.
    async fn play(mut self, listener: UnixListener, mut commands: mpsc::Receiver<String>) -> Result<()> {
        let mut connection: Option<Connection> = None;
        loop {
            let stays = tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.obey(&command, connection.as_mut()).await?,
                    None => return Ok(()),
                },
                accepted = listener.accept(), if connection.is_none() => {
                    say(json!({ "saw": "connected" }));
                    connection = Some(Framed::new(accepted?.0, codec()));
                    true
                }
                frame = next(connection.as_mut()), if connection.is_some() => match (frame, &mut connection) {
                    (Some(Ok(frame)), Some(connection)) => self.hear(&frame, connection).await?,
                    _ => false,
                },
            };
            if !stays && connection.take().is_some() {
                say(json!({ "saw": "ended" }));
            }
        }
    }

    /// Whether the connection stays.
    async fn obey(&mut self, line: &str, connection: Option<&mut Connection>) -> Result<bool> {
        let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
        match command {
            "available" => drop(self.available.insert(rest.to_owned())),
            "answer" => {
                let (method, text) = rest.split_once(' ').context("answer METHOD TEXT")?;
                self.answers.insert(method.to_owned(), text.to_owned());
            }
            "deny" => self.denies = Some(rest.to_owned()),
            "silent" => self.is_silent = true,
            "speak" => self.is_silent = false,
            "close" => return Ok(false),
            "cli" => {
                let mut words = rest.split(' ').map(str::to_owned);
                let subcommand = words.next().context("cli SUBCOMMAND")?;
                let invocation = InvocationType::Cli { subcommand, args: words.collect() };
                return Ok(self.invoke(invocation, connection).await);
            }
            "api" => {
                let (caller, rest) = rest.split_once(' ').context("api CALLER METHOD JSON")?;
                let (method, params) = rest.split_once(' ').context("api CALLER METHOD JSON")?;
                let (method, params) = (method.to_owned(), params.as_bytes().to_vec());
                let caller_module_id = caller.to_owned();
                return Ok(self
                    .invoke(InvocationType::ModuleApi { method, params, caller_module_id }, connection)
                    .await);
            }
            "event" => return Ok(send(connection, ModuleMessage::Event(event(rest)?)).await),
            _ => bail!("what is `{line}`?"),
        }
        Ok(true)
    }

    async fn invoke(&mut self, invocation_type: InvocationType, connection: Option<&mut Connection>) -> bool {
        self.invocations += 1;
        let correlation_id = self.invocations;
        send(connection, ModuleMessage::Invocation(InvocationMessage { correlation_id, invocation_type }))
            .await
    }

    /// Whether the connection stays.
    async fn hear(&mut self, frame: &[u8], connection: &mut Connection) -> Result<bool> {
        let request = match bincode::deserialize(frame)? {
            ModuleMessage::Request(request) => request,
            ModuleMessage::InvocationResult(result) => {
                let payload = result.payload.map(|payload| match payload {
                    InvocationResultPayload::Cli { stdout, stderr, exit_code } => {
                        json!({ "stdout": stdout, "stderr": stderr, "exit_code": exit_code })
                    }
                    InvocationResultPayload::Rpc(value) => value,
                    InvocationResultPayload::ModuleApi(bytes) => match serde_json::from_slice(&bytes) {
                        Ok(value) => value,
                        Err(_) => String::from_utf8_lossy(&bytes).into(),
                    },
                });
                let id = result.correlation_id;
                say(
                    json!({ "saw": "result", "id": id, "success": result.success, "payload": payload, "error": result.error }),
                );
                return Ok(true);
            }
            other => {
                say(json!({ "saw": "other", "text": format!("{other:?}") }));
                return Ok(true);
            }
        };
        let kind = format!("{:?}", request.request_type);
        say(json!({ "saw": "request", "kind": kind, "payload": format!("{:?}", request.payload) }));
        if self.denies.take_if(|denied| *denied == kind).is_some() {
            return Ok(false);
        }
        if self.is_silent {
            return Ok(true);
        }
        let response = self.answer(request);
        Ok(send(Some(connection), ModuleMessage::Response(response)).await)
    }

    fn answer(&self, request: RequestMessage) -> ResponseMessage {
        let payload = match request.payload {
            RequestPayload::Handshake { .. } => {
                Ok(ResponsePayload::HandshakeAck { node_version: self.version.clone() })
            }
            RequestPayload::SubscribeEvents { .. } => Ok(ResponsePayload::SubscribeAck),
            RequestPayload::GetChainTip => Ok(ResponsePayload::Hash(TIP)),
            RequestPayload::GetBlockHeight => Ok(ResponsePayload::U64(HEIGHT)),
            RequestPayload::GetChainInfo => Ok(ResponsePayload::ChainInfo(ChainInfo {
                tip_hash: TIP,
                height: HEIGHT,
                difficulty: 1.0,
                chain_work: HEIGHT,
                is_synced: true,
            })),
            RequestPayload::RegisterModuleApi { .. } => Ok(ResponsePayload::ModuleApiRegistered),
            RequestPayload::RegisterCliSpec { .. } => Ok(ResponsePayload::Bool(true)),
            RequestPayload::PublishEvent { .. } => Ok(ResponsePayload::EventPublished),
            RequestPayload::IsModuleAvailable { module_id } => {
                Ok(ResponsePayload::ModuleAvailable(self.available.contains(&module_id)))
            }
            RequestPayload::CallModule { method, .. } => match self.answers.get(&method) {
                Some(text) => Ok(ResponsePayload::ModuleApiResponse(text.as_bytes().to_vec())),
                None => Err(format!("nobody answers {method}")),
            },
            other => Err(format!("not in this script: {other:?}")),
        };
        let id = request.correlation_id;
        payload.map_or_else(
            |error| ResponseMessage::error(id, error),
            |payload| ResponseMessage::success(id, payload),
        )
    }
}

/// An event as the node sends it.
fn event(kind: &str) -> Result<EventMessage> {
    let (event_type, payload) = match kind {
        "NewBlock" => (EventType::NewBlock, EventPayload::NewBlock { block_hash: TIP, height: HEIGHT }),
        "BlockMined" => (
            EventType::BlockMined,
            EventPayload::BlockMined { block_hash: TIP, height: HEIGHT, miner_id: None },
        ),
        "BlockDisconnected" => {
            (EventType::BlockDisconnected, EventPayload::BlockDisconnected { hash: TIP, height: HEIGHT })
        }
        "ChainReorg" => (EventType::ChainReorg, EventPayload::ChainReorg { old_tip: [6; 32], new_tip: TIP }),
        "BlockTemplateUpdated" => (
            EventType::BlockTemplateUpdated,
            EventPayload::BlockTemplateUpdated { prev_hash: TIP, height: HEIGHT + 1, tx_count: 3 },
        ),
        "MiningDifficultyChanged" => (
            EventType::MiningDifficultyChanged,
            EventPayload::MiningDifficultyChanged { old_difficulty: 1, new_difficulty: 2, height: HEIGHT },
        ),
        _ => bail!("no event here: {kind}"),
    };
    Ok(EventMessage { event_type, payload })
}

async fn next(connection: Option<&mut Connection>) -> Option<std::io::Result<bytes::BytesMut>> {
    connection?.next().await
}

/// Whether there is someone who gets it.
async fn send(connection: Option<&mut Connection>, message: ModuleMessage) -> bool {
    let bytes = bincode::serialize(&message).expect("a message of the node's own");
    match connection {
        Some(connection) => connection.send(bytes.into()).await.is_ok(),
        None => {
            say(json!({ "saw": "nobody" }));
            true
        }
    }
}

/// That of the node.
fn codec() -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder().max_frame_length(40 * 1024 * 1024).new_codec()
}

fn say(what: Value) {
    println!("{what}");
}
