use std::net::SocketAddr;

use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Script};
use serde_json::{Value, json};

use super::*;
use crate::mining::coinbase::{Coinbase, Tag};
use crate::mining::extranonce::{BootEpoch, ServerId};
use crate::mining::payout::{PayoutClass, PayoutPolicy};
use crate::mining::share::{Account, Rejection};
use crate::mining::{Difficulty, Target, Template, TemplateSerial, Tip, Work};
use crate::pool::CountOnly;
use crate::session::Tally;
use crate::wire::url::Transport;
use crate::wire::{ChannelId, U256};

/// A pool without work.
pub(in crate::module) fn pool() -> Arc<StratumV2Pool> {
    let options = crate::pool::Options {
        session: crate::session::Options::default(),
        payout: PayoutPolicy::Pool { script: Script::new().into() },
        tag: Tag::default(),
        server_id: ServerId::default(),
    };
    StratumV2Pool::new(options, BootEpoch::default(), Box::new(CountOnly)).0
}

pub(in crate::module) fn work(block: u8, serial: u64) -> Work {
    let tip = Tip {
        prev_hash: BlockHash::from_byte_array([block; 32]),
        height: 100,
        min_ntime: 1_700_000_000,
        nbits: 0x207f_ffff,
        network_target: Target::from_compact(0x207f_ffff).unwrap(),
        report_target: Target::ZERO,
    };
    let template = Template {
        serial: TemplateSerial(serial),
        version: 0x2000_0000,
        version_rolling: true,
        coinbase: Coinbase::at(100, 5_000_000_000, None),
        merkle_path: vec![U256([2; 32])],
    };
    Work { tip: Arc::new(tip), template: Arc::new(template), future: Vec::new() }
}

/// With work, and a miner over QUIC that has had shares accepted and refused.
pub(in crate::module) fn api() -> Api {
    let pool = pool();
    pool.publish(Arc::new(work(1, 17)));
    let peer: SocketAddr = ([192, 0, 2, 1], 50_123).into();
    let now = crate::clock::unix_now();
    let entry = pool.roster().enter(Transport::Quic, peer, "Bitaxe Gamma 2.9.0", now - 10);
    let class = PayoutClass::Pool;
    entry.opened(ChannelId(2), &Arc::new(Account { user: "bc1qexample.rig1".into(), class }));
    let mut tally = Tally { accepted: 1234, difficulty: 10.0, ..Tally::default() };
    tally.rejected[1] = 5;
    entry.add(&tally, || now);
    let stats = pool.stats().of(Transport::Quic);
    stats.add(&tally);
    stats.connections.rise();
    stats.channels.rise();
    let info = Info {
        config_path: Some("/etc/blvm/stratum.toml".into()),
        listen_urls: vec!["stratum2+quic://192.0.2.9:3333".to_owned()],
        version: "0.1.0".to_owned(),
    };
    Api::new(pool, info)
}

fn done(answer: Answer) -> Result<Value, ApiError> {
    match answer {
        Answer::Done(done) => done.map(|bytes| serde_json::from_slice(&bytes).unwrap()),
        Answer::Forward { .. } => panic!("{answer:?}"),
    }
}

fn call(api: &Api, method: &str, params: &Value) -> Result<Value, ApiError> {
    done(api.call(method, params.to_string().as_bytes(), "blvm-caller"))
}

/// Both have the same fields, of the same types. What is null may be anything.
fn alike(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            a.keys().eq(b.keys()) && a.iter().all(|(key, value)| alike(value, &b[key]))
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b)),
        (Value::Null, _) | (_, Value::Null) => true,
        (Value::Number(a), Value::Number(b)) => a.is_f64() == b.is_f64(),
        _ => std::mem::discriminant(a) == std::mem::discriminant(b),
    }
}

#[test]
fn the_examples_in_the_documentation_are_true() {
    let docs: Vec<_> = include_str!("mod.rs").lines().map_while(|line| line.strip_prefix("//!")).collect();
    let docs = docs.join("\n");
    let mut documented = Vec::new();
    for section in docs.split("\n ## ").skip(1) {
        let method = section.lines().next().unwrap();
        documented.push(method);
        let blocks: Vec<_> = section.split("```").skip(1).step_by(2).collect();
        let [params, answer] = blocks[..] else { panic!("{method} has {} examples", blocks.len()) };
        let params: Value = serde_json::from_str(params.strip_prefix("json").unwrap()).unwrap();
        let real = call(&api(), method, &params);
        match answer.strip_prefix("json") {
            Some(example) => {
                let (example, real) = (serde_json::from_str(example).unwrap(), real.unwrap());
                assert!(alike(&example, &real), "{method}: {example:#} is not like {real:#}");
            }
            None => assert_eq!(answer.strip_prefix("text").unwrap().trim(), real.unwrap_err().to_string()),
        }
    }
    assert_eq!(documented, METHODS);
}

