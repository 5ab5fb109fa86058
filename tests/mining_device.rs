//! SRI's CPU miner, the real program, on our server. `tests/peers/mining_device.sh` installs it.

mod common;

use std::env;
use std::fs::File;
use std::io::{Read, Seek};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use blvm_stratum_v2::mining::share::Rejection;
use blvm_stratum_v2::mining::vardiff;
use blvm_stratum_v2::server::{self, Identity, StratumV2Server};
use blvm_stratum_v2::session::Options;
use blvm_stratum_v2::template::{self, regtest};
use blvm_stratum_v2::transport::quic;
use blvm_stratum_v2::wire::keys::AuthoritySecretKey;
use blvm_stratum_v2::wire::url::Transport;
use common::pool_options;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::time::{Instant, timeout_at};

/// The program hashes for some five seconds before it opens a channel.
const DEADLINE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn it_mines_blocks() {
    let Some(program) = program() else { return };
    let authority = AuthoritySecretKey::generate(&mut StdRng::seed_from_u64(3));
    let public = authority.public_key();
    let options = server::Options {
        listen_addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        handshake_timeout: Duration::from_secs(10),
        max_connections: 10,
        max_connections_per_ip: 10,
        max_tcp_connections: 10,
        noise_enabled: true,
        quic: quic::Options::default(),
        // a share every tenth of a second, each of which is a block on regtest
        pool: pool_options(Options {
            vardiff: vardiff::Options { shares_per_minute: 600.0, ..Default::default() },
            ..Options::default()
        }),
        template: template::Options::embedded(regtest::Options {
            transactions: 3,
            future_templates: true,
            ..Default::default()
        }),
    };
    let server = StratumV2Server::start(options, Identity::issue(authority).unwrap()).await.unwrap();
    let stats = server.pool().stats().of(Transport::Tcp);

    let mut output = tempfile::tempfile().unwrap();
    let address = server.address().to_string();
    let device = Command::new(program)
        .args([
            "-a",
            &address,
            "-p",
            &public.to_string(),
            "-i",
            "dev1",
            "--id-user",
            "alice.w1",
            "--cores",
            "1",
        ])
        .stdin(Stdio::null())
        .stdout(output.try_clone().unwrap())
        .stderr(output.try_clone().unwrap())
        .spawn();
    let device = Device(device.expect("the program starts"));

    let deadline = Instant::now() + DEADLINE;
    let mut work = server.pool().work();
    while stats.shares_accepted.get() < 3 || stats.blocks.get() < 1 {
        // every block makes new work
        if timeout_at(deadline, work.changed()).await.is_err() {
            panic!(
                "{} shares and {} blocks so far, {} shares refused; the device says:\n{}",
                stats.shares_accepted.get(),
                stats.blocks.get(),
                stats.shares_rejected(),
                read(&mut output),
            );
        }
    }
    assert_eq!(stats.connections.get(), 1, "it stays connected:\n{}", read(&mut output));
    // it races with its own blocks, and starts its nonces over on a new target
    let excused = stats.rejected(Rejection::Stale) + stats.rejected(Rejection::Duplicate);
    assert_eq!(stats.shares_rejected(), excused, "{}", read(&mut output));
    drop(device);
    server.shutdown().await;
}

/// Where the program is. None if it is not there, which only CI takes amiss.
fn program() -> Option<PathBuf> {
    let installed = || {
        let root = PathBuf::from(env::var_os("HOME")?).join(".cache/blvm-stratum-v2");
        Some(root.join("integration_tests_sv2-0.6.0/bin/mining_device"))
    };
    let program = env::var_os("BLVM_MINING_DEVICE").map(PathBuf::from).or_else(installed);
    let found = program.filter(|program| program.is_file());
    if found.is_none() {
        assert!(env::var_os("CI").is_none(), "no mining_device: run tests/peers/mining_device.sh first");
        println!("skipped: mining_device not found");
    }
    found
}

/// The running program.
struct Device(Child);

impl Drop for Device {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn read(output: &mut File) -> String {
    let mut text = Vec::new();
    output.rewind().and_then(|()| output.read_to_end(&mut text)).unwrap();
    String::from_utf8_lossy(&text).into_owned()
}
