//! The server is killed with a found block in its hands.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use blvm_stratum_v2::wire::url::StratumUrl;
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::core::{Core, soon, until};
use crate::miners::Miner;
use crate::stage::{self, Wanted, gone, kept};
use crate::upstream::{Kind, Upstream, on_every_source};

on_every_source! { a_block_is_submitted_by_the_server_that_is_started_next }

async fn a_block_is_submitted_by_the_server_that_is_started_next(kind: Kind, mut core: Core) {
    core.save().await;
    let sources = Upstream::beside_rpc(kind, &core).await;
    let home = tempfile::tempdir().unwrap();
    let config = stage::config(home.path(), &sources, Wanted::default());
    fs::write(home.path().join("config.toml"), config).unwrap();
    let mut server = Server::start(&home).await;
    let mut miner = Miner::at(&server.url, "alice").await;
    core.kill();
    let find = miner.find();
    assert_eq!(miner.submit(&find).await, Ok(()));
    let kept = kept(home.path(), find.hash);
    until("the block is on disk", async || fs::exists(&kept).unwrap()).await;
    server.kill();

    core.restart().await;
    assert!(!core.has(find.hash).await);
    let server = Server::start(&home).await;
    until("the node has the block", async || core.has(find.hash).await).await;
    gone(&kept).await;
    let mut miner = Miner::at(&server.url, "alice").await;
    miner.is_on(find.hash).await;
}

/// The server in a process of its own. It is killed when this is dropped.
struct Server {
    child: Child,
    url: StratumUrl,
}

impl Server {
    async fn start(home: &TempDir) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_blvm-stratum-v2"))
            .args(["run", "--config", "config.toml"])
            .current_dir(home)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (sender, mut lines) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            // to the end: a server must not find that no one reads what it says
            out.lines().map_while(Result::ok).for_each(|line| drop(sender.send(line)));
        });
        let url = soon("the server starts", async {
            loop {
                let line = lines.recv().await.expect("the server runs");
                if line.contains("miners connect to") {
                    break line.split_whitespace().last().unwrap().parse().unwrap();
                }
            }
        });
        let url = url.await;
        Self { child, url }
    }

    /// SIGKILL.
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
