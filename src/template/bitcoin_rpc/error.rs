//! What goes wrong between us and a node, in words for whoever has to mend it.

use std::io;
use std::path::PathBuf;

use bitcoin::Network;

use super::draft::TemplateError;

/// Why a node did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    #[error(
        "{}: the node's cookie cannot be read: {source} (is the node running, and is this in its datadir?)",
        .path.display()
    )]
    Cookie { path: PathBuf, source: io::Error },
    #[error("nothing listens at {url}: is the node running, with server=1, and is its rpcport right?")]
    NobodyThere { url: String },
    #[error("cannot connect to {url}: {source}")]
    Connect { url: String, source: io::Error },
    #[error(
        "no connection to {url} within {seconds} s: is the host right, and does no firewall drop packets?"
    )]
    ConnectTimeout { url: String, seconds: u64 },
    #[error("the connection to {url} broke during {method}: {reason}")]
    Lost { url: String, method: &'static str, reason: String },
    #[error("what listens at {url} does not speak HTTP: is this the node's rpcport? ({reason})")]
    NotHttp { url: String, reason: String },
    #[error("no answer to {method} within {seconds} s: the node hangs or is overloaded")]
    Timeout { method: &'static str, seconds: u64 },
    #[error("the answer to {method} has more than {limit} bytes: is this a node?")]
    TooLong { method: &'static str, limit: usize },
    #[error(
        "the node refuses the cookie in {} (HTTP 401): is it the file of the node at {url}?", .path.display()
    )]
    CookieRefused { url: String, path: PathBuf },
    #[error(
        "the node at {url} refuses `user` and `password` (HTTP 401): compare them with its rpcauth, or rpcuser \
         and rpcpassword"
    )]
    PasswordRefused { url: String },
    #[error(
        "the node forbids {method} (HTTP 403): it needs this host in rpcallowip, and {method} in rpcwhitelist if \
         there is one"
    )]
    Forbidden { method: &'static str },
    #[error("no JSON-RPC at {url} (HTTP 404): is this the node's rpcport?")]
    NotFound { url: String },
    #[error("the node answers {method} with HTTP {status}{words}{hint}")]
    Status { method: &'static str, status: u16, words: String, hint: &'static str },
    #[error("the answer to {method} is not JSON: is {url} the node's rpcport? ({reason})")]
    NotJson { url: String, method: &'static str, reason: String },
    #[error("the answer to {method} is not as it should be: {reason}")]
    Unexpected { method: &'static str, reason: String },
    #[error("the node is still starting: {words}")]
    Warmup { words: String },
    #[error("the node refuses {method}: {words} (error {code})")]
    Refused { method: &'static str, code: i64, words: String },
}

/// Why a node gives no work.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(
        "the node is on chain {theirs}, but stratum_v2.network is {}: correct one of them",
        .ours.to_core_arg()
    )]
    WrongChain { theirs: String, ours: Network },
    #[error("the node is still syncing: it has block {blocks} of {headers}")]
    Syncing { blocks: u64, headers: u64 },
    #[error("the node's template is no good: {0}")]
    Template(#[from] TemplateError),
    #[error("the node gives two heights for the block after {prev_hash}: {first} and then {then}")]
    TwoHeights { prev_hash: bitcoin::BlockHash, first: u32, then: u32 },
    #[error("the template could not be read: its task has ended")]
    Stopped,
}

/// Words of a node that are fit for a log: one line, and not a long one.
pub(super) fn fit_for_log(words: &str) -> String {
    const MOST: usize = 200;
    let line = words.trim().lines().next().unwrap_or_default();
    let mut fit: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MOST).collect();
    if fit.len() < words.trim().len() {
        fit.push('…');
    }
    fit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_does_not_write_our_log() {
        assert_eq!(fit_for_log("  Loading block index\n"), "Loading block index");
        assert_eq!(fit_for_log("one\ntwo"), "one…");
        assert_eq!(fit_for_log("a\u{1b}[2Jb"), "a [2Jb");
        assert_eq!(fit_for_log(&"ü".repeat(1_000)).chars().count(), 201);
        assert_eq!(fit_for_log(""), "");
    }
}
