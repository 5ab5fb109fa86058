//! A node's JSON-RPC, over one connection for as long as it lasts: a node lets ten a minute in.

use std::fs;
use std::io::{Error, ErrorKind, Result};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

pub(crate) struct Rpc {
    port: u16,
    cookie: PathBuf,
    connection: Mutex<Option<BufReader<TcpStream>>>,
}

impl Rpc {
    pub(crate) fn new(port: u16, cookie: PathBuf) -> Self {
        Self { port, cookie, connection: Mutex::new(None) }
    }

    /// What the node says, its complaint, or why there is none.
    pub(crate) async fn call(&self, method: &str, params: Value) -> std::result::Result<Value, String> {
        loop {
            match self.call_within(Duration::from_secs(30), method, params.clone()).await {
                // the server is the same user, and is to have its share
                Err(complaint) if complaint.contains("rate limit exceeded") => {
                    sleep(Duration::from_secs(2)).await;
                }
                answer => return answer,
            }
        }
    }

    /// [`call`](Self::call) with less patience, or more.
    pub(crate) async fn call_within(
        &self,
        patience: Duration,
        method: &str,
        params: Value,
    ) -> std::result::Result<Value, String> {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
        // hung up unless all goes well: a call that is cut short is cancelled
        let mut connection = self.connection.lock().await;
        let (mut stream, was_used) = match connection.take() {
            Some(stream) => (stream, true),
            None => (self.connect().await.map_err(|error| error.to_string())?, false),
        };
        let mut answer = timeout(patience, self.exchange(&mut stream, &body)).await;
        // the node may have closed it while it was idle
        if was_used && matches!(answer, Ok(Err(_))) {
            stream = self.connect().await.map_err(|error| error.to_string())?;
            answer = timeout(patience, self.exchange(&mut stream, &body)).await;
        }
        let answer = answer
            .map_err(|_| format!("{method} is not answered"))?
            .map_err(|error| format!("{method}: {error}"))?;
        *connection = Some(stream);
        match (&answer["error"], &answer["result"]) {
            (Value::Null, result) => Ok(result.clone()),
            (error, _) => Err(format!("{method}: {error}")),
        }
    }

    async fn connect(&self) -> Result<BufReader<TcpStream>> {
        Ok(BufReader::new(TcpStream::connect(("127.0.0.1", self.port)).await?))
    }

    async fn exchange(&self, stream: &mut BufReader<TcpStream>, body: &str) -> Result<Value> {
        let head = format!(
            "POST / HTTP/1.1\r\nHost: node\r\nAuthorization: Basic {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            base64(fs::read(&self.cookie)?.trim_ascii()),
            body.len()
        );
        stream.write_all(format!("{head}{body}").as_bytes()).await?;
        let (mut status, mut length) = (String::new(), 0);
        stream.read_line(&mut status).await?;
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            if line.trim().is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().map_err(Error::other)?;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        serde_json::from_slice(&body)
            .map_err(|_| Error::other(format!("{}: {}", status.trim(), String::from_utf8_lossy(&body))))
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = bytes.chunks(3).flat_map(|chunk| {
        let bits = (0..3).fold(0, |bits, i| bits << 8 | usize::from(*chunk.get(i).unwrap_or(&0)));
        let digit = move |i: usize| match i > chunk.len() {
            true => '=',
            false => DIGITS[bits >> (18 - 6 * i) & 63].into(),
        };
        (0..4).map(digit)
    });
    digits.collect()
}

#[test]
fn base64_is_that_of_the_standard() {
    for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")] {
        assert_eq!(base64(bytes.as_bytes()), text);
    }
}
