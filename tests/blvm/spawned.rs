//! The node starts the server.

use std::time::{Duration, Instant};

use bitcoin::Block;
use blvm_stratum_v2::wire::url::{StratumUrl, Transport};
use serde_json::json;

use crate::miners::Miner;
use crate::module::{Layout, Module, config};
use crate::node::{Node, UNLIMITED, pool_address};

/// What the node may take to answer while it is mined on.
const RESPONSIVE: Duration = Duration::from_secs(10);

/// In `[stratum_v2]`: who is paid.
pub(crate) fn payout() -> String {
    format!("coinbase_reward_script = \"{}\"", pool_address())
}

/// A node that has loaded the module.
pub(crate) async fn loaded(
    layout: Layout,
    of_node: &str,
    server: &str,
    rest: &str,
) -> Option<(Node, Module)> {
    let mut node = Node::prepare(of_node)?;
    let module = Module::install(&node, layout, &config(&node, server, rest));
    node.restart().await;
    node.generate(3).await;
    node.lists_module().await;
    Some((node, module))
}

/// A miner there finds blocks that the node accepts.
pub(crate) async fn mine(node: &Node, url: &StratumUrl, blocks: u64) -> Block {
    let before = node.height().await;
    let mut miner = Miner::at(url, "alice").await;
    let mut last = None;
    for _ in 0..blocks {
        let hash = miner.block().await;
        let asked = Instant::now();
        let block = node.block(hash).await;
        // but for what it makes who asks too often wait
        assert!(asked.elapsed() < RESPONSIVE, "the node took {:?}", asked.elapsed());
        assert_eq!(block.block_hash(), hash);
        let paid = &block.txdata[0].output[0];
        assert_eq!(paid.script_pubkey, pool_address().script_pubkey());
        assert!(paid.value.to_sat() > 0);
        last = Some(block);
    }
    assert_eq!(node.height().await, before + blocks);
    last.unwrap()
}

/// With what a node allows that nobody has configured.
async fn mines(layout: Layout) {
    let Some((node, module)) = loaded(layout, "", &payout(), "").await else { return };
    for transport in [Transport::Quic, Transport::Tcp] {
        mine(&node, &module.url(transport).await, 3).await;
    }
    let log = module.log();
    assert!(log.line(0, &["going without"]).is_some(), "it does not wait for the node's IPC");
    assert!(log.line(0, &["ERROR"]).is_none(), "{}", log.text());
    assert!(log.line(0, &["solution refused"]).is_none(), "{}", log.text());
    assert_eq!(node.ask("listmodules", json!([])).await, json!(["blvm-stratum-v2"]));
}

#[tokio::test]
async fn it_is_found_in_a_folder_and_blocks_are_mined() {
    mines(Layout::Together).await;
}

#[tokio::test]
async fn it_is_found_beside_its_folder_and_blocks_are_mined() {
    mines(Layout::Apart).await;
}

#[tokio::test]
async fn it_mines_where_the_nodes_ipc_is_never_answered() {
    let Some((node, module)) = loaded(Layout::Together, UNLIMITED, &payout(), "connect = true").await else {
        return;
    };
    module.log().says(&["the node's IPC does not answer"]).await;
    mine(&node, &module.url(Transport::Quic).await, 2).await;
    node.lists_module().await;
}

/// The node flattens the file's table into one variable that nothing can be read from.
#[tokio::test]
async fn the_nodes_config_overrides_the_file_and_garbage_does_not_matter() {
    let of_node = format!("[modules.blvm-stratum-v2]\npool_signature = \"from the node\"\n{UNLIMITED}");
    let server = format!("pool_signature = \"from the file\"\n{}", payout());
    let Some((node, module)) = loaded(Layout::Together, &of_node, &server, "").await else { return };
    let block = mine(&node, &module.url(Transport::Quic).await, 1).await;
    let script = block.txdata[0].input[0].script_sig.to_bytes();
    let says = |text: &str| script.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(says("from the node") && !says("from the file"), "{script:?}");
}
