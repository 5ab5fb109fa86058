//! Hands blocks to the node.

use std::sync::Arc;
use std::time::Duration;

use bitcoin::hex::DisplayHex;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde::de::IgnoredAny;
use tokio::sync::Mutex;

use super::error::{CallError, fit_for_log};
use super::line::{Endpoint, Line};
use crate::template::FoundBlock;
use crate::template::source::{Deliveries, Delivery, Verdict};

/// How long the node may take to judge a block: a little less than its finder waits, so that the
/// latter hears why.
const PATIENCE: Duration = Duration::from_secs(50);
/// How long it may take to say whether it knows a block.
const HEADER_PATIENCE: Duration = Duration::from_secs(3);
/// JSON-RPC's code for a method that the node has not.
const METHOD_NOT_FOUND: i64 = -32601;
/// Codes of errors that are the node's own, and no fault of the block's: internal ones, and Core's for
/// what went wrong in it, for memory, and for a database.
const NOT_THE_BLOCK: [i64; 4] = [-32603, -1, -7, -20];
/// Blocks that wait here. More wait where they come from.
const MAX_UNDER_WAY: usize = 16;

/// Hands in what comes until nothing more comes. What is still to come outlives a panic in here.
pub(super) async fn run(endpoint: Arc<Endpoint>, deliveries: Arc<Mutex<Deliveries>>) {
    let mut deliveries = deliveries.lock().await;
    let line = Mutex::new(Line::new(endpoint));
    let mut under_way = FuturesUnordered::new();
    loop {
        tokio::select! {
            delivery = deliveries.recv(), if under_way.len() < MAX_UNDER_WAY => {
                let Some(delivery) = delivery else { break };
                under_way.push(async {
                    let verdict = submit(&line, &delivery).await;
                    delivery.answer(verdict);
                });
            }
            Some(()) = under_way.next() => {}
        }
    }
    while under_way.next().await.is_some() {}
}

async fn submit(line: &Mutex<Line>, delivery: &Delivery) -> Verdict {
    let block = &*delivery.block;
    let mut waited = block.body.get().is_none();
    block.until_whole().await;
    // One at a time: a block takes eight megabytes here, and the node does not take two at once.
    let mut line = match line.try_lock() {
        Ok(line) => line,
        Err(_) => {
            waited = true;
            line.lock().await
        }
    };
    if waited && !delivery.is_wanted() {
        // its finder has turned elsewhere meanwhile: others that wait here come first
        return Verdict::Failed("it was not asked for any more".to_owned());
    }
    let Some(bytes) = block.bytes() else { return Verdict::NotMine };
    let hex = bytes.to_lower_hex_string();
    match line.call("submitblock", [hex], PATIENCE).await.and_then(|answer| answer.result::<String>()) {
        Ok(None) if is_unknown(&mut line, block).await => Verdict::Sent,
        Ok(None) => Verdict::Accepted,
        Ok(Some(words)) => judge(&words),
        Err(error) => match judge_error(&error) {
            // it may have stored the block and not built on it
            Verdict::Accepted if is_unknown(&mut line, block).await => Verdict::Sent,
            verdict => verdict,
        },
    }
}

/// Whether the node knows nothing of a block that it has just been given: blvm-node puts it into a
/// queue, and judges it later. A node that does not let itself be asked is believed.
async fn is_unknown(line: &mut Line, block: &FoundBlock) -> bool {
    let asked = line.call("getblockheader", [block.hash.to_string()], HEADER_PATIENCE).await;
    match asked.and_then(|answer| answer.result::<IgnoredAny>()) {
        Err(CallError::Refused { code, .. }) => code != METHOD_NOT_FOUND,
        Ok(header) => header.is_none(),
        Err(_) => false,
    }
}

/// What BIP22 has the node say of a block that it did not just take.
fn judge(words: &str) -> Verdict {
    match words {
        "duplicate" => Verdict::Accepted,
        "inconclusive" | "duplicate-inconclusive" => Verdict::Refused(format!(
            "{words}: the node has it, but builds on another block of this height, which was faster"
        )),
        "prev-blk-not-found" | "bad-prevblk unknown" => {
            Verdict::Failed(format!("{words}: the node does not know the block before it yet"))
        }
        other => Verdict::Refused(fit_for_log(other)),
    }
}

/// What an error says of a block. blvm-node puts all that it has to say into errors.
fn judge_error(error: &CallError) -> Verdict {
    let CallError::Refused { code, words, .. } = error else { return Verdict::Failed(error.to_string()) };
    let says = |part| words.to_ascii_lowercase().contains(part);
    if says("duplicate-invalid") {
        Verdict::Refused(words.clone())
    } else if says("duplicate") || says("already stored") {
        Verdict::Accepted
    } else if NOT_THE_BLOCK.contains(code) || says("prev_block_hash is not a stored header") {
        Verdict::Failed(error.to_string())
    } else {
        Verdict::Refused(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: i64, words: &str) -> Verdict {
        judge_error(&CallError::Refused { method: "submitblock", code, words: words.into() })
    }

    #[test]
    fn verdicts() {
        use Verdict::{Accepted, Failed, Refused};
        assert_eq!(judge("duplicate"), Accepted);
        for lost in ["inconclusive", "duplicate-inconclusive"] {
            assert!(matches!(judge(lost), Refused(words) if words.contains("another block")), "{lost}");
        }
        for lagging in ["prev-blk-not-found", "bad-prevblk unknown"] {
            assert!(matches!(judge(lagging), Failed(_)), "{lagging}");
        }
        for bad in [
            "duplicate-invalid",
            "bad-prevblk",
            "high-hash",
            "bad-txnmrklroot",
            "rejected",
            "time-too-new",
            "",
        ] {
            assert_eq!(judge(bad), Refused(bad.into()));
        }
        assert_eq!(refused(-27, "Block is a Duplicate"), Accepted);
        let stored = "submitblock: block header is already stored";
        assert_eq!(refused(-32602, stored), Accepted);
        let orphan = "submitblock: prev_block_hash is not a stored header";
        assert!(matches!(refused(-32602, orphan), Failed(words) if words.contains(orphan)));
        for code in [-32603, -1, -7, -20] {
            assert!(matches!(refused(code, "failed to read chain height"), Failed(_)), "{code}");
        }
        assert!(matches!(refused(-25, "duplicate-invalid"), Refused(_)));
        assert!(matches!(refused(-22, "Block decode failed"), Refused(words) if words.contains("decode")));
        assert!(matches!(refused(-32602, "Invalid block: x"), Refused(_)));
        assert!(matches!(judge_error(&CallError::Warmup { words: "Loading".into() }), Failed(_)));
        assert!(matches!(judge_error(&CallError::Forbidden { method: "submitblock" }), Failed(_)));
        assert!(matches!(judge_error(&CallError::Timeout { method: "submitblock", seconds: 55 }), Failed(_)));
    }
}
