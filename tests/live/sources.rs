//! Where work comes from.

use std::fs;
use std::path::Path;
use std::time::Duration;

use bitcoin::Network;
use blvm_stratum_v2::template::bitcoin_rpc::{self, Auth};
use blvm_stratum_v2::template::regtest;
use blvm_stratum_v2::template::{Pace, SourceOptions};
use tempfile::TempDir;

use crate::miner::{Job, Miner};
use crate::node::{Mood, Node, Reply, SUBSIDY, USER};
use crate::{BOTH, Stage, to, until};

/// Does what the node says, told to leave the room that the payout takes.
fn source(url: &str) -> SourceOptions {
    let (user, password) = USER.split_once(':').unwrap();
    SourceOptions::BitcoinRpc(bitcoin_rpc::Options {
        url: url.to_owned(),
        auth: Auth::UserPassword { user: user.to_owned(), password: password.to_owned().into() },
        network: Network::Regtest,
        room: to(0x51, 1).room(),
        poll_interval: Duration::from_secs(3_600),
        empty_after: Duration::from_millis(100),
    })
}

/// A node whose blocks pay so much in fees.
async fn node(fees: u64) -> Node {
    Node::start(Mood { fees, ..Mood::core() }).await
}

async fn stage(folder: &Path, sources: &[&Node]) -> Stage {
    let sources = sources.iter().map(|node| source(&node.url())).collect();
    Stage::open(|options| {
        options.template.sources = sources;
        options.template.solutions = Some(folder.to_owned());
    })
    .await
}

/// One on each transport.
async fn miners(stage: &Stage) -> Vec<Miner> {
    let mut miners = Vec::new();
    for transport in BOTH {
        miners.push(Miner::at(&stage.url(transport)).await);
    }
    miners
}

/// Which node's work it is.
fn fees(miner: &Miner, job: &Job) -> u64 {
    miner.coinbase(job).output[0].value.to_sat() - SUBSIDY
}

