//! The server, started by hand.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use blvm_stratum_v2::wire::url::{StratumUrl, Transport};
use tempfile::TempDir;

use crate::log::Log;

/// A server and its folder. It is killed when this is dropped.
pub(crate) struct Server {
    home: TempDir,
    process: Child,
}

impl Server {
    pub(crate) fn start(config: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("config.toml"), config).unwrap();
        let file = |name: &str| File::create(home.path().join(name)).unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_blvm-stratum-v2"))
            .args(["run", "--config", "config.toml"])
            .current_dir(&home)
            .env("RUST_LOG", "blvm_stratum_v2=debug,warn")
            .stdin(Stdio::null())
            .stdout(file("out"))
            .stderr(file("log"))
            .spawn()
            .unwrap();
        Self { home, process }
    }

    pub(crate) fn log(&self) -> Log {
        Log::at(self.path("log"))
    }

    /// Where miners find it, once it is there.
    pub(crate) async fn url(&self, transport: Transport) -> StratumUrl {
        let scheme = match transport {
            Transport::Quic => "stratum2+quic://",
            Transport::Tcp => "stratum2+tcp://",
        };
        let line = Log::at(self.path("out")).says(&[scheme]).await;
        line.split_whitespace().last().unwrap().parse().unwrap()
    }

    /// Whether it has not ended.
    pub(crate) fn runs(&mut self) -> bool {
        self.process.try_wait().unwrap().is_none()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            println!("the server said:\n{}", self.log().tail());
        }
    }
}
