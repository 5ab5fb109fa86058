//! A node by script: HTTP and JSON-RPC by hand, so that it can be as wrong as it likes.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

pub(crate) const USER: &str = "__cookie__:d00f";

/// A height that is neither one of the first, nor near a change of target.
const FIRST_HEIGHT: u32 = 3_000;
/// What a block at about that height creates.
pub(crate) const SUBSIDY: u64 = 5_000_000_000 >> 20;

/// How the node is. Whoever waits for something sees each change.
#[derive(Clone)]
pub(crate) struct Mood {
    /// The hash of each block from the first height on.
    pub(crate) chain: Vec<BlockHash>,
    /// What transactions pay, of which there are none.
    pub(crate) fees: u64,
    pub(crate) network: &'static str,
    pub(crate) syncing: bool,
    pub(crate) credentials: String,
    pub(crate) longpoll: Longpoll,
    pub(crate) commits: bool,
    /// Judges blocks some time after it was given them.
    pub(crate) queues: bool,
    /// How long a template takes on a new tip.
    pub(crate) template_takes: Duration,
    /// What a millisecond of `waitfornewblock` lasts: of blvm-node, a second.
    pub(crate) unit: Duration,
    /// After this long without a request, connections are closed.
    pub(crate) idle: Option<Duration>,
    /// Methods that are answered otherwise.
    pub(crate) instead: HashMap<&'static str, Reply>,
    /// Members of templates that are otherwise; null is left out.
    pub(crate) template: HashMap<&'static str, Value>,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Longpoll {
    Waits,
    AtOnce,
    No,
}

#[derive(Clone)]
pub(crate) enum Reply {
    Result(Value),
    Error(i64, &'static str),
    Status(u16, &'static str),
    /// These bytes, then nothing more.
    Raw(Vec<u8>),
    /// These bytes, and then these again and again.
    Endless(Vec<u8>, Vec<u8>, Duration),
    Never,
    /// The connection ends.
    Close,
    /// The connection ends, if it has carried a request before.
    CloseUsed,
}

/// A call that came.
#[derive(Clone)]
pub(crate) struct Called {
    pub(crate) connection: usize,
    pub(crate) method: String,
    pub(crate) params: Value,
}

pub(crate) struct Node {
    pub(crate) address: SocketAddr,
    pub(crate) mood: watch::Sender<Mood>,
    pub(crate) calls: Arc<Mutex<Vec<Called>>>,
    serving: JoinSet<()>,
}

pub(crate) fn block(name: &str) -> BlockHash {
    BlockHash::hash(name.as_bytes())
}

impl Mood {
    /// Bitcoin Core, on regtest.
    pub(crate) fn core() -> Self {
        Self {
            chain: vec![block("first")],
            fees: 0,
            network: "regtest",
            syncing: false,
            credentials: USER.to_owned(),
            longpoll: Longpoll::Waits,
            commits: true,
            queues: false,
            template_takes: Duration::ZERO,
            unit: Duration::from_millis(1),
            idle: None,
            instead: HashMap::new(),
            template: HashMap::new(),
        }
    }

    pub(crate) fn blvm() -> Self {
        Self {
            longpoll: Longpoll::AtOnce,
            commits: false,
            queues: true,
            unit: Duration::from_secs(1),
            ..Self::core()
        }
    }

    pub(crate) fn tip(&self) -> BlockHash {
        *self.chain.last().unwrap()
    }

    /// The height of the tip.
    pub(crate) fn height(&self) -> u32 {
        FIRST_HEIGHT + self.chain.len() as u32 - 1
    }

    fn template(&self) -> Value {
        let mut template = json!({
            "version": 0x2000_0000,
            "rules": ["csv", "!segwit", "taproot"],
            "previousblockhash": self.tip().to_string(),
            "transactions": [],
            "coinbasevalue": SUBSIDY + self.fees,
            "target": "7fffff0000000000000000000000000000000000000000000000000000000000",
            "mintime": 1_700_000_000,
            "curtime": 1_700_000_001,
            "bits": "207fffff",
            "height": self.height() + 1,
        });
        if self.longpoll != Longpoll::No {
            template["longpollid"] = format!("{}{}", self.tip(), self.fees).into();
        }
        if self.commits {
            template["default_witness_commitment"] =
                "6a24aa21a9ede2f61c3f71d1defd3fa999dfa36953755c690689799962b48bebd836974e8cf9".into();
        }
        for (member, value) in &self.template {
            template[*member] = value.clone();
        }
        template.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        template
    }
}

impl Node {
    pub(crate) async fn start(mood: Mood) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), mood).await
    }

    pub(crate) async fn start_at(address: SocketAddr, mood: Mood) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(address).unwrap();
        let listener = socket.listen(64).unwrap();
        let address = listener.local_addr().unwrap();
        let calls = Arc::default();
        let mood = watch::Sender::new(mood);
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, mood.subscribe(), Arc::clone(&calls)));
        Self { address, mood, calls, serving }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All connections break, and nobody listens any more.
    pub(crate) async fn stop(mut self) -> (SocketAddr, Mood) {
        self.serving.shutdown().await;
        (self.address, self.mood.borrow().clone())
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Mood)) {
        self.mood.send_modify(change);
    }

    pub(crate) fn mine(&self, name: &str) -> BlockHash {
        self.change(|mood| mood.chain.push(block(name)));
        block(name)
    }

    pub(crate) fn calls(&self, method: &str) -> Vec<Called> {
        let calls = self.calls.lock().unwrap();
        calls.iter().filter(|call| call.method == method).cloned().collect()
    }

    /// The templates that were asked for in the usual way, and by longpoll.
    pub(crate) fn templates(&self) -> (usize, usize) {
        let calls = self.calls("getblocktemplate");
        let longpolls = calls.iter().filter(|call| call.params[0].get("longpollid").is_some()).count();
        (calls.len() - longpolls, longpolls)
    }

    pub(crate) fn connections(&self) -> usize {
        let calls = self.calls.lock().unwrap();
        calls.iter().map(|call| call.connection + 1).max().unwrap_or(0)
    }
}