fn files(folder: &Path, extension: &str) -> usize {
    let entries = fs::read_dir(folder).unwrap();
    entries
        .filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|it| it == extension))
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_in_place_of_another() {
    for transport in BOTH {
        let folder = TempDir::new().unwrap();
        let (a, b) = (node(1_000).await, node(2_000).await);
        let mut stage = stage(folder.path(), &[&a]).await;
        let mut miner = Miner::at(&stage.url(transport)).await;
        let before = miner.job();
        assert_eq!(fees(&miner, &before), 1_000);
        stage.apply(|options| options.template.sources = vec![source(&b.url())]).await;
        miner.hears("the other node's work", |miner| fees(miner, &miner.job()) == 2_000).await;

        // a block for the work of the node that is gone: on disk first, then for both
        for node in [&a, &b] {
            node.change(|mood| drop(mood.instead.insert("submitblock", Reply::Status(503, "busy"))));
        }
        let hash = miner.submit(&before, true).await.unwrap();
        let given = |node: &Node| node.calls("submitblock").first().map(|call| call.params[0].clone());
        until("both are given the block", || given(&a).is_some() && given(&b).is_some()).await;
        let path = folder.path().join(format!("{hash}.block"));
        assert_eq!(given(&b).unwrap().as_str().unwrap(), fs::read_to_string(path).unwrap());
        assert_eq!(given(&a), given(&b));
        b.change(|mood| drop(mood.instead.remove("submitblock")));
        until("one has it", || stage.server.pool().stats().of(transport).blocks.get() == 1).await;
        until("it is not kept any longer", || files(folder.path(), "block") == 0).await;
        b.mine("next");
        miner.hears("work on the next block", |miner| miner.job().prev_hash == b.mood.borrow().tip()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_used_until_one_that_is_wanted_has_work() {
    let folder = TempDir::new().unwrap();
    let (a, b) = (node(1_000).await, node(2_000).await);
    let mut stage = stage(folder.path(), &[&a]).await;
    let mut miners = miners(&stage).await;
    let mut locked_out = source(&b.url());
    let SourceOptions::BitcoinRpc(options) = &mut locked_out else { unreachable!() };
    options.auth = Auth::UserPassword { user: "nobody".to_owned(), password: "wrong".to_owned().into() };
    for (name, bad) in [("one", source("http://127.0.0.1:1")), ("two", locked_out)] {
        stage.apply(|options| options.template.sources = vec![bad]).await;
        a.mine(name);
        let tip = a.mood.borrow().tip();
        for miner in &mut miners {
            miner.hears("news of the node that was taken out", |miner| miner.job().prev_hash == tip).await;
            let job = miner.job();
            miner.submit(&job, false).await.unwrap();
        }
    }
    // back again, and away: it has never been left
    stage.apply(|options| options.template.sources = vec![source(&a.url())]).await;
    stage.apply(|options| options.template.sources = vec![source("http://127.0.0.1:1")]).await;
    a.mine("three");
    let tip = a.mood.borrow().tip();
    for miner in &mut miners {
        miner.hears("its news", |miner| miner.job().prev_hash == tip).await;
    }
    assert_eq!(a.templates().0, 1);

    for name in ["one", "two", "three"] {
        b.mine(name);
    }
    stage.apply(|options| options.template.sources = vec![source(&b.url())]).await;
    for miner in &mut miners {
        miner.hears("the work of the node that is wanted", |miner| fees(miner, &miner.job()) == 2_000).await;
    }
    a.mine("four");
    b.mine("other");
    let tip = b.mood.borrow().tip();
    for miner in &mut miners {
        miner.hears("its news", |miner| miner.job().prev_hash == tip).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stays_sees_nothing_of_it() {
    let folder = TempDir::new().unwrap();
    let (a, b) = (node(1_000).await, node(2_000).await);
    let mut stage = stage(folder.path(), &[&a]).await;
    let mut miners = miners(&stage).await;
    until("it is asked by longpoll too", || a.templates().1 > 0).await;
    assert_eq!(a.templates().0, 1, "who begins asks for one");
    stage.apply(|options| options.template.sources.insert(0, source(&b.url()))).await;
    for miner in &mut miners {
        miner.hears("the preferred node's work", |miner| fees(miner, &miner.job()) == 2_000).await;
    }
    stage.apply(|options| options.template.sources.reverse()).await;
    for miner in &mut miners {
        miner
            .hears("the work of the node that is preferred now", |miner| fees(miner, &miner.job()) == 1_000)
            .await;
    }
    stage.apply(|options| options.template.pace = Pace { fee_threshold: 1, ..Pace::default() }).await;
    stage.apply(|options| drop(options.template.sources.pop())).await;
    assert_eq!(a.templates().0, 1);
    a.mine("next");
    for miner in &mut miners {
        miner.hears("its news", |miner| miner.job().prev_hash == a.mood.borrow().tip()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payout_that_takes_more_room_has_the_node_asked_for_it() {
    for transport in BOTH {
        let folder = TempDir::new().unwrap();
        let a = node(1_000).await;
        let mut stage = stage(folder.path(), &[&a]).await;
        let mut miner = Miner::at(&stage.url(transport)).await;
        let before = miner.job();
        let greetings = || a.templates().0;
        assert_eq!(greetings(), 1);
        stage.apply(|options| options.pool.payout = to(0x53, 1)).await;
        miner.hears("a job for the new script", |miner| miner.paid(&miner.job()) == (0x53, 1)).await;
        assert_eq!(greetings(), 1);

        stage.apply(|options| options.pool.payout = to(0x54, 40)).await;
        miner.hears("a job for the longer script", |miner| miner.paid(&miner.job()) == (0x54, 40)).await;
        assert_eq!(greetings(), 2);
        miner.submit(&before, false).await.unwrap();
        // room that is left over does no harm
        stage.apply(|options| options.pool.payout = to(0x55, 1)).await;
        miner.hears("a job for the short script", |miner| miner.paid(&miner.job()) == (0x55, 1)).await;
        assert_eq!(greetings(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_had_changes_nothing() {
    let folder = TempDir::new().unwrap();
    let a = node(1_000).await;
    let mut stage = stage(folder.path(), &[&a]).await;
    let mut miners = miners(&stage).await;
    let embedded = SourceOptions::Regtest(regtest::Options::default());
    for (bad, words) in [(source("https://127.0.0.1:1"), "source 1 of 2"), (embedded, "restart")] {
        let refused = stage.try_to_apply(|options| {
            options.template.sources.insert(0, bad);
            options.pool.payout = to(0x53, 1);
            options.max_connections = 0;
        });
        let refused = refused.await.unwrap_err().to_string();
        assert!(refused.contains(words), "{refused}");
    }
    assert_eq!(a.templates().0, 1);
    a.mine("next");
    for miner in &mut miners {
        miner.hears("its news", |miner| miner.job().prev_hash == a.mood.borrow().tip()).await;
        assert_eq!(miner.paid(&miner.job()), (0x51, 1));
    }
    for transport in BOTH {
        Miner::at(&stage.url(transport)).await;
    }
}
