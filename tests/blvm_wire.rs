//! blvm-node's own types judge our messages of its module IPC: they make those that we read, and read those
//! that we make. Thus every number in the table is right.
//!
//! The program is made of `tests/peers/blvm`. Where it is missing this is skipped, except in CI.

#[path = "blvm/judge.rs"]
mod judge;
#[path = "blvm/programs.rs"]
mod programs;

use std::collections::BTreeMap;

use blvm_stratum_v2::module::event::Event;
use blvm_stratum_v2::module::ipc::{
    CliArg, CliSpec, CliSubcommand, EventKind, Handshake, Incoming, Invocation, InvocationResult, Outcome,
    Reply, Request, TABLES, Table,
};
use judge::ask;

/// That of all messages here: no two of its bytes are the same.
const ID: u64 = 0x0102_0304_0506_0708;

const VERSION: &str = "0.1.83";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let pairs = hex.as_bytes().chunks(2).map(|pair| str::from_utf8(pair).unwrap());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

fn hash(first: u8) -> [u8; 32] {
    std::array::from_fn(|i| first + i as u8)
}

fn table() -> &'static Table {
    Table::of(VERSION).unwrap()
}

/// Every event that we know, by the node's name for it.
fn events() -> Vec<(&'static str, Event)> {
    let text = str::to_owned;
    let events = vec![
        Event::NewBlock { block_hash: hash(1), height: 101 },
        Event::BlockDisconnected { hash: hash(2), height: 102 },
        Event::ChainReorg { old_tip: hash(3), new_tip: hash(4) },
        Event::BlockMined { block_hash: hash(5), height: 103, miner_id: Some(text("miner")) },
        Event::BlockTemplateUpdated { prev_hash: hash(6), height: 104, tx_count: 105 },
        Event::MiningDifficultyChanged { old_difficulty: 106, new_difficulty: 107, height: 108 },
        Event::MiningJobCreated { job_id: text("job"), prev_hash: hash(7), height: 109 },
        Event::ShareSubmitted { job_id: text("job"), share_hash: hash(8), miner_id: None },
        Event::MiningPoolConnected { pool_url: text("url"), pool_id: Some(text("pool")) },
        Event::MiningPoolDisconnected { pool_url: text("url"), reason: text("why") },
        Event::StratumClientConnected { endpoint: text("where"), protocol_version: 2 },
        Event::StratumClientDisconnected { endpoint: text("where"), reason: text("why") },
    ];
    // a new event does not compile until it is here, and belongs above too
    let name = |event: &Event| match event {
        Event::NewBlock { .. } => "NewBlock",
        Event::BlockDisconnected { .. } => "BlockDisconnected",
        Event::ChainReorg { .. } => "ChainReorg",
        Event::BlockMined { .. } => "BlockMined",
        Event::BlockTemplateUpdated { .. } => "BlockTemplateUpdated",
        Event::MiningDifficultyChanged { .. } => "MiningDifficultyChanged",
        Event::MiningJobCreated { .. } => "MiningJobCreated",
        Event::ShareSubmitted { .. } => "ShareSubmitted",
        Event::MiningPoolConnected { .. } => "MiningPoolConnected",
        Event::MiningPoolDisconnected { .. } => "MiningPoolDisconnected",
        Event::StratumClientConnected { .. } => "StratumClientConnected",
        Event::StratumClientDisconnected { .. } => "StratumClientDisconnected",
    };
    events.into_iter().map(|event| (name(&event), event)).collect()
}

