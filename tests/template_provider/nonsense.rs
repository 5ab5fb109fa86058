//! Providers that do not keep to the protocol: each is left, with a reason, and tried again.

use stratum_core::common_messages_sv2::ReconnectOwned;
use stratum_core::parsers_sv2::{AnyMessageOwned, CommonMessagesOwned};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::rig::{Provider, Source, soon};
use crate::sri_server::Server;
use crate::work::{Contents, HEIGHT, new_prev_hash};

/// What the client says of a provider that has work and then sends this.
async fn said_of(frame: Vec<u8>) -> String {
    let server = Server::bind().await;
    let mut source = Source::run(&server);
    let mut provider = Provider::welcome(&server).await;
    provider.says(Contents::empty(HEIGHT).new_template(1, true)).await;
    provider.says(new_prev_hash(1, 1)).await;
    source.offers("work", |_| true).await;
    provider.wire.writer.send_raw(frame).await.unwrap();
    let reason = source.is_down().await;
    provider.is_left().await;
    // it may have been an accident
    let mut provider = Provider::welcome(&server).await;
    provider.says(Contents::empty(HEIGHT).new_template(1, true)).await;
    provider.says(new_prev_hash(1, 1)).await;
    source.offers("work again", |_| true).await;
    reason
}

fn frame(msg_type: u8, payload: &[u8]) -> Vec<u8> {
    [&[0, 0, msg_type], &payload.len().to_le_bytes()[..3], payload].concat()
}

#[tokio::test]
async fn messages_that_cannot_be_read() {
    let reason = said_of(frame(0x71, &[1, 2, 3])).await;
    assert!(reason.contains("0x71 that cannot be read"), "{reason}");
    let reason = said_of(frame(0x72, &[0; 80])).await;
    assert!(reason.contains("nBits 0x00000000"), "{reason}");
}

#[tokio::test]
async fn messages_of_other_protocols() {
    let reason = said_of(frame(0x15, &[0; 52])).await;
    assert!(reason.contains("0x15") && reason.contains("not accepted"), "{reason}");
    let reason = said_of(frame(0x73, &[0; 8])).await;
    assert!(reason.contains("0x73"), "{reason}");
}

#[tokio::test]
async fn messages_that_are_too_long() {
    let reason = said_of(frame(0x72, &[0; 81])).await;
    assert!(reason.contains("81 bytes is not accepted"), "{reason}");
    let reason = said_of(frame(0x71, &vec![0; 200_000])).await;
    assert!(reason.contains("200000 bytes is not accepted"), "{reason}");
}

#[tokio::test]
async fn a_block_that_no_template_is_for() {
    let server = Server::bind().await;
    let mut source = Source::run(&server);
    let mut provider = Provider::welcome(&server).await;
    provider.says(Contents::empty(HEIGHT).new_template(1, true)).await;
    provider.says(new_prev_hash(7, 1)).await;
    let reason = source.is_down().await;
    assert!(reason.contains("names template 7"), "{reason}");
    provider.is_left().await;
}

#[tokio::test]
async fn a_provider_that_sends_its_clients_elsewhere() {
    let server = Server::bind().await;
    let mut source = Source::run(&server);
    let mut provider = Provider::welcome(&server).await;
    let reconnect = ReconnectOwned { new_host: b"example.org".to_vec().try_into().unwrap(), new_port: 1 };
    let reconnect = AnyMessageOwned::Common(CommonMessagesOwned::Reconnect(reconnect));
    provider.wire.writer.send(reconnect).await.unwrap();
    let reason = source.is_down().await;
    assert!(reason.contains("0x04"), "{reason}");
}

#[tokio::test]
async fn bytes_that_nothing_has_encrypted() {
    let server = Server::bind().await;
    let mut source = Source::run(&server);
    let mut provider = Provider::welcome(&server).await;
    provider.wire.writer.send_plain(&[0; 100]).await.unwrap();
    let reason = source.is_down().await;
    assert!(reason.contains("do not decrypt"), "{reason}");
}

#[tokio::test]
async fn what_is_no_noise_at_all() {
    let server = Server::bind().await;
    let mut source = Source::run(&server);
    let mut stream = soon("a connection", server.accept_plain()).await;
    stream.write_all(&[b'x'; 234]).await.unwrap();
    let reason = source.is_down().await;
    assert!(reason.contains("no Noise handshake"), "{reason}");
    drop(stream);
    let mut stream = soon("another try", server.accept_plain()).await;
    let mut act1 = [0; 64];
    soon("act 1", stream.read_exact(&mut act1)).await.unwrap();
}
