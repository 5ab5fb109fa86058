//! Two nodes: the first for as long as it works, then the second.

use bitcoin::BlockHash;
use bitcoin::consensus::encode;

use crate::core::{Core, until};
use crate::stage::Stage;
use crate::upstream::{Kind, Upstream};

const MOVED: &str = "miners get their work from another source now";

#[tokio::test]
async fn miners_go_on_with_the_second_node_and_back_with_the_first() {
    let (Some(mut first), Some(second)) = (Core::start().await, Core::empty("regtest").await) else { return };
    first.connect(&second).await;
    let tip = first.generate(3).await[2];
    until("both nodes have one chain", async || second.has(tip).await).await;
    first.save().await;
    let upstreams = [Upstream::of(Kind::Rpc, &first).await, Upstream::of(Kind::Rpc, &second).await];
    let stage = Stage::open(upstreams).await;
    let (mut quic, mut tcp) = stage.miners().await;
    quic.is_on(tip).await;
    tcp.is_on(tip).await;

    first.kill();
    quic.during(tcp.during(stage.log.says(&[MOVED, &from(&second)]))).await;
    let found = quic.block().await;
    assert_eq!(second.tip().await, found);
    tcp.is_on(found).await;
    let found = tcp.block().await;
    assert_eq!(second.tip().await, found);
    quic.is_on(found).await;

    first.restart().await;
    first.connect(&second).await;
    quic.during(tcp.during(stage.log.says(&[MOVED, &from(&first)]))).await;
    assert_eq!(first.tip().await, found);
    second.freeze();
    let found = quic.block().await;
    assert_eq!(first.tip().await, found);
    tcp.is_on(found).await;
    let found = tcp.block().await;
    assert_eq!(first.tip().await, found);
    second.thaw();
    until("both nodes have one chain", async || second.tip().await == found).await;
    stage.has_blocks(4).await;
}

#[tokio::test]
async fn a_found_block_is_given_to_both_nodes() {
    let (Some(first), Some(second)) = (Core::start().await, Core::empty("regtest").await) else { return };
    copy(&first, &second).await;
    let upstreams = [Upstream::of(Kind::Rpc, &first).await, Upstream::of(Kind::Rpc, &second).await];
    let stage = Stage::open(upstreams).await;
    let (mut quic, mut tcp) = stage.miners().await;
    for miner in [&mut quic, &mut tcp] {
        miner.is_on(first.tip().await).await;
        let found = miner.block().await;
        for node in [&first, &second] {
            until("each node has the block", async || node.tip().await == found).await;
        }
    }
    stage.has_blocks(2).await;
}

/// How the log names a node that work comes from.
fn from(core: &Core) -> String {
    format!("source=\"bitcoin_rpc {}\"", core.url())
}

/// Gives one node the other's blocks, as they do not know each other.
async fn copy(from: &Core, to: &Core) {
    for height in 1..=from.height().await {
        let hash: BlockHash = from.hash_at(height).await;
        let block = from.ask(&["getblock", &hash.to_string(), "0"]).await;
        let block = encode::deserialize_hex(block.as_str().unwrap()).unwrap();
        assert_eq!(to.submit(&block).await, Ok(()));
    }
}
