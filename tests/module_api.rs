//! What the node and its other modules are told of a server with miners on it.

mod house;

use std::time::Duration;

use blvm_stratum_v2::mining::{Difficulty, Target};
use blvm_stratum_v2::module::api::{Answer, Api, Info};
use blvm_stratum_v2::module::commands;
use blvm_stratum_v2::module::event::Event;
use blvm_stratum_v2::module::events::Events;
use blvm_stratum_v2::wire::url::Transport;
use house::honest::Honest;
use house::{House, soon};
use serde_json::{Value, json};

fn api(house: &House) -> Api {
    Api::new(house.pool.clone(), Info::default())
}

fn ask(api: &Api, method: &str) -> Value {
    let Answer::Done(Ok(answer)) = api.call(method, b"", "test") else { panic!("{method} has no answer") };
    serde_json::from_slice(&answer).unwrap()
}

/// Waits for an event of which something can be made.
async fn hear<T>(events: &mut Events, what: &str, take: impl Fn(Event) -> Option<T>) -> T {
    soon(what, async {
        loop {
            if let Some(taken) = take(events.next().await) {
                break taken;
            }
        }
    })
    .await
}

fn client(event: Event) -> Option<String> {
    match event {
        Event::StratumClientConnected { endpoint, protocol_version: 2 } => Some(endpoint),
        _ => None,
    }
}

#[tokio::test]
async fn miners_are_counted_one_by_one_and_in_sum() {
    let house = House::server(|_| ()).await;
    let api = api(&house);
    assert_eq!(ask(&api, "get_connected_miners"), json!({"total": 0, "miners": []}));
    let mut tcp = Honest::to(&house.url(Transport::Tcp)).await;
    let mut quic = Honest::to(&house.url(Transport::Quic)).await;
    for _ in 0..3 {
        tcp.share().await;
    }
    quic.share().await;
    let miners = ask(&api, "get_connected_miners");
    assert_eq!(miners["total"], 2);
    for (miner, transport, shares) in [(0, "tcp", 3), (1, "quic", 1)] {
        let miner = &miners["miners"][miner];
        assert_eq!(miner["transport"], transport);
        let endpoint = miner["endpoint"].as_str().unwrap();
        assert!(endpoint.starts_with(&format!("{transport}://127.0.0.1:")), "{endpoint}");
        assert_eq!((&miner["shares_accepted"], &miner["shares_rejected"]), (&json!(shares), &json!(0)));
        assert_eq!((&miner["channels"], &miner["users"]), (&json!(1), &json!(["honest"])));
        assert!(miner["hashrate_hs"].as_f64().unwrap() > 0.0);
    }
    let stats = ask(&api, "get_pool_stats");
    let counts = |of: &Value| ["connections", "channels", "shares_accepted"].map(|count| of[count].as_u64());
    assert_eq!(counts(&stats), [2, 2, 4].map(Some));
    assert_eq!(counts(&stats["transports"]["tcp"]), [1, 1, 3].map(Some));
    assert_eq!(counts(&stats["transports"]["quic"]), [1, 1, 1].map(Some));
    let miners = commands::run(&api, "list_miners", &[]).stdout;
    assert_eq!(miners.lines().count(), 3, "{miners}");
    drop((tcp, quic));
    soon("the miners are gone", async {
        while ask(&api, "get_connected_miners")["total"] != 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn the_node_hears_of_work_miners_and_shares() {
    let house = House::server(|_| ()).await;
    let api = api(&house);
    let mut events = Events::new(house.pool.clone());
    let job = hear(&mut events, "the first job", |event| match event {
        Event::MiningJobCreated { job_id, height, .. } => Some((job_id, height)),
        _ => None,
    });
    let (job, height) = job.await;
    assert_eq!(height, ask(&api, "get_template")["height"]);
    for transport in [Transport::Tcp, Transport::Quic] {
        let mut miner = Honest::to(&house.url(transport)).await;
        let endpoint = hear(&mut events, "the miner comes", client).await;
        assert_eq!(endpoint, ask(&api, "get_connected_miners")["miners"][0]["endpoint"]);
        // one that comes within a second of the last that was told of is not told of itself
        let share = hear(&mut events, "the share", |event| match event {
            Event::ShareSubmitted { job_id, share_hash, miner_id } => Some((job_id, share_hash, miner_id)),
            _ => None,
        });
        let (job_id, hash, user) = miner.mines_during(share).await;
        assert_eq!(job_id, job);
        assert!(user.as_deref().is_some_and(|user| user.starts_with("honest")), "{user:?}");
        assert_ne!(hash, [0; 32]);
        drop(miner);
        let gone = hear(&mut events, "the miner goes", |event| match event {
            Event::StratumClientDisconnected { endpoint, reason } => Some((endpoint, reason)),
            _ => None,
        });
        let (gone, reason) = gone.await;
        assert_eq!(gone, endpoint);
        assert!(reason.contains("closed"), "{reason}");
    }
    let mut miner = Honest::at(&house).await;
    miner.block().await;
    let next = hear(&mut events, "work on top of the block", |event| match event {
        Event::MiningJobCreated { height, .. } => Some(height),
        _ => None,
    });
    assert_eq!(next.await, height + 1);
}

#[tokio::test]
async fn the_least_difficulty_reaches_open_channels() {
    let house = House::server(|_| ()).await;
    let api = api(&house);
    let mut miner = Honest::to(&house.url(Transport::Quic)).await;
    let set = commands::run(&api, "set_difficulty", &["2e-9".to_owned()]);
    assert_eq!(set.exit_code, 0, "{}", set.stderr);
    miner.target_is(Target::from_difficulty(Difficulty(2e-9))).await;
    // what meets the new target is a share still, and on this chain a block
    miner.block().await;
    assert_eq!(ask(&api, "get_pool_stats")["min_difficulty"], 2e-9);
}
