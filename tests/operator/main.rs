//! A running server in the hands of its operator: certificates that are replaced, a configuration that changes.

#[allow(dead_code)] // each test uses a part
#[path = "../quic/fleet.rs"]
mod fleet;
#[path = "../house/mod.rs"]
mod house;
#[allow(dead_code)] // each test uses a part
#[path = "../bitcoin_rpc/node.rs"]
mod node;
#[path = "../quic/process.rs"]
mod process;
#[path = "../quic/raw.rs"]
mod raw;
mod reload;
mod rotation;
mod work;

use std::path::Path;
use std::process::{Command, Output};
use std::time::{SystemTime, UNIX_EPOCH};

const DAY: u32 = 24 * 3600;

fn now() -> u32 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as u32
}

/// Runs the program beside the server.
fn command(directory: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_blvm-stratum-v2")).args(args).current_dir(directory).output().unwrap()
}

/// As [`command`], where the server is to go on meanwhile: whether it went well, and all that it said.
async fn ask(directory: &Path, args: &'static [&'static str]) -> (bool, String) {
    let directory = directory.to_owned();
    let output = tokio::task::spawn_blocking(move || command(&directory, args)).await.unwrap();
    (output.status.success(), said(&output))
}

fn said(output: &Output) -> String {
    String::from_utf8([&output.stdout[..], &output.stderr].concat()).unwrap()
}
