//! The generator with sources that do as they are told.

mod taken_out;

use std::sync::Arc;
use std::time::Duration;

use bitcoin::hashes::Hash;
use bitcoin::{Amount, BlockHash, Script, ScriptBuf, TxOut};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::source::{Deliveries, Verdict};
use super::tdp;
use super::*;
use crate::mining::coinbase::Tag;
use crate::mining::extranonce::{BootEpoch, ServerId};
use crate::mining::payees::Payees;
use crate::mining::payout::{PayoutClass, PayoutPolicy};
use crate::mining::share::{Account, Solution};
use crate::mining::{Coinbase, Target, Tip, Work};
use crate::pool::{self, CountOnly, Found};
use crate::session::{self, Shared};
use crate::wire::url::Transport;

const PACE: Pace = Pace {
    min_interval: Duration::from_secs(10),
    fee_threshold: 1_000,
    max_interval: Duration::from_secs(50),
};

pub(super) fn draft(height: u32, value: u64) -> Arc<Draft> {
    Arc::new(Draft {
        version: 0x2000_0000,
        version_rolling: true,
        coinbase: Coinbase {
            version: 2,
            script_prefix: Coinbase::bip34(height),
            sequence: 0xffff_fffe,
            value,
            trailing_outputs: Vec::new(),
            lock_time: 0,
            witness_commitment: false,
        },
        merkle_path: Vec::new(),
        body: Arc::new(Body::known(Vec::new())),
    })
}

/// Work for the block at `height`.
pub(super) fn offer(height: u32, value: u64) -> Offer {
    let mut prev_hash = [0; 32];
    prev_hash[..4].copy_from_slice(&height.to_le_bytes());
    let target = Target::from_compact(0x207f_ffff).unwrap();
    let tip = Tip {
        prev_hash: BlockHash::from_byte_array(prev_hash),
        height,
        min_ntime: 1_000,
        nbits: 0x207f_ffff,
        network_target: target,
        report_target: target,
    };
    Offer { tip: Arc::new(tip), draft: draft(height, value), future: Vec::new(), makeshift: false }
}

fn pool() -> (Arc<StratumV2Pool>, mpsc::Receiver<Found>) {
    let payout = PayoutPolicy::Pool { script: Script::from_bytes(&[0x51]).into() };
    let options = pool::Options {
        session: session::Options::default(),
        payout,
        tag: Tag::default(),
        server_id: ServerId::default(),
    };
    StratumV2Pool::new(options, BootEpoch::of_start(1), Box::new(CountOnly))
}

/// Where nobody listens: the sources by these options that a test does not play itself stay without work.
fn options(index: usize) -> SourceOptions {
    SourceOptions::TemplateProvider(tdp::Options {
        address: format!("127.0.0.1:{}", 1 + index),
        authority_key: None,
        network: bitcoin::Network::Regtest,
        room: ROOM,
    })
}

const ROOM: Room = Room { size: 40, sigops: 0 };

/// A generator, and what it hangs on.
fn generator(
    sources: usize,
    pool: Arc<StratumV2Pool>,
    found: mpsc::Receiver<Found>,
) -> (BlockTemplateGenerator, Vec<Feed>, Vec<Deliveries>) {
    let names: Vec<Arc<str>> = (0..sources).map(|index| format!("source {index}").into()).collect();
    let (feeds, board) = Feed::on_board(&names);
    let (outlets, deliveries): (Vec<_>, Vec<_>) = names.iter().cloned().map(Outlet::new).unzip();
    let courier = Courier::start(None, outlets.clone(), board.states()).unwrap();
    let publisher = Publisher::new(pool.clone(), PACE, TemplateSerial(1));
    let mut generator = BlockTemplateGenerator::new(board, courier, publisher, pool, found);
    for (index, (feed, outlet)) in feeds.iter().zip(outlets).enumerate() {
        let seat = generator.seat(options(index), feed.clone(), outlet, std::future::pending());
        generator.seats.push(seat);
    }
    (generator.wanted, generator.used) = (sources, sources);
    (generator, feeds, deliveries)
}

