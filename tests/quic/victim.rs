//! A server in a process of its own, for attacks on it to be measured: this test binary once more.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use blvm_stratum_v2::wire::url::{StratumUrl, Transport};
use tokio::runtime::Runtime;

use crate::house::House;

/// Says to a process of this binary that it is to be a server, with these limits.
const LIMITS: &str = "VICTIM_LIMITS";

/// What an attack runs into.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) validate_above: usize,
    pub(crate) max_handshakes: usize,
    pub(crate) handshake_seconds: usize,
    pub(crate) per_address: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { validate_above: 64, max_handshakes: 1024, handshake_seconds: 10, per_address: 1000 }
    }
}

/// The server's process, killed when this is dropped.
pub(crate) struct Victim {
    child: Child,
    _stdin: ChildStdin,
    pub(crate) quic: StratumUrl,
    pub(crate) tcp: StratumUrl,
}

impl Victim {
    pub(crate) fn start(limits: Limits) -> Self {
        let Limits { validate_above, max_handshakes, handshake_seconds, per_address } = limits;
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "victim::is_a_server_if_told_to", "--nocapture"])
            .env(LIMITS, format!("{validate_above} {max_handshakes} {handshake_seconds} {per_address}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let line = lines.find(|line| line.contains("serves ")).expect("the server starts");
        let urls: Vec<&str> = line.split_whitespace().rev().take(2).collect();
        let (tcp, quic) = (urls[0].parse().unwrap(), urls[1].parse().unwrap());
        std::thread::spawn(move || lines.for_each(drop));
        let stdin = child.stdin.take().unwrap();
        Self { child, _stdin: stdin, quic, tcp }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn address(&self) -> std::net::SocketAddr {
        format!("{}:{}", self.quic.host, self.quic.port).parse().unwrap()
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn is_a_server_if_told_to() {
    let Ok(limits) = std::env::var(LIMITS) else { return };
    let limits: Vec<usize> = limits.split(' ').map(|limit| limit.parse().unwrap()).collect();
    let house = Runtime::new().unwrap().block_on(House::listener(2, |options| {
        options.quic.validate_above = limits[0];
        options.quic.max_handshakes = limits[1];
        options.quic.handshake_timeout = Duration::from_secs(limits[2] as u64);
        options.max_connections_per_ip = limits[3];
        // a share is answered at once, so that the answer's delay can be measured
        options.pool.session.share_batch_size = 1;
    }));
    println!("serves {} {}", house.url(Transport::Quic), house.url(Transport::Tcp));
    // until whoever started it has gone
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}