#[test]
fn a_template_is_what_miners_are_on() {
    let api = Api::new(pool(), Info::default());
    assert_eq!(done(api.call("get_template", b"", "a")), Err(ApiError::NoWork));
    api.pool.publish(Arc::new(work(3, 18)));
    let template = done(api.call("get_template", b"", "a")).unwrap();
    let expected = json!({
        "height": 100, "prev_hash": "03".repeat(32), "version": 0x2000_0000, "nbits": "207fffff",
        "min_ntime": 1_700_000_000, "network_target": format!("7fffff{}", "00".repeat(29)),
        "coinbase_value": 5_000_000_000_u64, "merkle_path": ["02".repeat(32)], "template": 18,
    });
    assert_eq!(template, expected);
}

#[test]
fn miners_and_stats_agree() {
    let api = api();
    let miners = call(&api, "get_connected_miners", &json!({})).unwrap();
    let miner = &miners["miners"][0];
    assert_eq!((&miner["shares_accepted"], &miner["shares_rejected"]), (&json!(1234), &json!(5)));
    let hashrate = miner["hashrate_hs"].as_f64().unwrap();
    let proved = Difficulty(1.0).hashes();
    assert!((0.8 * proved..=proved).contains(&hashrate), "10 in 10 seconds: {hashrate}");
    assert!(Rejection::ALL.iter().enumerate().all(|(index, reason)| reason.index() == index));
    let stats = call(&api, "get_pool_stats", &json!({})).unwrap();
    assert_eq!((&stats["shares_accepted"], &stats["rejected"]["stale-share"]), (&json!(1234), &json!(5)));
    assert_eq!(stats["transports"]["quic"]["connections"], 1);
    assert_eq!(stats["transports"]["tcp"]["connections"], 0);
    assert!(stats["hashrate_hs"].as_f64().unwrap() > 0.5 * proved);
    api.pool.set_min_difficulty(Some(Difficulty(8.0)));
    assert_eq!(call(&api, "get_pool_stats", &json!({})).unwrap()["min_difficulty"], 8.0);
}

#[test]
fn hashrates_are_read_page_by_page() {
    let api = api();
    for port in 0..3000 {
        let peer = ([192, 0, 2, 2], port).into();
        let entry = api.pool.roster().enter(Transport::Tcp, peer, "", crate::clock::unix_now() - 100);
        entry.add(&Tally { accepted: 1, difficulty: 100.0, ..Tally::default() }, || 1);
    }
    let hashrate = api.counts().tcp.hashrate_hs / Difficulty(3000.0).hashes();
    assert!((0.9..=1.0).contains(&hashrate), "{hashrate}");
    let limited = call(&api, "get_connected_miners", &json!({"limit": 7})).unwrap();
    assert_eq!((&limited["total"], limited["miners"].as_array().unwrap().len()), (&json!(3001), 7));
}

#[test]
fn bad_parameters_are_explained() {
    let api = api();
    for (method, params, error) in [
        ("get_tempalte", "", "there is no such method; version 1 of this API has get_template, "),
        ("get_connected_miners", "[]", "must be a JSON object"),
        ("get_connected_miners", "{\n oops", "look at line 2, column 2"),
        ("get_connected_miners", "{\"limit\": 0}", "limit must be a number from 1 to 1000"),
        ("get_connected_miners", "{\"limit\": 1001}", "limit must be"),
        ("get_connected_miners", "{\"limit\": \"7\"}", "limit must be"),
        ("register_merge_mining", "{\"module\": 7}", "module must be the name"),
        ("register_merge_mining", "{\"module\": \"blvm-stratum-v2\"}", "module must be the name"),
    ] {
        let found = done(api.call(method, params.as_bytes(), "a")).unwrap_err().to_string();
        assert!(found.contains(error), "{method} {params}: {found}");
    }
    let long = vec![b' '; params::MAX_LEN + 1];
    assert_eq!(done(api.call("get_pool_stats", &long, "a")), Err(ApiError::TooLong(long.len())));
}