/// A generator that runs, and what it hangs on.
struct Rig {
    feeds: Vec<Feed>,
    deliveries: Vec<Deliveries>,
    pool: Arc<StratumV2Pool>,
    work: watch::Receiver<Option<Arc<Work>>>,
    control: Control,
    _stop: watch::Sender<bool>,
}

impl Rig {
    fn start(sources: usize) -> Self {
        let (pool, found) = pool();
        let (generator, feeds, deliveries) = generator(sources, pool.clone(), found);
        let control = generator.control();
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(generator.run(stopped));
        Self { feeds, deliveries, work: pool.work(), pool, control, _stop: stop }
    }

    /// Nothing but what `set` changes of a generator with these sources.
    async fn change(&self, sources: &[usize], set: impl FnOnce(&mut Change)) -> Result<(), ReplaceError> {
        let sources = sources.iter().map(|index| options(*index)).collect();
        let terms = self.pool.terms();
        let payout = terms.payout.policy().clone();
        let mut change = Change { sources, pace: PACE, payout, tag: terms.tag.clone() };
        set(&mut change);
        self.control.replace(change).await
    }

    /// What is published by now.
    async fn published(&mut self) -> Option<Arc<Work>> {
        sleep(Duration::from_millis(1)).await;
        self.work.borrow_and_update().clone()
    }

    /// How long until something else is published, in seconds.
    async fn next_after(&mut self) -> u64 {
        let since = Instant::now();
        self.work.changed().await.unwrap();
        since.elapsed().as_secs()
    }

    /// A block found on what is published.
    async fn find(&mut self) -> BlockHash {
        let work = self.published().await.unwrap();
        let class = PayoutClass::Pool;
        let job = self.pool.job(&work.template, &class).unwrap();
        let account = Arc::new(Account { user: "someone".into(), class });
        let mut header = [0; 80];
        header[4..36].copy_from_slice(work.tip.prev_hash.as_ref());
        header[36..68].copy_from_slice(&job.merkle_root(&[0; 20]));
        let hash = BlockHash::hash(&header);
        let solution = Solution {
            job,
            tip: work.tip.clone(),
            header,
            hash: hash.to_byte_array(),
            extranonce: [0; 20],
            account,
        };
        let peer = ([127, 0, 0, 1], 1).into();
        let found = Found { solution: Box::new(solution), transport: Transport::Quic, peer };
        self.pool.hand_in(&mut [found].into()).await;
        hash
    }
}

fn value(work: &Option<Arc<Work>>) -> u64 {
    work.as_ref().unwrap().template.coinbase.value
}

#[tokio::test(start_paused = true)]
async fn a_tip_is_published_at_once() {
    let mut rig = Rig::start(1);
    assert!(rig.published().await.is_none());
    for height in [7, 8, 9, 8] {
        rig.feeds[0].offer(offer(height, 5_000));
        assert_eq!(rig.published().await.unwrap().tip.height, height);
    }
}

#[tokio::test(start_paused = true)]
async fn fees_wait_for_the_interval() {
    let mut rig = Rig::start(1);
    rig.feeds[0].offer(offer(7, 5_000));
    rig.published().await;
    rig.feeds[0].offer(offer(7, 6_000));
    rig.feeds[0].offer(offer(7, 7_000));
    assert_eq!(value(&rig.published().await), 5_000);
    assert_eq!(rig.next_after().await, 9);
    assert_eq!(value(&rig.published().await), 7_000);
}

#[tokio::test(start_paused = true)]
async fn small_change_waits_for_the_refresh() {
    let mut rig = Rig::start(1);
    rig.feeds[0].offer(offer(7, 5_000));
    rig.published().await;
    rig.feeds[0].offer(offer(7, 5_999));
    assert_eq!(rig.next_after().await, 49);
    assert_eq!(value(&rig.published().await), 5_999);
}

