//! Nodes that have no work, and then have.

use std::time::Duration;

use bitcoin::Network;
use blvm_stratum_v2::template::bitcoin_rpc::Auth;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::node::{Mood, Node, Reply, USER};
use crate::rig::Rig;

#[tokio::test]
async fn a_cookie_that_is_not_there_then_wrong_then_right() {
    let node = Node::start(Mood::core()).await;
    let mut rig = Rig::start_with(&node.url(), |options| {
        let Auth::CookieFile(path) = &mut options.auth else { unreachable!() };
        path.set_extension("later");
    });
    let path = rig.cookie().with_extension("later");
    let reason = rig.down("datadir").await;
    assert!(reason.contains(path.to_str().unwrap()), "{reason}");
    std::fs::write(&path, "__cookie__:wrong").unwrap();
    let reason = rig.down("401").await;
    assert!(reason.contains(path.to_str().unwrap()), "{reason}");
    assert!(!reason.contains("wrong"), "{reason}");
    std::fs::write(&path, USER).unwrap();
    rig.up().await;
}

#[tokio::test]
async fn a_cookie_that_changes_while_we_are_connected() {
    let node = Node::start(Mood::core()).await;
    let mut rig = Rig::start_with(&node.url(), |options| options.poll_interval = Duration::from_secs(1));
    rig.up().await;
    rig.write_cookie("__cookie__:another");
    node.change(|mood| {
        mood.credentials = "__cookie__:another".into();
        mood.fees = 5;
    });
    let second = node.mine("second");
    let history = rig.history(|offer| offer.tip.prev_hash == second).await;
    assert!(history.iter().all(|state| state.offer().is_some()), "{history:?}");
}

#[tokio::test]
async fn a_password() {
    let node = Node::start(Mood { credentials: "miner:s\u{e9}cret:x".into(), ..Mood::core() }).await;
    let auth =
        |password: &str| Auth::UserPassword { user: "miner".into(), password: password.to_owned().into() };
    let mut rig = Rig::start_with(&node.url(), |options| options.auth = auth("guess"));
    let reason = rig.down("401").await;
    assert!(reason.contains("`password`") && !reason.contains("guess"), "{reason}");
    let mut rig = Rig::start_with(&node.url(), |options| options.auth = auth("s\u{e9}cret:x"));
    rig.up().await;
}

#[tokio::test]
async fn a_node_that_is_not_there_yet() {
    let (address, mood) = Node::start(Mood::core()).await.stop().await;
    let mut rig = Rig::start(&format!("http://{address}"));
    let reason = rig.down("server=1").await;
    assert!(reason.contains(&address.to_string()), "{reason}");
    let _node = Node::start_at(address, mood).await;
    rig.up().await;
}

#[tokio::test]
async fn a_node_of_another_chain() {
    let node = Node::start(Mood::core()).await;
    let mut rig = Rig::start_with(&node.url(), |options| options.network = Network::Bitcoin);
    let reason = rig.down("chain regtest").await;
    assert!(reason.contains("stratum_v2.network is main"), "{reason}");
    assert!(node.calls("getblocktemplate").is_empty());
    node.change(|mood| mood.network = "main");
    rig.up().await;
}

#[tokio::test]
async fn a_node_that_syncs() {
    let node = Node::start(Mood { network: "main", syncing: true, ..Mood::core() }).await;
    let mut rig = Rig::start_with(&node.url(), |options| options.network = Network::Bitcoin);
    rig.down("still syncing: it has block 3000 of 3007").await;
    assert!(node.calls("getblocktemplate").is_empty());
    node.change(|mood| mood.syncing = false);
    rig.up().await;

    // a new regtest chain has to be mined to be synced
    let node = Node::start(Mood { syncing: true, ..Mood::core() }).await;
    Rig::start(&node.url()).up().await;
}

#[tokio::test]
async fn a_node_that_says_little_of_itself() {
    let node = Node::start(Mood::core()).await;
    node.change(|mood| {
        drop(mood.instead.insert("getblockchaininfo", Reply::Result(json!({ "chain": "regtest" }))))
    });
    Rig::start(&node.url()).up().await;
}

