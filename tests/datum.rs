//! With a node that has the module blvm-datum, and miners.

mod house;

use std::path::Path;
use std::sync::Arc;

use blvm_stratum_v2::mining::Coinbase;
use blvm_stratum_v2::module::api::{Api, Info};
use blvm_stratum_v2::module::block;
use blvm_stratum_v2::module::client::{self, Client};
use blvm_stratum_v2::session::Shared;
use blvm_stratum_v2::template::{Blocks, FoundBlock, Refresh};
use house::honest::Honest;
use house::{House, PATIENCE, soon};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::time::{Duration, sleep, timeout};

/// A call of a module, as the node gets it.
#[derive(Debug, PartialEq, Eq)]
struct Call {
    target: String,
    method: String,
    params: Vec<u8>,
}

/// A node of version 0.1.83, as far as a module can tell, with one module.
struct Node {
    calls: mpsc::UnboundedReceiver<Call>,
    serving: tokio::task::JoinHandle<()>,
}

impl Node {
    /// Listens at `path`. `payout` is what the module answers, if it is there.
    fn at(path: &Path, payout: Option<&'static str>) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        let (heard, calls) = mpsc::unbounded_channel();
        let serving = tokio::spawn(async move {
            let (mut module, _) = listener.accept().await.unwrap();
            while let Some(frame) = next(&mut module).await {
                answer(&mut module, &frame, payout, &heard).await;
            }
        });
        Self { calls, serving }
    }

    async fn call(&mut self) -> Call {
        // the socket is new, and not connected to at once
        let called = timeout(3 * PATIENCE, self.calls.recv()).await;
        called.expect("the module is called").unwrap()
    }
}

async fn next(module: &mut UnixStream) -> Option<Vec<u8>> {
    let mut frame = vec![0; usize::try_from(module.read_u32().await.ok()?).unwrap()];
    module.read_exact(&mut frame).await.ok()?;
    Some(frame)
}

async fn answer(
    module: &mut UnixStream,
    frame: &[u8],
    payout: Option<&str>,
    heard: &mpsc::UnboundedSender<Call>,
) {
    let word = |at: usize| u32::from_le_bytes(frame[at..at + 4].try_into().unwrap());
    if word(0) != 0 {
        return;
    }
    let reply = match word(12) {
        8 => Some([&0_u32.to_le_bytes()[..], &bytes(b"0.1.83")].concat()),
        40 => {
            assert_eq!(frame[20..], bytes(b"blvm-datum"));
            Some([&38_u32.to_le_bytes()[..], &[u8::from(payout.is_some())]].concat())
        }
        42 => {
            let mut fields = &frame[21..];
            let mut field = || {
                let (len, rest) = fields.split_first_chunk().unwrap();
                let (field, rest) = rest.split_at(usize::try_from(u64::from_le_bytes(*len)).unwrap());
                fields = rest;
                field.to_vec()
            };
            let [target, method, params] = [field(), field(), field()];
            let (target, method) = (String::from_utf8(target).unwrap(), String::from_utf8(method).unwrap());
            let said = payout.expect("nobody calls a module that is not there");
            let said = if method == "submit_pow" { r#"{"accepted":true}"# } else { said };
            let _ = heard.send(Call { target, method, params });
            Some([&40_u32.to_le_bytes()[..], &bytes(said.as_bytes())].concat())
        }
        _ => None,
    };
    let mut response = [&1_u32.to_le_bytes()[..], &frame[4..12], &[1, u8::from(reply.is_some())]].concat();
    response.extend(reply.unwrap_or_default());
    response.push(0);
    let mut sent = u32::try_from(response.len()).unwrap().to_be_bytes().to_vec();
    sent.extend(response);
    let _ = module.write_all(&sent).await;
}

fn bytes(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u64).to_le_bytes()[..], bytes].concat()
}

fn options(socket: &Path) -> client::Options {
    client::Options { socket: socket.to_owned(), all_capabilities: true, datum: true, ask_first: None }
}

async fn payees(house: &House, count: Option<usize>) {
    let mut payees = house.pool.payees();
    let as_wanted = payees.wait_for(|payees| payees.as_ref().map(|payees| payees.count()) == count);
    soon("the pool's payees change", as_wanted).await.unwrap();
}

