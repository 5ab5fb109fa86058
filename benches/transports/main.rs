//! The same work over QUIC and over Noise-TCP, side by side: what each costs the server.
//!
//! `cargo bench --bench transports`. The server is a process of its own with one worker thread, so
//! its CPU time is its own; the load comes from this process. Rows are measured in turns, Noise-TCP
//! and QUIC, and the median of the pairs' ratios is what counts.

mod load;
mod server;

use std::time::Duration;

use blvm_stratum_v2::wire::url::Transport;
use load::Load;
use server::Server;

/// Pairs of measurements of each row.
const PAIRS: usize = 5;

fn main() {
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() == Some(server::ROLE) {
        return server::run();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.unwrap().block_on(measure());
}

async fn measure() {
    println!(
        "{:<44} {:>12} {:>12} {:>10}",
        "server's CPU (memory in the last row)", "Noise-TCP", "QUIC", "QUIC/TCP"
    );
    row("share, 64 x 1 channel, 1 in flight", "us", shares(64, 1, 1, 20_000)).await;
    row("share, 64 x 1 channel, 16 in flight", "us", shares(64, 1, 16, 200_000)).await;
    row("share, 1 x 1,000 channels, 1 in flight each", "us", shares(1, 1000, 1, 100_000)).await;
    row("share, 1 x 1,000 channels, 16 in flight each", "us", shares(1, 1000, 16, 200_000)).await;
    row("connection, until it is set up", "us", async |transport| {
        let server = Server::start(1);
        let load = Load::new(&server, transport);
        load.connect(50).await;
        let before = server.cpu();
        load.connect(500).await;
        micros(server.cpu() - before) / 500.0
    })
    .await;
    row("job to a connection, 500 x 1 channel", "us", async |transport| {
        let mut server = Server::start(1);
        let mut load = Load::new(&server, transport);
        load.open(500, 1).await;
        load.settle().await;
        let before = server.cpu();
        for _ in 0..20 {
            server.refresh();
            load.all_have_a_new_job().await;
        }
        micros(server.cpu() - before) / (20.0 * 500.0)
    })
    .await;
    row("memory of an idle connection with a channel", "kB", async |transport| {
        let server = Server::start(1);
        let mut load = Load::new(&server, transport);
        load.open(50, 1).await;
        load.settle().await;
        let before = server.memory();
        load.open(1000, 1).await;
        load.settle().await;
        (server.memory() - before) as f64 / 1000.0 / 1000.0
    })
    .await;
}

fn shares(connections: usize, channels: usize, in_flight: u32, count: u64) -> impl AsyncFn(Transport) -> f64 {
    async move |transport| {
        // with one in flight, each is acknowledged; else ten at a time, as by default
        let server = Server::start(if in_flight == 1 { 1 } else { 10 });
        let mut load = Load::new(&server, transport);
        load.open(connections, channels).await;
        load.submit(in_flight, count / 10).await;
        let before = server.cpu();
        load.submit(in_flight, count).await;
        micros(server.cpu() - before) / count as f64
    }
}

async fn row(name: &str, unit: &str, measure: impl AsyncFn(Transport) -> f64) {
    let mut pairs = Vec::new();
    for _ in 0..PAIRS {
        pairs.push((measure(Transport::Tcp).await, measure(Transport::Quic).await));
    }
    let median = |of: fn(&(f64, f64)) -> f64| {
        let mut all: Vec<f64> = pairs.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        all[PAIRS / 2]
    };
    let (tcp, quic, ratio) = (median(|pair| pair.0), median(|pair| pair.1), median(|pair| pair.1 / pair.0));
    println!("{name:<44} {tcp:>9.2} {unit} {quic:>9.2} {unit} {ratio:>10.2}");
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
