//! A Template Provider beside a node: SRI's Noise and codec on a socket, and SRI's client of the
//! node's mining interface behind it. Nothing of it is ours.

#![cfg(feature = "bitcoin-ipc")]
#![allow(dead_code)] // each test uses a part

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::thread::JoinHandle;

use bitcoin_core_sv2::CancellationToken;
use bitcoin_core_sv2::runtime_api::{BitcoinCoreVersion, template_distribution_protocol};
use blvm_stratum_v2::wire::keys::AuthorityPublicKey;
use stratum_core::common_messages_sv2::Protocol;
use stratum_core::parsers_sv2::AnyMessageOwned;
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::task::{LocalSet, spawn_local};

use self::sri_server::{Server, Wire};

#[path = "../common/sri_server.rs"]
#[allow(clippy::duplicate_mod)] // a test may have scripted providers too
mod sri_server;

/// It runs until it is dropped.
pub(crate) struct Provider {
    pub(crate) address: SocketAddr,
    pub(crate) authority: AuthorityPublicKey,
    kill: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

/// Starts a provider for the node that listens on `socket`. It is up when this returns, and
/// connects to the node when a client comes.
pub(crate) async fn start(socket: &Path) -> Provider {
    Provider::start_at(socket, ([127, 0, 0, 1], 0).into()).await
}

impl Provider {
    /// Starts one where another one was.
    pub(crate) async fn start_at(socket: &Path, address: SocketAddr) -> Self {
        let socket = socket.to_owned();
        let kill = CancellationToken::new();
        let killed = kill.clone();
        let (up, is_up) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            // what the node's interface is made of cannot change threads
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            let tasks = LocalSet::new();
            tasks.block_on(&runtime, async {
                let server = Server::bind_at(address).await;
                up.send((server.address(), server.authority)).unwrap();
                tokio::select! {
                    () = killed.cancelled() => {}
                    () = serve(server, socket) => {}
                }
            });
        });
        let (address, authority) = is_up.await.unwrap();
        Self { address, authority, kill, thread: Some(thread) }
    }

    /// Ends it and all its connections, without a word to anyone.
    pub(crate) fn kill(&mut self) {
        self.kill.cancel();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn serve(server: Server, socket: PathBuf) {
    let socket = Rc::new(socket);
    loop {
        if let Some(wire) = server.accept().await {
            spawn_local(client(wire, socket.clone()));
        }
    }
}

/// Each client has its own connection to the node, and its own templates.
async fn client(mut wire: Wire, socket: Rc<PathBuf>) {
    wire.set_up(Protocol::TemplateDistributionProtocol).await;
    let (to_node, from_client) = async_channel::bounded(64);
    let (to_client, from_node) = async_channel::bounded(64);
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    let version = BitcoinCoreVersion::V31X;
    let node =
        template_distribution_protocol::new(version, &*socket, 1, 1, from_client, to_client, stop.clone());
    let Ok(mut node) = node.await else { return };
    let mut running = spawn_local(async move { node.run().await });
    let Wire { mut reader, mut writer } = wire;
    let mut talking = spawn_local(async move {
        while let Some(AnyMessageOwned::TemplateDistribution(message)) = reader.next().await {
            if to_node.send(message).await.is_err() {
                break;
            }
        }
    });
    loop {
        tokio::select! {
            _ = &mut running => break,
            _ = &mut talking => break,
            message = from_node.recv() => {
                let Ok(message) = message else { break };
                if writer.send(AnyMessageOwned::TemplateDistribution(message)).await.is_err() {
                    break;
                }
            }
        }
    }
    talking.abort();
}
