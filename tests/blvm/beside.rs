//! The server beside a node that has not started it: the node's IPC serves it.

use blvm_stratum_v2::wire::url::Transport;

use crate::by_hand::Server;
use crate::miners::Miner;
use crate::module::config;
use crate::node::{NAME, Node, UNLIMITED};
use crate::patience::until;
use crate::spawned::{mine, payout};

const ALL: &str = "read_blockchain,read_chain_state,subscribe_events,publish_events,discover_modules,call_module,\
                   register_module_api,register_rpc_endpoint";

/// A server on a node's work and IPC.
fn server(node: &Node, all_capabilities: bool) -> Server {
    let rest = format!(
        "node_data_dir = \"{}\"\nsocket_path = \"{}\"\nall_capabilities = {all_capabilities}",
        node.data().display(),
        node.socket().display()
    );
    Server::start(&config(node, &payout(), &rest))
}

#[tokio::test]
async fn news_of_a_block_comes_by_ipc() {
    let Some(node) = Node::start(UNLIMITED).await else { return };
    let server = server(&node, false);
    let mut miner = Miner::at(&server.url(Transport::Quic).await, "alice").await;
    let log = server.log();
    miner.during(log.says(&["connected with the node's IPC", "0.1.83"])).await;
    miner.during(log.says(&["the node tells of blocks by its IPC"])).await;
    let before = log.len();
    let block = node.generate(1).await[0];
    miner.is_on(block).await;
    miner.during(log.says_after(before, &["news from the node", "mined", &block.to_string()])).await;
    miner.during(log.says_after(before, &["the sources of work are asked"])).await;
}

#[tokio::test]
async fn the_node_is_told_what_happens() {
    let Some(mut node) = Node::start(UNLIMITED).await else { return };
    let said = node.said();
    node.tell(&format!("grant {NAME} {ALL}"));
    said.says(&["granted"]).await;
    node.tell("watch MiningJobCreated,StratumClientConnected,StratumClientDisconnected,ShareSubmitted");
    said.says(&["watching"]).await;
    let server = server(&node, true);
    let url = server.url(Transport::Tcp).await;
    let log = server.log();
    log.says(&["other modules can call this one"]).await;
    log.says(&["the node has this module's commands"]).await;
    said.says(&["event", "MiningJobCreated"]).await;

    let mut miner = Miner::at(&url, "alice.rig").await;
    miner.during(said.says(&["event", "StratumClientConnected", "tcp"])).await;
    let block = miner.block().await;
    miner.during(said.says(&["event", "ShareSubmitted", "alice.rig"])).await;
    node.block(block).await;

    // it looks for what is called among the modules that it has started itself: the script of `scripted` does better
    let answer = miner.during(call(&mut node, "get_pool_stats", "{}")).await;
    assert!(answer.starts_with("error ") && answer.contains("not found"), "{answer}");

    drop(miner);
    said.says(&["event", "StratumClientDisconnected"]).await;
    assert!(log.line(0, &["no connection with the node's IPC"]).is_none(), "{}", log.text());
}

/// Calls the server's API, and waits for what comes of it.
async fn call(node: &mut Node, method: &str, params: &str) -> String {
    let said = node.said();
    let start = said.len();
    node.tell(&format!("call {NAME} {method} {params}"));
    let answer = || {
        let text = said.text();
        let mut lines = text.get(start..).unwrap_or_default().lines();
        lines.find(|line| line.starts_with("answer ") || line.starts_with("error ")).map(str::to_owned)
    };
    until("a call is answered", async || answer().is_some()).await;
    answer().expect("it is there")
}

#[tokio::test]
async fn what_the_node_denies_costs_a_connection_and_no_miner() {
    let Some(node) = Node::start(UNLIMITED).await else { return };
    let mut server = server(&node, true);
    let url = server.url(Transport::Quic).await;
    let log = server.log();
    log.says(&["ERROR", "the node has hung up twice", "all_capabilities = false"]).await;
    // it is asked for no more than it grants to anyone
    let denied = log.len();
    log.says_after(denied, &["the node's chain"]).await;
    mine(&node, &url, 2).await;
    assert!(server.runs());
}

#[tokio::test]
async fn a_node_that_is_killed_is_found_again() {
    let Some(mut node) = Node::start(UNLIMITED).await else { return };
    let server = server(&node, false);
    let url = server.url(Transport::Tcp).await;
    let log = server.log();
    log.says(&["the node tells of blocks by its IPC"]).await;
    let before = log.len();
    node.kill();
    log.says_after(before, &["no connection with the node's IPC"]).await;
    node.restart().await;
    log.says_after(before, &["the node tells of blocks by its IPC"]).await;
    let mut miner = Miner::at(&url, "alice").await;
    let before = log.len();
    let block = node.generate(1).await[0];
    miner.is_on(block).await;
    miner.during(log.says_after(before, &["news from the node", "mined", &block.to_string()])).await;
}
