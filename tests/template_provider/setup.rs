//! From the address to the first template.

use bitcoin::Network;
use blvm_stratum_v2::template::source::State;
use blvm_stratum_v2::wire::keys::AuthoritySecretKey;
use rand::SeedableRng;
use rand::rngs::StdRng;
use stratum_core::common_messages_sv2::{SetupConnectionErrorOwned, SetupConnectionSuccess};
use stratum_core::parsers_sv2::{AnyMessageOwned, CommonMessagesOwned};

use crate::rig::{Provider, Source, soon};
use crate::sri_server::Server;
use crate::work::{Contents, HEIGHT, new_prev_hash};

#[tokio::test]
async fn a_client_introduces_itself_and_says_what_room_it_needs() {
    let server = Server::bind().await;
    let mut source = Source::run(&server);
    let mut provider = Provider::welcome(&server).await;
    let setup = &provider.setup;
    assert_eq!((setup.min_version, setup.max_version, setup.flags), (2, 2, 0));
    assert_eq!(setup.endpoint_host.as_bytes(), b"127.0.0.1");
    assert_eq!(setup.endpoint_port, server.address().port());
    assert_eq!(setup.vendor.as_bytes(), b"blvm-stratum-v2");
    let constraints = &provider.constraints;
    assert_eq!(constraints.coinbase_output_max_additional_size, 51);
    assert_eq!(constraints.coinbase_output_max_additional_sigops, 4);

    provider.says(Contents::empty(HEIGHT).new_template(1, true)).await;
    // an extension's message, which nobody asked for, goes by
    provider.wire.writer.send_raw(vec![0x34, 0x12, 0x71, 2, 0, 0, 1, 2]).await.unwrap();
    assert!(matches!(source.states.borrow()[0], State::Starting), "a template alone is no work");
    provider.says(new_prev_hash(1, 1)).await;
    source.offers("the first work", |offer| offer.tip.height == HEIGHT).await;
}

#[tokio::test]
async fn another_authority_is_not_accepted_but_none_will_do() {
    let server = Server::bind().await;
    let other = AuthoritySecretKey::generate(&mut StdRng::seed_from_u64(2)).public_key();
    let mut source = Source::run_with(server.address().to_string(), Some(other), Network::Regtest);
    soon("a handshake", server.accept()).await;
    let reason = source.is_down().await;
    assert!(reason.contains("authority_key") && reason.contains("log"), "{reason}");
    drop(source);

    let mut source = Source::run_with(server.address().to_string(), None, Network::Regtest);
    let mut provider = Provider::welcome(&server).await;
    provider.says(Contents::empty(HEIGHT).new_template(1, true)).await;
    provider.says(new_prev_hash(1, 1)).await;
    source.offers("work from whoever answers", |_| true).await;
}

#[tokio::test]
async fn a_refusal_is_told_in_its_own_words() {
    let server = Server::bind().await;
    let mut source = Source::run(&server);
    let mut wire = soon("a handshake", server.accept()).await.unwrap();
    wire.reader.next().await.unwrap();
    let error_code = b"unsupported-protocol".to_vec().try_into().unwrap();
    let error = SetupConnectionErrorOwned { flags: 0, error_code };
    let error = AnyMessageOwned::Common(CommonMessagesOwned::SetupConnectionError(error));
    wire.writer.send(error).await.unwrap();
    let reason = source.is_down().await;
    assert!(reason.contains("unsupported-protocol"), "{reason}");
}

#[tokio::test]
async fn another_version_or_another_answer_will_not_do() {
    for (answer, said) in [(3, "version 3"), (0, "type 0x71")] {
        let server = Server::bind().await;
        let mut source = Source::run(&server);
        let mut wire = soon("a handshake", server.accept()).await.unwrap();
        wire.reader.next().await.unwrap();
        let answer = if answer == 0 {
            AnyMessageOwned::TemplateDistribution(Contents::empty(HEIGHT).new_template(1, true))
        } else {
            let success = SetupConnectionSuccess { used_version: answer, flags: 0 };
            AnyMessageOwned::Common(CommonMessagesOwned::SetupConnectionSuccess(success))
        };
        wire.writer.send(answer).await.unwrap();
        let reason = source.is_down().await;
        assert!(reason.contains(said), "{reason}");
    }
}

#[tokio::test]
async fn nobody_there_is_told_with_what_to_do() {
    let address = {
        let server = Server::bind().await;
        server.address().to_string()
    };
    let mut source = Source::run_with(address, None, Network::Regtest);
    let reason = source.is_down().await;
    assert!(reason.contains("cannot connect") && reason.contains("template provider run"), "{reason}");

    let mut source = Source::run_with("localhost".to_owned(), None, Network::Regtest);
    let reason = source.is_down().await;
    assert!(reason.contains("\"localhost\" is not HOST:PORT"), "{reason}");
}

#[tokio::test]
async fn another_chain_is_refused() {
    let server = Server::bind().await;
    let mut source = Source::run_with(server.address().to_string(), Some(server.authority), Network::Bitcoin);
    let mut provider = Provider::welcome(&server).await;
    provider.says(Contents::empty(HEIGHT).new_template(1, true)).await;
    provider.says(new_prev_hash(1, 1)).await;
    let reason = source.is_down().await;
    assert!(reason.contains("another network") && reason.contains("0x207fffff"), "{reason}");
}