#[tokio::test(start_paused = true)]
async fn there_is_a_job_within_a_minute_even_if_nothing_changes() {
    let mut rig = Rig::start(1);
    let constant = offer(7, 5_000);
    rig.feeds[0].offer(constant.clone());
    let first = rig.published().await.unwrap();
    rig.feeds[0].offer(constant.clone());
    assert_eq!(rig.next_after().await, 49);
    let second = rig.published().await.unwrap();
    assert_ne!(first.template.serial, second.template.serial, "a job of its own");
    assert_eq!(first.tip.prev_hash, second.tip.prev_hash);
    // and so on when the source is gone
    rig.feeds[0].down("gone");
    assert_eq!(rig.next_after().await, 49);
    assert_eq!(rig.next_after().await, 50);
    assert!(rig.published().await.unwrap().template.serial > second.template.serial);
}

#[tokio::test(start_paused = true)]
async fn better_than_makeshift_does_not_wait() {
    let mut rig = Rig::start(1);
    rig.feeds[0].offer(Offer { makeshift: true, ..offer(7, 5_000) });
    rig.published().await;
    rig.feeds[0].offer(offer(7, 5_001));
    assert_eq!(value(&rig.published().await), 5_001);
}

#[tokio::test(start_paused = true)]
async fn what_was_prepared_keeps_its_serial() {
    let mut rig = Rig::start(1);
    let mut now = offer(7, 5_000);
    rig.feeds[0].offer(now.clone());
    rig.published().await;
    // prepared drafts are not held back, and do not bring along what is
    now.future = vec![draft(8, 6_000), draft(8, 6_500)];
    now.draft = draft(7, 5_100);
    rig.feeds[0].offer(now.clone());
    let before = rig.published().await.unwrap();
    assert_eq!((before.template.coinbase.value, before.future.len()), (5_000, 2));
    rig.feeds[0].offer(Offer { draft: now.future[1].clone(), ..offer(8, 0) });
    let after = rig.published().await.unwrap();
    assert_eq!(after.template.serial, before.future[1].serial);
    // long after, a solution for it still finds its way
    for turn in 0..100 {
        rig.feeds[0].offer(offer(8, 10_000 + turn * 1_000));
        rig.work.changed().await.unwrap();
    }
    assert!(rig.published().await.unwrap().template.serial.0 > 100);
}

#[tokio::test(start_paused = true)]
async fn a_switch_gives_new_serials_and_no_gap() {
    let mut rig = Rig::start(2);
    let (first, second) = (offer(7, 5_000), offer(7, 4_000));
    rig.feeds[1].offer(second.clone());
    assert_eq!(value(&rig.published().await), 4_000);
    rig.feeds[0].offer(first.clone());
    let before = rig.published().await.unwrap();
    assert_eq!(before.template.coinbase.value, 5_000);
    rig.feeds[0].down("gone");
    assert_eq!(value(&rig.published().await), 4_000);
    rig.feeds[0].offer(first);
    let after = rig.published().await.unwrap();
    assert_eq!(after.template.coinbase.value, 5_000);
    assert!(after.template.serial > before.template.serial);
}

