//! The chain as a source of work. rust-bitcoin's own checks say whether its blocks are good.

use std::collections::HashMap;

use bitcoin::{Block, OutPoint, Target, TxOut};
use blvm_stratum_v2::mining::TemplateSerial;
use blvm_stratum_v2::template::regtest::{
    BlockSolution, MAX_TEMPLATES, Options, RegtestChain, RejectReason, spendable_script, subsidy,
};

use crate::miner::{NOW, mine, payout_script, solve};

fn open(options: Options) -> RegtestChain {
    RegtestChain::open(options, TemplateSerial(1), NOW).unwrap()
}

fn plain() -> RegtestChain {
    open(Options::default())
}

/// Holds every block of the chain against what rust-bitcoin and a ledger of its own say.
fn check(source: &RegtestChain) {
    let blocks: Vec<&Block> = source.chain().blocks().collect();
    let mut unspent: HashMap<OutPoint, (TxOut, usize)> = HashMap::new();
    for (height, pair) in (1..).zip(blocks.windows(2)) {
        let [parent, block] = pair else { unreachable!() };
        assert_eq!(block.header.prev_blockhash, parent.block_hash());
        block.header.validate_pow(Target::MAX_ATTAINABLE_REGTEST).unwrap();
        assert!(block.check_merkle_root());
        assert!(!block.txdata[0].input[0].witness.is_empty(), "or the next line checks nothing");
        assert!(block.check_witness_commitment());
        match height {
            // Small numbers have opcodes, which rust-bitcoin does not read.
            1..=16 => assert_eq!(block.txdata[0].input[0].script_sig.as_bytes()[0], 0x50 + height as u8),
            _ => assert_eq!(block.bip34_block_height().unwrap(), height as u64),
        }
        let mut fees = 0;
        for tx in &block.txdata {
            if !tx.is_coinbase() {
                for input in &tx.input {
                    let (output, born) = unspent.remove(&input.previous_output).expect("an unspent output");
                    assert!(height - born >= 100 || born == 0, "spent before it was mature");
                    assert_eq!(output.script_pubkey, spendable_script());
                    assert_eq!(input.witness.to_vec(), [[0x51]]);
                    fees += output.value.to_sat();
                }
                fees -= tx.output.iter().map(|output| output.value.to_sat()).sum::<u64>();
            }
            let born = if tx.is_coinbase() { height } else { 0 };
            for (output, vout) in tx.output.iter().zip(0..) {
                unspent.insert(OutPoint::new(tx.compute_txid(), vout), (output.clone(), born));
            }
        }
        let paid: u64 = block.txdata[0].output.iter().map(|output| output.value.to_sat()).sum();
        assert_eq!(paid, (5_000_000_000 >> (height / 150)) + fees, "at height {height}");
    }
}

#[test]
fn hundreds_of_blocks_without_transactions() {
    let mut source = plain();
    for height in 1..=320 {
        assert_eq!(source.work().tip.height, height);
        let accepted = mine(&mut source);
        assert_eq!((accepted.height, accepted.hash), (height, source.chain().tip()));
    }
    check(&source);
    assert!(source.chain().blocks().all(|block| block.txdata.len() == 1));
}

#[test]
fn hundreds_of_blocks_with_transactions() {
    let mut source = open(Options { transactions: 25, ..Options::default() });
    assert_eq!(source.chain().height(), 101);
    for nth in 0..320 {
        let work = source.work();
        assert_eq!(work.template.merkle_path.len(), 5);
        if nth % 3 == 0 {
            source.refresh(NOW);
        }
        mine(&mut source);
        assert_eq!(source.chain().blocks().next_back().unwrap().txdata.len(), 26);
    }
    check(&source);
    // What the miners found pays them and nobody else.
    let coinbase = &source.chain().blocks().next_back().unwrap().txdata[0];
    assert_eq!(coinbase.output.len(), 2);
    assert_eq!(coinbase.output[0].script_pubkey, payout_script());
    assert!(coinbase.output[1].script_pubkey.is_op_return());
}

#[test]
fn the_subsidy_halves_every_150_blocks() {
    for (height, sats) in [
        (1, 5_000_000_000),
        (149, 5_000_000_000),
        (150, 2_500_000_000),
        (299, 2_500_000_000),
        (300, 1_250_000_000),
    ] {
        assert_eq!(subsidy(height), sats, "{height}");
    }
    assert_eq!(subsidy(150 * 32), 1);
    assert_eq!(subsidy(150 * 33), 0);
    assert_eq!(subsidy(150 * 64), 0);
    let source = open(Options { prefill: 148, ..Options::default() });
    assert_eq!(source.work().template.coinbase.value, 5_000_000_000);
    let source = open(Options { prefill: 149, ..Options::default() });
    assert_eq!(source.work().template.coinbase.value, 2_500_000_000);
}

