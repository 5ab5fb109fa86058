//! Whatever a port may answer that is no node's, or of a node that has gone mad.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::node::{Mood, Node, Reply};
use crate::rig::Rig;

const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

fn http(body: &str) -> Reply {
    Reply::Raw(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into())
}

fn chunk(len: usize) -> Vec<u8> {
    [format!("{len:x}\r\n").as_bytes(), &vec![b' '; len], b"\r\n"].concat()
}

/// The source says that it is down, and why, and comes back when the node has come to its senses.
async fn survives(name: &str, method: &'static str, reply: Reply, part: &str) {
    let node = Node::start(Mood::core()).await;
    node.change(|mood| drop(mood.instead.insert(method, reply)));
    let mut rig = Rig::start(&node.url());
    let reason = rig.down(part).await;
    assert!(reason.len() < 600, "{name}: {reason}");
    assert!(!reason.contains(char::is_control), "{name}: {reason}");
    node.change(|mood| mood.instead.clear());
    rig.up().await;
}

#[tokio::test]
async fn answers_that_are_none() {
    let template = |member: &'static str, value: Value| {
        let mut template = json!({
            "version": 0x2000_0000, "previousblockhash": "00".repeat(32), "transactions": [], "coinbasevalue": 0,
            "curtime": 1, "bits": "207fffff", "height": 9,
        });
        template[member] = value;
        Reply::Result(template)
    };
    let nested = format!(r#"{{"result":{}{}}}"#, "[".repeat(200_000), "]".repeat(200_000));
    let many = format!(r#"{{"result":{{"transactions":[{}{{}}]}}}}"#, r#"{"data":""},"#.repeat(50_000));
    let info = "getblockchaininfo";
    let gbt = "getblocktemplate";
    join_all([
        survives("HTML", info, http("<html><body>Welcome</body></html>"), "not JSON"),
        survives("nothing", info, http(""), "not JSON"),
        survives("half of it", info, http(r#"{"result":{"chain":"reg"#), "not JSON"),
        survives("a number", info, http("7"), "not as it should be"),
        survives("neither", info, http("{}"), "neither a result nor an error"),
        survives("a null", info, Reply::Result(Value::Null), "it is null"),
        survives("no chain", info, Reply::Result(json!({})), "missing field"),
        survives(
            "a chain with bells",
            info,
            Reply::Result(json!({"chain": "\u{7}\n".repeat(1_000)})),
            "is on chain",
        ),
        survives("depth", info, http(&nested), "not as it should be"),
        survives("depth in a template", gbt, http(&nested), "not as it should be"),
        survives(
            "no HTTP",
            info,
            Reply::Raw(b"\xf9\xbe\xb4\xd9version\0\0\0\0\0\r\n\r\n".to_vec()),
            "does not speak HTTP",
        ),
        survives("SSH", info, Reply::Raw(b"SSH-2.0-OpenSSH_9.7\r\n".to_vec()), "does not speak HTTP"),
        survives("a closed connection", info, Reply::Close, "broke during getblockchaininfo"),
        survives("half a head", info, Reply::Raw(b"HTTP/1.1 200 OK\r\nContent".to_vec()), "broke during"),
        survives(
            "less than it said",
            info,
            Reply::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{".to_vec()),
            "broke during",
        ),
        survives(
            "10 GB",
            info,
            Reply::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n{".to_vec()),
            "more than",
        ),
        survives(
            "endless",
            info,
            Reply::Endless(CHUNKED.to_vec(), chunk(1 << 16), Duration::ZERO),
            "more than",
        ),
        survives(
            "an endless head",
            info,
            Reply::Endless(
                b"HTTP/1.1 200 OK\r\n".to_vec(),
                [b"X: ", &[b'x'; 9_000][..], b"\r\n"].concat(),
                Duration::ZERO,
            ),
            "http://127.0.0.1",
        ),
        survives("404", info, Reply::Status(404, "<h1>Not Found</h1>"), "HTTP 404"),
        survives("302", info, Reply::Status(302, ""), "HTTP 302"),
        survives(
            "an error that is none",
            info,
            http(r#"{"result":null,"error":"no"}"#),
            "not as it should be",
        ),
        survives("an error with a beard", info, Reply::Error(-1, "one\ntwo\u{7}"), "one…"),
        survives("an empty template", gbt, Reply::Result(json!({})), "missing field"),
        survives("a list", gbt, Reply::Result(json!([])), "not as it should be"),
        survives("bad hex", gbt, template("transactions", json!([{ "data": "0x00" }])), "transaction 0"),
        survives("no transactions", gbt, template("transactions", Value::Null), "null"),
        survives("many transactions", gbt, http(&many), "more transactions than fit"),
        survives("a negative height", gbt, template("height", json!(-1)), "-1"),
        survives("a negative value", gbt, template("coinbasevalue", json!(-1)), "-1"),
        survives("too much money", gbt, template("coinbasevalue", json!(u64::MAX)), "coinbasevalue"),
        survives("height 0", gbt, template("height", json!(0)), "height"),
        survives("a fraction", gbt, template("height", json!(1.5)), "1.5"),
        survives("no target", gbt, template("bits", json!("00000000")), "no target"),
        survives("another target", gbt, template("target", json!("00".repeat(32))), "bits 207fffff"),
        survives(
            "another commitment",
            gbt,
            template("default_witness_commitment", json!("6a24aa21a9ed")),
            "commitment",
        ),
        survives(
            "no hash",
            gbt,
            template("previousblockhash", json!("x".repeat(100_000))),
            "previousblockhash",
        ),
        survives("a new rule", gbt, template("rules", json!(["!segwit", "!later"])), "!later"),
    ])
    .await;
}

#[tokio::test]
async fn an_answer_that_trickles_in() {
    let trickle = Reply::Endless(CHUNKED.to_vec(), chunk(1), Duration::from_millis(300));
    survives("a trickle", "getblockchaininfo", trickle, "no answer to getblockchaininfo within 15 s").await;
}

#[tokio::test]
async fn one_block_of_two_heights() {
    let node = Node::start(Mood::core()).await;
    let mut rig = Rig::start_with(&node.url(), |options| options.poll_interval = Duration::from_secs(1));
    rig.up().await;
    node.change(|mood| drop(mood.template.insert("height", json!(2_999))));
    rig.down("two heights").await;
    rig.offer(|offer| offer.tip.height == 2_999).await;
}

#[tokio::test]
async fn side_lines_that_go_mad_are_no_trouble() {
    let side = ["waitfornewblock", "getbestblockhash", "getblockheader"];
    let replies = [
        http("<html>"),
        Reply::Result(json!({ "hash": "zz" })),
        Reply::Result(json!(7)),
        Reply::Close,
        Reply::Never,
    ];
    join_all(replies.map(async |reply| {
        let node = Node::start(Mood::core()).await;
        node.change(|mood| mood.instead.extend(side.map(|method| (method, reply.clone()))));
        let mut rig = Rig::start(&node.url());
        rig.up().await;
        sleep(Duration::from_secs(2)).await;
        let second = node.mine("second");
        let history = rig.history(|offer| offer.tip.prev_hash == second).await;
        assert!(history.iter().all(|state| state.offer().is_some()), "{history:?}");
        assert!(node.calls("waitfornewblock").len() <= 4);
    }))
    .await;
}