#[tokio::test]
async fn refusals_that_pass() {
    let passes = async |method, reply, part| {
        let node = Node::start(Mood::core()).await;
        node.change(|mood| drop(mood.instead.insert(method, reply)));
        let mut rig = Rig::start(&node.url());
        rig.down(part).await;
        node.change(|mood| mood.instead.clear());
        rig.up().await;
    };
    let (info, template) = ("getblockchaininfo", "getblocktemplate");
    tokio::join!(
        passes(info, Reply::Error(-28, "Verifying blocks…"), "still starting: Verifying blocks…"),
        passes(info, Reply::Status(403, ""), "rpcallowip"),
        passes(template, Reply::Status(403, ""), "forbids getblocktemplate"),
        passes(template, Reply::Error(-10, "is in initial sync"), "is in initial sync (error -10)"),
        passes(template, Reply::Status(503, "Work queue depth exceeded"), "rpcworkqueue"),
        passes(template, Reply::Status(429, ""), "429"),
    );
}

#[tokio::test]
async fn a_node_that_never_answers() {
    let node = Node::start(Mood::core()).await;
    node.change(|mood| drop(mood.instead.insert("getblocktemplate", Reply::Never)));
    let mut rig = Rig::start(&node.url());
    rig.down("no answer to getblocktemplate within 15 s").await;
    node.change(|mood| mood.instead.clear());
    rig.up().await;
}

#[tokio::test]
async fn a_node_that_is_busy_for_a_moment() {
    let node = Node::start(Mood::core()).await;
    let mut rig = Rig::start_with(&node.url(), |options| options.poll_interval = Duration::from_secs(2));
    rig.up().await;
    sleep(Duration::from_millis(500)).await;
    let busy = |mood: &mut Mood| {
        drop(mood.instead.insert("getblocktemplate", Reply::Status(503, "Work queue depth exceeded")));
    };
    node.change(busy);
    while node.templates().0 < 2 {
        sleep(Duration::from_millis(10)).await;
    }
    node.change(|mood| mood.instead.clear());
    sleep(Duration::from_secs(2)).await;
    assert!(rig.states.borrow_and_update()[0].offer().is_some());
    assert_eq!(node.templates(), (3, 1), "asked again, and the longpoll is still the first");
    node.change(busy);
    rig.down("rpcworkqueue").await;
}

#[tokio::test]
async fn a_node_that_comes_and_goes() {
    let node = Node::start(Mood::core()).await;
    let mut rig = Rig::start_with(&node.url(), |options| options.poll_interval = Duration::from_secs(1));
    rig.up().await;
    let mut away = Duration::ZERO;
    for _ in 0..3 {
        let no = Reply::Error(-10, "is in initial sync");
        node.change(|mood| drop(mood.instead.insert("getblocktemplate", no)));
        rig.down("initial sync").await;
        node.change(|mood| mood.instead.clear());
        let before = Instant::now();
        rig.up().await;
        away = before.elapsed();
    }
    assert!(away > Duration::from_secs(2), "{away:?}");
}

#[tokio::test]
async fn a_signet_of_others() {
    let node = Node::start(Mood { network: "signet", ..Mood::core() }).await;
    node.change(|mood| drop(mood.template.insert("signet_challenge", json!("512103ad5e0edad1"))));
    let mut rig = Rig::start_with(&node.url(), |options| options.network = Network::Signet);
    rig.down("need a signature").await;
}

#[tokio::test]
async fn a_node_that_is_asked_less_and_less() {
    let node = Node::start(Mood { syncing: true, network: "main", ..Mood::core() }).await;
    let mut rig = Rig::start_with(&node.url(), |options| options.network = Network::Bitcoin);
    rig.down("syncing").await;
    sleep(Duration::from_secs(8)).await;
    // after one second, two, four, more or less
    let calls = node.calls("getblockchaininfo").len();
    assert!((2..=4).contains(&calls), "{calls}");
    assert_eq!(node.connections(), 1);
}
