//! The server as the node's module: how it is installed, and what becomes of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use blvm_stratum_v2::wire::url::{StratumUrl, Transport};

use crate::log::Log;
use crate::manifest;
use crate::node::{NAME, Node};
use crate::patience::until;
use crate::port::port;

/// How it is installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// All in one folder.
    Together,
    /// The program in the modules' folder, as `cargo install` puts it, the manifest alone in one of
    /// its own, and the configuration with the module's data.
    Apart,
}

/// The module in a node's folders.
pub(crate) struct Module {
    data: PathBuf,
}

impl Module {
    /// Installs it. `config` is for the end of its `config.toml`.
    pub(crate) fn install(node: &Node, layout: Layout, config: &str) -> Self {
        let data = node.data_of_modules().join(NAME);
        let (home, program) = match layout {
            Layout::Together => (node.modules().join(NAME), node.modules().join(NAME).join(NAME)),
            // the program has the name that the folder usually has
            Layout::Apart => (node.modules().join("stratum"), node.modules().join(NAME)),
        };
        fs::create_dir_all(&data).unwrap();
        fs::create_dir_all(&home).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_blvm-stratum-v2"), program).unwrap();
        fs::copy(manifest::path(), home.join("module.toml")).unwrap();
        let place = if layout == Layout::Together { &home } else { &data };
        fs::write(place.join("config.toml"), config).unwrap();
        Self { data }
    }

    /// What it logs.
    pub(crate) fn log(&self) -> Log {
        let files = fs::read_dir(&self.data).into_iter().flatten().map(|entry| entry.unwrap().path());
        let log = files.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
        let log = log.filter(|path| path.file_name().is_some_and(|name| name != "stderr.log")).max();
        Log::at(log.unwrap_or_else(|| self.data.join("none")))
    }

    /// What it logs, once there is something.
    pub(crate) async fn has_log(&self) -> Log {
        until("the module logs", async || self.log().len() > 0).await;
        self.log()
    }

    /// Where miners find it, once it is there.
    pub(crate) async fn url(&self, transport: Transport) -> StratumUrl {
        let scheme = match transport {
            Transport::Quic => "stratum2+quic://",
            Transport::Tcp => "stratum2+tcp://",
        };
        let line = self.has_log().await.says(&[scheme]).await;
        line.split_whitespace().last().unwrap().parse().unwrap()
    }

    /// Waits until it says, after `start` in its log, that miners find it there.
    pub(crate) async fn serves_at(&self, start: usize, url: &StratumUrl) {
        self.has_log().await.says_after(start, &[&url.to_string()]).await;
    }

    /// Its processes. None if it does not run.
    pub(crate) fn processes(&self) -> Vec<u32> {
        processes(&self.data)
    }

    /// The one that it is, once it is there.
    pub(crate) async fn process(&self) -> u32 {
        until("the module runs", async || !self.processes().is_empty()).await;
        let [process] = self.processes()[..] else { panic!("there are several") };
        process
    }

    /// Waits until it is gone.
    pub(crate) async fn gone(&self) {
        until("the module ends", async || self.processes().is_empty()).await;
    }
}

impl Drop for Module {
    /// Shows what it has logged where a test has failed.
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the module said:\n{}", self.log().tail());
            let last_words = Log::at(self.data.join("stderr.log"));
            println!("and its last words were:\n{}", last_words.tail());
        }
    }
}

/// A configuration with this node for work, and a port of its own.
pub(crate) fn config(node: &Node, server: &str, rest: &str) -> String {
    format!(
        "[stratum_v2]\n\
         network = \"regtest\"\n\
         listen_addr = \"127.0.0.1:{port}\"\n\
         share_batch_size = 1\n\
         {server}\n\
         [blvm]\n\
         rpc_url = \"{url}\"\n\
         {rest}\n",
        port = port(),
        url = node.url(),
    )
}

/// The processes that have been started by a node as the module with these data, and go on.
pub(crate) fn processes(data: impl AsRef<Path>) -> Vec<u32> {
    let mark = format!("DATA_DIR={}", data.as_ref().display());
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let entry = entry.ok()?;
        let process = entry.file_name().to_str()?.parse().ok()?;
        // one that has ended has none any more
        let environment = fs::read(entry.path().join("environ")).ok()?;
        environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes()).then_some(process)
    });
    processes.collect()
}

/// SIGKILL.
pub(crate) fn kill(process: u32) {
    let killed = Command::new("kill").args(["-KILL", &process.to_string()]).status();
    assert!(killed.unwrap().success());
}
