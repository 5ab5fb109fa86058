//! Blocks between disk and sources.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::consensus::encode::{deserialize_hex, serialize};
use bitcoin::{Block, BlockHash};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::*;
use crate::mining::TemplateSerial;
use crate::template::regtest::{Options, RegtestChain};
use crate::template::source::{Deliveries, Feed, Outlet, States, Verdict};
use crate::template::tests::{draft, offer};
use crate::template::{Body, FoundBlock};

/// A block with transactions, as if it had just been found.
fn found() -> FoundBlock {
    let options = Options { prefill: 110, transactions: 3, ..Options::default() };
    let chain = RegtestChain::open(options, TemplateSerial(1), 1_800_000_000).unwrap();
    let block = chain.chain().blocks().find(|block| block.txdata.len() > 1).unwrap().clone();
    FoundBlock { draft: Some(draft(1, 0)), ..FoundBlock::whole(block).unwrap() }
}

fn sources(names: [&str; 2]) -> (Vec<Feed>, States, Vec<Outlet>, Vec<Deliveries>) {
    let names = names.map(Arc::<str>::from);
    let (feeds, states) = Feed::new(&names);
    let (outlets, deliveries) = names.into_iter().map(Outlet::new).unzip();
    (feeds, states, outlets, deliveries)
}

fn file(folder: &Path, hash: BlockHash, extension: &str) -> Option<Block> {
    let text = fs::read_to_string(folder.join(format!("{hash}.{extension}"))).ok()?;
    Some(deserialize_hex(&text).unwrap())
}

/// A settled block's file moves a moment later.
async fn gone(folder: &Path, hash: BlockHash, extension: &str) {
    while file(folder, hash, extension).is_some() {
        sleep(Duration::from_millis(5)).await;
    }
}

fn take(courier: &mut Courier, block: FoundBlock) -> oneshot::Receiver<Outcome> {
    let (tell, told) = oneshot::channel();
    courier.take(block, move |_, outcome| tell.send(outcome).unwrap());
    told
}

#[tokio::test]
async fn a_block_is_on_disk_before_anyone_is_given_it_and_until_it_is_taken() {
    let folder = TempDir::new().unwrap();
    let (_feeds, states, outlets, mut deliveries) = sources(["a", "b"]);
    let mut courier = Courier::start(Some(folder.path()), outlets, states).unwrap();
    let block = found();
    let hash = block.hash;
    let outcome = take(&mut courier, block.clone());
    let delivery = deliveries[0].recv().await.unwrap();
    let kept = file(folder.path(), hash, "block").unwrap();
    assert_eq!(serialize(&kept), delivery.block.bytes().unwrap());
    assert_eq!(kept.block_hash(), hash);
    assert!(kept.check_merkle_root());
    delivery.answer(Verdict::Refused("no".to_owned()));
    sleep(Duration::from_millis(20)).await;
    assert!(file(folder.path(), hash, "block").is_some());
    deliveries[1].recv().await.unwrap().answer(Verdict::Accepted);
    assert_eq!(outcome.await.unwrap().fate, Fate::Taken);
    gone(folder.path(), hash, "block").await;
}

#[tokio::test]
async fn what_was_not_taken_is_submitted_again_after_a_crash() {
    let folder = TempDir::new().unwrap();
    let block = found();
    {
        let (_feeds, states, outlets, mut deliveries) = sources(["a", "b"]);
        let mut courier = Courier::start(Some(folder.path()), outlets, states).unwrap();
        take(&mut courier, block.clone());
        deliveries[0].recv().await.unwrap().answer(Verdict::Failed("no connection".to_owned()));
    }
    let (_feeds, states, outlets, mut deliveries) = sources(["a", "b"]);
    let courier = loop {
        match Courier::start(Some(folder.path()), outlets.clone(), states.clone()) {
            Ok(courier) => break courier,
            Err(StoreError::Locked { .. }) => sleep(Duration::from_millis(5)).await,
            Err(error) => panic!("{error}"),
        }
    };
    let delivery = deliveries[1].recv().await.unwrap();
    assert_eq!((delivery.block.hash, delivery.block.height), (block.hash, block.height));
    assert_eq!(delivery.block.bytes(), block.bytes());
    delivery.answer(Verdict::Accepted);
    courier.finish().await;
    assert_eq!(file(folder.path(), block.hash, "block"), None);
}

#[tokio::test]
async fn what_all_refuse_is_kept_for_its_owner_to_look_at() {
    let folder = TempDir::new().unwrap();
    let (_feeds, states, outlets, mut deliveries) = sources(["a", "b"]);
    let mut courier = Courier::start(Some(folder.path()), outlets, states).unwrap();
    let block = found();
    let outcome = take(&mut courier, block.clone());
    deliveries[0].recv().await.unwrap().answer(Verdict::Refused("bad-cb-amount".to_owned()));
    deliveries[1].recv().await.unwrap().answer(Verdict::NotMine);
    let outcome = outcome.await.unwrap();
    assert_eq!(outcome.fate, Fate::Refused);
    assert!(outcome.words.starts_with("a: bad-cb-amount; b: "), "{}", outcome.words);
    gone(folder.path(), block.hash, "block").await;
    assert_eq!(file(folder.path(), block.hash, "block"), None);
    assert!(file(folder.path(), block.hash, "refused").is_some());

    // it is not tried again, and there is an end to what is kept
    for number in 0..40 {
        fs::write(folder.path().join(format!("{number}.refused")), "").unwrap();
    }
    let another = take(&mut courier, block);
    for deliveries in &mut deliveries {
        deliveries.recv().await.unwrap().answer(Verdict::Refused("no".to_owned()));
    }
    another.await.unwrap();
    courier.finish().await;
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 32 + 1, "and the lock");
}