async fn serve(listener: TcpListener, mood: watch::Receiver<Mood>, calls: Arc<Mutex<Vec<Called>>>) {
    let mut connections = JoinSet::new();
    for connection in 0.. {
        let (stream, _) = listener.accept().await.unwrap();
        connections.spawn(converse(stream, connection, mood.clone(), calls.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn converse(
    mut stream: TcpStream,
    connection: usize,
    mood: watch::Receiver<Mood>,
    calls: Arc<Mutex<Vec<Called>>>,
) {
    let mut buffer = Vec::new();
    for request in 0.. {
        let idle = mood.borrow().idle.unwrap_or(Duration::from_secs(3_600));
        let Ok(Some((head, body))) = timeout(idle, read(&mut stream, &mut buffer)).await else { return };
        let head = head.to_ascii_lowercase();
        assert!(head.starts_with("post / http/1.1\r\n"), "{head}");
        assert!(head.contains(&format!("host: {}\r\n", stream.local_addr().unwrap())), "{head}");
        let authorized = authorization(&mood.borrow().credentials).to_ascii_lowercase();
        if !head.contains(&format!("authorization: {authorized}\r\n")) {
            let _ = stream.write_all(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n").await;
            continue;
        }
        let body: Value = serde_json::from_slice(&body).unwrap();
        let method = body["method"].as_str().unwrap().to_owned();
        let params = body["params"].clone();
        calls.lock().unwrap().push(Called { connection, method: method.clone(), params: params.clone() });
        let instead = mood.borrow().instead.get(&*method).cloned();
        let reply = match instead {
            Some(reply) => reply,
            None => answer(&method, &params, mood.clone()).await,
        };
        let (status, body) = match reply {
            Reply::Result(result) => {
                (200, json!({"result": result, "error": null, "id": body["id"]}).to_string())
            }
            Reply::Error(code, message) => {
                let error = json!({ "code": code, "message": message });
                (500, json!({"result": null, "error": error, "id": body["id"]}).to_string())
            }
            Reply::Status(status, body) => (status, body.to_owned()),
            Reply::Raw(bytes) => {
                let _ = stream.write_all(&bytes).await;
                return;
            }
            Reply::Endless(start, again, pause) => {
                let _ = stream.write_all(&start).await;
                while stream.write_all(&again).await.is_ok() {
                    sleep(pause).await;
                }
                return;
            }
            Reply::Never => std::future::pending().await,
            Reply::Close => return,
            Reply::CloseUsed if request > 0 => return,
            Reply::CloseUsed => {
                let reply = answer(&method, &params, mood.clone()).await;
                let Reply::Result(result) = reply else { return };
                (200, json!({ "result": result, "id": 1 }).to_string())
            }
        };
        let head = format!("HTTP/1.1 {status} Something\r\nContent-Length: {}\r\n\r\n", body.len());
        if stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).await.is_err() {
            return;
        }
    }
}

/// One request. None once there are no more.
async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<(String, Vec<u8>)> {
    let end = loop {
        if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(buffer.drain(..end).collect()).unwrap();
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let length: usize = length.unwrap();
    while buffer.len() < length {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    Some((head, buffer.drain(..length).collect()))
}

async fn answer(method: &str, params: &Value, mut mood: watch::Receiver<Mood>) -> Reply {
    let now = mood.borrow_and_update().clone();
    Reply::Result(match method {
        "getblockchaininfo" => json!({
            "chain": now.network,
            "blocks": now.height(),
            "headers": now.height() + 7,
            "initialblockdownload": now.syncing,
        }),
        "getblocktemplate" => {
            if let Some(id) = params[0].get("longpollid")
                && now.longpoll == Longpoll::Waits
            {
                let known = |mood: &Mood| mood.template()["longpollid"] == *id;
                mood.wait_for(|mood| !known(mood)).await.unwrap();
            }
            let wait = mood.borrow().template_takes;
            sleep(wait).await;
            mood.borrow().template()
        }
        "waitfornewblock" => {
            let tip = now.tip();
            let wait = now.unit * params[0].as_u64().unwrap() as u32;
            let _ = timeout(wait, mood.wait_for(|mood| mood.tip() != tip)).await;
            let mood = mood.borrow();
            json!({ "hash": mood.tip().to_string(), "height": mood.height() })
        }
        "getbestblockhash" => now.tip().to_string().into(),
        "getblockheader" => {
            let hash: BlockHash = params[0].as_str().unwrap().parse().unwrap();
            let Some(index) = now.chain.iter().position(|known| *known == hash) else {
                // it is one that was submitted
                return match now.queues {
                    true => Reply::Error(-5, "Block not found"),
                    false => Reply::Result(json!({ "hash": hash.to_string() })),
                };
            };
            let prev = index.checked_sub(1).map_or(block("before"), |index| now.chain[index]);
            json!({
                "hash": hash.to_string(),
                "height": FIRST_HEIGHT + index as u32,
                "mediantime": 1_700_000_000,
                "previousblockhash": prev.to_string(),
            })
        }
        "submitblock" => Value::Null,
        _ => return Reply::Error(-32601, "Method not found"),
    })
}

fn authorization(credentials: &str) -> String {
    // the other end's base64 is tested against the RFC's example
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = "Basic ".to_owned();
    for group in credentials.as_bytes().chunks(3) {
        let mut bits = 0_u32;
        (0..3).for_each(|i| bits = bits << 8 | u32::from(*group.get(i).unwrap_or(&0)));
        for digit in 0..4 {
            let value = DIGITS[(bits >> (18 - 6 * digit) & 63) as usize];
            text.push(if digit <= group.len() { value.into() } else { '=' });
        }
    }
    text
}
