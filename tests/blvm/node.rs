//! blvm-node, the real one.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use bitcoin::consensus::encode;
use bitcoin::{Address, Block, BlockHash, Network, ScriptBuf};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::log::Log;
use crate::patience::until;
use crate::port::port;
use crate::programs::program;
use crate::rpc::Rpc;

/// Its name for the module.
pub(crate) const NAME: &str = "blvm-stratum-v2";
/// It answers as often as it is asked, and lets as many in as come.
pub(crate) const UNLIMITED: &str = "[rpc]\n\
    ip_rate_limit_burst = 1000000\n\
    ip_rate_limit_rate = 1000000\n\
    max_connections_per_ip_per_minute = 1000000\n";

/// A node and its folder. It is killed when this is dropped, and so are the modules that it leaves
/// behind.
pub(crate) struct Node {
    program: PathBuf,
    home: TempDir,
    p2p_port: u16,
    rpc_port: u16,
    pub(crate) rpc: Rpc,
    process: Option<Child>,
}

impl Node {
    /// One that does not run yet. None if there is no blvm-node.
    pub(crate) fn prepare(more_config: &str) -> Option<Self> {
        let program = program("blvm_node")?;
        let home = tempfile::tempdir().unwrap();
        let (p2p_port, rpc_port) = (port(), port());
        let rpc = Rpc::new(rpc_port, home.path().join("data/.cookie"));
        let node = Self { program, home, p2p_port, rpc_port, rpc, process: None };
        for directory in [node.modules(), node.data_of_modules(), node.sockets()] {
            fs::create_dir_all(directory).unwrap();
        }
        let config = format!(
            "protocol_version = \"regtest\"\n\
             transport_preference = \"tcponly\"\n\
             [storage]\n\
             data_dir = \"{data}\"\n\
             database_backend = \"redb\"\n\
             [network_timing]\n\
             target_peer_count = 0\n\
             [request_timeouts]\n\
             handshake_timeout_secs = 1\n\
             [modules]\n\
             enabled = true\n\
             modules_dir = \"{modules}\"\n\
             data_dir = \"{data_of_modules}\"\n\
             socket_dir = \"{sockets}\"\n\
             enabled_modules = []\n\
             registry_url = \"\"\n\
             {more_config}",
            data = node.data().display(),
            modules = node.modules().display(),
            data_of_modules = node.data_of_modules().display(),
            sockets = node.sockets().display(),
        );
        private(&node.home.path().join("node.toml")).write_all(config.as_bytes()).unwrap();
        Some(node)
    }

    /// One that runs, and has a few blocks.
    pub(crate) async fn start(more_config: &str) -> Option<Self> {
        let mut node = Self::prepare(more_config)?;
        node.restart().await;
        node.generate(3).await;
        Some(node)
    }

    /// Starts it, or starts it anew with what it has saved, and waits until it answers.
    pub(crate) async fn restart(&mut self) {
        self.kill();
        let said = OpenOptions::new().create(true).append(true).open(self.log_path()).unwrap();
        let node = Command::new(&self.program)
            .args([self.home.path().join("node.toml"), self.data()])
            .args([self.p2p_port, self.rpc_port].map(|port| format!("127.0.0.1:{port}")))
            .current_dir(&self.home)
            .env_remove("RUST_LOG")
            // it has no peers to wait for
            .env("BLVM_IBD_PEER_HEIGHT_WAIT_MS", "0")
            .stdin(Stdio::piped())
            .stdout(File::create(self.said_path()).unwrap())
            .stderr(said)
            .spawn();
        self.process = Some(node.expect("blvm-node starts"));
        until("blvm-node answers", async || {
            if let Some(status) = self.process.as_mut().and_then(|node| node.try_wait().unwrap()) {
                panic!("blvm-node has ended, {status}: {}", self.log().text());
            }
            self.rpc.call("getblockcount", json!([])).await.is_ok()
        })
        .await;
    }

