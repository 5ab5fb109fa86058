//! Whether the node that has started this module serves it on its socket.

use std::time::Duration;

use super::ipc::Table;
use crate::template::backoff::Backoff;
use crate::template::bitcoin_rpc::{BitcoinRpc, Options};

/// How long the node may take to say its version.
const PATIENCE: Duration = Duration::from_secs(15);

/// Waits until the node's JSON-RPC has said its version. A node of a version that serves one connection at a time
/// keeps that for itself: a module's would wait for ever, and with it whatever the node asks of its socket when that
/// connection is gone.
pub(super) async fn is_served(node: Options) -> bool {
    let node = match BitcoinRpc::new(node) {
        Ok(node) => node,
        Err(error) => {
            tracing::warn!(%error, "cannot ask the node for its version: going without its IPC");
            return false;
        }
    };
    let mut backoff = Backoff::default();
    let subversion = loop {
        match node.subversion(PATIENCE).await {
            Ok(subversion) => break subversion,
            Err(error) => tracing::debug!(%error, "the node does not say its version yet"),
        }
        backoff.wait().await;
    };
    match version(&subversion).and_then(Table::of) {
        Some(table) if table.many => return true,
        Some(_) => tracing::info!(
            subversion,
            "this version of the node serves one connection at a time on its module socket, its own: going without \
             events, commands and the module API"
        ),
        None => tracing::warn!(
            subversion,
            "the module IPC of this version of the node is not known: going without events, commands and the module \
             API. An update of this server may know it"
        ),
    }
    false
}

/// What is in `/NAME:VERSION/` (BIP14).
fn version(subversion: &str) -> Option<&str> {
    let first = subversion.strip_prefix('/')?.split('/').next()?;
    first.rsplit_once(':').map(|(_, version)| version.split('(').next().unwrap_or(version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert_eq!(version("/BitcoinCommons:0.1.83/"), Some("0.1.83"));
        assert_eq!(version("/Satoshi:29.0.0/Knots:20250305/"), Some("29.0.0"));
        assert_eq!(version("/A:1.2(comment)/"), Some("1.2"));
        for none in ["", "/", "BitcoinCommons:0.1.83", "/BitcoinCommons/"] {
            assert_eq!(version(none), None, "{none}");
        }
        assert!(!Table::of("0.1.83").unwrap().many);
    }
}
