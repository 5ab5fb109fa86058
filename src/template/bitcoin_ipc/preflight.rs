//! Questions to the node before it is used, because the answers tell an operator more than what
//! would go wrong later.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use bitcoin::Network;
use bitcoin_capnp_types_v31::capnp;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::error::IpcError;

/// How long the node may take to answer all of them.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// What the node says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Answers {
    test_chain: bool,
    syncing: bool,
    height: i32,
}

/// Whether the node at `socket`, which is reached by `link`, can be mined with. Has to run in a
/// `LocalSet`.
pub(super) async fn check(socket: &Path, link: &Path, version: u8, network: Network) -> Result<(), IpcError> {
    let stream = UnixStream::connect(link).await.map_err(|error| {
        let path = socket.to_owned();
        match error.kind() {
            ErrorKind::NotFound => IpcError::NoSocket(path),
            ErrorKind::PermissionDenied => IpcError::Denied(path),
            ErrorKind::ConnectionRefused => IpcError::NotListening(path),
            _ => IpcError::Socket { path, error },
        }
    })?;
    let questions = async {
        match version {
            30 => v30(stream).await,
            _ => v31(stream).await,
        }
    };
    let answers = timeout(PATIENCE, questions).await.map_err(|_| IpcError::NoAnswer(PATIENCE.as_secs()))?;
    let Answers { test_chain, syncing, height } =
        answers.map_err(|error| IpcError::from_capnp(error, socket.to_owned(), version))?;
    if test_chain != (network != Network::Bitcoin) {
        return Err(IpcError::WrongNetwork { test_chain, network });
    }
    if syncing { Err(IpcError::Syncing(height)) } else { Ok(()) }
}

/// The same questions in the words of each version.
macro_rules! questions {
    ($version:ident, $types:ident) => {
        async fn $version(stream: UnixStream) -> Result<Answers, capnp::Error> {
            use $types::capnp_rpc::{RpcSystem, rpc_twoparty_capnp::Side, twoparty::VatNetwork};
            use $types::init_capnp::init;
            use tokio_util::compat::{TokioAsyncReadCompatExt, TokioAsyncWriteCompatExt};

            let (read, write) = stream.into_split();
            let network =
                VatNetwork::new(read.compat(), write.compat_write(), Side::Client, Default::default());
            let mut system = RpcSystem::new(Box::new(network), None);
            let node: init::Client = system.bootstrap(Side::Server);
            let questions = async {
                let constructed = node.construct_request().send().promise.await?;
                let threads = constructed.get()?.get_thread_map()?;
                let made = threads.make_thread_request().send().promise.await?;
                let thread = made.get()?.get_result()?;

                let mut request = node.make_mining_request();
                request.get().get_context()?.set_thread(thread.clone());
                let mining = request.send().promise.await?.get()?.get_result()?;

                let mut request = mining.is_test_chain_request();
                request.get().get_context()?.set_thread(thread.clone());
                let test_chain = request.send().promise.await?.get()?.get_result();

                let mut request = mining.is_initial_block_download_request();
                request.get().get_context()?.set_thread(thread.clone());
                let syncing = request.send().promise.await?.get()?.get_result();

                let mut request = mining.get_tip_request();
                request.get().get_context()?.set_thread(thread.clone());
                let tip = request.send().promise.await?;
                let height = if tip.get()?.get_has_result() { tip.get()?.get_result()?.get_height() } else { 0 };
                Ok(Answers { test_chain, syncing, height })
            };
            // the system moves the messages while the questions wait
            tokio::select! {
                answers = questions => answers,
                ended = system => Err(ended.err().unwrap_or_else(|| capnp::Error::disconnected("it hung up".to_owned()))),
            }
        }
    };
}

questions!(v30, bitcoin_capnp_types_v30);
questions!(v31, bitcoin_capnp_types_v31);
