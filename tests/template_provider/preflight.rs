//! What an operator is told of a socket that is not the node's, or of a node that is not the one.

use std::os::unix::net::UnixListener;
use std::path::Path;

use bitcoin::Network;
use blvm_stratum_v2::template::bitcoin_ipc::Options;

use crate::core::Core;
use crate::node::{alone, by_ipc, options};

async fn reason(options: Options) -> String {
    by_ipc(options).is_down().await
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_on_the_socket() {
    let _alone = alone().await;
    let home = tempfile::tempdir().unwrap();
    let scratch = home.path().join("ipc");
    let socket = home.path().join("node.sock");
    let said = reason(options(&socket, &scratch)).await;
    assert!(said.contains("node.sock: no such file") && said.contains("-ipcbind=unix"), "{said}");

    drop(UnixListener::bind(&socket).unwrap());
    let said = reason(options(&socket, &scratch)).await;
    assert!(said.contains("node.sock: nobody listens there"), "{said}");

    let said = reason(options(&socket, &home.path().join("x".repeat(100)))).await;
    assert!(said.contains("shorter data_dir"), "{said}");
    let said = reason(options(&socket, Path::new("/proc/none"))).await;
    assert!(said.contains("/proc/none") && said.contains("able to write there"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_program_on_the_socket() {
    let _alone = alone().await;
    use std::io::Write;
    for (words, expected) in [
        (&b""[..], "hangs up"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "no Bitcoin Core"),
        (&[0; 64], "no Bitcoin Core"),
    ] {
        let home = tempfile::tempdir().unwrap();
        let socket = home.path().join("node.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let _ = stream.write_all(words);
                if !words.is_empty() {
                    let _ = std::io::copy(&mut stream, &mut std::io::sink());
                }
            }
        });
        let said = reason(options(&socket, &home.path().join("ipc"))).await;
        assert!(said.contains("node.sock") && said.contains(expected), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_node_than_was_meant() {
    let _alone = alone().await;
    let Some(core) = Core::start().await else { return };
    let scratch = tempfile::tempdir().unwrap();
    let options = options(&core.socket(), scratch.path());
    let said = reason(Options { network: Network::Bitcoin, ..options.clone() }).await;
    assert!(said.contains("on a test network, but the network is bitcoin"), "{said}");
    let said = reason(Options { version: 30, ..options.clone() }).await;
    assert!(said.contains("is version = 30 right?"), "{said}");
    // the node cannot tell test networks apart, its blocks can
    let said = reason(Options { network: Network::Signet, ..options }).await;
    assert!(said.contains("another network"), "{said}");
}
