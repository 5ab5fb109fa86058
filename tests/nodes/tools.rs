//! The tools work.

use bitcoin::Txid;
use serde_json::Value;

use crate::core::{Core, until};
use crate::mempool::{Lock, Purse, sats, spend, split};

#[tokio::test]
async fn a_node_is_killed_and_goes_on_from_what_it_saved() {
    let Some(mut core) = Core::start().await else { return };
    let saved = core.generate(2).await[1];
    core.save().await;
    let forgotten = core.generate(1).await[0];
    core.kill();
    assert!(core.cli(&["getblockcount"]).await.is_err());
    core.restart().await;
    assert_eq!(core.tip().await, saved);
    assert!(!core.has(forgotten).await);
}

#[tokio::test]
async fn nodes_that_are_connected_have_the_same_chain() {
    let (Some(one), Some(other)) = (Core::start().await, Core::start().await) else { return };
    let tip = one.generate(5).await[4];
    assert!(!other.has(tip).await);
    other.connect(&one).await;
    until("the longer chain is everyone's", async || other.has(tip).await).await;
}

#[tokio::test]
async fn a_mempool_has_all_kinds_of_transactions() {
    let Some(core) = Core::start().await else { return };
    let mut purse = Purse::new(&core, 2).await;
    let (segwit, coin) = spend(purse.take(), Lock::Legacy, 1_000);
    let (legacy, coin) = spend(coin, Lock::Segwit, 2_000);
    let (again, _) = spend(coin, Lock::Segwit, 3_000);
    let (many, coins) = split(purse.take(), Lock::Segwit, 100, 40_000);
    assert_eq!(coins.len(), 100);
    let mut sent: Vec<Txid> = Vec::new();
    for transaction in [segwit, legacy, again, many] {
        sent.push(core.send(&transaction).await);
    }
    core.generate(1).await;
    let block = core.block_at(core.height().await).await;
    let transactions = block["tx"].as_array().unwrap();
    let txids: Vec<Txid> = transactions[1..].iter().map(|tx| id(tx, "txid")).collect();
    sent.sort();
    assert_eq!(sent, {
        let mut txids = txids;
        txids.sort();
        txids
    });
    let legacy = transactions.iter().filter(|tx| id(tx, "txid") == id(tx, "hash")).count();
    assert_eq!(legacy, 1);
    assert_eq!(sats(&transactions[0]["vout"][0]["value"]), 5_000_000_000 + 46_000);
}

fn id(transaction: &Value, key: &str) -> Txid {
    transaction[key].as_str().unwrap().parse().unwrap()
}
