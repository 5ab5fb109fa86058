//! Who is paid by blocks.

use bitcoin::{Network, Script};
use blvm_stratum_v2::mining::coinbase::Tag;
use blvm_stratum_v2::mining::payout::{BasisPoints, Fee, PayoutPolicy};
use blvm_stratum_v2::template::SourceOptions;

use crate::miner::Miner;
use crate::{BOTH, Stage, to, until};

fn blocks(stage: &Stage) -> u64 {
    stage.server.pool().stats().sum(|stats| stats.blocks.get())
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_pay_the_new_script_and_what_is_out_counts_as_before() {
    for transport in BOTH {
        let mut stage = Stage::open(|options| {
            let [SourceOptions::Regtest(chain)] = &mut options.template.sources[..] else { unreachable!() };
            chain.future_templates = true;
        })
        .await;
        let mut miner = Miner::at(&stage.url(transport)).await;
        let before = miner.job();
        assert_eq!(miner.paid(&before), (0x51, 1));

        stage.apply(|options| options.pool.payout = to(0x53, 2)).await;
        miner.hears("a job for the new script", |miner| miner.paid(&miner.job()) == (0x53, 2)).await;
        let after = miner.job();
        assert_eq!(after.prev_hash, before.prev_hash);
        miner.submit(&before, false).await.expect("a share for the job that pays the old script");
        let first = miner.submit(&after, true).await.unwrap();
        miner.hears("work on the block", |miner| miner.job().prev_hash == first).await;
        assert_eq!(miner.paid(&miner.job()), (0x53, 2), "what was prepared for the old script is gone");

        // a block for the old job is one all the same
        let before = miner.job();
        stage.apply(|options| options.pool.tag = Tag::new(*b"/other/").unwrap()).await;
        let tagged = |miner: &Miner| {
            let coinbase = miner.coinbase(&miner.job());
            coinbase.input[0].script_sig.as_bytes().windows(7).any(|part| part == b"/other/")
        };
        miner.hears("a job with the new tag", tagged).await;
        let second = miner.submit(&before, true).await.unwrap();
        miner.hears("work on the block", |miner| miner.job().prev_hash == second).await;
        assert!(tagged(&miner));
        until("the chain has them", || blocks(&stage) == 2).await;
        let other = Miner::at(&stage.url(transport)).await;
        assert!(tagged(&other) && other.paid(&other.job()) == (0x53, 2));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn from_pool_to_solo_is_for_channels_to_come() {
    for transport in BOTH {
        let mut stage = Stage::open(|_| ()).await;
        let mut miner = Miner::at(&stage.url(transport)).await;
        let solo = PayoutPolicy::Solo { fee: None, network: Network::Regtest };
        stage.apply(|options| options.pool.payout = solo).await;
        assert_eq!(
            miner.open(1).await,
            Err("invalid-user-identity".to_owned()),
            "{transport}: alice is no address"
        );
        let job = miner.job();
        let block = miner.submit(&job, true).await.unwrap();
        miner.hears("work on the block", |miner| miner.job().prev_hash == block).await;
        assert_eq!(
            miner.paid(&miner.job()),
            (0x51, 1),
            "{transport}: its kind stays, and with it who is paid"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_fee_is_for_solo_channels_that_are_open() {
    let solo = |fee: Option<(u8, u16)>| PayoutPolicy::Solo {
        fee: fee.map(|(op, rate)| {
            Fee::new(Script::from_bytes(&[op]).into(), BasisPoints::new(rate).expect("a rate"))
        }),
        network: Network::Regtest,
    };
    for transport in BOTH {
        let mut stage = Stage::open(|options| options.pool.payout = solo(None)).await;
        let user = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080.rig";
        let mut miner = Miner::of(&stage.url(transport), user).await;
        let parts = |miner: &Miner| {
            let outputs = miner.coinbase(&miner.job()).output;
            let part = |index: usize| {
                let output = outputs.get(index)?;
                (output.value.to_sat() > 0)
                    .then(|| (output.script_pubkey.as_bytes()[0], output.value.to_sat()))
            };
            (part(0).expect("the miner is paid").1, part(1))
        };
        let (whole, fee) = parts(&miner);
        assert_eq!(fee, None);
        for fee in [Some((0x52, 100)), Some((0x52, 200)), Some((0x53, 200)), None] {
            let before = miner.job();
            stage.apply(|options| options.pool.payout = solo(fee)).await;
            let part = fee.map(|(op, rate)| (op, whole * u64::from(rate) / 10_000));
            let rest = whole - part.map_or(0, |(_, part)| part);
            miner.hears("a job with the new fee", |miner| parts(miner) == (rest, part)).await;
            miner.submit(&before, false).await.expect("a share for the job with the old fee");
        }
    }
}
