//! Blocks that were found.

use std::sync::Arc;
use std::time::Duration;

use bitcoin::block::{Header, Version};
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::hashes::Hash;
use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, OutPoint, Sequence, Transaction, TxIn, TxMerkleNode, TxOut,
    Witness,
};
use blvm_stratum_v2::mining::Coinbase;
use blvm_stratum_v2::template::source::Delivery;
use blvm_stratum_v2::template::source::Verdict::{self, Accepted, Failed, NotMine, Refused, Sent};
use blvm_stratum_v2::template::{Body, FoundBlock};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::node::{Mood, Node, Reply};
use crate::rig::Rig;

fn block() -> Block {
    let coinbase = Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: bitcoin::absolute::LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig: Coinbase::bip34(3_001).into(),
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&[[0; 32]]),
        }],
        output: vec![TxOut { value: Amount::ONE_BTC, script_pubkey: vec![0x51].into() }],
    };
    let spending = Transaction {
        input: vec![TxIn {
            previous_output: OutPoint { txid: coinbase.compute_txid(), vout: 0 },
            ..TxIn::default()
        }],
        ..coinbase.clone()
    };
    let header = Header {
        version: Version::TWO,
        prev_blockhash: BlockHash::all_zeros(),
        merkle_root: TxMerkleNode::all_zeros(),
        time: 0,
        bits: CompactTarget::from_consensus(0x207f_ffff),
        nonce: 7,
    };
    Block { header, txdata: vec![coinbase, spending] }
}

fn found() -> FoundBlock {
    FoundBlock::whole(block()).unwrap()
}

async fn verdict(reply: Reply) -> Verdict {
    let node = Node::start(Mood::core()).await;
    node.change(|mood| drop(mood.instead.insert("submitblock", reply)));
    Rig::start(&node.url()).submit(found()).await
}

#[tokio::test]
async fn what_nodes_say_of_a_block() {
    let word = |word: &str| Reply::Result(json!(word));
    assert_eq!(verdict(Reply::Result(json!(null))).await, Accepted);
    assert_eq!(verdict(word("duplicate")).await, Accepted);
    assert_eq!(verdict(Reply::Error(-27, "duplicate block")).await, Accepted);
    let stored = Reply::Error(-32602, "submitblock: block header is already stored");
    assert_eq!(verdict(stored).await, Accepted);
    for (reply, part) in [
        (word("inconclusive"), "another block of this height"),
        (word("duplicate-inconclusive"), "another block of this height"),
        (word("duplicate-invalid"), "duplicate-invalid"),
        (word("bad-txnmrklroot"), "bad-txnmrklroot"),
        (Reply::Error(-22, "Block decode failed"), "Block decode failed"),
        (Reply::Error(-32602, "Invalid block: bad"), "Invalid block: bad"),
    ] {
        let verdict = verdict(reply).await;
        assert!(matches!(&verdict, Refused(words) if words.contains(part)), "{verdict:?}");
    }
    for (reply, part) in [
        (word("prev-blk-not-found"), "does not know the block before"),
        (Reply::Error(-32602, "submitblock: prev_block_hash is not a stored header"), "not a stored header"),
        (Reply::Error(-32603, "submitblock: failed to read chain height: x"), "chain height"),
        (Reply::Error(-20, "Database error"), "-20"),
        (Reply::Error(-28, "Loading block index…"), "Loading block index…"),
        (Reply::Status(503, "Work queue depth exceeded"), "503"),
        (Reply::Status(413, ""), "limit on the size"),
        (Reply::Status(403, ""), "submitblock"),
        (Reply::Close, "broke during submitblock"),
        (Reply::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}".to_vec()), "neither a result"),
        (Reply::Result(json!(7)), "not as it should be"),
    ] {
        let verdict = verdict(reply).await;
        assert!(matches!(&verdict, Failed(words) if words.contains(part)), "{verdict:?}");
    }
}

