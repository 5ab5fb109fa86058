//! The examples do what they say.

use std::path::PathBuf;
use std::process::{Output, Stdio};

use blvm_stratum_v2::mining::vardiff;
use blvm_stratum_v2::wire::url::Transport;
use tokio::process::Command;

use super::house::House;
use super::soon;

/// Cargo builds the examples with the tests, beside the commands.
fn example(name: &str) -> Command {
    let commands = PathBuf::from(env!("CARGO_BIN_EXE_blvm-stratum-v2"));
    let path = commands.with_file_name("examples").join(name);
    assert!(path.exists(), "{name} is not built: run `cargo test`, or `cargo build --examples` first");
    let mut command = Command::new(path);
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

fn stdout(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn a_quic_miner() {
    let house = House::server(|options| {
        options.pool.session.vardiff =
            vardiff::Options { shares_per_minute: 600.0, ..vardiff::Options::default() };
    })
    .await;
    for transport in [Transport::Quic, Transport::Tcp] {
        let url = house.url(transport).to_string();
        let output = soon("three shares", example("quic_miner").args([&url, "a.b", "3"]).output()).await;
        let said = stdout(output.unwrap());
        assert!(said.contains(&format!("over {transport}")), "{said}");
        assert!(house.stats_of(transport).shares_accepted.get() >= 3);
    }
}

#[tokio::test]
async fn a_server_in_another_program() {
    let said = stdout(soon("a block", example("embed").output()).await.unwrap());
    for word in ["stratum2+quic://127.0.0.1:", "stratum2+tcp://127.0.0.1:", "the chain is at height"] {
        assert!(said.contains(word), "{said}");
    }
    let blocks = said.lines().find_map(|line| line.strip_suffix(" blocks over QUIC")).unwrap();
    assert!(blocks.parse::<u64>().unwrap() >= 1, "{said}");
}