    /// SIGKILL: modules are left behind. On SIGTERM it hangs, once it has some.
    pub(crate) fn kill(&mut self) {
        if let Some(mut node) = self.process.take() {
            node.kill().unwrap();
            node.wait().unwrap();
        }
    }

    /// Gives it a line of those that the program obeys.
    pub(crate) fn tell(&mut self, line: &str) {
        let input = self.process.as_mut().and_then(|node| node.stdin.as_mut()).expect("it runs");
        writeln!(input, "{line}").unwrap();
    }

    /// What the program has printed for that.
    pub(crate) fn said(&self) -> Log {
        Log::at(self.said_path())
    }

    /// What the node logs.
    pub(crate) fn log(&self) -> Log {
        Log::at(self.log_path())
    }

    /// [`Rpc::call`] for what cannot go wrong.
    pub(crate) async fn ask(&self, method: &str, params: Value) -> Value {
        self.rpc.call(method, params).await.unwrap_or_else(|complaint| panic!("{complaint}"))
    }

    pub(crate) async fn height(&self) -> u64 {
        self.ask("getblockcount", json!([])).await.as_u64().unwrap()
    }

    /// A block that it has on its chain.
    pub(crate) async fn block(&self, hash: BlockHash) -> Block {
        // it counts confirmations late
        let header = self.ask("getblockheader", json!([hash.to_string()])).await;
        assert_eq!(self.ask("getblockhash", json!([header["height"]])).await, json!(hash.to_string()));
        let block = self.ask("getblock", json!([hash.to_string(), 0])).await;
        encode::deserialize_hex(block.as_str().unwrap()).unwrap()
    }

    /// Has it make so many blocks, one after the other. Waits until it has a chain to put them on, which it
    /// has some time after its first start.
    pub(crate) async fn generate(&self, blocks: u32) -> Vec<BlockHash> {
        let mut hashes = Value::Null;
        until("the node makes blocks", async || {
            match self.rpc.call("generatetoaddress", json!([blocks, someone().to_string()])).await {
                Ok(made) => hashes = made,
                Err(complaint) => assert!(complaint.contains("No chain tip"), "{complaint}"),
            }
            hashes.is_array()
        })
        .await;
        hashes.as_array().unwrap().iter().map(|hash| hash.as_str().unwrap().parse().unwrap()).collect()
    }

    /// Waits until it lists the module, as it does once it has spoken to it.
    pub(crate) async fn lists_module(&self) {
        until("the node lists the module", async || {
            let listed = self.rpc.call("listmodules", json!([])).await;
            listed.is_ok_and(|listed| listed.as_array().is_some_and(|names| names.contains(&NAME.into())))
        })
        .await;
    }

    /// Where its RPC is.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.rpc_port)
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    pub(crate) fn modules(&self) -> PathBuf {
        self.data().join("installed")
    }

    pub(crate) fn data_of_modules(&self) -> PathBuf {
        self.data().join("modules")
    }

    fn sockets(&self) -> PathBuf {
        self.data().join("sockets")
    }

    /// Where it listens for modules.
    pub(crate) fn socket(&self) -> PathBuf {
        self.sockets().join("node.sock")
    }

    fn log_path(&self) -> PathBuf {
        self.home.path().join("log")
    }

    fn said_path(&self) -> PathBuf {
        self.home.path().join("said")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
        for module in crate::module::processes(self.data_of_modules().join(NAME)) {
            crate::module::kill(module);
        }
        if std::thread::panicking() {
            println!("the node said:\n{}", self.log().tail());
        }
    }
}

/// A file for this user only: the node refuses a config that others may read.
fn private(path: &Path) -> File {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).unwrap()
}

/// Whom blocks pay that the node makes itself.
fn someone() -> Address {
    address(9)
}

/// Whom the pool pays.
pub(crate) fn pool_address() -> Address {
    address(7)
}

fn address(owner: u8) -> Address {
    let script = ScriptBuf::from_bytes([&[0x00, 0x14][..], &[owner; 20]].concat());
    Address::from_script(&script, Network::Regtest).unwrap()
}