#[test]
fn an_upstream_pool_is_checked_and_refused_without_a_word_of_the_password() {
    const KEY: &str = "9bXiEd8boQVhq7WddEcERUL5tyyJVFYdU8th3HfbNXK3Yw6GRXh";
    let good = json!({
        "action": "update_pool_config", "pool_url": format!("stratum2+tcp://pool.example:3333/{KEY}"),
        "pool_user": "account", "pool_password": "hunter2",
    });
    let with = |name: &str, value: Value| {
        let mut params = good.clone();
        params[name] = value;
        params
    };
    for (params, error) in [
        (good.clone(), "cannot mine for another pool yet"),
        (with("pool_password", Value::Null), "goes on mining on its own node's blocks"),
        (with("action", Value::Null), "action is missing: it must be update_pool_config"),
        (with("action", json!("hunter2")), "action must be"),
        (with("pool_url", Value::Null), "pool_url is missing: it must be the pool's URL"),
        (with("pool_url", json!("stratum+tcp://me:hunter2@pool.example")), "is Stratum V1"),
        (with("pool_url", json!("http://hunter2")), "must start with stratum2+tcp:// or stratum2+quic://"),
        (with("pool_url", json!("stratum2+tcp://hunter2:99999/hunter2")), "the port must be"),
        (with("pool_url", json!("stratum2+tcp://pool.example/hunter2")), "authority key"),
        (with("pool_url", json!(["hunter2"])), "pool_url must be"),
        (with("pool_user", json!("")), "pool_user must be the name of the account"),
        (with("pool_user", json!({"hunter2": 1})), "pool_user must be"),
        (with("pool_password", json!(["hunter2"])), "pool_password must be a text"),
        (json!("hunter2"), "must be a JSON object"),
    ] {
        let found = call(&api(), "update_pool_config", &params).unwrap_err();
        assert!(found.to_string().contains(error), "{params}: {found}");
        assert!(!format!("{found} {found:?}").contains("hunter2"), "{found:?}");
    }
    let torn = done(api().call("update_pool_config", b"{\"pool_password\": \"hunter2", "a")).unwrap_err();
    assert!(!format!("{torn} {torn:?}").contains("hunter2"), "{torn:?}");
}

#[test]
fn merge_mining_goes_to_the_module_that_registers() {
    let api = api();
    let register =
        |caller: &str, params: &str| done(api.call("register_merge_mining", params.as_bytes(), caller));
    let ask = |caller: &str| api.call("get_merge_mining_template", b"not read here", caller);
    let refused = |error| Answer::Done(Err(error));
    assert_eq!(ask("wallet"), refused(ApiError::NoMergeMining("get_merge_mining_template")));
    assert_eq!(register("merger_1", "{\"module\": \"merger\"}"), Ok(json!({"registered": "merger"})));
    for method in &METHODS[6..] {
        let forward = Answer::Forward { module: "merger".to_owned(), method, params: b"{}".to_vec() };
        assert_eq!(api.call(method, b"{}", "wallet"), forward);
    }
    let Answer::Forward { params, .. } = ask("wallet") else { panic!("not handed on") };
    assert_eq!(params, b"not read here");
    for itself in ["merger", "merger_1"] {
        assert_eq!(ask(itself), refused(ApiError::HandedBack("get_merge_mining_template")));
    }
    // nobody else takes it away, but it may start again
    assert_eq!(register("thief", ""), Err(ApiError::Taken("merger".to_owned())));
    assert_eq!(
        done(api.call("unregister_merge_mining", b"", "thief")),
        Err(ApiError::NotRegistered("thief".to_owned()))
    );
    assert_eq!(register("merger_2", ""), Ok(json!({"registered": "merger"})));
    assert_eq!(
        done(api.call("unregister_merge_mining", b"", "merger_3")),
        Ok(json!({"unregistered": "merger"}))
    );
    // calls of this server's own would go round in circles
    for ourselves in ["blvm-stratum-v2", "blvm-stratum-v2_1"] {
        let params = json!({"module": ourselves}).to_string();
        assert!(matches!(register("merger_1", &params), Err(ApiError::Malformed { .. })), "{ourselves}");
    }
    assert_eq!(ask("wallet"), refused(ApiError::NoMergeMining("get_merge_mining_template")));
    // one that is gone makes room
    assert!(register("merger_2", "").is_ok());
    api.module_gone("somebody else");
    assert!(register("other", "").is_err());
    api.module_gone("merger");
    assert!(register("other", "").is_ok());
}