#[test]
fn a_chain_mines_for_itself_what_it_was_told_and_always_the_same() {
    let options = Options { prefill: 30, ..Options::default() };
    let (one, other) = (open(options.clone()), open(options));
    assert_eq!(one.chain().height(), 30);
    assert_eq!(one.chain().tip(), other.chain().tip());
    check(&one);

    let options = Options { transactions: 1_000, ..Options::default() };
    let (one, other) = (open(options.clone()), open(options));
    assert_eq!(one.work().template.merkle_path.len(), 10);
    assert_eq!(one.work().template.merkle_path, other.work().template.merkle_path);
    check(&one);
}

#[test]
fn the_first_coins_come_from_matured_blocks_only() {
    // Nobody can spend what 120 blocks paid to miners, so 101 more are needed.
    let directory = tempfile::tempdir().unwrap();
    let file = Some(directory.path().join("chain"));
    let mut source = open(Options { file: file.clone(), ..Options::default() });
    for _ in 0..120 {
        mine(&mut source);
    }
    drop(source);
    let source = open(Options { file, transactions: 5, ..Options::default() });
    assert_eq!(source.chain().height(), 221);
    assert_eq!(source.work().template.merkle_path.len(), 3);
    check(&source);
}

#[test]
fn a_refresh_pays_more_on_the_same_tip() {
    let mut source = open(Options { transactions: 7, ..Options::default() });
    let before = source.work();
    let after = source.refresh(NOW);
    assert_eq!(before.tip, after.tip);
    assert_eq!(after.template.serial, source.work().template.serial);
    assert!(after.template.serial > before.template.serial);
    assert!(after.template.coinbase.value > before.template.coinbase.value);
    assert_ne!(after.template.merkle_path, before.template.merkle_path);
    // The earlier template is still good.
    source.submit(solve(&before.tip, &before.template, NOW), NOW).unwrap();
    // Fees start over on the next tip.
    assert_eq!(source.work().template.coinbase.value, before.template.coinbase.value);
    assert_eq!(source.refresh(NOW).template.coinbase.value, after.template.coinbase.value);
    check(&source);
}

#[test]
fn serials_count_up_from_the_first() {
    let mut source = RegtestChain::open(Options::default(), TemplateSerial(1_000), NOW).unwrap();
    assert_eq!(source.work().template.serial, TemplateSerial(1_000));
    assert_eq!(source.refresh(NOW).template.serial, TemplateSerial(1_001));
    mine(&mut source);
    assert_eq!(source.work().template.serial, TemplateSerial(1_002));
}

#[test]
fn only_the_latest_templates_are_remembered() {
    let mut source = plain();
    let oldest = source.work();
    let solution = solve(&oldest.tip, &oldest.template, NOW);
    for _ in 1..MAX_TEMPLATES {
        source.refresh(NOW);
    }
    let unknown = RejectReason::UnknownWork;
    let never = BlockSolution { template: TemplateSerial(999), ..solution.clone() };
    assert_eq!(source.submit(never, NOW), Err(unknown));
    source.refresh(NOW);
    assert_eq!(source.submit(solution, NOW), Err(unknown));

    // The oldest of those that are left is good.
    let mut source = plain();
    let oldest = source.work();
    for _ in 1..MAX_TEMPLATES {
        source.refresh(NOW);
    }
    source.submit(solve(&oldest.tip, &oldest.template, NOW), NOW).unwrap();
}

#[test]
fn a_solution_for_a_past_tip_is_refused() {
    let mut source = plain();
    let work = source.work();
    let winner = solve(&work.tip, &work.template, NOW);
    let loser = solve(&work.tip, &work.template, NOW + 1);
    source.submit(winner.clone(), NOW).unwrap();
    assert_eq!(source.submit(winner, NOW), Err(RejectReason::Duplicate));
    assert_eq!(source.submit(loser, NOW), Err(RejectReason::Stale));
    assert_eq!(source.chain().height(), 1);
}

