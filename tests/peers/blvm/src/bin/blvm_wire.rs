//! What blvm-node's own types make of the messages of its module IPC.
//!
//! `samples` prints messages that a module may receive, one a line: a name and the bytes in hex. `read` reads
//! messages in hex from stdin, one a line, and prints each as the node has it, or ERROR and why it cannot.

use std::io::{BufRead, stdin};

use blvm_node::module::ipc::protocol::{
    EventMessage, EventPayload, InvocationMessage, InvocationType, ModuleMessage, ResponseMessage,
    ResponsePayload,
};
use blvm_node::module::traits::{ChainInfo, EventType, MempoolSize};

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("samples") => samples(),
        Some("read") => stdin().lock().lines().for_each(|line| println!("{}", read(&line.unwrap()))),
        _ => {
            eprintln!("usage: blvm_wire samples|read");
            std::process::exit(2);
        }
    }
}

fn read(line: &str) -> String {
    let bytes = match hex::decode(line) {
        Ok(bytes) => bytes,
        Err(error) => return format!("ERROR {error}"),
    };
    let message: ModuleMessage = match bincode::deserialize(&bytes) {
        Ok(message) => message,
        Err(error) => return format!("ERROR {error}"),
    };
    match bincode::serialize(&message).unwrap() == bytes {
        true => format!("{message:?}"),
        false => format!("ERROR other bytes than the node's for {message:?}"),
    }
}

fn samples() {
    replies();
    events();
    invocations();
}

fn sample(name: &str, message: &ModuleMessage) {
    println!("{name} {}", hex::encode(bincode::serialize(message).unwrap()));
}

/// 32 bytes that all differ.
fn hash(first: u8) -> [u8; 32] {
    std::array::from_fn(|i| first + i as u8)
}

fn response(name: &str, success: bool, payload: Option<ResponsePayload>, error: Option<&str>) {
    let error = error.map(str::to_owned);
    let response = ResponseMessage { correlation_id: 0x0102_0304_0506_0708, success, payload, error };
    sample(name, &ModuleMessage::Response(response));
}

fn replies() {
    use ResponsePayload as P;
    let chain_info = |is_synced| {
        let (tip_hash, height, difficulty, chain_work) = (hash(60), 840_001, 1.5, 77);
        P::ChainInfo(ChainInfo { tip_hash, height, difficulty, chain_work, is_synced })
    };
    let mempool = MempoolSize { transaction_count: 1, size_bytes: 2, total_fee_sats: 3 };
    for (name, payload) in [
        ("HandshakeAck", P::HandshakeAck { node_version: "0.1.83".to_owned() }),
        ("BoolTrue", P::Bool(true)),
        ("BoolFalse", P::Bool(false)),
        ("Hash", P::Hash(hash(50))),
        ("U64", P::U64(0x1122_3344_5566_7788)),
        ("SubscribeAck", P::SubscribeAck),
        ("ChainInfo", chain_info(true)),
        ("ChainInfoBehind", chain_info(false)),
        ("ModuleAvailable", P::ModuleAvailable(true)),
        ("ModuleNotAvailable", P::ModuleAvailable(false)),
        ("EventPublished", P::EventPublished),
        ("ModuleApiResponse", P::ModuleApiResponse(vec![9, 0, 255])),
        ("ModuleApiRegistered", P::ModuleApiRegistered),
        ("ModuleApiUnregistered", P::ModuleApiUnregistered),
        ("MempoolSize", P::MempoolSize(mempool)),
    ] {
        response(name, true, Some(payload), None);
    }
    response("Nothing", true, None, None);
    response("Refused", false, None, Some("Permission denied: \u{e4}"));
}

fn event(event_type: EventType, payload: EventPayload) {
    let name = format!("{event_type:?}");
    sample(&name, &ModuleMessage::Event(EventMessage { event_type, payload }));
}

fn events() {
    use EventPayload as P;
    use EventType as T;
    let text = |text: &str| text.to_owned();
    event(T::NewBlock, P::NewBlock { block_hash: hash(1), height: 101 });
    event(T::BlockDisconnected, P::BlockDisconnected { hash: hash(2), height: 102 });
    event(T::ChainReorg, P::ChainReorg { old_tip: hash(3), new_tip: hash(4) });
    event(T::BlockMined, P::BlockMined { block_hash: hash(5), height: 103, miner_id: Some(text("miner")) });
    event(
        T::BlockTemplateUpdated,
        P::BlockTemplateUpdated { prev_hash: hash(6), height: 104, tx_count: 105 },
    );
    event(
        T::MiningDifficultyChanged,
        P::MiningDifficultyChanged { old_difficulty: 106, new_difficulty: 107, height: 108 },
    );
    event(T::MiningJobCreated, P::MiningJobCreated { job_id: text("job"), prev_hash: hash(7), height: 109 });
    event(T::ShareSubmitted, P::ShareSubmitted { job_id: text("job"), share_hash: hash(8), miner_id: None });
    event(
        T::MiningPoolConnected,
        P::MiningPoolConnected { pool_url: text("url"), pool_id: Some(text("pool")) },
    );
    event(
        T::MiningPoolDisconnected,
        P::MiningPoolDisconnected { pool_url: text("url"), reason: text("why") },
    );
    event(
        T::StratumClientConnected,
        P::StratumClientConnected { endpoint: text("where"), protocol_version: 2 },
    );
    event(
        T::StratumClientDisconnected,
        P::StratumClientDisconnected { endpoint: text("where"), reason: text("why") },
    );
    // none that the module knows
    event(T::NewTransaction, P::NewTransaction { tx_hash: hash(9) });
    event(T::ModuleLoaded, P::ModuleLoaded { module_name: text("other"), version: text("1") });
    event(
        T::StratumV2MessageReceived,
        P::StratumV2MessageReceived { message_data: vec![1], peer_addr: text("where") },
    );
}

fn invocation(name: &str, invocation_type: InvocationType) {
    let invocation = InvocationMessage { correlation_id: 0x0102_0304_0506_0708, invocation_type };
    sample(name, &ModuleMessage::Invocation(invocation));
}

fn invocations() {
    let args = vec!["5".to_owned(), String::new(), "--all".to_owned()];
    invocation("Cli", InvocationType::Cli { subcommand: "set_difficulty".to_owned(), args });
    let params = serde_json::json!({ "a": [1, null] });
    invocation("Rpc", InvocationType::Rpc { method: "method".to_owned(), params });
    invocation(
        "ModuleApi",
        InvocationType::ModuleApi {
            method: "get_template".to_owned(),
            params: vec![1, 2, 3],
            caller_module_id: "miningos".to_owned(),
        },
    );
}
