//! That nothing which comes over the socket does harm. What messages mean is tested against the node's own
//! types in `tests/blvm_wire.rs`.

use proptest::prelude::*;

use super::bincode::put;
use super::indices::{HANDSHAKE_ACK, frame, invocation};
use super::*;
use crate::module::event::Event;

fn table() -> &'static Table {
    Table::of("0.1.83").unwrap()
}

fn response(reply: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    put!(&mut out, &frame::RESPONSE, &7u64, &true, &true);
    reply(&mut out);
    put!(&mut out, &None::<String>);
    out
}

/// A message of every shape, all fields of it there.
fn messages() -> Vec<Vec<u8>> {
    let text = || "text".to_owned();
    let replies = &table().replies;
    let event = Event::BlockMined { block_hash: [1; 32], height: 2, miner_id: Some(text()) };
    let mut mined = Vec::new();
    put!(&mut mined, &frame::EVENT);
    events::write(&event, table(), &mut mined);
    let mut called = Vec::new();
    put!(&mut called, &frame::INVOCATION, &8u64, &invocation::MODULE_API, &text(), &vec![1u8, 2], &text());
    let mut typed = Vec::new();
    put!(&mut typed, &frame::INVOCATION, &9u64, &invocation::CLI, &text(), &vec![text(), String::new()]);
    let mut refused = Vec::new();
    put!(&mut refused, &frame::RESPONSE, &7u64, &false, &false, &Some(text()));
    vec![
        response(|out| put!(out, &HANDSHAKE_ACK, &text())),
        response(|out| put!(out, &replies.bool, &true)),
        response(|out| put!(out, &replies.module_available, &false)),
        response(|out| put!(out, &replies.chain_info, &[1u8; 32], &2u64, &0.5f64, &3u64, &true)),
        response(|out| put!(out, &replies.module_api_response, &vec![1u8, 2, 3])),
        mined,
        called,
        typed,
        refused,
    ]
}

/// Bytes that a decoded message has allocated.
fn allocated(message: &Incoming) -> usize {
    match message {
        Incoming::Response { result: Err(reason), .. } => reason.capacity(),
        Incoming::Response { result: Ok(Some(Reply::HandshakeAck { node_version: text })), .. } => {
            text.capacity()
        }
        Incoming::Response { result: Ok(Some(Reply::ModuleApiResponse(bytes))), .. } => bytes.capacity(),
        Incoming::Invocation { invocation: Invocation::Cli { subcommand, args }, .. } => {
            let texts: usize = args.iter().map(String::capacity).sum();
            subcommand.capacity() + size_of::<String>() * args.capacity() + texts
        }
        Incoming::Invocation { invocation: Invocation::ModuleApi { method, params, caller }, .. } => {
            method.capacity() + params.capacity() + caller.capacity()
        }
        Incoming::Event(Event::BlockMined { miner_id: Some(text), .. }) => text.capacity(),
        _ => 0,
    }
}

/// Reads it with and without a table. A text takes three times the room that its length takes on the wire.
fn harmless(bytes: &[u8]) {
    for table in [None, Some(table())] {
        if let Ok(message) = Incoming::decode(bytes, table) {
            assert!(allocated(&message) <= 3 * bytes.len() + "no reason given".len(), "{message:?}");
        }
    }
}

proptest! {
    #[test]
    fn random_bytes_do_no_harm(bytes: Vec<u8>, kind in 0..7u32, index in 0..60u32, rest: Vec<u8>) {
        harmless(&bytes);
        // those that look like a message at first
        let mut response = Vec::new();
        put!(&mut response, &kind, &1u64, &true, &true, &index);
        harmless(&[response, rest.clone()].concat());
        let mut event = Vec::new();
        put!(&mut event, &kind, &index, &index);
        harmless(&[event, rest].concat());
    }
}

#[test]
fn damaged_messages_do_no_harm() {
    for message in messages() {
        assert!(!matches!(Incoming::decode(&message, Some(table())), Ok(Incoming::Unknown) | Err(_)));
        for len in 0..message.len() {
            let cut = Incoming::decode(&message[..len], Some(table()));
            assert!(cut.is_err(), "{len} bytes of {message:?} are {cut:?}");
            harmless(&message[..len]);
        }
        for bit in 0..8 * message.len() {
            let mut flipped = message.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            harmless(&flipped);
        }
        for byte in 0..message.len().saturating_sub(8) {
            let mut long = message.clone();
            long[byte..byte + 8].fill(0xff);
            harmless(&long);
        }
    }
}

#[test]
fn what_is_left_over_is_passed_over() {
    for message in messages() {
        let longer = [&message[..], &[1, 2, 3]].concat();
        let decoded = Incoming::decode(&message, Some(table())).unwrap();
        assert_eq!(Incoming::decode(&longer, Some(table())), Ok(decoded));
    }
}

#[test]
fn an_event_that_cannot_be_read_is_named() {
    let mut event = Vec::new();
    put!(&mut event, &frame::EVENT, &table().events.chain_reorg, &[1u8; 32], &1u8);
    let error = Incoming::decode(&event, Some(table())).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the node has sent a message (ChainReorg) that cannot be read: it ends too early"
    );
}

#[test]
fn an_event_with_the_fields_of_another_is_unknown() {
    let events = &table().events;
    let mut event = Vec::new();
    put!(&mut event, &frame::EVENT, &events.new_block.kind, &events.chain_reorg.payload, &[1u8; 32]);
    assert_eq!(Incoming::decode(&event, Some(table())), Ok(Incoming::Unknown));
}

#[test]
fn a_refusal_without_a_reason_is_one() {
    let mut refused = Vec::new();
    put!(&mut refused, &frame::RESPONSE, &7u64, &false, &None::<u8>, &None::<String>);
    let result = Err("no reason given".to_owned());
    let expected = Incoming::Response { correlation_id: 7, result };
    assert_eq!(Incoming::decode(&refused, None), Ok(expected));
}

#[test]
fn the_version_of_the_node_has_to_be_known() {
    assert!(Table::of("0.1.83").is_some());
    for other in ["", "0.1.8", "0.1.84", "0.1.83 ", "v0.1.83", "0.1.830"] {
        assert!(Table::of(other).is_none(), "{other}");
    }
}
