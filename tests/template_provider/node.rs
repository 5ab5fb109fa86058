//! Both ways to Bitcoin Core, the real program: by its mining interface, and by a Template Provider
//! that is connected to that.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bitcoin::consensus::encode;
use bitcoin::{Block, Network};
use blvm_stratum_v2::mining::payout::Room;
use blvm_stratum_v2::template::Pace;
use blvm_stratum_v2::template::bitcoin_ipc::{BitcoinIpc, Options};
use blvm_stratum_v2::template::source::Verdict;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{sleep, timeout};

use crate::core::{Core, until};
use crate::mempool::{Lock, Purse, spend};
use crate::provider::{self, Provider};
use crate::rig::Source;
use crate::work::solve;

/// One node at a time: the threads that are left are counted.
pub(crate) async fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::const_new(());
    ALONE.lock().await
}

pub(crate) fn options(socket: &Path, scratch: &Path) -> Options {
    Options {
        socket: socket.to_owned(),
        version: 31,
        network: Network::Regtest,
        room: Room { size: 51, sigops: 4 },
        pace: Pace { min_interval: Duration::from_secs(1), fee_threshold: 1, ..Pace::default() },
        scratch: scratch.to_owned(),
    }
}

pub(crate) fn by_ipc(options: Options) -> Source {
    let source = BitcoinIpc::new(options);
    Source::spawn(source.name(), |feed, deliveries| source.run(feed, deliveries))
}

fn by_provider(provider: &Provider) -> Source {
    Source::run_with(provider.address.to_string(), Some(provider.authority), Network::Regtest)
}

/// The threads that the interface runs on.
fn threads() -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("comm")).unwrap_or_default());
    names.filter(|name| name.starts_with("bitcoin-ipc")).count()
}

