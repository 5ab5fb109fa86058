//! What becomes of templates.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bitcoin::consensus::encode;
use bitcoin::hashes::Hash;
use blvm_stratum_v2::mining::Target;
use blvm_stratum_v2::template::source::State;
use stratum_core::parsers_sv2::TemplateDistributionOwned;
use stratum_core::template_distribution_sv2::RequestTransactionDataErrorOwned;
use tokio::time::{sleep, timeout};

use crate::rig::{Provider, Source, soon};
use crate::sri_server::Server;
use crate::work::{Contents, HEIGHT, REGTEST, new_prev_hash, solve, with_target};

async fn working(server: &Server, contents: &Contents) -> (Source, Provider) {
    let mut source = Source::run(server);
    let mut provider = Provider::welcome(server).await;
    provider.says(contents.new_template(1, true)).await;
    provider.says(new_prev_hash(1, 1)).await;
    source.offers("the first work", |_| true).await;
    provider.is_asked_for(1).await;
    (source, provider)
}

#[tokio::test]
async fn a_prepared_template_takes_over_as_it_is() {
    let server = Server::bind().await;
    let (mut source, mut provider) = working(&server, &Contents::empty(HEIGHT)).await;
    for id in [2, 3] {
        provider.says(Contents::empty(HEIGHT + 1).new_template(id, true)).await;
    }
    let prepared = source.offers("prepared work", |offer| offer.future.len() == 2).await;
    assert_eq!(prepared.tip.height, HEIGHT);
    provider.says(new_prev_hash(2, 2)).await;
    let next = source.offers("the next tip", |offer| offer.tip.height == HEIGHT + 1).await;
    assert!(Arc::ptr_eq(&next.draft, &prepared.future[0]));
    assert!(next.future.is_empty());
    assert_eq!(next.tip.prev_hash.to_byte_array(), [2; 32]);
    provider.is_asked_for(2).await;
}

#[tokio::test]
async fn fees_grow_and_the_transactions_follow() {
    let server = Server::bind().await;
    let (mut source, mut provider) = working(&server, &Contents::empty(HEIGHT)).await;
    provider.says(Contents::empty(HEIGHT).transaction_data(1)).await;
    let contents = Contents::full(HEIGHT, 5, 100);
    provider.says(contents.new_template(2, false)).await;
    let offer = source.offers("more fees", |offer| offer.draft.coinbase.value == contents.value).await;
    assert!(offer.draft.body.get().is_none(), "the offer does not wait for them");
    provider.is_asked_for(2).await;
    provider.says(contents.transaction_data(2)).await;
    let has_come = async {
        while offer.draft.body.get().is_none() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    soon("the transactions come", has_come).await;
    let block: bitcoin::Block = encode::deserialize(&solve(&offer).bytes().unwrap()).unwrap();
    assert!(block.check_merkle_root() && block.check_witness_commitment());
    assert_eq!(block.txdata[1..], contents.transactions);
}

#[tokio::test]
async fn a_block_full_of_transactions_passes() {
    let server = Server::bind().await;
    let (mut source, mut provider) = working(&server, &Contents::empty(HEIGHT)).await;
    let contents = Contents::full(HEIGHT, 3_900, 900);
    provider.says(contents.new_template(2, false)).await;
    provider.is_asked_for(2).await;
    let offer = source.offers("a full block", |offer| !offer.draft.merkle_path.is_empty()).await;
    let data = contents.transaction_data(2);
    let began = Instant::now();
    provider.says(data).await;
    let has_come = async {
        while offer.draft.body.get().is_none() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    soon("the transactions come", has_come).await;
    eprintln!("{} transactions took {:?}", contents.transactions.len(), began.elapsed());
    assert_eq!(offer.draft.body.get().unwrap().len(), 3_900);
}

#[tokio::test]
async fn transactions_of_another_block_are_not_taken() {
    let server = Server::bind().await;
    let (mut source, mut provider) = working(&server, &Contents::empty(HEIGHT)).await;
    provider.says(Contents::full(HEIGHT, 5, 100).new_template(2, false)).await;
    provider.is_asked_for(2).await;
    let offer = source.offers("transactions", |offer| !offer.draft.merkle_path.is_empty()).await;
    provider.says(Contents::full(HEIGHT, 5, 99).transaction_data(2)).await;
    let error_code = b"stale-template-id".to_vec().try_into().unwrap();
    let error = RequestTransactionDataErrorOwned { template_id: 2, error_code };
    provider.says(TemplateDistributionOwned::RequestTransactionDataError(error)).await;
    provider.says(Contents::full(HEIGHT, 6, 100).new_template(3, false)).await;
    provider.is_asked_for(3).await;
    assert!(offer.draft.body.get().is_none());
}

#[tokio::test]
async fn a_lower_chain_is_followed() {
    let server = Server::bind().await;
    let (mut source, mut provider) = working(&server, &Contents::empty(HEIGHT)).await;
    provider.says(Contents::empty(HEIGHT - 1).new_template(2, true)).await;
    provider.says(new_prev_hash(2, 9)).await;
    let offer = source.offers("the other chain", |offer| offer.tip.height == HEIGHT - 1).await;
    assert_eq!(offer.tip.prev_hash.to_byte_array(), [9; 32]);
}

#[tokio::test]
async fn a_harder_target_is_honoured() {
    let server = Server::bind().await;
    let (mut source, mut provider) = working(&server, &Contents::empty(HEIGHT)).await;
    provider.says(Contents::empty(HEIGHT + 1).new_template(2, true)).await;
    let mut target = [0xff; 32];
    target[31] = 0;
    provider.says(with_target(2, 2, REGTEST, target)).await;
    let offer = source.offers("the next tip", |offer| offer.tip.height == HEIGHT + 1).await;
    assert_eq!(offer.tip.report_target, Target::from_le_bytes(target));
    assert_eq!(offer.tip.network_target, Target::from_compact(REGTEST).unwrap());
    assert_eq!(solve(&offer).hash.to_byte_array()[31], 0);
}

#[tokio::test]
async fn no_templates_no_work() {
    let server = Server::bind().await;
    let source = Source::run(&server);
    let mut provider = Provider::welcome(&server).await;
    let silence = timeout(Duration::from_millis(300), provider.wire.reader.next()).await;
    assert!(silence.is_err(), "{silence:?}");
    assert!(matches!(source.states.borrow()[0], State::Starting));
}
