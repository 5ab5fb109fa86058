//! Frames that nobody should send.

use blvm_stratum_v2::wire::codec::Str255;
use blvm_stratum_v2::wire::common::SetupConnectionError;
use blvm_stratum_v2::wire::noise::SEALED_HEADER_LEN;
use blvm_stratum_v2::wire::{Header, Message, max_payload_to_mining_server};

use crate::house::honest::Honest;
use crate::house::{House, frame, frame_of};
use crate::raw::{End, Raw, noise, open, setup};

/// What a client may send once it is set up, with the length of its payload if all of variable
/// length in it is empty.
const FROM_CLIENTS: [(u8, usize); 7] =
    [(0x10, 41), (0x13, 43), (0x16, 40), (0x18, 5), (0x1a, 24), (0x1b, 25), (0x22, 69)];
const FROM_SERVERS: [u8; 14] =
    [0x11, 0x12, 0x14, 0x15, 0x17, 0x19, 0x1c, 0x1d, 0x1f, 0x20, 0x21, 0x23, 0x24, 0x25];

/// Sends bytes to a connection that is set up, and expects it to end without a word.
async fn ends(house: &House, what: &str, bytes: impl FnOnce(&mut Raw) -> Vec<u8>) {
    let mut raw = Raw::set_up(house).await;
    let sent = bytes(&mut raw);
    raw.write(&sent).await.unwrap();
    let (frames, _) = raw.rest().await;
    assert_eq!(frames, [], "{what}");
}

#[tokio::test]
async fn bytes_that_do_not_decrypt_end_the_connection() {
    let house = House::server(|_| ()).await;
    let mut honest = Honest::at(&house).await;
    let whole = frame_of(&open(1));
    let sealed_len = SEALED_HEADER_LEN + whole.len() - Header::LEN + 16;
    honest
        .mines_during(async {
            for at in [0, 5, SEALED_HEADER_LEN - 1, SEALED_HEADER_LEN, 60, sealed_len - 1] {
                ends(&house, &format!("byte {at} flipped"), |raw| {
                    let mut sealed = raw.seal(&whole);
                    assert_eq!(sealed.len(), sealed_len);
                    sealed[at] ^= 1;
                    sealed
                })
                .await;
            }
            ends(&house, "a frame twice", |raw| {
                let sealed = raw.seal(&frame(0x4000, 0, &[]));
                [&sealed[..], &sealed].concat()
            })
            .await;
            ends(&house, "a frame left out", |raw| {
                raw.seal(&frame(0x4000, 0, &[]));
                raw.seal(&whole)
            })
            .await;
            ends(&house, "plaintext", |_| whole.clone()).await;
        })
        .await;
    house.has_connections(1).await;
    honest.block().await;
}

#[tokio::test]
async fn a_header_that_announces_too_much_ends_the_connection() {
    let house = House::server(|_| ()).await;
    let mut honest = Honest::at(&house).await;
    let of_clients = FROM_CLIENTS.map(|(msg_type, _)| (0, msg_type));
    let others = [(0, 0x00), (1, 0x00), (0x4000, 0x00), (0x4000, 0xff)];
    honest
        .mines_during(async {
            for (extension, msg_type) in of_clients.into_iter().chain(others) {
                let header = Header { extension, msg_type, payload_len: 0 };
                let limit = max_payload_to_mining_server(&header).unwrap();
                for len in [limit + 1, Header::MAX_PAYLOAD] {
                    // the header alone, whose payload the server must not wait for
                    ends(&house, &format!("{len} bytes for {extension:#x} {msg_type:#x}"), |raw| {
                        let mut sealed = raw.seal(&frame(extension, msg_type, &vec![0; len]));
                        sealed.truncate(SEALED_HEADER_LEN);
                        sealed
                    })
                    .await;
                }
            }
        })
        .await;
    house.has_connections(1).await;
}

#[tokio::test]
async fn messages_out_of_place_end_the_connection() {
    let house = House::server(|_| ()).await;
    let mut honest = Honest::at(&house).await;
    honest
        .mines_during(async {
            for msg_type in FROM_SERVERS {
                for payload in [&[][..], &[0; 24]] {
                    ends(&house, &format!("{msg_type:#x} to the server"), |raw| {
                        raw.seal(&frame(0, msg_type, payload))
                    })
                    .await;
                }
            }
            // a whole one too
            let refusal = SetupConnectionError { flags: 0, error_code: Str255::truncated("no") };
            ends(&house, "SetupConnection.Error", |raw| raw.seal(&frame_of(&refusal))).await;
            for msg_type in [0x03, 0x04, 0x05, 0x1e, 0x26, 0x50, 0x57, 0x60, 0x71, 0x76, 0xff] {
                ends(&house, &format!("unknown {msg_type:#x}"), |raw| raw.seal(&frame(0, msg_type, &[])))
                    .await;
            }
            ends(&house, "an answer of the negotiation", |raw| raw.seal(&frame(1, 1, &[0; 4]))).await;
            ends(&house, "SetupConnection twice", |raw| raw.seal(&frame_of(&setup()))).await;
        })
        .await;
    house.has_connections(1).await;
    honest.block().await;
}

