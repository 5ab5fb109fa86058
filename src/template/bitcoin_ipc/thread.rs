//! The thread on which the node's interface runs: nothing of Cap'n Proto can move between threads.

use std::path::PathBuf;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use async_channel::{Receiver, Sender};
use bitcoin::Network;
use bitcoin_core_sv2::CancellationToken;
use bitcoin_core_sv2::runtime_api::{BitcoinCoreVersion, template_distribution_protocol};
use stratum_core::parsers_sv2::TemplateDistributionOwned;
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::task::LocalSet;
use tokio::time::{sleep, timeout};

use super::error::IpcError;
use super::preflight;

/// How long the interface may take to end of itself. A node that stands still never lets it.
const GRACE: Duration = Duration::from_secs(2);
/// How long the thread may take to be ready, beyond all that has its own deadline.
const START: Duration = Duration::from_secs(30);
/// Messages that may wait in either direction; the other side waits then.
const QUEUE: usize = 16;

/// What the thread needs to know.
#[derive(Debug, Clone)]
pub(super) struct Order {
    /// Where the node listens, in the operator's words.
    pub(super) socket: PathBuf,
    /// How it is reached.
    pub(super) link: PathBuf,
    pub(super) version: u8,
    pub(super) network: Network,
    /// What more a template must pay to be sent, in satoshis.
    pub(super) fee_threshold: u64,
    /// How many seconds must lie between templates on the same tip.
    pub(super) min_interval: u8,
}

/// A thread that runs. Dropping this ends it within [`GRACE`].
#[derive(Debug)]
pub(super) struct Running {
    pub(super) to_node: Sender<TemplateDistributionOwned>,
    pub(super) from_node: Receiver<TemplateDistributionOwned>,
    stop: CancellationToken,
    /// Closed when the thread has ended.
    ended: oneshot::Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// Starts a thread, and returns when the node's interface is ready for CoinbaseOutputConstraints.
    /// If it fails, nothing is left of the thread.
    pub(super) async fn start(order: Order) -> Result<Self, IpcError> {
        let (to_node, outgoing) = async_channel::bounded(QUEUE);
        let (incoming, from_node) = async_channel::bounded(QUEUE);
        let (ready, is_ready) = oneshot::channel();
        let (ending, ended) = oneshot::channel();
        let stop = CancellationToken::new();
        let on_thread = stop.clone();
        let thread = thread::Builder::new().name("bitcoin-ipc".to_owned()).spawn(move || {
            let interface = interface(order, outgoing, incoming, on_thread.clone(), ready);
            run(interface, on_thread);
            drop(ending);
        });
        let thread = Some(thread.map_err(IpcError::Thread)?);
        let running = Self { to_node, from_node, stop, ended, thread };
        let outcome = match timeout(START, is_ready).await {
            Ok(outcome) => outcome.unwrap_or(Err(IpcError::Closed)),
            Err(_) => Err(IpcError::NoAnswer(START.as_secs())),
        };
        match outcome {
            Ok(()) => Ok(running),
            Err(error) => {
                running.end().await;
                Err(error)
            }
        }
    }

    /// Ends the thread, and waits until nothing is left of it.
    pub(super) async fn end(mut self) {
        self.stop.cancel();
        if timeout(2 * GRACE, &mut self.ended).await.is_err() {
            // nothing in it should block, but a disk may
            tracing::error!("the thread of the node's interface does not end");
        } else if let Some(thread) = self.thread.take() {
            // it has nothing left to do: this does not block
            let _ = thread.join();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Runs the interface until it ends, or for a moment after it should have.
fn run(interface: impl Future<Output = ()>, stop: CancellationToken) {
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return tracing::error!(%error, "no runtime for the node's interface"),
    };
    // dropped before the runtime, with all that the interface has left running
    let tasks = LocalSet::new();
    tasks.block_on(&runtime, async {
        tokio::select! {
            () = interface => {}
            () = async { stop.cancelled().await; sleep(GRACE).await } => {}
        }
    });
}

async fn interface(
    order: Order,
    outgoing: Receiver<TemplateDistributionOwned>,
    incoming: Sender<TemplateDistributionOwned>,
    stop: CancellationToken,
    ready: oneshot::Sender<Result<(), IpcError>>,
) {
    let connecting = async {
        let Order { socket, link, version, network, fee_threshold, min_interval } = order;
        preflight::check(&socket, &link, version, network).await?;
        let unknown = |version| IpcError::Version { version, reason: "unknown here".to_owned() };
        let version = BitcoinCoreVersion::try_from(version).map_err(unknown)?;
        let connected = template_distribution_protocol::new(
            version,
            &link,
            fee_threshold,
            min_interval,
            outgoing,
            incoming,
            stop,
        );
        let patience = preflight::PATIENCE;
        timeout(patience, connected)
            .await
            .map_err(|_| IpcError::NoAnswer(patience.as_secs()))?
            .map_err(|error| IpcError::Interface(error.to_string()))
    };
    match connecting.await {
        Err(error) => {
            let _ = ready.send(Err(error));
        }
        Ok(mut node) => {
            let _ = ready.send(Ok(()));
            node.run().await;
        }
    }
}