#[tokio::test]
async fn a_node_that_has_said_nothing_yet_is_not_taken_to_have_accepted() {
    let verdict = async |mood| Rig::start(&Node::start(mood).await.url()).submit(found()).await;
    assert_eq!(verdict(Mood::blvm()).await, Sent);
    let no_header = |reply| {
        let mut mood = Mood::blvm();
        mood.instead.insert("getblockheader", reply);
        mood
    };
    let stored = Reply::Error(-32602, "submitblock: block header is already stored");
    let mut stranded = no_header(Reply::Error(-32603, "getblockheader: header has no height index"));
    stranded.instead.insert("submitblock", stored);
    assert_eq!(verdict(stranded).await, Sent);
    // who cannot be asked is believed
    assert_eq!(verdict(no_header(Reply::Error(-32601, "Method not found"))).await, Accepted);
    assert_eq!(verdict(no_header(Reply::Status(403, ""))).await, Accepted);
    assert_eq!(verdict(no_header(Reply::Close)).await, Accepted);
}

#[tokio::test]
async fn the_block_arrives_whole() {
    let node = Node::start(Mood::core()).await;
    assert_eq!(Rig::start(&node.url()).submit(found()).await, Accepted);
    assert_eq!(node.calls("submitblock")[0].params, json!([serialize_hex(&block())]));
}

#[tokio::test]
async fn a_block_goes_out_while_there_is_no_work() {
    let node = Node::start(Mood::core()).await;
    node.change(|mood| {
        mood.instead.insert("getblocktemplate", Reply::Never);
        mood.instead.insert("getblockchaininfo", Reply::Never);
    });
    let rig = Rig::start(&node.url());
    sleep(Duration::from_millis(300)).await;
    let before = Instant::now();
    assert_eq!(rig.submit(found()).await, Accepted);
    assert!(before.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn nobody_there_then_a_wrong_cookie_then_right() {
    let (address, mood) = Node::start(Mood::core()).await.stop().await;
    let rig = Rig::start(&format!("http://{address}"));
    let verdict = rig.submit(found()).await;
    assert!(matches!(&verdict, Failed(words) if words.contains("server=1")), "{verdict:?}");
    let _node = Node::start_at(address, Mood { credentials: "__cookie__:new".into(), ..mood }).await;
    let verdict = rig.submit(found()).await;
    assert!(matches!(&verdict, Failed(words) if words.contains("401")), "{verdict:?}");
    rig.write_cookie("__cookie__:new");
    assert_eq!(rig.submit(found()).await, Accepted);
}

#[tokio::test]
async fn transactions_that_come_late() {
    let node = Node::start(Mood::core()).await;
    let rig = Rig::start(&node.url());
    let whole = found();
    let body = Arc::new(Body::default());
    let later = FoundBlock { body: body.clone(), ..whole.clone() };
    let late = async {
        sleep(Duration::from_millis(500)).await;
        // another one does not wait for it
        assert_eq!(rig.submit(whole.clone()).await, Accepted);
        body.set(whole.body.get().unwrap().to_vec());
    };
    let (verdict, ()) = tokio::join!(rig.submit(later), late);
    assert_eq!(verdict, Accepted);
    let calls = node.calls("submitblock");
    assert_eq!(calls[0].params, calls[1].params);
}

#[tokio::test]
async fn transactions_that_never_come() {
    let node = Node::start(Mood::core()).await;
    let block = FoundBlock { body: Arc::new(Body::default()), ..found() };
    assert_eq!(Rig::start(&node.url()).submit(block).await, NotMine);
}

#[tokio::test]
async fn a_block_that_nobody_waits_for_any_more() {
    let node = Node::start(Mood::core()).await;
    let rig = Rig::start(&node.url());
    let whole = found();
    let body = Arc::new(Body::default());
    let (delivery, verdict) = Delivery::new(Arc::new(FoundBlock { body: body.clone(), ..whole.clone() }));
    rig.outlet.deliveries.send(delivery).await.unwrap();
    // it waits for its transactions by now
    sleep(Duration::from_millis(300)).await;
    drop(verdict);
    body.set(whole.body.get().unwrap().to_vec());
    sleep(Duration::from_millis(300)).await;
    assert_eq!(rig.submit(whole).await, Accepted);
    assert_eq!(node.calls("submitblock").len(), 1);
}

#[tokio::test]
async fn many_blocks() {
    let node = Node::start(Mood::core()).await;
    let rig = Rig::start(&node.url());
    let verdicts = futures_util::future::join_all((0..50).map(|_| rig.submit(found()))).await;
    assert!(verdicts.iter().all(|verdict| *verdict == Accepted));
    let connections = node
        .calls("submitblock")
        .iter()
        .map(|call| call.connection)
        .collect::<std::collections::BTreeSet<_>>();
    assert_eq!(connections.len(), 1, "blocks have one connection");
}
