//! Many sessions against strict clients, through everything that a network and a chain can do:
//! thousands of runs, each of them decided by its seed.
//!
//! `SIM_SEEDS` sets how many runs there are, `SIM_SEED` the first.

#[allow(dead_code)] // this test needs a part of it
mod sim_support;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use sim_support::model::Kind;
use sim_support::oscillator::{Strategy, earnings};
use sim_support::shared::SimPool;
use sim_support::world::{Summary, World};

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn shares_are_credited_once_and_nothing_illegal_is_said() {
    let pool = SimPool::new();
    let first = number("SIM_SEED", 0);
    let runs = number("SIM_SEEDS", 500);
    let mut total = Summary::default();
    for seed in first..first + runs {
        let run = catch_unwind(AssertUnwindSafe(|| World::new(seed, &pool).run()));
        let summary = run.unwrap_or_else(|panic| {
            eprintln!("failed with SIM_SEED={seed} SIM_SEEDS=1");
            resume_unwind(panic)
        });
        total.credited += summary.credited;
        total.acknowledged += summary.acknowledged;
        total.refused += summary.refused;
        total.finished += summary.finished;
        total.events += summary.events;
    }
    println!("{total:?}");
    assert_eq!(World::new(first, &pool).run(), World::new(first, &pool).run(), "a run is its seed's alone");
    // of runs that do next to nothing nothing is learnt
    assert!(
        runs < 100
            || total.credited > 50 * runs
                && total.refused > 5 * runs
                && total.acknowledged > 30 * runs
                && total.finished > runs
    );
}

/// A miner who sees his hashes before he says what he can do must not earn by it.
#[test]
fn an_oscillating_miner_earns_what_he_hashes() {
    for kind in [Kind::Standard, Kind::Extended] {
        let honest = earnings(kind, Strategy::Steady);
        let oscillating = earnings(kind, Strategy::Oscillating);
        let hoarding = earnings(kind, Strategy::Hoarding);
        println!("{kind:?}: {honest:.3} {oscillating:.3} {hoarding:.3}");
        // with thousands of shares a tenth is several standard deviations
        for earned in [honest, oscillating, hoarding] {
            assert!((earned - 1.0).abs() < 0.1, "{earned} for each hash");
        }
    }
}