#[tokio::test(start_paused = true)]
async fn a_block_goes_to_every_source_until_one_takes_it() {
    let mut rig = Rig::start(3);
    rig.feeds[0].offer(offer(7, 5_000));
    let hash = rig.find().await;
    let [first, second, third] = &mut rig.deliveries[..] else { unreachable!() };
    first.recv().await.unwrap().answer(Verdict::Failed("busy".to_owned()));
    second.recv().await.unwrap().answer(Verdict::Refused("bad-txns".to_owned()));
    let delivery = third.recv().await.unwrap();
    assert_eq!((delivery.block.hash, delivery.block.height), (hash, 7));
    delivery.answer(Verdict::NotMine);
    // asked again until it says something
    for _ in 0..5 {
        first.recv().await.unwrap().answer(Verdict::Failed("busy".to_owned()));
    }
    let stats = |rig: &Rig| {
        let stats = rig.pool.stats().of(Transport::Quic);
        (stats.blocks.get(), stats.solutions_refused.get())
    };
    rig.deliveries[0].recv().await.unwrap().answer(Verdict::Accepted);
    sleep(Duration::from_millis(1)).await;
    assert_eq!(stats(&rig), (1, 0));

    rig.find().await;
    for deliveries in &mut rig.deliveries {
        deliveries.recv().await.unwrap().answer(Verdict::Refused("bad-txns".to_owned()));
    }
    sleep(Duration::from_millis(1)).await;
    assert_eq!(stats(&rig), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_block_that_is_built_on_was_taken() {
    let mut rig = Rig::start(2);
    rig.feeds[0].offer(offer(7, 5_000));
    let hash = rig.find().await;
    for deliveries in &mut rig.deliveries {
        deliveries.recv().await.unwrap().answer(Verdict::Sent);
    }
    sleep(Duration::from_secs(5)).await;
    let stats = rig.pool.stats().of(Transport::Quic);
    assert_eq!((stats.blocks.get(), stats.solutions_refused.get()), (0, 0));
    let mut next = offer(8, 5_000);
    Arc::make_mut(&mut next.tip).prev_hash = hash;
    rig.feeds[1].offer(next);
    sleep(Duration::from_millis(1)).await;
    let stats = rig.pool.stats().of(Transport::Quic);
    assert_eq!((stats.blocks.get(), stats.solutions_refused.get()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_block_that_nobody_builds_on_was_not_taken() {
    let mut rig = Rig::start(1);
    rig.feeds[0].offer(offer(7, 5_000));
    rig.find().await;
    rig.deliveries[0].recv().await.unwrap().answer(Verdict::Sent);
    sleep(Duration::from_secs(599)).await;
    assert_eq!(rig.pool.stats().of(Transport::Quic).solutions_refused.get(), 0);
    sleep(Duration::from_secs(2)).await;
    let stats = rig.pool.stats().of(Transport::Quic);
    assert_eq!((stats.blocks.get(), stats.solutions_refused.get()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_block_is_taken_although_the_next_follows_at_once() {
    let mut rig = Rig::start(1);
    rig.feeds[0].offer(offer(7, 5_000));
    let hash = rig.find().await;
    rig.deliveries[0].recv().await.unwrap().answer(Verdict::Sent);
    sleep(Duration::from_secs(1)).await;
    let mut next = offer(8, 5_000);
    Arc::make_mut(&mut next.tip).prev_hash = hash;
    rig.feeds[0].offer(next);
    rig.feeds[0].offer(offer(9, 5_000));
    rig.feeds[0].down("gone");
    sleep(Duration::from_millis(1)).await;
    assert_eq!(rig.pool.stats().of(Transport::Quic).blocks.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_back_gives_new_work_at_once() {
    let mut rig = Rig::start(1);
    rig.feeds[0].offer(offer(7, 5_000));
    let before = rig.published().await.unwrap();
    rig.feeds[0].down("gone");
    sleep(Duration::from_secs(1)).await;
    // it may have forgotten what it had offered
    rig.feeds[0].offer(offer(7, 5_000));
    let after = rig.published().await.unwrap();
    assert_ne!(before.template.serial, after.template.serial);
    // and once is enough
    rig.feeds[0].offer(offer(7, 5_000));
    assert_eq!(rig.published().await.unwrap().template.serial, after.template.serial);
}

#[tokio::test(start_paused = true)]
async fn time_goes_on_for_headers_by_the_sources_clock() {
    let mut rig = Rig::start(1);
    let constant = offer(7, 5_000);
    rig.feeds[0].offer(constant.clone());
    let first = rig.published().await.unwrap().tip.min_ntime;
    assert_eq!(first, 1_000);
    rig.next_after().await;
    assert_eq!(rig.published().await.unwrap().tip.min_ntime, 1_050);
    rig.feeds[0].down("gone");
    rig.next_after().await;
    assert_eq!(rig.published().await.unwrap().tip.min_ntime, 1_100);
}

#[tokio::test]
async fn a_source_that_fails_is_down() {
    let (pool, found) = pool();
    let (mut generator, feeds, _deliveries) = generator(2, pool, found);
    let states = generator.board.states();
    feeds.iter().for_each(|feed| feed.offer(offer(7, 5_000)));
    generator.seats[0].task = generator.running.spawn(async { panic!("a fault") });
    let (_stop, stopped) = watch::channel(false);
    tokio::spawn(generator.run(stopped));
    while states.borrow()[0].offer().is_some() {
        sleep(Duration::from_millis(1)).await;
    }
    assert!(states.borrow()[1].offer().is_some());
}

fn payees(value: u64) -> Option<Arc<Payees>> {
    let output = TxOut { value: Amount::from_sat(value), script_pubkey: ScriptBuf::from_bytes(vec![0x53]) };
    Some(Arc::new(Payees::new(vec![output]).unwrap()))
}

#[tokio::test(start_paused = true)]
async fn with_other_payees_all_work_is_new_at_once() {
    let mut rig = Rig::start(1);
    let constant = Offer { future: vec![draft(8, 6_000)], ..offer(7, 5_000) };
    rig.feeds[0].offer(constant.clone());
    let mut before = rig.published().await.unwrap();
    for (turn, payees) in [payees(1), payees(2), None].into_iter().enumerate() {
        rig.pool.set_payees(payees.clone());
        let after = rig.published().await.unwrap();
        assert!(after.template.serial > before.template.serial, "{turn}");
        assert!(after.future[0].serial > before.future[0].serial, "{turn}: what is prepared too");
        rig.pool.set_payees(payees);
        rig.feeds[0].offer(constant.clone());
        assert_eq!(
            rig.published().await.unwrap().template.serial,
            after.template.serial,
            "they are the same"
        );
        before = after;
    }
    // also where it would have been held back, and when the source is gone
    rig.feeds[0].offer(Offer { draft: draft(7, 5_001), ..constant.clone() });
    assert_eq!(value(&rig.published().await), 5_000);
    rig.pool.set_payees(payees(3));
    assert_eq!(value(&rig.published().await), 5_001);
    rig.feeds[0].down("gone");
    let before = rig.published().await.unwrap();
    rig.pool.set_payees(payees(4));
    let after = rig.published().await.unwrap();
    assert!(after.template.serial > before.template.serial);
    // back, with what it had: what was mined on for others is not what is mined on
    rig.pool.set_payees(payees(5));
    rig.feeds[0].offer(constant);
    assert!(rig.published().await.unwrap().template.serial > after.template.serial);
}

#[tokio::test(start_paused = true)]
async fn jobs_of_the_operator_pay_the_payees() {
    let mut rig = Rig::start(1);
    rig.feeds[0].offer(offer(7, 5_000));
    let operator = PayoutClass::Pool;
    // some have come for another policy
    let solo = PayoutPolicy::Solo { fee: None, network: bitcoin::Network::Regtest };
    let terms = rig.pool.terms();
    rig.pool.set_terms(Arc::new(Terms { payout: terms.payout.followed_by(solo), tag: Tag::default() }));
    let miner = PayoutClass::Solo { miner: Script::from_bytes(&[0x52]).into() };
    let before = rig.published().await.unwrap();
    let job = rig.pool.job(&before.template, &operator).unwrap();
    assert_eq!(paid(&before, &rig.pool, &operator), [(0x51, 5_000)]);
    for (payees, expected) in [
        (payees(4_999), vec![(0x53, 4_999), (0x51, 1)]),
        (payees(5_000), vec![(0x53, 5_000)]),
        (payees(5_001), vec![(0x51, 5_000)]),
        (None, vec![(0x51, 5_000)]),
    ] {
        rig.pool.set_payees(payees);
        let work = rig.published().await.unwrap();
        assert_eq!(paid(&work, &rig.pool, &operator), expected);
        assert_eq!(paid(&work, &rig.pool, &miner), [(0x52, 5_000)], "a solo miner's block is his");
        let variant = rig.pool.variant(&work.template, &operator, 9).unwrap();
        assert_eq!(variant.coinbase.transaction(&[0; 20]).unwrap().output.len(), expected.len());
    }
    assert_eq!(job.coinbase.transaction(&[0; 20]).unwrap().output.len(), 1, "what is made stays");
}

#[tokio::test(start_paused = true)]
async fn a_found_block_is_given_to_who_listens() {
    let (pool, found) = pool();
    let (generator, feeds, deliveries) = generator(1, pool.clone(), found);
    let mut blocks = generator.blocks().listen();
    let control = generator.control();
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(generator.run(stopped));
    let mut rig = Rig { feeds, deliveries, work: pool.work(), pool, control, _stop: stop };
    rig.feeds[0].offer(offer(7, 5_000));
    let hash = rig.find().await;
    assert_eq!(blocks.recv().await.unwrap().hash, hash);
}

/// The first byte of each output's script, and what it is paid, in a job made now.
fn paid(work: &Work, pool: &Arc<StratumV2Pool>, class: &PayoutClass) -> Vec<(u8, u64)> {
    let job = pool.job(&work.template, class).unwrap();
    let outputs = job.coinbase.transaction(&[0; 20]).unwrap().output;
    outputs.iter().map(|o| (o.script_pubkey.as_bytes()[0], o.value.to_sat())).collect()
}

fn to(op: u8, length: usize) -> PayoutPolicy {
    PayoutPolicy::Pool { script: Script::from_bytes(&vec![op; length]).into() }
}

const MINER: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";

#[tokio::test(start_paused = true)]
async fn by_other_terms_all_work_is_new_at_once() {
    let mut rig = Rig::start(1);
    let constant = Offer { future: vec![draft(8, 6_000)], ..offer(7, 5_000) };
    rig.feeds[0].offer(constant.clone());
    let before = rig.published().await.unwrap();
    let old = rig.pool.job(&before.template, &PayoutClass::Pool).unwrap();
    assert_eq!(paid(&before, &rig.pool, &PayoutClass::Pool), [(0x51, 5_000)]);

    rig.change(&[0], |change| change.payout = to(0x53, 2)).await.unwrap();
    let after = rig.published().await.unwrap();
    assert!(after.template.serial > before.template.serial);
    assert!(after.future[0].serial > before.future[0].serial, "what is prepared would pay as before");
    assert_eq!(paid(&after, &rig.pool, &PayoutClass::Pool), [(0x53, 5_000)]);
    assert_eq!(old.coinbase.transaction(&[0; 20]).unwrap().output[0].script_pubkey.as_bytes(), [0x51]);
    let variant = rig.pool.variant(&after.template, &PayoutClass::Pool, 9).unwrap();
    assert_eq!(variant.coinbase.transaction(&[0; 20]).unwrap().output[0].script_pubkey.as_bytes()[0], 0x53);

    // the same once more is no news
    rig.change(&[0], |_| ()).await.unwrap();
    rig.feeds[0].offer(constant);
    assert_eq!(rig.published().await.unwrap().template.serial, after.template.serial);

    // also while there is no source with work
    rig.feeds[0].down("gone");
    rig.change(&[0], |change| change.tag = Tag::new(*b"/new/").unwrap()).await.unwrap();
    let tagged = rig.published().await.unwrap();
    assert!(tagged.template.serial > after.template.serial);
    let job = rig.pool.job(&tagged.template, &PayoutClass::Pool).unwrap();
    let script = job.coinbase.transaction(&[0; 20]).unwrap().input[0].script_sig.to_bytes();
    assert!(script.windows(5).any(|part| part == b"/new/"));
}

#[tokio::test(start_paused = true)]
async fn channels_keep_their_kind() {
    let mut rig = Rig::start(1);
    rig.feeds[0].offer(offer(7, 5_000));
    let solo = PayoutPolicy::Solo { fee: None, network: bitcoin::Network::Regtest };
    assert_eq!(rig.pool.class_for(MINER).unwrap(), PayoutClass::Pool);
    // an address may take more room than the source leaves: one that leaves more comes in its place
    rig.change(&[0], |change| change.payout = solo.clone()).await.unwrap();
    let work = rig.published().await.unwrap();
    assert_eq!(rig.pool.class_for(MINER).unwrap(), PayoutClass::Pool, "as long as there is no room for it");
    assert_eq!(work.template.serial, TemplateSerial(1));

    let mut rig = Rig::start(1);
    rig.change(&[0], |change| change.payout = solo).await.unwrap();
    let miner = rig.pool.class_for(MINER).unwrap();
    assert!(matches!(miner, PayoutClass::Solo { .. }), "there are no jobs that could be too large");
    rig.published().await;
    assert_eq!(rig.pool.terms().payout.operator().unwrap().as_bytes(), [0x51]);
}

#[tokio::test(start_paused = true)]
async fn a_payout_waits_for_work_with_room_for_it() {
    let mut rig = Rig::start(2);
    rig.feeds[0].offer(offer(7, 5_000));
    let before = rig.published().await.unwrap();
    rig.change(&[0, 1], |change| change.payout = to(0x54, 100)).await.unwrap();
    // those that were told of too little room have none for it: it goes on as before
    rig.feeds[0].offer(offer(8, 5_000));
    rig.feeds[1].offer(offer(8, 5_000));
    let after = rig.published().await.unwrap();
    assert_eq!(after.tip.height, 8);
    assert!(after.template.serial > before.template.serial);
    assert_eq!(paid(&after, &rig.pool, &PayoutClass::Pool), [(0x51, 5_000)]);
    // what miners have stays fresh, and pays as it did
    assert_eq!(rig.next_after().await, 49);
    let repeated = rig.published().await.unwrap();
    assert_eq!(paid(&repeated, &rig.pool, &PayoutClass::Pool), [(0x51, 5_000)]);
}

#[tokio::test(start_paused = true)]
async fn sources_that_stay_are_left_alone_in_any_order() {
    let mut rig = Rig::start(3);
    for (feed, value) in rig.feeds.iter().zip([5_000, 4_000, 3_000]) {
        feed.offer(offer(7, value));
    }
    assert_eq!(value(&rig.published().await), 5_000);
    rig.change(&[2, 0, 1], |_| ()).await.unwrap();
    assert_eq!(value(&rig.published().await), 3_000, "the first is preferred");
    rig.change(&[1, 2], |_| ()).await.unwrap();
    assert_eq!(value(&rig.published().await), 4_000);
    rig.feeds[1].down("gone");
    assert_eq!(value(&rig.published().await), 3_000);
    // the one that was left out has nothing to say any more
    rig.feeds[2].down("gone");
    let last = rig.published().await.unwrap().template.serial;
    rig.feeds[0].offer(offer(8, 9_000));
    assert_eq!(rig.published().await.unwrap().template.serial, last);
}

#[tokio::test(start_paused = true)]
async fn a_removed_source_is_kept_for_its_blocks_and_no_longer() {
    let mut rig = Rig::start(2);
    rig.feeds[0].offer(offer(7, 5_000));
    rig.published().await;
    rig.change(&[1], |_| ()).await.unwrap();
    rig.published().await;
    let hash = rig.find().await;
    let (first, second) = rig.deliveries.split_at_mut(1);
    assert_eq!(first[0].recv().await.unwrap().block.hash, hash);
    second[0].recv().await.unwrap().answer(Verdict::Accepted);
    // as long as miners have nothing else
    sleep(Duration::from_secs(90)).await;
    rig.feeds[1].offer(offer(7, 4_000));
    rig.published().await;
    sleep(Duration::from_secs(59)).await;
    rig.find().await;
    assert!(rig.deliveries[0].recv().await.is_some());
    assert!(rig.deliveries[1].recv().await.is_some());
    sleep(Duration::from_secs(2)).await;
    rig.find().await;
    assert!(rig.deliveries[1].recv().await.is_some());
    assert!(rig.deliveries[0].try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_had_changes_nothing() {
    let mut rig = Rig::start(1);
    rig.feeds[0].offer(offer(7, 5_000));
    let before = rig.published().await.unwrap();
    let bad = bitcoin_rpc::Options {
        url: "https://127.0.0.1:1".to_owned(),
        auth: bitcoin_rpc::Auth::CookieFile("nowhere".into()),
        network: bitcoin::Network::Regtest,
        room: ROOM,
        poll_interval: Duration::from_secs(1),
        empty_after: Duration::from_secs(1),
    };
    let refused = rig.change(&[1], |change| {
        change.sources.push(SourceOptions::BitcoinRpc(bad));
        change.payout = to(0x53, 1);
    });
    let refused = refused.await.unwrap_err().to_string();
    assert!(refused.starts_with("source 2 of 2") && refused.contains("https"), "{refused}");
    let embedded = rig.change(&[0], |change| {
        change.sources.push(SourceOptions::Regtest(regtest::Options::default()));
        change.payout = to(0x53, 1);
    });
    let embedded = embedded.await.unwrap_err().to_string();
    assert!(embedded.contains("restart"), "{embedded}");
    assert_eq!(rig.published().await.unwrap().template.serial, before.template.serial);
    rig.feeds[0].offer(offer(8, 5_000));
    let after = rig.published().await.unwrap();
    assert_eq!(after.tip.height, 8);
    assert_eq!(paid(&after, &rig.pool, &PayoutClass::Pool), [(0x51, 5_000)]);
}

#[tokio::test(start_paused = true)]
async fn another_pace_holds_at_once() {
    let mut rig = Rig::start(1);
    rig.feeds[0].offer(offer(7, 5_000));
    rig.published().await;
    rig.feeds[0].offer(offer(7, 5_100));
    assert_eq!(value(&rig.published().await), 5_000);
    rig.change(&[0], |change| change.pace = Pace { fee_threshold: 100, ..PACE }).await.unwrap();
    assert_eq!(rig.next_after().await, 9);
    assert_eq!(value(&rig.published().await), 5_100);
}

#[test]
fn what_a_source_does_for_other_options() {
    let told = |size| options(0).with_room(Room { size, ..ROOM });
    assert!(told(40).serves(&told(40)) && told(50).serves(&told(40)), "more room does no harm");
    assert!(!told(40).serves(&told(41)));
    assert!(!options(0).serves(&options(1)));
    let rpc = |password: &str| {
        SourceOptions::BitcoinRpc(bitcoin_rpc::Options {
            url: "http://127.0.0.1:1".to_owned(),
            auth: bitcoin_rpc::Auth::UserPassword {
                user: "me".to_owned(),
                password: password.to_owned().into(),
            },
            network: bitcoin::Network::Regtest,
            room: ROOM,
            poll_interval: Duration::from_secs(1),
            empty_after: Duration::from_secs(1),
        })
    };
    assert!(rpc("sesame").serves(&rpc("sesame")) && !rpc("sesame").serves(&rpc("sesam")));
    assert!(!format!("{:?}", rpc("sesame")).contains("sesame"));
}
