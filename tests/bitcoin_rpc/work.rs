//! What there is to mine on.

use std::sync::Arc;
use std::time::Duration;

use bitcoin::Network;
use blvm_stratum_v2::template::bitcoin_rpc::UrlError;
use blvm_stratum_v2::template::bitcoin_rpc::{Auth, BitcoinRpc};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::node::{Longpoll, Mood, Node, Reply, SUBSIDY, block};
use crate::rig::Rig;

const SECOND: Duration = Duration::from_secs(1);
const NEVER: Duration = Duration::from_secs(3_600);

#[tokio::test]
async fn a_node_like_bitcoin_core() {
    let node = Node::start(Mood::core()).await;
    let mut rig = Rig::start_with(&node.url(), |options| options.empty_after = SECOND);
    let first = rig.up().await;
    assert_eq!((first.tip.prev_hash, first.tip.height), (block("first"), 3_001));
    assert!(!first.makeshift);
    assert_eq!(first.future.len(), 1);

    sleep(SECOND / 2).await; // the longpoll is under way
    let second = node.mine("second");
    let offer = rig.offer(|offer| offer.tip.prev_hash == second).await;
    assert_eq!(offer.tip.height, 3_002);
    assert!(!offer.makeshift);
    node.change(|mood| mood.fees = 77);
    let paid = rig.offer(|offer| offer.draft.coinbase.value == SUBSIDY + 77).await;
    assert!(!Arc::ptr_eq(&paid.draft, &offer.draft));
    assert!(Arc::ptr_eq(&paid.future[0], &offer.future[0]));
    sleep(SECOND).await;
    let (asked, longpolls) = node.templates();
    assert_eq!(asked, 1, "the longpoll brought the others");
    assert!((3..=4).contains(&longpolls), "{longpolls}");
    assert!(node.connections() <= 3, "one per line, and none for blocks");
}

#[tokio::test]
async fn a_longpoll_is_believed_although_it_is_older_than_the_last_answer() {
    // nothing else tells of the tip
    let instead = ["waitfornewblock", "getbestblockhash"].map(|method| (method, Reply::Status(403, "")));
    let node = Node::start(Mood { instead: instead.into(), ..Mood::core() }).await;
    let mut rig = Rig::start_with(&node.url(), |options| {
        options.empty_after = NEVER;
        options.poll_interval = 2 * SECOND;
    });
    rig.up().await;
    sleep(5 * SECOND / 2).await;
    assert_eq!(node.templates(), (2, 1));
    let second = node.mine("second");
    rig.offer(|offer| offer.tip.prev_hash == second).await;
    sleep(SECOND / 2).await;
    assert_eq!(node.templates(), (2, 2), "it was not asked for again");
}

#[tokio::test]
async fn a_node_like_blvm() {
    let node = Node::start(Mood::blvm()).await;
    let mut rig = Rig::start(&node.url());
    let first = rig.up().await;
    assert!(first.draft.coinbase.witness_commitment);
    sleep(3 * SECOND).await;
    let (asked, longpolls) = node.templates();
    assert_eq!(asked, 1);
    assert!((2..=3).contains(&longpolls), "{longpolls} although they do not wait");
    assert_eq!(node.calls("waitfornewblock").len(), 1);
    for name in ["second", "third"] {
        let tip = node.mine(name);
        let before = Instant::now();
        rig.offer(|offer| offer.tip.prev_hash == tip && !offer.makeshift).await;
        assert!(before.elapsed() < SECOND, "{:?}", before.elapsed());
        sleep(SECOND).await;
    }
    assert_eq!(node.templates().0, 3, "one for each tip");
    assert!(node.connections() <= 3);
}

#[tokio::test]
async fn a_block_between_two_waits() {
    let node = Node::start(Mood { longpoll: Longpoll::No, ..Mood::blvm() }).await;
    let mut rig = Rig::start(&node.url());
    rig.up().await;
    while node.calls("waitfornewblock").is_empty() {
        sleep(SECOND / 200).await;
    }
    // so soon that there is a pause before the next wait
    for name in ["second", "third"] {
        let tip = node.mine(name);
        let before = Instant::now();
        rig.offer(|offer| offer.tip.prev_hash == tip && !offer.makeshift).await;
        assert!(before.elapsed() < SECOND, "{:?}", before.elapsed());
    }
}

