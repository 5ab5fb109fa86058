//! A node's RPC in the fewest steps: the server's own client is what is measured.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::core::Core;

pub(crate) struct RawRpc {
    stream: BufReader<TcpStream>,
    authorization: String,
}

impl RawRpc {
    pub(crate) fn connect(core: &Core) -> Self {
        let url = core.url();
        let stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
        stream.set_nodelay(true).unwrap();
        let authorization = base64(&fs::read(core.cookie()).unwrap());
        Self { stream: BufReader::new(stream), authorization }
    }

    /// Waits for the answer.
    pub(crate) fn call(&mut self, method: &str, params: &Value) -> Value {
        let body = json!({ "method": method, "params": params, "id": 1 }).to_string();
        let request = format!(
            "POST / HTTP/1.1\r\nHost: node\r\nAuthorization: Basic {}\r\nContent-Length: {}\r\n\r\n{body}",
            self.authorization,
            body.len(),
        );
        self.stream.get_mut().write_all(request.as_bytes()).unwrap();
        let mut len = 0;
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).unwrap();
            match line.trim().to_ascii_lowercase().split_once(": ") {
                Some(("content-length", value)) => len = value.parse().unwrap(),
                Some(_) => {}
                None if line.trim().is_empty() => break,
                None => assert!(line.contains("200"), "{method}: {line}"),
            }
        }
        let mut answer = vec![0; len];
        self.stream.read_exact(&mut answer).unwrap();
        serde_json::from_slice(&answer).unwrap()
    }
}

fn base64(bytes: &[u8]) -> String {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = |group: &[u8]| {
        let bits = (0..3).fold(0, |bits, i| bits << 8 | usize::from(*group.get(i).unwrap_or(&0)));
        let digit =
            |i: usize| if i > group.len() { '=' } else { char::from(alphabet[bits >> (18 - 6 * i) & 63]) };
        [0, 1, 2, 3].map(digit)
    };
    bytes.chunks(3).flat_map(digits).collect()
}
