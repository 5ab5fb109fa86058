//! A configuration that changes while the server runs.

use std::fs;
use std::time::Duration;

use blvm_stratum_v2::transport::tls::TlsIdentity;
use blvm_stratum_v2::wire::url::StratumUrl;
use serde_json::Value;
use tokio::time::sleep;

use crate::fleet::Miner;
use crate::process::{Home, Process};
use crate::raw::soon;
use crate::work::{config, node};
use crate::{DAY, ask, command, now, said};

/// What stands in the file from now on, at this address.
fn configure(home: &Home, server: &Process, text: &str) {
    let listen_addr = format!("[stratum_v2]\nlisten_addr = \"127.0.0.1:{}\"\n", server.quic.port);
    fs::write(home.path().join("config.toml"), listen_addr + text).unwrap();
}

/// Waits until this is in the log.
async fn logged(home: &Home, text: &str) {
    logged_times(home, text, 1).await;
}

/// Waits until it is there so often.
async fn logged_times(home: &Home, text: &str, times: usize) {
    soon(text, async {
        while home.log().matches(text).count() < times {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// Those who are connected stay so, and what they submit counts.
async fn mine(miners: &mut [Miner]) {
    for miner in miners {
        miner.mine(Duration::from_millis(50), Duration::from_millis(300)).await;
        let books = miner.settle().await;
        assert_eq!((books.accepted, books.refused), (books.sent, 0));
    }
}

fn both(server: &Process) -> [StratumUrl; 2] {
    [server.quic.clone(), server.tcp()]
}

#[tokio::test]
async fn what_can_change_changes_and_the_rest_is_named() {
    let node = node().await;
    let home = Home::new(&config(&node)).logging();
    let server = home.start(0);
    let mut miners = Vec::new();
    for url in both(&server) {
        miners.push(Miner::at(&url, 1).await);
    }
    mine(&mut miners).await;

    let changed = config(&node).replace("max_connections_per_ip = 1000", "max_connections_per_ip = 2");
    let changed = format!("server_id = 7\npool_signature = \"other\"\n{changed}[log]\nlevel = \"debug\"\n");
    configure(&home, &server, &changed);
    let (good, told) = ask(home.path(), &["reload"]).await;
    assert!(good, "{told}");
    let applied = "applied: stratum_v2.pool_signature, stratum_v2.max_connections_per_ip, log.level\n";
    assert!(told.contains(applied), "{told}");
    assert!(
        told.contains("stays as it is until a restart: stratum_v2.listen_addr, stratum_v2.server_id\n"),
        "{told}"
    );
    mine(&mut miners).await;
    // the limit holds, and the log has what it had not
    for url in both(&server) {
        assert!(soon("an answer", Miner::join(&url, 1)).await.is_err(), "{url}");
    }
    logged(&home, "DEBUG connection refused").await;

    // by signal, and back again; the log says what the command says
    configure(&home, &server, &config(&node));
    server.signal("HUP");
    logged_times(&home, applied, 2).await;
    for url in both(&server) {
        miners.push(Miner::at(&url, 1).await);
    }
    mine(&mut miners).await;
    server.terminate().await;
}

#[tokio::test]
async fn what_is_wrong_changes_nothing() {
    let node = node().await;
    let home = Home::new(&config(&node)).logging();
    let server = home.start(0);
    let mut miners = [Miner::at(&server.quic, 1).await, Miner::at(&server.tcp(), 1).await];

    let wrong = config(&node).replace("max_connections_per_ip = 1000", "max_connections_per_ip = 1");
    configure(&home, &server, &format!("max_conections = 5\nsolo_fee = 5\n{wrong}"));
    let (good, told) = ask(home.path(), &["reload"]).await;
    assert!(!good, "{told}");
    for words in [
        "everything stays as it was: the configuration does not work",
        "config.toml:3: stratum_v2.max_conections",
        "config.toml:4: stratum_v2.solo_fee",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    let (good, shown) = ask(home.path(), &["cert", "show"]).await;
    assert!(good && shown.starts_with("served by the running server\n"), "{shown}");
    server.signal("HUP");
    logged_times(&home, "ERROR everything stays as it was: the configuration", 2).await;
    // without the file it is not the defaults that hold
    fs::remove_file(home.path().join("config.toml")).unwrap();
    let (good, told) = ask(home.path(), &["reload"]).await;
    assert!(!good && told.contains("everything stays as it was: config.toml is gone"), "{told}");
    miners[1] = Miner::at(&server.tcp(), 1).await;
    mine(&mut miners).await;
    server.terminate().await;
}

#[tokio::test]
async fn what_is_served_and_runs_out_soon_is_told() {
    let node = node().await;
    let home = Home::new(&config(&node)).logging();
    let made = |args: &[&str]| {
        let output = command(home.path(), args);
        assert!(output.status.success(), "{args:?}: {}", said(&output));
    };
    made(&["keygen", "--out", "vault/authority.key"]);
    let authority = ["--authority", "vault/authority.key"];
    made(&[&["cert", "new", "--out", "certs", "--valid-for", "90d"][..], &authority].concat());
    let (good, before) = ask(home.path(), &["cert", "show"]).await;
    assert!(
        good && before.starts_with("no server is running on this data directory; one would serve\n"),
        "{before}"
    );

    // two months old, and good for ten days
    let key = fs::read_to_string(home.path().join("vault/authority.key")).unwrap().trim().parse().unwrap();
    let old = TlsIdentity::issue(&key, now() - 60 * DAY, now() + 10 * DAY).unwrap();
    fs::write(home.path().join("certs/tls.pem"), old.chain_pem()).unwrap();
    fs::write(home.path().join("certs/tls.key"), &*old.key_pem()).unwrap();
    let server = home.start(0);
    logged(&home, " WARN certs/tls.pem ").await;
    let (good, shown) = ask(home.path(), &["cert", "show"]).await;
    assert!(good && shown.starts_with("served by the running server\n"), "{shown}");
    let (_, json) = ask(home.path(), &["cert", "show", "--json"]).await;
    let json: Value = serde_json::from_str(&json).unwrap();
    let (_, pin) = ask(home.path(), &["cert", "pin"]).await;
    assert_eq!(json["certificates"][0]["pin"], pin.trim());
    assert_eq!(json["has_secret"], false);
    let until =
        json["noise"]["valid_until"].as_u64().unwrap() - json["noise"]["valid_from"].as_u64().unwrap();
    assert_eq!(until / u64::from(DAY), 90);
    let (_, file) = ask(home.path(), &["cert", "show", "certs/tls.pem"]).await;
    assert!(file.contains(pin.trim()), "{file}");
    server.terminate().await;
    let (good, told) = ask(home.path(), &["reload"]).await;
    assert!(!good && told.contains("none is running on this data directory"), "{told}");
    assert!(told.contains(home.path().join("data/control.sock").to_str().unwrap()), "{told}");
}