#[tokio::test]
async fn payloads_that_are_not_their_message_end_the_connection() {
    let house = House::server(|_| ()).await;
    let mut honest = Honest::at(&house).await;
    honest
        .mines_during(async {
            for (msg_type, least) in FROM_CLIENTS {
                let header = Header { extension: 0, msg_type, payload_len: 0 };
                let limit = max_payload_to_mining_server(&header).unwrap();
                let truncated = [0, 1, least / 2, least - 1].map(|len| vec![0; len]);
                // all lengths in it are greater than what follows
                let overlong = vec![0xff; least.min(limit)];
                // with one byte that no field takes, where the limit lets it through
                let longer = (limit > least).then(|| vec![0; least + 1]);
                let integers_only = matches!(msg_type, 0x16 | 0x1a);
                for payload in truncated.into_iter().chain((!integers_only).then_some(overlong)).chain(longer)
                {
                    let what = format!("{msg_type:#x} with {} bytes of {payload:02x?}", payload.len());
                    ends(&house, &what, |raw| raw.seal(&frame(0, msg_type, &payload))).await;
                }
            }
            for tlvs in [&[0][..], &[2, 0, 1, 9, 0, 1], &[2, 0, 1, 0xff, 0xff], &[0xff; 64]] {
                let payload = [&[0; 25], tlvs].concat();
                ends(&house, &format!("fields {tlvs:02x?}"), |raw| raw.seal(&frame(0, 0x1b, &payload))).await;
            }
            ends(&house, "a negotiation without a word", |raw| raw.seal(&frame(1, 0, &[]))).await;
        })
        .await;
    house.has_connections(1).await;
}

#[tokio::test]
async fn before_setup_nothing_else_is_taken() {
    let house = House::server(|_| ()).await;
    let mut honest = Honest::at(&house).await;
    let first = [
        frame_of(&open(1)),
        frame(0, 0x1a, &[0; 24]),
        frame(0, 0x1b, &[0; 25]),
        frame(0, 0x16, &[0; 40]),
        frame(0, 0x00, &[]),
        frame(0, 0x00, &noise(100, 4)),
        frame(1, 0x00, &[0; 4]),
        frame(0x4000, 0x00, &[]),
    ];
    honest
        .mines_during(async {
            for first in first {
                let mut raw = Raw::at(&house).await;
                raw.send_frame(&first).await.unwrap();
                // and what would be right comes too late
                raw.send(&setup()).await;
                let (frames, end) = raw.rest().await;
                assert_eq!((frames, end), (vec![], End::Eof), "{first:02x?}");
            }
        })
        .await;
    house.has_connections(1).await;
}

#[tokio::test]
async fn a_refusal_of_setup_arrives_whatever_is_sent_after_it() {
    let house = House::server(|_| ()).await;
    let mut honest = Honest::at(&house).await;
    let mut declarator = setup();
    declarator.protocol = 1;
    let mut newer = setup();
    (newer.min_version, newer.max_version) = (3, 4);
    let mut older = setup();
    (older.min_version, older.max_version) = (0, 1);
    let mut backwards = setup();
    (backwards.min_version, backwards.max_version) = (3, 1);
    let mut selecting = setup();
    selecting.flags = 1 << 1;
    let mut unheard_of = setup();
    unheard_of.flags = 1 << 31;
    let cases = [
        (declarator, "unsupported-protocol"),
        (newer, "protocol-version-mismatch"),
        (older, "protocol-version-mismatch"),
        (backwards, "protocol-version-mismatch"),
        (selecting, "unsupported-feature-flags"),
        (unheard_of, "unsupported-feature-flags"),
    ];
    honest
        .mines_during(async {
            for (refused, code) in cases {
                let mut raw = Raw::at(&house).await;
                let mut sent = raw.seal(&frame_of(&refused));
                sent.extend(noise(256 * 1024, 5));
                raw.write(&sent).await.expect("no reset while the client writes");
                let (frames, end) = raw.rest().await;
                let [(header, payload)] = &frames[..] else { panic!("{code}: {frames:?}") };
                assert_eq!(header.msg_type, SetupConnectionError::TYPE);
                let error = SetupConnectionError::decode(payload).unwrap();
                assert_eq!(error.error_code.as_str(), Some(code));
                assert_eq!(end, End::Eof, "{code}");
            }
        })
        .await;
    house.has_connections(1).await;
}

#[tokio::test]
async fn frames_of_unknown_extensions_are_passed_over() {
    let house = House::server(|_| ()).await;
    let mut honest = Honest::at(&house).await;
    let mut raw = Raw::set_up(&house).await;
    honest
        .mines_during(async {
            for msg_type in 0..=u8::MAX {
                for (extension, len) in [(2, 0), (0x4000, 1), (0x7fff, usize::from(msg_type) * 16)] {
                    let payload = noise(len, 6);
                    raw.send_frame(&frame(extension, msg_type, &payload)).await.unwrap();
                }
            }
            raw.open(|_| ()).await;
        })
        .await;
}
