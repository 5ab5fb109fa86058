//! The node or the module ends, and they find each other again.

use std::time::{Duration, Instant};

use blvm_stratum_v2::wire::url::Transport;
use serde_json::json;

use crate::module::{Layout, kill};
use crate::node::{NAME, Node, UNLIMITED};
use crate::patience::until;
use crate::spawned::{loaded, mine, payout};

#[tokio::test]
async fn a_node_that_is_killed_comes_back_with_the_module_where_it_was() {
    let Some((mut node, module)) = loaded(Layout::Together, UNLIMITED, &payout(), "").await else { return };
    let urls = [module.url(Transport::Quic).await, module.url(Transport::Tcp).await];
    let before = module.process().await;
    mine(&node, &urls[0], 1).await;
    let height = node.height().await;

    node.kill();
    let killed = Instant::now();
    module.gone().await;
    assert!(killed.elapsed() < Duration::from_secs(10), "it stayed for {:?}", killed.elapsed());

    let start = module.log().len();
    node.restart().await;
    assert_eq!(node.height().await, height);
    node.lists_module().await;
    assert_ne!(module.process().await, before);
    for url in &urls {
        module.serves_at(start, url).await;
        mine(&node, url, 1).await;
    }
}

#[tokio::test]
async fn a_module_that_is_killed_is_loaded_again() {
    let Some((node, module)) = loaded(Layout::Together, UNLIMITED, &payout(), "").await else { return };
    let url = module.url(Transport::Quic).await;
    let before = module.process().await;
    let start = module.log().len();
    kill(before);
    module.gone().await;
    load(&node).await;
    module.serves_at(start, &url).await;
    assert_ne!(module.process().await, before);
    mine(&node, &url, 2).await;
}

/// The node ends the module, removes its own socket, and locks itself out of what comes next. Once
/// nobody waits for that any more, it can load the module, if the socket is there again.
#[tokio::test]
async fn a_reload_that_hangs_is_made_good() {
    let Some((node, module)) = loaded(Layout::Together, UNLIMITED, &payout(), "").await else { return };
    let url = module.url(Transport::Tcp).await;
    let before = module.process().await;
    let start = module.log().len();
    let reload = node.rpc.call_within(Duration::from_secs(3), "reloadmodule", json!([NAME])).await;
    assert_eq!(reload.unwrap_err(), "reloadmodule is not answered", "a node that can do this needs less");
    module.gone().await;
    assert!(!node.socket().exists());
    load(&node).await;
    assert!(node.socket().exists());
    module.log().says_after(start, &["put back"]).await;
    module.serves_at(start, &url).await;
    assert_ne!(module.process().await, before);
    mine(&node, &url, 2).await;
}

async fn load(node: &Node) {
    let mut said = String::new();
    until("the module is loaded", async || {
        let answer = node.rpc.call("loadmodule", json!([NAME])).await;
        said = format!("{said}\n{answer:?}");
        answer.is_ok()
    })
    .await;
    node.lists_module().await;
}
