//! Connections that end.

use std::time::Duration;

use tokio::time::sleep;

use crate::node::{Longpoll, Mood, Node, Reply, SUBSIDY};
use crate::rig::Rig;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn connections_that_were_idle() {
    let node = Node::start(Mood { idle: Some(SECOND / 2), longpoll: Longpoll::No, ..Mood::core() }).await;
    let mut rig = Rig::start_with(&node.url(), |options| options.poll_interval = SECOND);
    rig.up().await;
    for fees in 1..4 {
        node.change(|mood| mood.fees = fees);
        let history = rig.history(|offer| offer.draft.coinbase.value == SUBSIDY + fees).await;
        assert!(history.iter().all(|state| state.offer().is_some()), "{history:?}");
    }
    let checks = node.calls("getblockchaininfo").len();
    let connections = node
        .calls("getblocktemplate")
        .iter()
        .map(|call| call.connection)
        .collect::<std::collections::BTreeSet<_>>();
    assert!(connections.len() > 2, "they were not closed");
    assert!(checks >= connections.len(), "a new connection may be another node's");
}

#[tokio::test]
async fn a_request_that_crosses_with_the_end_of_its_connection() {
    let node = Node::start(Mood { longpoll: Longpoll::No, ..Mood::core() }).await;
    let mut rig = Rig::start_with(&node.url(), |options| options.poll_interval = SECOND);
    rig.up().await;
    node.change(|mood| {
        mood.fees = 3;
        mood.instead.insert("getblocktemplate", Reply::CloseUsed);
    });
    let history = rig.history(|offer| offer.draft.coinbase.value == SUBSIDY + 3).await;
    assert!(history.iter().all(|state| state.offer().is_some()), "{history:?}");
}

#[tokio::test]
async fn a_node_that_starts_anew() {
    let node = Node::start(Mood::core()).await;
    let mut rig = Rig::start(&node.url());
    let first = rig.up().await;
    sleep(SECOND / 2).await;
    let (address, mut mood) = node.stop().await;
    rig.down("server=1").await; // noticed without a poll: those are an hour apart
    mood.credentials = "__cookie__:new".into();
    rig.write_cookie("__cookie__:new");
    let node = Node::start_at(address, mood).await;
    let again = rig.up().await;
    assert_eq!(again.tip, first.tip);
    let second = node.mine("second");
    rig.offer(|offer| offer.tip.prev_hash == second).await;
}

#[tokio::test]
async fn a_node_that_gives_way_to_one_of_another_chain() {
    let node = Node::start(Mood::core()).await;
    let mut rig = Rig::start(&node.url());
    rig.up().await;
    sleep(SECOND / 2).await;
    let (address, mood) = node.stop().await;
    let node = Node::start_at(address, Mood { network: "main", fees: 1, ..mood }).await;
    rig.down("chain main").await;
    assert!(node.templates().1 <= 1);
}

#[tokio::test]
async fn the_source_leaves_nothing_behind() {
    let node = Node::start(Mood::core()).await;
    let mut rig = Rig::start(&node.url());
    rig.up().await;
    sleep(SECOND).await;
    drop(rig);
    sleep(SECOND / 2).await;
    let calls = node.calls.lock().unwrap().len();
    sleep(2 * SECOND).await;
    assert_eq!(node.calls.lock().unwrap().len(), calls);
}