#[tokio::test]
async fn better_templates_on_the_same_tip() {
    let node = Node::start(Mood { longpoll: Longpoll::No, ..Mood::core() }).await;
    let mut rig = Rig::start_with(&node.url(), |options| options.poll_interval = SECOND);
    let first = rig.up().await;
    node.change(|mood| mood.template.extend([("curtime", json!(1_700_000_500))]));
    let later = rig.offer(|offer| offer.tip.min_ntime == 1_700_000_500).await;
    assert!(Arc::ptr_eq(&first.draft, &later.draft), "only time has passed");
    node.change(|mood| mood.fees = 9);
    let better = rig.offer(|offer| !Arc::ptr_eq(&offer.draft, &first.draft)).await;
    assert_eq!(better.draft.coinbase.value, first.draft.coinbase.value + 9);
}

#[tokio::test]
async fn nobody_waits_for_a_slow_template() {
    for mood in [Mood::core(), Mood::blvm()] {
        let node = Node::start(mood).await;
        let mut rig = Rig::start(&node.url());
        let first = rig.up().await;
        sleep(SECOND).await;
        let asked = node.templates().0;
        node.change(|mood| {
            mood.template_takes = SECOND;
            mood.fees = 1_000;
        });
        sleep(SECOND + SECOND / 2).await; // a longpoll has brought the fees by now
        let before = Instant::now();
        let second = node.mine("second");
        let makeshift = rig.offer(|offer| offer.tip.prev_hash == second).await;
        assert!((SECOND / 10..SECOND / 2).contains(&before.elapsed()), "{:?}", before.elapsed());
        assert!(makeshift.makeshift);
        assert!(Arc::ptr_eq(&makeshift.draft, &first.future[0]), "one message for miners");
        assert_eq!((makeshift.tip.height, makeshift.tip.nbits), (3_002, first.tip.nbits));
        assert!(makeshift.tip.min_ntime > 1_700_000_001, "it is later than that by now");
        assert_eq!(makeshift.draft.body.get().unwrap().len(), 0);
        let full = rig.offer(|offer| !offer.makeshift).await;
        assert_eq!(full.tip.prev_hash, second);
        assert_eq!(full.draft.coinbase.value, makeshift.draft.coinbase.value + 1_000);
        assert!(Arc::ptr_eq(&full.future[0], &makeshift.future[0]));
        assert!(node.templates().0 <= asked + 1);
    }
}

#[tokio::test]
async fn a_longpoll_that_does_not_wake_up() {
    let node = Node::start(Mood { longpoll: Longpoll::Waits, ..Mood::core() }).await;
    // the same id on every tip
    node.change(|mood| mood.template.extend([("longpollid", json!("asleep"))]));
    let mut rig = Rig::start(&node.url());
    rig.up().await;
    sleep(SECOND / 2).await;
    let second = node.mine("second");
    let before = Instant::now();
    rig.offer(|offer| offer.tip.prev_hash == second && !offer.makeshift).await;
    assert!(before.elapsed() < SECOND);
}

#[tokio::test]
async fn nodes_that_allow_little() {
    let no = |method| (method, Reply::Status(403, ""));
    let learns = async |longpoll, instead: Vec<(&'static str, Reply)>| {
        let instead = instead.into_iter().collect();
        let node = Node::start(Mood { longpoll, instead, ..Mood::core() }).await;
        let mut rig = Rig::start(&node.url());
        rig.up().await;
        sleep(SECOND).await;
        let second = node.mine("second");
        let before = Instant::now();
        rig.offer(|offer| offer.tip.prev_hash == second).await;
        assert!(before.elapsed() < 2 * SECOND, "{:?}", before.elapsed());
        sleep(2 * SECOND).await;
        assert!(node.calls("getbestblockhash").len() <= 6);
        assert!(node.calls("waitfornewblock").len() <= 1);
    };
    let unknown = ("waitfornewblock", Reply::Error(-32601, "Method not found"));
    tokio::join!(
        learns(Longpoll::No, vec![unknown]),
        learns(Longpoll::No, vec![no("waitfornewblock")]),
        learns(Longpoll::No, vec![no("waitfornewblock"), no("getblockheader")]),
        learns(Longpoll::Waits, vec![no("waitfornewblock"), no("getbestblockhash")]),
    );
}

