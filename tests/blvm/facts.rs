//! What the node does that the server builds on, or has to live with.

use serde_json::json;

use crate::node::Node;

/// The server tells by it which node it has to do with.
#[tokio::test]
async fn it_says_who_it_is() {
    let Some(node) = Node::start("").await else { return };
    let info = node.ask("getnetworkinfo", json!([])).await;
    assert_eq!(info["subversion"], "/BitcoinCommons:0.1.83/");
    assert_eq!(node.height().await, 3);
}