#[tokio::test(start_paused = true)]
async fn what_nobody_takes_or_refuses_waits_for_a_better_day() {
    let folder = TempDir::new().unwrap();
    let (_feeds, states, outlets, mut deliveries) = sources(["a", "b"]);
    let mut courier = Courier::start(Some(folder.path()), outlets, states).unwrap();
    let block = found();
    let outcome = take(&mut courier, block.clone());
    for deliveries in &mut deliveries {
        deliveries.recv().await.unwrap().answer(Verdict::NotMine);
    }
    assert_eq!(outcome.await.unwrap().fate, Fate::Stranded);
    courier.finish().await;
    assert!(file(folder.path(), block.hash, "block").is_some());

    // a source that comes up on the block had it all the time
    let (feeds, states, outlets, mut deliveries) = sources(["a", "b"]);
    let courier = Courier::start(Some(folder.path()), outlets, states).unwrap();
    for deliveries in &mut deliveries {
        deliveries.recv().await.unwrap().answer(Verdict::NotMine);
    }
    sleep(Duration::from_secs(50)).await;
    let mut next = offer(block.height + 1, 0);
    Arc::make_mut(&mut next.tip).prev_hash = block.hash;
    feeds[1].offer(next);
    courier.finish().await;
    assert_eq!(file(folder.path(), block.hash, "block"), None);
}

#[tokio::test(start_paused = true)]
async fn one_source_refuses_what_another_says_nothing_of() {
    let folder = TempDir::new().unwrap();
    let (_feeds, states, outlets, mut deliveries) = sources(["a", "b"]);
    let mut courier = Courier::start(Some(folder.path()), outlets, states).unwrap();
    let block = found();
    let outcome = take(&mut courier, block.clone());
    deliveries[0].recv().await.unwrap().answer(Verdict::Sent);
    deliveries[1].recv().await.unwrap().answer(Verdict::Refused("inconclusive".to_owned()));
    let outcome = outcome.await.unwrap();
    assert_eq!(outcome.fate, Fate::Refused);
    assert!(outcome.words.starts_with("b: inconclusive; a: sent"), "{}", outcome.words);
}

#[tokio::test(start_paused = true)]
async fn a_block_under_way_goes_to_a_source_that_comes_too() {
    for patiently in [false, true] {
        let (_feeds, states, outlets, mut deliveries) = sources(["a", "b"]);
        let (there, late) = outlets.split_at(1);
        let mut courier = Courier::start(None, there.to_vec(), states).unwrap();
        let outcome = take(&mut courier, found());
        let first = deliveries[0].recv().await.unwrap();
        // nobody else is asked, or it waits for who builds on it
        first.answer(if patiently { Verdict::NotMine } else { Verdict::Failed("busy".to_owned()) });
        sleep(Duration::from_millis(1)).await;
        courier.lead_to(outlets.clone());
        let second = timeout(Duration::from_secs(30), deliveries[1].recv()).await.expect("it is asked");
        second.unwrap().answer(Verdict::Accepted);
        assert_eq!(outcome.await.unwrap(), Outcome { fate: Fate::Taken, words: "b has it".to_owned() });
        courier.lead_to(late.to_vec());
    }
}

#[tokio::test]
async fn a_block_whose_transactions_come_later_is_kept_when_it_is_whole() {
    let folder = TempDir::new().unwrap();
    let (_feeds, states, outlets, mut deliveries) = sources(["a", "b"]);
    let mut courier = Courier::start(Some(folder.path()), outlets, states).unwrap();
    let whole = found();
    let body = Arc::new(Body::default());
    let outcome = take(&mut courier, FoundBlock { body: body.clone(), ..whole.clone() });
    // it is under way all the same
    let delivery = deliveries[0].recv().await.unwrap();
    assert_eq!(file(folder.path(), whole.hash, "block"), None);
    body.set(whole.body.get().unwrap().to_vec());
    while file(folder.path(), whole.hash, "block").is_none() {
        sleep(Duration::from_millis(5)).await;
    }
    delivery.answer(Verdict::Accepted);
    assert_eq!(outcome.await.unwrap().fate, Fate::Taken);
    gone(folder.path(), whole.hash, "block").await;
}

#[test]
fn a_folder_belongs_to_one_server() {
    let folder = TempDir::new().unwrap();
    let (store, blocks) = Store::open(folder.path()).unwrap();
    assert!(blocks.is_empty());
    let taken = Store::open(folder.path()).unwrap_err().to_string();
    assert!(taken.contains("another server") && taken.contains("data_dir"), "{taken}");
    drop(store);
    assert!(Store::open(folder.path()).is_ok());

    let not_a_folder = folder.path().join("file");
    fs::write(&not_a_folder, "").unwrap();
    let refused = Store::open(&not_a_folder).unwrap_err().to_string();
    assert!(refused.contains("data_dir") && refused.contains("file"), "{refused}");
}

#[test]
fn what_cannot_be_read_is_left_alone() {
    let folder = TempDir::new().unwrap();
    let block = found();
    let (store, _) = Store::open(folder.path()).unwrap();
    assert!(store.keep(&block).unwrap());
    drop(store);
    fs::write(folder.path().join("1.block"), "00zz").unwrap();
    fs::write(folder.path().join("2.block"), "00").unwrap();
    fs::write(folder.path().join("3.block"), [0xff; 10]).unwrap();
    fs::write(folder.path().join("4.new"), "0000").unwrap();
    fs::File::create(folder.path().join("5.block")).unwrap().set_len(100_000_000).unwrap();
    let (_store, blocks) = Store::open(folder.path()).unwrap();
    assert_eq!(blocks.iter().map(|block| block.hash).collect::<Vec<_>>(), [block.hash]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1 + 5 + 1);
}
