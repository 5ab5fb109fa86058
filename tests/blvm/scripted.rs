//! What a blvm-node does not do when it is asked to: the node's end of the IPC is on a script.

use std::fs::File;
use std::io::Write;
use std::process::{Child, Command, Stdio};

use blvm_stratum_v2::wire::url::Transport;
use serde_json::Value;
use tempfile::TempDir;

use crate::by_hand::Server;
use crate::log::Log;
use crate::miners::Miner;
use crate::programs::program;

/// A script, and the server that is on the other end. The embedded chain has its work.
struct Script {
    server: Server,
    home: TempDir,
    process: Child,
}

impl Script {
    fn start(version: &str) -> Option<Self> {
        Self::start_with(version, "")
    }

    /// With more in `[blvm]`.
    fn start_with(version: &str, more: &str) -> Option<Self> {
        let program = program("blvm_script")?;
        let home = tempfile::tempdir().unwrap();
        let socket = home.path().join("node.sock");
        let process = Command::new(program)
            .arg(&socket)
            .arg(version)
            .stdin(Stdio::piped())
            .stdout(File::create(home.path().join("said")).unwrap())
            .spawn()
            .unwrap();
        let config = format!(
            "[stratum_v2]\nlisten_addr = \"127.0.0.1:0\"\nshare_batch_size = 1\n\
             [blvm]\nsocket_path = \"{}\"\nall_capabilities = true\n{more}\n",
            socket.display()
        );
        Some(Self { server: Server::start(&config), home, process })
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.process.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    fn said(&self) -> Log {
        Log::at(self.home.path().join("said"))
    }

    /// What the server makes of an invocation.
    async fn invoke(&mut self, line: &str) -> Value {
        let start = self.said().len();
        self.tell(line);
        let result = self.said().says_after(start, &["\"saw\":\"result\""]).await;
        serde_json::from_str(&result).unwrap()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            println!("the script saw:\n{}", self.said().tail());
        }
    }
}

#[tokio::test]
async fn commands_and_calls_are_answered() {
    let Some(mut script) = Script::start("0.1.83") else { return };
    let url = script.server.url(Transport::Quic).await;
    let mut miner = Miner::at(&url, "alice.rig").await;
    let said = script.said();
    miner.during(said.says(&["RegisterCliSpec", "set_difficulty"])).await;
    miner.during(said.says(&["RegisterModuleApi", "get_pool_stats"])).await;

    let status = miner.during(script.invoke("cli status")).await;
    assert_eq!(status["payload"]["exit_code"], 0, "{status}");
    assert!(status["payload"]["stdout"].as_str().unwrap().contains(&url.to_string()), "{status}");
    let miners = miner.during(script.invoke("cli list_miners")).await;
    assert!(miners["payload"]["stdout"].as_str().unwrap().contains("alice.rig"), "{miners}");
    let set = miner.during(script.invoke("cli set_difficulty -d 0.5")).await;
    assert_eq!(set["payload"]["exit_code"], 0, "{set}");
    let status = miner.during(script.invoke("cli status")).await;
    assert!(status["payload"]["stdout"].as_str().unwrap().contains("at least 0.5"), "{status}");
    let wrong = miner.during(script.invoke("cli no_such_thing")).await;
    assert_eq!(wrong["payload"]["exit_code"], 2, "{wrong}");

    let stats = miner.during(script.invoke("api miner get_pool_stats {}")).await;
    assert!(stats["success"] == true && stats["payload"].is_object(), "{stats}");
    let miners = miner.during(script.invoke("api miner get_connected_miners {}")).await;
    assert!(miners["payload"].to_string().contains("alice.rig"), "{miners}");
    let pool = format!(
        r#"api miningos update_pool_config {{"action":"update_pool_config","pool_url":"{url}","pool_user":"a","pool_password":"b"}}"#
    );
    let refused = miner.during(script.invoke(&pool)).await;
    assert_eq!(refused["success"], false, "{refused}");
    assert!(refused["error"].as_str().unwrap().contains("cannot mine for another pool yet"), "{refused}");
    let nonsense = miner.during(script.invoke("api miner get_connected_miners nonsense")).await;
    assert_eq!(nonsense["success"], false, "{nonsense}");
    script.tell("event BlockMined");
    miner.during(script.server.log().says(&["news from the node", "mined"])).await;
    assert!(said.line(0, &["\"saw\":\"ended\""]).is_none());
}