/// What the program's samples are, by their names.
fn expected() -> BTreeMap<&'static str, Incoming> {
    let response = |result| Incoming::Response { correlation_id: ID, result };
    let replies = [
        ("HandshakeAck", Reply::HandshakeAck { node_version: VERSION.to_owned() }),
        ("BoolTrue", Reply::Bool(true)),
        ("BoolFalse", Reply::Bool(false)),
        ("Hash", Reply::Hash(hash(50))),
        ("U64", Reply::U64(0x1122_3344_5566_7788)),
        ("SubscribeAck", Reply::SubscribeAck),
        ("ChainInfo", Reply::ChainInfo { tip: hash(60), height: 840_001, is_synced: true }),
        ("ChainInfoBehind", Reply::ChainInfo { tip: hash(60), height: 840_001, is_synced: false }),
        ("ModuleAvailable", Reply::ModuleAvailable(true)),
        ("ModuleNotAvailable", Reply::ModuleAvailable(false)),
        ("EventPublished", Reply::EventPublished),
        ("ModuleApiResponse", Reply::ModuleApiResponse(vec![9, 0, 255])),
        ("ModuleApiRegistered", Reply::ModuleApiRegistered),
        ("ModuleApiUnregistered", Reply::Other),
        ("MempoolSize", Reply::Other),
    ];
    let invocations = [
        (
            "Cli",
            Invocation::Cli {
                subcommand: "set_difficulty".to_owned(),
                args: vec!["5".to_owned(), String::new(), "--all".to_owned()],
            },
        ),
        ("Rpc", Invocation::Other),
        (
            "ModuleApi",
            Invocation::ModuleApi {
                method: "get_template".to_owned(),
                params: vec![1, 2, 3],
                caller: "miningos".to_owned(),
            },
        ),
    ];
    let mut expected = BTreeMap::from([
        ("Nothing", response(Ok(None))),
        ("Refused", response(Err("Permission denied: ä".to_owned()))),
        ("NewTransaction", Incoming::Unknown),
        ("ModuleLoaded", Incoming::Unknown),
        ("StratumV2MessageReceived", Incoming::Unknown),
    ]);
    expected.extend(replies.map(|(name, reply)| (name, response(Ok(Some(reply))))));
    expected.extend(events().into_iter().map(|(name, event)| (name, Incoming::Event(event))));
    expected.extend(invocations.map(|(name, invocation)| {
        let message = Incoming::Invocation { correlation_id: ID, invocation };
        (name, message)
    }));
    expected
}

#[test]
fn we_read_what_the_node_sends() {
    let Some(program) = programs::program("blvm_wire") else { return };
    let mut expected = expected();
    for line in ask(&program, &["samples"], String::new()) {
        let (name, hex) = line.split_once(' ').unwrap();
        let frame = bytes(hex);
        let decoded = Incoming::decode(&frame, Some(table()));
        let expected = expected.remove(name).unwrap_or_else(|| panic!("{name} comes unexpected"));
        assert_eq!(decoded, Ok(expected.clone()), "{name}");

        // before the version is known there are answers to the handshake, and calls
        let early = match expected {
            Incoming::Event(_) => Incoming::Unknown,
            Incoming::Response { result: Ok(Some(reply)), .. }
                if !matches!(reply, Reply::HandshakeAck { .. }) =>
            {
                Incoming::Response { correlation_id: ID, result: Ok(Some(Reply::Other)) }
            }
            other => other,
        };
        assert_eq!(Incoming::decode(&frame, None), Ok(early), "{name}");
    }
    assert_eq!(expected, BTreeMap::new(), "no samples of these");
}