#[test]
fn a_refused_solution_changes_nothing() {
    let mut source = open(Options { transactions: 3, future_templates: true, ..Options::default() });
    let work = source.work();
    let good = solve(&work.tip, &work.template, NOW);
    let mut greedy = good.clone();
    greedy.coinbase.output[0].value += bitcoin::Amount::ONE_SAT;
    let refused = (0..64).find_map(|nonce| {
        let mut greedy = greedy.clone();
        greedy.nonce = nonce;
        Some(source.submit(greedy, NOW).unwrap_err()).filter(|reason| *reason != RejectReason::HighHash)
    });
    assert_eq!(refused, Some(RejectReason::CoinbaseAmount));
    assert_eq!(source.work().template.serial, work.template.serial);
    assert_eq!(source.work().tip, work.tip);
    source.submit(good, NOW).unwrap();
}

#[test]
fn a_future_template_is_the_first_on_the_next_tip() {
    let mut source = open(Options { transactions: 3, future_templates: true, ..Options::default() });
    for _ in 0..60 {
        let work = source.work();
        let [future] = &work.future[..] else { panic!("one future template") };
        assert_eq!(future.coinbase.value, subsidy(work.tip.height + 1));
        assert!(future.merkle_path.is_empty());
        let early = solve(&work.tip, future, NOW);
        assert_eq!(source.submit(early, NOW), Err(RejectReason::UnknownWork));

        mine(&mut source);
        let next = source.work();
        assert_eq!(next.template.serial, future.serial);
        assert_ne!(next.future[0].serial, future.serial);
        let full = source.refresh(NOW);
        assert_eq!(full.template.merkle_path.len(), 2);
        assert_eq!(full.future[0].serial, next.future[0].serial);
        source.submit(solve(&next.tip, &next.template, next.tip.min_ntime.max(NOW)), NOW).unwrap();
    }
    check(&source);
}

#[test]
fn a_future_template_outlives_refreshes() {
    let mut source = open(Options { future_templates: true, ..Options::default() });
    for _ in 0..2 * MAX_TEMPLATES {
        source.refresh(NOW);
    }
    mine(&mut source);
    mine(&mut source);
    check(&source);
}

#[test]
fn an_invalidated_tip_takes_its_work_along() {
    let mut source = open(Options { transactions: 4, future_templates: true, ..Options::default() });
    let before = source.work();
    let first = mine(&mut source);
    let orphaned = source.work();

    assert_eq!(source.invalidate_tip(NOW).unwrap(), Some(first.hash));
    let after = source.work();
    assert_eq!(after.tip, before.tip);
    assert_eq!(after.template.coinbase, before.template.coinbase);
    assert_eq!(after.template.merkle_path, before.template.merkle_path);
    assert!(after.template.serial > orphaned.future[0].serial);
    let stale = solve(&orphaned.tip, &orphaned.template, NOW);
    assert_eq!(source.submit(stale, NOW), Err(RejectReason::Stale));
    let never = solve(&orphaned.tip, &orphaned.future[0], NOW);
    assert_eq!(source.submit(never, NOW), Err(RejectReason::UnknownWork));

    for _ in 0..3 {
        mine(&mut source);
    }
    check(&source);
}

#[test]
fn genesis_cannot_be_invalidated() {
    let mut source = plain();
    mine(&mut source);
    assert!(source.invalidate_tip(NOW).unwrap().is_some());
    assert_eq!(source.invalidate_tip(NOW).unwrap(), None);
    assert_eq!(
        source.chain().tip().to_string(),
        "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206"
    );
}

#[test]
fn the_smallest_time_is_now_and_past_the_median_of_eleven() {
    let mut source = plain();
    let mut times = vec![1_296_688_602];
    for nth in 0..40 {
        let work = source.work();
        let mut last: Vec<u32> = times.iter().rev().take(11).copied().collect();
        last.sort_unstable();
        let earliest = last[last.len() / 2] + 1;
        assert_eq!(work.tip.min_ntime, NOW.max(earliest));
        // In no order, some as early as they may be, some ahead of the clock.
        let time = earliest.max(NOW - 500 + nth * 7_919 % 1_000);
        source.submit(solve(&work.tip, &work.template, time), NOW).unwrap();
        times.push(time);
    }
    check(&source);
}

#[test]
fn a_chain_that_is_worth_little_stops_mining_for_itself() {
    // From block 1650 on, no reward can be split into 4000.
    let directory = tempfile::tempdir().unwrap();
    let file = Some(directory.path().join("chain"));
    let mut source = open(Options { file: file.clone(), ..Options::default() });
    for _ in 0..1_650 {
        mine(&mut source);
    }
    drop(source);
    let source = open(Options { file, transactions: 4_000, ..Options::default() });
    assert_eq!(source.chain().height(), 1_751);
    check(&source);
}