/// Work, the transactions in it, blocks of it, and new tips.
async fn mines(core: &Core, mut source: Source) {
    let mut purse = Purse::new(core, 1).await;
    let height = core.height().await;
    let offer = source.offers("work on the tip", |offer| offer.tip.height == height + 1).await;
    assert_eq!(offer.tip.prev_hash, core.tip().await);
    assert!(offer.draft.coinbase.witness_commitment);

    let (transaction, _) = spend(purse.take(), Lock::Segwit, 5_000);
    core.send(&transaction).await;
    let paid = offer.draft.coinbase.value + 5_000;
    let offer = source.offers("the fee", |offer| offer.draft.coinbase.value == paid).await;
    until("the transactions come", async || offer.draft.body.get().is_some()).await;
    let block = solve(&offer);
    let whole: Block = encode::deserialize(&block.bytes().unwrap()).unwrap();
    assert_eq!(whole.txdata[1..], [transaction]);

    assert_eq!(source.deliver(block.clone()).await, Verdict::Sent);
    let next = source.offers("work on the block", |offer| offer.tip.prev_hash == block.hash).await;
    assert_eq!(core.tip().await, block.hash);
    assert_eq!(next.tip.height, height + 2);

    let others = core.generate(1).await[0];
    let offer = source.offers("work on another's block", |offer| offer.tip.prev_hash == others).await;
    core.ask(&["invalidateblock", &others.to_string()]).await;
    let back = source.offers("a lower tip", |offer| offer.tip.prev_hash == block.hash).await;
    assert!(back.tip.height < offer.tip.height);
    assert_eq!(source.deliver(solve(&back)).await, Verdict::Sent);
    until("a block on the lower tip", async || core.height().await == height + 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mining_by_ipc() {
    let _alone = alone().await;
    let Some(core) = Core::start().await else { return };
    let scratch = tempfile::tempdir().unwrap();
    mines(&core, by_ipc(options(&core.socket(), scratch.path()))).await;
    let dumped = fs::read_dir(scratch.path().join("solutions")).unwrap().count();
    assert!(dumped <= 1, "{dumped} files are left");
    assert!(!core.socket().with_file_name("solutions").exists(), "the node's folder is its own");
    until("no thread is left", async || threads() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mining_by_a_template_provider() {
    let _alone = alone().await;
    let Some(core) = Core::start().await else { return };
    let provider = provider::start(&core.socket()).await;
    mines(&core, by_provider(&provider)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_killed_is_connected_to_again() {
    let _alone = alone().await;
    let Some(mut core) = Core::start().await else { return };
    let scratch = tempfile::tempdir().unwrap();
    let mut source = by_ipc(options(&core.socket(), scratch.path()));
    let lost = solve(&source.offers("work", |_| true).await);
    core.save().await;
    core.kill();
    let reason = source.is_down().await;
    assert!(reason.contains("closed the connection"), "{reason}");
    assert_eq!(source.deliver(lost.clone()).await, Verdict::NotMine);
    core.restart().await;
    let offer = source.offers("work again", |_| true).await;
    assert_eq!(source.deliver(lost).await, Verdict::NotMine);
    let block = solve(&offer);
    assert_eq!(source.deliver(block.clone()).await, Verdict::Sent);
    until("the block is the tip", async || core.tip().await == block.hash).await;
    assert_eq!(threads(), 1);
    drop(source);
    until("no thread is left", async || threads() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_killed_is_connected_to_again() {
    let _alone = alone().await;
    let Some(core) = Core::start().await else { return };
    let mut provider = provider::start(&core.socket()).await;
    let mut source = by_provider(&provider);
    source.offers("work", |_| true).await;
    let address = provider.address;
    provider.kill();
    let reason = source.is_down().await;
    assert!(reason.contains("closed the connection"), "{reason}");
    let _provider = Provider::start_at(&core.socket(), address).await;
    source.offers("work again", |_| true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stands_still_holds_nobody_up() {
    let _alone = alone().await;
    let Some(core) = Core::start().await else { return };
    let scratch = tempfile::tempdir().unwrap();
    let mut source = by_ipc(options(&core.socket(), scratch.path()));
    let offer = source.offers("work", |_| true).await;
    core.freeze();
    let began = Instant::now();
    assert_eq!(source.deliver(solve(&offer)).await, Verdict::Sent);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    drop(source);
    until("no thread is left", async || threads() == 0).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());

    // whoever comes now gets no answer
    let mut source = by_ipc(options(&core.socket(), scratch.path()));
    let reason = source.is_down().await;
    assert!(reason.contains("not answered for 10 s"), "{reason}");
    core.thaw();
    source.offers("work when it moves on", |_| true).await;
}

/// A block that is found while the node stands still is the tip when it moves on.
async fn waits_for(core: &Core, mut source: Source) {
    let offer = source.offers("work", |_| true).await;
    core.freeze();
    let block = solve(&offer);
    assert_eq!(source.deliver(block.clone()).await, Verdict::Sent);
    sleep(Duration::from_secs(2)).await;
    core.thaw();
    source.offers("work on the block", |offer| offer.tip.prev_hash == block.hash).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_waits_for_a_node_that_stands_still() {
    let _alone = alone().await;
    let Some(core) = Core::start().await else { return };
    let scratch = tempfile::tempdir().unwrap();
    waits_for(&core, by_ipc(options(&core.socket(), scratch.path()))).await;
    let provider = provider::start(&core.socket()).await;
    waits_for(&core, by_provider(&provider)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_syncing_is_waited_for() {
    let _alone = alone().await;
    let Some(core) = Core::empty("regtest").await else { return };
    let scratch = tempfile::tempdir().unwrap();
    let mut source = by_ipc(options(&core.socket(), scratch.path()));
    let reason = source.is_down().await;
    assert!(reason.contains("still downloading the chain, it is at height 0"), "{reason}");
    core.generate(1).await;
    let offer = source.offers("work", |_| true).await;
    assert_eq!(offer.tip.height, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_dropped_while_it_connects_leaves_nothing() {
    let _alone = alone().await;
    let Some(core) = Core::start().await else { return };
    let scratch = tempfile::tempdir().unwrap();
    core.freeze();
    for _ in 0..3 {
        let source = by_ipc(options(&core.socket(), scratch.path()));
        until("it connects", async || threads() > 0).await;
        drop(source);
        let gone = async {
            while threads() > 0 {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(Duration::from_secs(5), gone).await.expect("the thread ends");
    }
    core.thaw();
}

#[tokio::test(flavor = "multi_thread")]
async fn large_payouts_leave_room_for_the_rest_of_the_block() {
    let _alone = alone().await;
    let Some(core) = Core::start().await else { return };
    let scratch = tempfile::tempdir().unwrap();
    let room = Room { size: 100_000, sigops: 400 };
    let mut source = by_ipc(Options { room, ..options(&core.socket(), scratch.path()) });
    let offer = source.offers("work", |_| true).await;
    assert_eq!(source.deliver(solve(&offer)).await, Verdict::Sent);
    let tip = Arc::clone(&offer.tip).prev_hash;
    until("a block", async || core.tip().await != tip).await;
}
