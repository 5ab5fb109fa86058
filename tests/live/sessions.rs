//! What sessions keep to.

use std::time::Duration;

use blvm_stratum_v2::mining::Hashrate;

use crate::miner::Miner;
use crate::{BOTH, Stage};

#[tokio::test(flavor = "multi_thread")]
async fn another_pace_moves_the_target_of_a_channel_that_is_open() {
    for transport in BOTH {
        let mut stage = Stage::open(|options| {
            options.pool.session.vardiff.slowest = Hashrate::new(1_000.0).unwrap();
            options.pool.session.vardiff.shares_per_minute = 6_000.0;
        })
        .await;
        let url = stage.url(transport);
        let mut miner = Miner::at(&url).await;
        let before = miner.job();
        assert!((9.9..10.1).contains(&before.target.hashes_per_share()));
        stage
            .apply(|options| {
                options.pool.session.vardiff.shares_per_minute = 600.0;
                options.pool.session.max_channels = 1;
            })
            .await;
        // a target comes with a job of its own
        let is_harder = |miner: &Miner| (99.0..101.0).contains(&miner.job().target.hashes_per_share());
        miner.hears("a harder job", is_harder).await;
        let after = miner.job();
        let easy = |hash: &[u8; 32]| !after.target.is_met_by(hash);
        let block = miner.submit_such(&before, easy).await.expect("the old job keeps its target");
        miner.hears("work on the block", |miner| miner.job().prev_hash == block).await;
        let job = miner.job();
        assert!(is_harder(&miner));
        miner.submit_such(&job, |_| true).await.unwrap();

        assert_eq!(miner.open(1).await, Err("channel-capacity-exhausted".to_owned()), "{transport}");
        let mut other = Miner::at(&url).await;
        assert!(is_harder(&other), "{transport}: who comes now has it at once");
        assert!(other.open(1).await.is_err());

        stage.apply(|options| options.pool.session.max_channels = 2).await;
        // nothing tells when it has reached the session
        while miner.open(2).await.is_err() {}
        stage.apply(|options| options.pool.session.vardiff.shares_per_minute = 6_000.0).await;
        let is_easy = |miner: &Miner| (9.9..10.1).contains(&miner.job().target.hashes_per_share());
        miner.hears("an easier job", is_easy).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shares_of_a_channel_that_is_open_are_acknowledged_in_other_batches() {
    for transport in BOTH {
        let mut stage = Stage::open(|options| {
            options.pool.session.share_batch_size = 1_000;
            options.pool.session.share_batch_interval = Duration::from_secs(3_600);
        })
        .await;
        let mut miner = Miner::at(&stage.url(transport)).await;
        let job = miner.job();
        miner.submit(&job, false).await.expect("the first is not made to wait");
        let waits = miner.send(&job);
        stage
            .apply(|options| {
                options.pool.session.share_batch_size = 2;
                // all of them hold at once: this one shows
                options.pool.session.vardiff.shares_per_minute = 4_500.0;
            })
            .await;
        let is_harder = |miner: &Miner| miner.job().target.hashes_per_share() > 1.3;
        miner.hears("a harder job", is_harder).await;
        assert!(miner.accepted_to < waits, "{transport}: it waits for another");
        miner.submit(&job, false).await.expect("two are enough now");
    }
}
