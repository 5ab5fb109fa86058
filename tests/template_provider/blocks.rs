//! What becomes of blocks.

use bitcoin::Transaction;
use bitcoin::consensus::encode;
use blvm_stratum_v2::template::source::Verdict;
use stratum_core::parsers_sv2::TemplateDistributionOwned;

use crate::rig::{Provider, Source};
use crate::sri_server::Server;
use crate::work::{Contents, HEIGHT, new_prev_hash, solve};

async fn work(provider: &mut Provider, id: u64) {
    provider.says(Contents::empty(HEIGHT).new_template(id, true)).await;
    provider.says(new_prev_hash(id, id as u8)).await;
    provider.is_asked_for(id).await;
}

#[tokio::test]
async fn a_block_is_submitted_with_its_witness() {
    let server = Server::bind().await;
    let mut source = Source::run(&server);
    let mut provider = Provider::welcome(&server).await;
    work(&mut provider, 1).await;
    let first = solve(&source.offers("work", |_| true).await);
    work(&mut provider, 2).await;
    let second = solve(&source.offers("the next work", |offer| offer.tip.prev_hash[0] == 2).await);
    for (id, block) in [(2, second), (1, first)] {
        assert_eq!(source.deliver(block.clone()).await, Verdict::Sent);
        let TemplateDistributionOwned::SubmitSolution(m) = provider.hears().await else { panic!() };
        assert_eq!(m.template_id, id, "a moment after the tip has changed it may still count");
        assert_eq!(m.version, block.header.version.to_consensus() as u32);
        assert_eq!((m.header_timestamp, m.header_nonce), (block.header.time, block.header.nonce));
        let coinbase: Transaction = encode::deserialize(m.coinbase_tx.as_bytes()).unwrap();
        assert_eq!(coinbase, block.coinbase);
        assert_eq!(coinbase.input[0].witness.to_vec(), [[0; 32]]);
        assert_eq!(coinbase.compute_txid(), block.header.merkle_root.to_raw_hash().into());
    }
}

#[tokio::test]
async fn a_block_of_other_work_is_not_submitted() {
    let server = Server::bind().await;
    let mut source = Source::run(&server);
    let mut provider = Provider::welcome(&server).await;
    work(&mut provider, 1).await;
    let mut block = solve(&source.offers("work", |_| true).await);
    block.draft = None;
    assert_eq!(source.deliver(block).await, Verdict::NotMine);
    work(&mut provider, 2).await;
}

#[tokio::test]
async fn work_ends_with_its_connection() {
    let server = Server::bind().await;
    let mut source = Source::run(&server);
    let mut provider = Provider::welcome(&server).await;
    work(&mut provider, 1).await;
    let lost = solve(&source.offers("work", |_| true).await);
    drop(provider);
    let reason = source.is_down().await;
    assert!(reason.contains("closed the connection"), "{reason}");
    assert_eq!(source.deliver(lost.clone()).await, Verdict::NotMine, "while it is away");

    let mut provider = Provider::welcome(&server).await;
    work(&mut provider, 1).await;
    let present = solve(&source.offers("work again", |_| true).await);
    assert_eq!(source.deliver(lost).await, Verdict::NotMine, "its number is another template's now");
    assert_eq!(source.deliver(present).await, Verdict::Sent);
    let TemplateDistributionOwned::SubmitSolution(m) = provider.hears().await else { panic!() };
    assert_eq!(m.template_id, 1);
}
