//! The binary as a process, and its directory.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use blvm_stratum_v2::wire::url::{StratumUrl, Transport};
use tempfile::TempDir;

use super::PATIENCE;

/// What outlasts a server.
pub(crate) struct Home {
    directory: TempDir,
    config: String,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self::with("shares_per_minute = 60000\nshare_batch_size = 1000\n")
    }

    /// With this in `[stratum_v2]`, and what comes after it.
    pub(crate) fn with(config: &str) -> Self {
        Self { directory: tempfile::tempdir().unwrap(), config: config.to_owned() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// How often a server has been started here.
    pub(crate) fn boots(&self) -> u64 {
        fs::read_to_string(self.path("data/boots")).unwrap().trim().parse().unwrap()
    }

    /// `run` on this port of localhost; 0 takes a free one.
    pub(crate) fn command(&self, port: u16) -> Command {
        let config = format!("[stratum_v2]\nlisten_addr = \"127.0.0.1:{port}\"\n{}", self.config);
        fs::write(self.path("config.toml"), config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_blvm-stratum-v2"));
        command.arg("run").current_dir(self.directory.path()).env("RUST_LOG", "warn").stdin(Stdio::null());
        command
    }

    pub(crate) fn start(&self, port: u16) -> Server {
        Server::start(&mut self.command(port))
    }
}

/// Killed when it is dropped.
pub(crate) struct Server {
    child: Child,
    out: mpsc::Receiver<String>,
    err: mpsc::Receiver<String>,
    pub(crate) quic: StratumUrl,
}

impl Server {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = lines(child.stdout.take().unwrap());
        let err = lines(child.stderr.take().unwrap());
        let line = line_with(&out, "miners connect to");
        let quic = line.split_whitespace().last().unwrap().parse().unwrap();
        Self { child, out, err, quic }
    }

    pub(crate) fn url(&self, transport: Transport) -> StratumUrl {
        StratumUrl { transport, ..self.quic.clone() }
    }

    pub(crate) fn port(&self) -> u16 {
        self.quic.port
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Reads on to the line of its standard output that has `text`.
    pub(crate) fn says(&self, text: &str) {
        line_with(&self.out, text);
    }

    /// Reads on to the line of its standard error that has `text`.
    pub(crate) fn complains(&self, text: &str) {
        line_with(&self.err, text);
    }

    /// These signals, one right after the other.
    pub(crate) fn signal(&self, names: &[&str]) {
        let pid = self.pid();
        let all: Vec<_> = names.iter().map(|name| format!("kill -{name} {pid}")).collect();
        assert!(Command::new("sh").args(["-c", &all.join(" && ")]).status().unwrap().success());
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(mut self) -> ExitStatus {
        let ended = tokio::task::spawn_blocking(move || {
            let began = Instant::now();
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status;
                }
                assert!(began.elapsed() < PATIENCE, "the server does not end");
                thread::sleep(std::time::Duration::from_millis(5));
            }
        });
        ended.await.unwrap()
    }

    /// SIGKILL: it says nothing to anyone.
    pub(crate) fn kill(self) {}
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(from: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        // to the end: a server must not find that no one reads what it says
        BufReader::new(from).lines().map_while(Result::ok).for_each(|line| drop(sender.send(line)));
    });
    lines
}

fn line_with(lines: &mpsc::Receiver<String>, text: &str) -> String {
    loop {
        let line = lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no line with {text:?}"));
        if line.contains(text) {
            return line;
        }
    }
}

pub(crate) fn is_there(path: &Path) -> bool {
    fs::exists(path).unwrap()
}
