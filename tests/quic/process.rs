//! A server in a process of its own, to be killed and measured.

#![allow(dead_code)]

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;

use blvm_stratum_v2::wire::url::{StratumUrl, Transport};
use tempfile::TempDir;

use crate::raw::PATIENCE;

/// In the home.
const LOG: &str = "server.log";

/// What it is configured with, its certificates and keys.
pub(crate) struct Home {
    directory: TempDir,
    config: String,
    logging: bool,
}

impl Home {
    /// A directory with a configuration, of which `more` is a part without the address.
    pub(crate) fn new(more: &str) -> Self {
        Self { directory: tempfile::tempdir().unwrap(), config: more.to_owned(), logging: false }
    }

    /// Servers write a [`log`](Self::log) here.
    pub(crate) fn logging(self) -> Self {
        Self { logging: true, ..self }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// What all servers of this home have logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path().join(LOG)).unwrap()
    }

    pub(crate) fn endpoint_key(&self) -> PathBuf {
        self.directory.path().join("certs/endpoint.key")
    }

    /// A server on this port of localhost; 0 takes a free one.
    pub(crate) fn start(&self, port: u16) -> Process {
        let config = format!("[stratum_v2]\nlisten_addr = \"127.0.0.1:{port}\"\n{}", self.config);
        fs::write(self.directory.path().join("config.toml"), config).unwrap();
        let log = self.path().join(LOG);
        let log = self.logging.then(|| File::options().create(true).append(true).open(log).unwrap());
        Process::start(self.path(), log)
    }
}

/// Killed when it is dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) quic: StratumUrl,
}

impl Process {
    fn start(directory: &Path, log: Option<File>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_blvm-stratum-v2"));
        match &log {
            // as the configuration says
            Some(_) => command.env_remove("RUST_LOG"),
            None => command.env("RUST_LOG", "error"),
        };
        let mut child = command
            .arg("run")
            .current_dir(directory)
            .stderr(log.map_or_else(Stdio::inherit, Stdio::from))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            // to the end: a server must not find that no one reads what it says
            out.lines().map_while(Result::ok).for_each(|line| drop(sender.send(line)));
        });
        let quic = loop {
            let line = lines.recv_timeout(PATIENCE).expect("the server starts");
            if line.contains("miners connect to") {
                break line.split_whitespace().last().unwrap().parse().unwrap();
            }
        };
        Self { child, quic }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn tcp(&self) -> StratumUrl {
        StratumUrl { transport: Transport::Tcp, ..self.quic.clone() }
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// SIGTERM; returns when it has ended.
    pub(crate) async fn terminate(mut self) {
        self.signal("TERM");
        let ended = tokio::task::spawn_blocking(move || self.child.wait().unwrap().success());
        assert!(ended.await.unwrap());
    }
}

impl Drop for Process {
    /// SIGKILL: it says nothing to anyone.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