#[tokio::test]
async fn calls_for_merge_mining_are_passed_on() {
    let Some(mut script) = Script::start("0.1.83") else { return };
    script.said().says(&["RegisterModuleApi"]).await;
    let share = r#"api miner submit_merge_mining_share {"channel":1}"#;
    let nobody = script.invoke(share).await;
    assert_eq!(nobody["success"], false, "{nobody}");

    script.tell("available merge");
    script.tell(r#"answer submit_merge_mining_share {"taken":true}"#);
    let registered = script.invoke(r#"api merger_1 register_merge_mining {"module":"merge"}"#).await;
    assert_eq!(registered["success"], true, "{registered}");
    let taken = script.invoke(share).await;
    assert_eq!(taken["payload"]["taken"], true, "{taken}");
    script.said().says(&["CallModule", "merge", "submit_merge_mining_share"]).await;
    let refused = script.invoke("api miner get_merge_mining_template {}").await;
    assert!(refused["error"].as_str().unwrap().contains("nobody answers"), "{refused}");

    // one that is not there is not called
    let registered = script.invoke(r#"api merger_1 register_merge_mining {"module":"gone"}"#).await;
    assert_eq!(registered["success"], true, "{registered}");
    let gone = script.invoke(share).await;
    assert!(gone["error"].as_str().unwrap().contains("not loaded any more"), "{gone}");
    assert!(script.said().line(0, &["CallModule", "gone"]).is_none());
}

#[tokio::test]
async fn datum_says_whom_blocks_pay() {
    let Some(mut script) = Script::start_with("0.1.83", "datum = true") else { return };
    let log = script.server.log();
    log.says(&["blvm-datum is not there"]).await;
    let url = script.server.url(Transport::Quic).await;
    let theirs = "0014751e76e8199196d454941c45d1b3a323f1433bd6";
    script.tell(&format!(
        r#"answer get_coinbase_payout {{"outputs":[{{"script":"{theirs}","value":1234}}],"primary_tag":"x","unique_id":1}}"#
    ));
    script.tell("available blvm-datum");
    script.tell("close"); // it is looked for at once on a new connection
    log.says(&["blocks pay whom blvm-datum says", "outputs=1", "sum=1234"]).await;
    let mut miner = Miner::at(&url, "alice.rig").await;
    miner.block().await;
    script.tell("answer get_coinbase_payout nonsense");
    script.tell("close");
    miner.during(log.says(&["what blvm-datum wants to be paid cannot be"])).await;
}

#[tokio::test]
async fn a_connection_that_ends_is_made_anew() {
    let Some(mut script) = Script::start("0.1.83") else { return };
    for _ in 0..3 {
        let start = script.said().len();
        script.said().says_after(start, &["SubscribeEvents"]).await;
        script.tell("close");
        script.said().says_after(start, &["\"saw\":\"ended\""]).await;
    }
}

#[tokio::test]
async fn what_was_denied_twice_is_not_asked_for_again() {
    let Some(mut script) = Script::start("0.1.83") else { return };
    let said = script.said();
    // the first request after the handshake and what takes no capability
    script.tell("deny RegisterModuleApi");
    said.says(&["\"kind\":\"RegisterModuleApi\""]).await;
    // it may have been about to stop
    let start = said.len();
    script.tell("deny RegisterModuleApi");
    said.says_after(start, &["\"kind\":\"RegisterModuleApi\""]).await;
    let start = said.len();
    script.server.log().says(&["ERROR", "register_module_api", "all_capabilities = false"]).await;
    said.says_after(start, &["\"kind\":\"GetChainInfo\""]).await;
    script.tell("event NewBlock");
    script.server.log().says(&["news from the node"]).await;
    let text = said.text();
    let later = &text[start..];
    for denied in ["RegisterModuleApi", "RegisterCliSpec", "PublishEvent"] {
        assert!(!later.contains(&format!("\"kind\":\"{denied}\"")), "{later}");
    }
}

#[tokio::test]
async fn a_node_of_an_unknown_version_is_left_alone() {
    let Some(script) = Script::start("9.8.7") else { return };
    let log = script.server.log();
    log.says(&["9.8.7", "whose IPC this server does not know"]).await;
    assert!(script.said().line(0, &["SubscribeEvents"]).is_none());
}
