//! A new block at the node: how long until the miners work on top of it, by source of work.
//!
//! `cargo bench --bench nodes [--features bitcoin-ipc]`, after `tests/peers/bitcoin_core.sh`. The
//! clock starts when a connection of its own, which waits for new blocks and has nothing to do with
//! the server, has the node's answer: that may be later than the server has its own. Server, miners
//! and node share the machine, so it is the ratios between the sources that count.

mod crowd;
mod raw_rpc;

// what the tests with nodes are made of, and more than is used here
#[allow(dead_code)]
#[path = "../../tests/nodes/core.rs"]
mod core;
#[allow(dead_code)]
#[path = "../../tests/nodes/log.rs"]
mod log;
#[allow(dead_code)]
#[path = "../../tests/nodes/mempool.rs"]
mod mempool;
#[allow(dead_code)]
#[path = "../../tests/nodes/miners.rs"]
mod miners;
#[path = "../../tests/nodes/port.rs"]
mod port;
#[path = "../../tests/nodes/provider.rs"]
mod provider;
#[allow(dead_code)]
#[path = "../../tests/nodes/stage.rs"]
mod stage;
#[allow(dead_code, unused_imports, unused_macros)]
#[path = "../../tests/nodes/upstream.rs"]
mod upstream;

use std::thread;
use std::time::Instant;

use bitcoin::Address;
use blvm_stratum_v2::template::regtest::spendable_script;
use serde_json::json;

use crate::core::{Core, until};
use crate::crowd::Crowd;
use crate::mempool::{Coin, Lock, Purse, spend, split};
use crate::raw_rpc::RawRpc;
use crate::stage::Stage;
use crate::upstream::{Kind, Upstream};

/// Blocks for each source.
const ROUNDS: usize = 15;
/// Miners on each transport.
const MINERS: usize = 100;
/// Transactions in the mempool when the block comes, half of which it leaves there.
const TRANSACTIONS: u32 = 300;

#[cfg(feature = "bitcoin-ipc")]
const KINDS: &[Kind] = &[Kind::Rpc, Kind::Ipc, Kind::Tdp];
#[cfg(not(feature = "bitcoin-ipc"))]
const KINDS: &[Kind] = &[Kind::Rpc];

#[tokio::main]
async fn main() {
    println!("{ROUNDS} blocks, {MINERS} miners on QUIC and {MINERS} on TCP, {TRANSACTIONS} transactions");
    println!(
        "{:<28} {:>22} {:>22} {:>22}",
        "ms from the node's new tip,", "to the first miner", "to the last miner", "request to last miner"
    );
    println!("{:<28} {:>22} {:>22} {:>22}", "", "median / max", "median / max", "median / max");
    for kind in KINDS {
        let Some(core) = Core::start().await else { return };
        let rounds = rounds(*kind, &core).await;
        let figures = |of: fn(&Round) -> f64| {
            let mut all: Vec<f64> = rounds.iter().map(of).collect();
            all.sort_by(f64::total_cmp);
            format!("{:.1} / {:.1}", all[all.len() / 2], all[all.len() - 1])
        };
        println!(
            "{:<28} {:>22} {:>22} {:>22}",
            format!("{kind:?}"),
            figures(|round| round.first),
            figures(|round| round.last),
            figures(|round| round.since_asked),
        );
    }
}

/// How long it took, in milliseconds.
struct Round {
    first: f64,
    last: f64,
    since_asked: f64,
}

async fn rounds(kind: Kind, core: &Core) -> Vec<Round> {
    let mut purse = Purse::new(core, 1).await;
    let upstream = Upstream::of(kind, core).await;
    let stage = Stage::open([upstream]).await;
    let mut crowd = Crowd::gather(&stage, MINERS).await;
    let (first, mut coins) = split(purse.take(), Lock::Segwit, TRANSACTIONS, 100_000);
    core.send(&first).await;
    core.generate(1).await;
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        crowd.all_are_on(core.tip().await).await;
        coins = fill(core, coins);
        rounds.push(round(core, &mut crowd).await);
    }
    rounds
}

/// Spends the coins, each in a transaction of its own.
fn fill(core: &Core, coins: Vec<Coin>) -> Vec<Coin> {
    let mut rpc = RawRpc::connect(core);
    let respend = |coin| {
        let (transaction, coin) = spend(coin, Lock::Segwit, 1_000);
        rpc.call("sendrawtransaction", &json!([bitcoin::consensus::encode::serialize_hex(&transaction)]));
        coin
    };
    coins.into_iter().map(respend).collect()
}

/// Has the node make a block.
async fn round(core: &Core, crowd: &mut Crowd) -> Round {
    let before = core.tip().await;
    let mut watch = RawRpc::connect(core);
    let watching = thread::spawn(move || {
        watch.call("waitfornewblock", &json!([0, before.to_string()]));
        Instant::now()
    });
    let mut maker = RawRpc::connect(core);
    let address = Address::from_script(&spendable_script(), bitcoin::Network::Regtest).unwrap().to_string();
    until("the node waits for its next block", async || {
        let active = core.ask(&["getrpcinfo"]).await["active_commands"].clone();
        active.as_array().unwrap().iter().any(|command| command["method"] == "waitfornewblock")
    })
    .await;
    let making = thread::spawn(move || {
        let asked = Instant::now();
        maker.call("generatetoaddress", &json!([1, address]));
        asked
    });
    let (first, last) = crowd.next_tip().await;
    let (asked, new) = (making.join().unwrap(), watching.join().unwrap());
    Round { first: millis(new, first), last: millis(new, last), since_asked: millis(asked, last) }
}

/// Negative, if `to` was before `from`.
fn millis(from: Instant, to: Instant) -> f64 {
    let forth = to.saturating_duration_since(from).as_secs_f64();
    let back = from.saturating_duration_since(to).as_secs_f64();
    (forth - back) * 1e3
}