/// What the job pays that miners are on: values and scripts.
fn outputs(house: &House) -> Vec<(u64, Vec<u8>)> {
    let work = house.pool.work().borrow().clone().unwrap();
    let class = house.pool.class_for("anybody").unwrap();
    // the very job: it is kept while somebody mines on it
    let job = house.pool.job(&work.template, &class).unwrap();
    let outputs = job.coinbase.transaction(&[0; 20]).unwrap().output;
    outputs.into_iter().map(|output| (output.value.to_sat(), output.script_pubkey.into_bytes())).collect()
}

#[tokio::test]
async fn blocks_pay_whom_the_module_says() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("node.sock");
    let mut house = House::server(|_| ()).await;
    let mut miner = Honest::at(&house).await;
    let mut node = Node::at(
        &socket,
        Some(
            r#"{"outputs":[{"script":"5121","value":1000000000},{"script":"6a0101","value":0}],"primary_tag":"","unique_id":1}"#,
        ),
    );
    house.join_node(options(&socket));
    let call = node.call().await;
    assert_eq!(
        (&*call.target, &*call.method, &*call.params),
        ("blvm-datum", "get_coinbase_payout", &b""[..])
    );
    payees(&house, Some(2)).await;
    // without a block in between, and without waiting for the next refresh
    miner.another_job().await;

    // the chain takes it, and on work on top of it they are paid as well
    for _ in 0..2 {
        let paid = outputs(&house);
        assert_eq!(paid[0], (1_000_000_000, vec![0x51, 0x21]));
        assert_eq!(paid[1], (0, vec![0x6a, 1, 1]));
        assert!(paid[2].0 >= 4_000_000_000, "{paid:?}");
        miner.block().await;
    }

    node.serving.abort();
    payees(&house, None).await;
    miner.block().await;
}

#[tokio::test]
async fn a_module_that_is_not_there_is_not_called() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("node.sock");
    let mut house = House::server(|_| ()).await;
    let mut miner = Honest::at(&house).await;
    let mut node = Node::at(&socket, None);
    house.join_node(options(&socket));
    sleep(Duration::from_secs(1)).await;
    miner.block().await;
    let called = timeout(Duration::from_secs(1), node.calls.recv()).await;
    assert!(called.is_err(), "{called:?}");
    assert!(!node.serving.is_finished());
    assert_eq!(*house.pool.payees().borrow(), None);
}

#[tokio::test]
async fn the_usual_payout_stays_where_a_block_is_worth_too_little() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("node.sock");
    let mut house = House::server(|_| ()).await;
    let mut miner = Honest::at(&house).await;
    let mut node = Node::at(&socket, Some(r#"{"outputs":[{"script":"51","value":2000000000000000}]}"#));
    house.join_node(options(&socket));
    node.call().await;
    payees(&house, Some(1)).await;
    miner.another_job().await;
    let paid = outputs(&house);
    assert!(paid.iter().all(|(value, _)| *value < 2_000_000_000_000_000), "{paid:?}");
    assert!(paid[0].0 >= 5_000_000_000, "{paid:?}");
}

#[tokio::test]
async fn found_blocks_are_offered_while_the_module_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("node.sock");
    let house = House::server(|_| ()).await;
    let found = |nonce| {
        let mut block = bitcoin::constants::genesis_block(bitcoin::Network::Regtest);
        block.txdata[0].input[0].script_sig = bitcoin::ScriptBuf::from_bytes(Coinbase::bip34(1));
        block.header.nonce = nonce;
        FoundBlock::whole(block).unwrap()
    };
    let blocks = Blocks::default();
    blocks.give(&found(1));
    let mut node = Node::at(&socket, Some("null"));
    let api = Arc::new(Api::new(house.pool.clone(), Info::default()));
    let client = Client::new(options(&socket), api, house.pool.clone(), Refresh::default(), &blocks);
    let running = tokio::spawn(client.run());
    assert_eq!(node.call().await.method, "get_coinbase_payout");
    sleep(Duration::from_millis(300)).await;
    for nonce in [2, 3] {
        blocks.give(&found(nonce));
    }
    for nonce in [2, 3] {
        let params = block::encode(&found(nonce)).unwrap().unwrap();
        let (target, method) = ("blvm-datum".to_owned(), "submit_pow".to_owned());
        assert_eq!(node.call().await, Call { target, method, params });
    }
    running.abort();
}