/// What we send, and how the node prints it when it has read it.
fn sent() -> Vec<(Vec<u8>, String)> {
    let text = str::to_owned;
    let mut sent = Vec::new();
    let handshake = Handshake { module_id: text("id"), module_name: text("name"), version: text("1.2.3") };
    sent.push((
        handshake.encode(ID),
        request("Handshake", "Handshake { module_id: \"id\", module_name: \"name\", version: \"1.2.3\" }"),
    ));
    let spec = CliSpec {
        version: 1,
        name: text("sv2"),
        about: Some(text("mining")),
        subcommands: vec![
            CliSubcommand {
                name: text("set_difficulty"),
                about: None,
                args: vec![CliArg {
                    name: text("n"),
                    long_name: Some(text("number")),
                    short_name: Some(text("m")),
                    required: Some(true),
                    takes_value: Some(false),
                    default: Some(text("5")),
                }],
            },
            CliSubcommand { name: text("status"), about: Some(text("how it is")), args: vec![] },
        ],
    };
    let spec_printed = "RegisterCliSpec { spec: CliSpec { version: 1, name: \"sv2\", about: Some(\"mining\"), \
        subcommands: [CliSubcommandSpec { name: \"set_difficulty\", about: None, args: [CliArgSpec { \
        name: \"n\", long_name: Some(\"number\"), short_name: Some(\"m\"), required: Some(true), \
        takes_value: Some(false), default: Some(\"5\") }] }, CliSubcommandSpec { name: \"status\", \
        about: Some(\"how it is\"), args: [] }] } }";
    let requests = [
        (
            Request::SubscribeEvents(&EventKind::ALL),
            "SubscribeEvents",
            "SubscribeEvents { event_types: [NewBlock, BlockDisconnected, ChainReorg, BlockMined, \
             BlockTemplateUpdated, MiningDifficultyChanged] }",
        ),
        (Request::GetChainTip, "GetChainTip", "GetChainTip"),
        (Request::GetChainInfo, "GetChainInfo", "GetChainInfo"),
        (
            Request::IsModuleAvailable { name: text("blvm-datum") },
            "IsModuleAvailable",
            "IsModuleAvailable { module_id: \"blvm-datum\" }",
        ),
        (
            Request::CallModule { target: Some(text("a")), method: text("b"), params: vec![1, 2] },
            "CallModule",
            "CallModule { target_module_id: Some(\"a\"), method: \"b\", params: [1, 2] }",
        ),
        (
            Request::CallModule { target: None, method: text("b"), params: vec![] },
            "CallModule",
            "CallModule { target_module_id: None, method: \"b\", params: [] }",
        ),
        (
            Request::RegisterModuleApi { methods: vec![text("a"), text("b")], api_version: 3 },
            "RegisterModuleApi",
            "RegisterModuleApi { methods: [\"a\", \"b\"], api_version: 3 }",
        ),
        (Request::RegisterCliSpec(spec), "RegisterCliSpec", spec_printed),
    ];
    for (message, kind, printed) in requests {
        sent.push((message.encode(ID, table()), request(kind, printed)));
    }
    for (name, event) in events() {
        // the node's events have the same names, and fields of the same names in the same order
        let payload = format!("PublishEvent {{ event_type: {name}, payload: {event:?} }}");
        let message = Request::PublishEvent(event);
        sent.push((message.encode(ID, table()), request("PublishEvent", &payload)));
    }
    let results = [
        (
            Ok(Outcome::Cli { stdout: text("out"), stderr: text("err"), exit_code: -2 }),
            "true, payload: Some(Cli { stdout: \"out\", stderr: \"err\", exit_code: -2 }), error: None",
        ),
        (Ok(Outcome::ModuleApi(vec![7, 8])), "true, payload: Some(ModuleApi([7, 8])), error: None"),
        (Err(text("no")), "false, payload: None, error: Some(\"no\")"),
    ];
    for (outcome, printed) in results {
        let printed = format!(
            "InvocationResult(InvocationResultMessage {{ correlation_id: {ID}, success: {printed} }})"
        );
        sent.push((InvocationResult { correlation_id: ID, outcome }.encode(), printed));
    }
    sent
}

fn request(kind: &str, payload: &str) -> String {
    format!("Request(RequestMessage {{ correlation_id: {ID}, request_type: {kind}, payload: {payload} }})")
}

#[test]
fn the_node_reads_what_we_send() {
    let Some(program) = programs::program("blvm_wire") else { return };
    let sent = sent();
    let input = sent.iter().map(|(message, _)| hex(message) + "\n").collect();
    let read = ask(&program, &["read"], input);
    assert_eq!(read.len(), sent.len());
    for (read, (_, expected)) in read.iter().zip(&sent) {
        assert_eq!(read, expected);
    }
}

/// Or the program of another version would have to judge it.
#[test]
fn no_other_version_is_claimed() {
    assert_eq!(TABLES.iter().map(|(version, _)| *version).collect::<Vec<_>>(), [VERSION]);
}
