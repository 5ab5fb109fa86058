//! Bitcoin Core, the real program.

use std::env;
use std::fs::File;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use bitcoin::consensus::encode;
use bitcoin::{Address, Block, BlockHash, Network};
use blvm_stratum_v2::template::regtest::spendable_script;
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use crate::port::port;

/// What takes longer will not happen any more. Nothing here takes a tenth of it on an idle machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for what is bound to happen.
pub(crate) async fn soon<T>(what: &str, happens: impl Future<Output = T>) -> T {
    match timeout(PATIENCE, happens).await {
        Ok(happened) => happened,
        Err(_) => panic!("waited in vain: {what}"),
    }
}

/// Waits until something holds that no one tells of.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    soon(what, async {
        while !holds().await {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// A node and its folder. It is killed when this is dropped.
pub(crate) struct Core {
    programs: PathBuf,
    home: TempDir,
    /// Those it was started with.
    options: Vec<String>,
    chain: &'static str,
    rpc_port: u16,
    p2p_port: u16,
    process: Option<Child>,
}

impl Core {
    /// A node on a regtest chain of its own, with one block, so that it knows that it is up to
    /// date. None if there is no Bitcoin Core.
    pub(crate) async fn start() -> Option<Self> {
        let core = Self::empty("regtest").await?;
        core.generate(1).await;
        Some(core)
    }

    /// A node that has nothing but genesis. None if there is no Bitcoin Core.
    pub(crate) async fn empty(chain: &'static str) -> Option<Self> {
        let programs = programs()?;
        let (rpc_port, p2p_port) = (port(), port());
        let mut options: Vec<_> = [
            "-server=1",
            "-ipcbind=unix",
            "-printtoconsole=0",
            "-dbcache=4",
            "-maxconnections=16",
            "-dnsseed=0",
            "-fixedseeds=0",
            "-discover=0",
            "-natpmp=0",
            "-listenonion=0",
            // it finds nobody but those it is told of
            "-connect=0",
        ]
        .map(str::to_owned)
        .into();
        options.push(format!("-rpcport={rpc_port}"));
        options.push(format!("-bind=127.0.0.1:{p2p_port}"));
        let home = tempfile::tempdir().unwrap();
        let mut core = Self { programs, home, options, chain, rpc_port, p2p_port, process: None };
        core.restart().await;
        Some(core)
    }

    /// Starts it anew on another chain.
    pub(crate) async fn restart_on(&mut self, chain: &'static str) {
        self.chain = chain;
        self.restart().await;
    }

    /// Starts it anew with what it has saved, and waits until it answers.
    pub(crate) async fn restart(&mut self) {
        self.kill();
        let said = File::create(self.home.path().join("stderr")).unwrap();
        let node = Command::new(self.programs.join("bitcoin-node"))
            .arg(self.datadir())
            .arg(format!("-chain={}", self.chain))
            .args(&self.options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(said)
            .spawn();
        self.process = Some(node.expect("Bitcoin Core starts"));
        until("Bitcoin Core answers", async || {
            if let Some(status) = self.process.as_mut().and_then(|node| node.try_wait().unwrap()) {
                let said = std::fs::read_to_string(self.home.path().join("stderr")).unwrap();
                panic!("Bitcoin Core has ended, {status}: {said}");
            }
            self.cli(&["getblockcount"]).await.is_ok()
        })
        .await;
    }

    /// SIGKILL: it saves nothing and says nothing to anyone.
    pub(crate) fn kill(&mut self) {
        if let Some(mut node) = self.process.take() {
            node.kill().unwrap();
            node.wait().unwrap();
        }
    }

    /// Has all that it knows written to disk. A node that is killed forgets what it has been told since.
    pub(crate) async fn save(&self) {
        self.ask(&["gettxoutsetinfo", "none"]).await;
    }

    /// SIGSTOP: its connections stay, and nothing comes of them.
    pub(crate) fn freeze(&self) {
        self.signal("-STOP");
    }

    /// SIGCONT.
    pub(crate) fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let pid = self.process.as_ref().expect("it runs").id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    fn datadir(&self) -> String {
        format!("-datadir={}", self.home.path().display())
    }

    /// What the node says to a command, or its complaint.
    pub(crate) async fn cli<S: AsRef<str>>(&self, command: &[S]) -> Result<Value, String> {
        let mut cli = tokio::process::Command::new(self.programs.join("bitcoin-cli"));
        cli.arg(self.datadir())
            .arg(format!("-chain={}", self.chain))
            .arg(format!("-rpcport={}", self.rpc_port))
            .args(command.iter().map(AsRef::as_ref))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let Output { status, stdout, stderr } =
            soon("bitcoin-cli has an answer", cli.output()).await.unwrap();
        if !status.success() {
            return Err(String::from_utf8_lossy(&stderr).trim().to_owned());
        }
        let text = String::from_utf8(stdout).unwrap();
        // it prints strings as they are
        Ok(serde_json::from_str(&text).unwrap_or_else(|_| Value::String(text.trim().to_owned())))
    }

    /// [`cli`](Self::cli) for what cannot go wrong.
    pub(crate) async fn ask<S: AsRef<str>>(&self, command: &[S]) -> Value {
        match self.cli(command).await {
            Ok(answer) => answer,
            Err(complaint) => panic!("{}: {complaint}", command[0].as_ref()),
        }
    }

    /// Has it make so many blocks, whose rewards anyone may spend.
    pub(crate) async fn generate(&self, blocks: u32) -> Vec<BlockHash> {
        let address = Address::from_script(&spendable_script(), Network::Regtest).unwrap().to_string();
        let hashes = self.ask(&["generatetoaddress", &blocks.to_string(), &address]).await;
        hashes.as_array().unwrap().iter().map(|hash| hash.as_str().unwrap().parse().unwrap()).collect()
    }

    /// Gives it a block. Its words if it does not become the tip.
    pub(crate) async fn submit(&self, block: &Block) -> Result<(), String> {
        let answer = self.cli(&["submitblock", &encode::serialize_hex(block)]).await?;
        match answer.as_str() {
            Some("") => Ok(()),
            Some(words) => Err(words.to_owned()),
            None => panic!("{answer}"),
        }
    }

    pub(crate) async fn tip(&self) -> BlockHash {
        self.ask(&["getbestblockhash"]).await.as_str().unwrap().parse().unwrap()
    }

    pub(crate) async fn height(&self) -> u32 {
        self.ask(&["getblockcount"]).await.as_u64().unwrap() as u32
    }

    /// A block on its chain, with its transactions.
    pub(crate) async fn block_at(&self, height: u32) -> Value {
        let hash = self.hash_at(height).await;
        self.ask(&["getblock", &hash.to_string(), "2"]).await
    }

    pub(crate) async fn hash_at(&self, height: u32) -> BlockHash {
        self.ask(&["getblockhash", &height.to_string()]).await.as_str().unwrap().parse().unwrap()
    }

    /// Whether it has this block in its best chain.
    pub(crate) async fn has(&self, hash: BlockHash) -> bool {
        let header = self.cli(&["getblockheader", &hash.to_string()]).await;
        header.is_ok_and(|header| header["confirmations"].as_i64().unwrap() > 0)
    }

    /// Connects it with another.
    pub(crate) async fn connect(&self, other: &Self) {
        let address = format!("127.0.0.1:{}", other.p2p_port);
        self.ask(&["addnode", &address, "add"]).await;
        until("two nodes find each other", async || {
            let peers = self.ask(&["getpeerinfo"]).await;
            peers.as_array().unwrap().iter().any(|peer| peer["version"].as_u64().unwrap() > 0)
        })
        .await;
    }

    /// Where its RPC is.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.rpc_port)
    }

    /// What opens its RPC.
    pub(crate) fn cookie(&self) -> PathBuf {
        self.chain_dir().join(".cookie")
    }

    /// Where its IPC is.
    #[cfg(feature = "bitcoin-ipc")]
    pub(crate) fn socket(&self) -> PathBuf {
        self.chain_dir().join("node.sock")
    }

    fn chain_dir(&self) -> PathBuf {
        match self.chain {
            "main" => self.home.path().to_owned(),
            chain => self.home.path().join(chain),
        }
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Where the programs are. None if they are not there, which only CI takes amiss.
fn programs() -> Option<PathBuf> {
    let built = || {
        let cache = Path::new(&env::var_os("HOME")?).join(".cache/blvm-stratum-v2");
        Some(cache.join("bitcoin-core-0.4.1"))
    };
    let programs = env::var_os("BLVM_BITCOIN_CORE").map(PathBuf::from).or_else(built);
    let found = programs.filter(|programs| programs.join("complete").is_file());
    if found.is_none() {
        assert!(env::var_os("CI").is_none(), "no Bitcoin Core: run tests/peers/bitcoin_core.sh first");
        println!("skipped: Bitcoin Core not found (tests/peers/bitcoin_core.sh builds it)");
    }
    found
}
