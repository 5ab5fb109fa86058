//! A mining server inside a program of your own: started on the embedded regtest chain, mined at by
//! the library's CPU miner until there is a block, and stopped.
//!
//! `cargo run --release --example embed`

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use blvm_stratum_v2::config::{Config, Regtest};
use blvm_stratum_v2::miner::{self, Progress, Until};
use blvm_stratum_v2::server::{Identity, StratumV2Server};
use blvm_stratum_v2::transport::client::{Pace, Server};
use blvm_stratum_v2::wire::keys::AuthoritySecretKey;
use blvm_stratum_v2::wire::url::Transport;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // What config.toml may say, as a struct. All of it has defaults.
    let mut config = Config::default();
    config.stratum_v2.listen_addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); // a free port
    config.stratum_v2.shares_per_minute = 60.0;
    config.regtest = Some(Regtest { transactions: 10, ..Regtest::default() });
    let options = config.options()?;

    // Miners know the server by this key. A real server keeps it, as `certs` does, or they all
    // need a new URL.
    let authority = AuthoritySecretKey::generate(&mut rand::rng());
    let mut server = StratumV2Server::start(options, Identity::issue(authority)?).await?;

    // UDP and TCP on the same port: a miner that has both URLs prefers QUIC, and makes do with TCP
    // where QUIC does not get through.
    let (quic, tcp) = (server.quic_url("127.0.0.1"), server.tcp_url("127.0.0.1"));
    let tcp = tcp.ok_or("noise.enabled is true unless the configuration says otherwise")?;
    println!("miners connect to {quic}\n            or to {tcp}");

    // A miner in the same process, for the show.
    let miner = miner::Options {
        server: Server::at([quic, tcp])?,
        user: "embedded.miner".to_owned(),
        threads: 1,
        until: Until { blocks: Some(1), time: Some(Duration::from_secs(120)), ..Until::default() },
        pace: Pace::default(),
        certificate: None,
    };
    let progress = Arc::new(Progress::default());
    tokio::select! {
        // A part of the server that ends by itself is best started anew, with all the rest.
        () = server.failed() => return Err("a part of the server has failed".into()),
        mined = miner::mine(&miner, progress.clone()) => mined?,
    }

    // The server's counts can be read at any time, by transport and in all.
    let stats = server.pool().stats();
    println!("{} shares over QUIC", stats.of(Transport::Quic).shares_accepted.get());
    println!("{} blocks over QUIC", stats.of(Transport::Quic).blocks.get());
    println!("{} shares in all", stats.sum(|of_transport| of_transport.shares_accepted.get()));

    // So can the work: here, what miners are to build on after the block.
    if let Some(work) = server.pool().work().borrow().as_ref() {
        println!("the chain is at height {}", work.tip.height - 1);
    }

    // Tells the miners that are connected, and hands in what they have found.
    server.shutdown().await;
    Ok(())
}
