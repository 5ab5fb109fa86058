//! What transactions pay is mined for, when it is worth a new job.

use std::time::Duration;

use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use tokio::time::timeout;

use crate::confirmed::Confirmed;
use crate::core::{Core, soon, until};
use crate::mempool::{Lock, Purse, spend};
use crate::stage::{Stage, Wanted};
use crate::upstream::{Kind, Upstream, on_every_source};

on_every_source! { a_job_for_fees_comes_when_they_are_worth_it }

/// The fee that a new job is for.
const THRESHOLD: u64 = 10_000;
const FIRST: u64 = 20_000;
const BIG: u64 = 1_000_000;
/// What has not come by then does not come for its fee: several times the shortest interval.
const NEVER: Duration = Duration::from_secs(4);

async fn a_job_for_fees_comes_when_they_are_worth_it(kind: Kind, core: Core) {
    let mut purse = Purse::new(&core, 3).await;
    // a template without any transaction may be meant for the first moment only
    let (first, _) = spend(purse.take(), Lock::Segwit, FIRST);
    core.send(&first).await;
    let upstream = Upstream::of(kind, &core).await;
    let work = format!("min_interval = 1\nfee_threshold = {THRESHOLD}");
    let stage = Stage::open_with([upstream], Wanted { work: &work, ..Wanted::default() }).await;
    let (mut quic, mut tcp) = stage.miners().await;
    let tip = core.tip().await;

    let (small, _) = spend(purse.take(), Lock::Segwit, THRESHOLD - 1);
    core.send(&small).await;
    until("the small fee is in the node's template", async || {
        let template = core.ask(&["getblocktemplate", r#"{"rules":["segwit"]}"#]).await;
        template["transactions"].as_array().unwrap().len() == 2
    })
    .await;
    let job = async {
        tokio::select! {
            () = quic.has_another_job() => {}
            () = tcp.has_another_job() => {}
        }
    };
    assert!(timeout(NEVER, job).await.is_err(), "a job for a small fee");
    stage.offers_fees(FIRST).await;

    let (big, _) = spend(purse.take(), Lock::Segwit, BIG);
    core.send(&big).await;
    for miner in [&mut quic, &mut tcp] {
        soon("a job for a big fee", miner.has_another_job()).await;
        assert_eq!(BlockHash::from_byte_array(miner.assignment().prev_hash), tip, "on the same tip");
    }
    stage.offers_fees(FIRST + THRESHOLD - 1 + BIG).await;
    let block = Confirmed::of(&core, quic.block().await).await;
    assert_eq!(block.fees(), FIRST + THRESHOLD - 1 + BIG);
}