#[tokio::test]
async fn templates_alone_are_enough() {
    let forbidden = ["waitfornewblock", "getbestblockhash", "getblockheader"]
        .map(|method| (method, Reply::Status(403, "")));
    let node = Node::start(Mood { longpoll: Longpoll::No, instead: forbidden.into(), ..Mood::core() }).await;
    let mut rig = Rig::start_with(&node.url(), |options| options.poll_interval = SECOND);
    rig.up().await;
    let second = node.mine("second");
    rig.offer(|offer| offer.tip.prev_hash == second).await;
}

#[tokio::test]
async fn somebody_else_has_heard_of_a_block() {
    let forbidden = ["waitfornewblock", "getbestblockhash", "getblockheader"]
        .map(|method| (method, Reply::Status(403, "")));
    let node = Node::start(Mood { longpoll: Longpoll::No, instead: forbidden.into(), ..Mood::core() }).await;
    let mut rig = Rig::start(&node.url());
    rig.up().await;
    let second = node.mine("second");
    sleep(SECOND).await;
    assert_eq!(node.templates(), (1, 0), "nothing tells the source itself");
    rig.refresh.ask();
    rig.offer(|offer| offer.tip.prev_hash == second).await;
    assert_eq!(node.templates(), (2, 0));
}

#[tokio::test]
async fn a_tip_that_goes_back() {
    for longpoll in [Longpoll::Waits, Longpoll::No] {
        let node = Node::start(Mood { longpoll, ..Mood::core() }).await;
        let mut rig = Rig::start_with(&node.url(), |options| options.empty_after = NEVER);
        rig.up().await;
        let second = node.mine("second");
        rig.offer(|offer| offer.tip.prev_hash == second).await;
        sleep(SECOND / 2).await;
        node.change(|mood| mood.chain.truncate(1));
        let back = rig.offer(|offer| offer.tip.prev_hash == block("first")).await;
        assert_eq!(back.tip.height, 3_001);
        sleep(SECOND / 2).await;
        let other = node.mine("other");
        rig.offer(|offer| offer.tip.prev_hash == other).await;
    }
}

#[tokio::test]
async fn a_burst_of_blocks() {
    let node = Node::start(Mood::core()).await;
    let mut rig = Rig::start(&node.url());
    rig.up().await;
    for name in 0..50 {
        node.mine(&format!("{name}"));
        sleep(SECOND / 100).await;
    }
    rig.offer(|offer| offer.tip.prev_hash == block("49") && offer.tip.height == 3_051).await;
}

#[tokio::test]
async fn the_other_networks() {
    for (network, name) in [
        (Network::Bitcoin, "main"),
        (Network::Testnet, "test"),
        (Network::Testnet4, "testnet4"),
        (Network::Signet, "signet"),
    ] {
        let node = Node::start(Mood { network: name, ..Mood::core() }).await;
        let mut rig = Rig::start_with(&node.url(), |options| options.network = network);
        let offer = rig.up().await;
        let prepared = matches!(network, Network::Bitcoin | Network::Signet);
        assert_eq!(offer.future.len(), usize::from(prepared));
        let call = node.calls("getblocktemplate").remove(0);
        let rules = if network == Network::Signet { json!(["segwit", "signet"]) } else { json!(["segwit"]) };
        assert_eq!(call.params, json!([{ "rules": rules }]));
    }
}

#[test]
fn a_url_that_is_none() {
    let options = |url: &str| blvm_stratum_v2::template::bitcoin_rpc::Options {
        url: url.into(),
        auth: Auth::CookieFile("x".into()),
        network: Network::Regtest,
        room: blvm_stratum_v2::mining::payout::Room { size: 0, sigops: 0 },
        poll_interval: SECOND,
        empty_after: SECOND,
    };
    assert_eq!(BitcoinRpc::new(options("localhost")).unwrap_err(), UrlError::Shape);
    assert_eq!(BitcoinRpc::new(options("https://localhost:1")).unwrap_err(), UrlError::Https);
    assert!(BitcoinRpc::new(options("http://localhost:1/")).is_ok());
}
