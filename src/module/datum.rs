//! Works together with blvm-datum, the node's module for DATUM pools: the operator's blocks pay whom it says, and it
//! is offered those that are found.

use std::sync::Arc;
use std::time::Duration;

use bitcoin::{Amount, BlockHash, ScriptBuf, TxOut};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::mining::payees::Payees;
use crate::pool::StratumV2Pool;
use crate::template::{Blocks, FoundBlock};

/// What that module is called.
pub(super) const NAME: &str = "blvm-datum";
/// Its method that says who is to be paid.
pub(super) const PAYOUT: &str = "get_coinbase_payout";
/// Its method that takes a block.
pub(super) const SUBMIT: &str = "submit_pow";

/// How often it is asked who is to be paid.
const PERIOD: Duration = Duration::from_secs(30);
/// How long after a block it is offered the next: the node counts requests. Only test networks have so many.
const BLOCK_GAP: Duration = Duration::from_millis(100);
/// No answer is longer that makes sense: 4096 bytes of outputs, in hex and with something around it.
const MAX_ANSWER: usize = 64 * 1024;

/// What is known of that module.
///
/// ```text
///  Unknown ──> Away <──> There(Nobody | Pays | Unusable)
/// ```
#[derive(Debug, PartialEq, Eq)]
enum State {
    /// Nothing yet.
    Unknown,
    /// It is not to be called, for this reason.
    Away(String),
    /// It was there when it was last looked for, and this is what it had to say.
    There(Payout),
}

#[derive(Debug, PartialEq, Eq)]
enum Payout {
    /// It wants nobody to be paid.
    Nobody,
    /// It wants these to be paid.
    Pays(Arc<Payees>),
    /// Nobody can be paid by what it says, for this reason.
    Unusable(String),
}

/// Keeps the pool's payees as blvm-datum wants them, and has the blocks for it.
#[derive(Debug)]
pub(super) struct Datum {
    pool: Arc<StratumV2Pool>,
    found: Blocks,
    state: State,
    /// When to look for it next. None while it is being looked for, or there is no connection with the node.
    due: Option<Instant>,
    /// The blocks for it, while it is there.
    blocks: Option<mpsc::Receiver<FoundBlock>>,
    /// Not before this.
    next_block: Instant,
}

impl Datum {
    pub(super) fn new(pool: Arc<StratumV2Pool>, found: Blocks) -> Self {
        Self { pool, found, state: State::Unknown, due: None, blocks: None, next_block: Instant::now() }
    }

    /// When to look for it, if there is reason to.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// There is a connection with the node.
    pub(super) fn connected(&mut self, now: Instant) {
        self.due = Some(now);
    }

    /// The connection with the node is lost.
    pub(super) fn lost(&mut self) {
        self.due = None;
        self.become_known(State::Away("there is no connection with the node".to_owned()));
    }

    /// It is being looked for.
    pub(super) fn looked(&mut self) {
        self.due = None;
    }

    /// It cannot be called.
    pub(super) fn away(&mut self, reason: &str, now: Instant) {
        self.due = Some(now + PERIOD);
        self.become_known(State::Away(reason.to_owned()));
    }

    /// This is what it answers when it is asked who is to be paid, or why it does not answer.
    pub(super) fn answered(&mut self, answer: Result<&[u8], String>, now: Instant) {
        self.due = Some(now + PERIOD);
        let payout = match answer.and_then(payees) {
            Ok(None) => Payout::Nobody,
            Ok(Some(payees)) => Payout::Pays(Arc::new(payees)),
            Err(reason) => Payout::Unusable(reason),
        };
        self.become_known(State::There(payout));
    }

    /// Waits for a block for it. Nothing is lost if this is dropped while it waits.
    pub(super) async fn block(&mut self) -> FoundBlock {
        sleep_until(self.next_block).await;
        let found = match &mut self.blocks {
            Some(blocks) => blocks.recv().await,
            None => None,
        };
        match found {
            Some(block) => {
                self.next_block = Instant::now() + BLOCK_GAP;
                block
            }
            None => std::future::pending().await,
        }
    }

    /// Does as it follows from `state`, and logs it, unless it was known before.
    fn become_known(&mut self, state: State) {
        if self.state == state {
            return;
        }
        let payees = match &state {
            State::Unknown => None,
            State::Away(reason) => {
                tracing::warn!(reason, "blvm-datum is not there: blocks pay the operator alone");
                None
            }
            State::There(Payout::Nobody) => {
                tracing::info!("blvm-datum wants nobody to be paid: blocks pay the operator alone");
                None
            }
            State::There(Payout::Unusable(reason)) => {
                tracing::error!(
                    reason,
                    "what blvm-datum wants to be paid cannot be: blocks pay the operator alone"
                );
                None
            }
            State::There(Payout::Pays(payees)) => {
                let (outputs, sum) = (payees.count(), payees.sum());
                tracing::info!(outputs, sum, "blocks pay whom blvm-datum says before the operator");
                Some(payees.clone())
            }
        };
        self.pool.set_payees(payees);
        match state {
            State::There(_) if self.blocks.is_some() => {}
            State::There(_) => self.blocks = Some(self.found.listen()),
            State::Unknown | State::Away(_) => self.blocks = None,
        }
        self.state = state;
    }
}

/// Reads who is to be paid, if anybody is.
fn payees(answer: &[u8]) -> Result<Option<Payees>, String> {
    #[derive(Deserialize)]
    struct Answer {
        outputs: Vec<Output>,
    }
    #[derive(Deserialize)]
    struct Output {
        script: String,
        value: u64,
    }
    if answer.len() > MAX_ANSWER {
        return Err(format!("its answer has {} bytes, which is more than {MAX_ANSWER}", answer.len()));
    }
    let answer: Option<Answer> =
        serde_json::from_slice(answer).map_err(|error| format!("its answer cannot be read: {error}"))?;
    let Some(Answer { outputs }) = answer else { return Ok(None) };
    let output = |(number, Output { script, value }): (usize, Output)| {
        let script_pubkey = ScriptBuf::from_hex(&script)
            .map_err(|error| format!("the script of its output number {} is none: {error}", number + 1))?;
        Ok(TxOut { value: Amount::from_sat(value), script_pubkey })
    };
    let outputs = outputs.into_iter().enumerate().map(output).collect::<Result<_, String>>()?;
    Payees::new(outputs).map(Some).map_err(|error| error.to_string())
}

/// Logs what it says of a block, or why it says nothing.
pub(super) fn heard_of_block(hash: BlockHash, answer: Result<&[u8], String>) {
    #[derive(Deserialize)]
    struct Answer {
        accepted: bool,
    }
    let read = |answer| {
        serde_json::from_slice(answer).map_err(|error| format!("its answer cannot be read: {error}"))
    };
    match answer.and_then(read) {
        Ok(Answer { accepted: true }) => tracing::info!(%hash, "blvm-datum has taken the block"),
        Ok(Answer { accepted: false }) => tracing::warn!(%hash, "blvm-datum has refused the block"),
        Err(reason) => tracing::warn!(%hash, reason, "blvm-datum does not say what becomes of the block"),
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::Script;

    use super::*;
    use crate::mining::coinbase::Tag;
    use crate::mining::extranonce::{BootEpoch, ServerId};
    use crate::mining::payout::PayoutPolicy;
    use crate::pool::{self, CountOnly};
    use crate::session;

    fn datum() -> Datum {
        let options = pool::Options {
            session: session::Options::default(),
            payout: PayoutPolicy::Pool { script: Script::from_bytes(&[0x51]).into() },
            tag: Tag::default(),
            server_id: ServerId::default(),
        };
        let (pool, _) = StratumV2Pool::new(options, BootEpoch::of_start(1), Box::new(CountOnly));
        Datum::new(pool, Blocks::default())
    }

    fn paid(datum: &Datum) -> Option<u64> {
        datum.pool.payees().borrow().as_ref().map(|payees| payees.sum())
    }

    const ANSWER: &[u8] =
        br#"{"outputs":[{"script":"0014751e76e8199196d454941c45d1b3a323f1433bd6","value":5},
        {"script":"51","value":7,"more":1}],"primary_tag":"DATUM","unique_id":3}"#;

    #[tokio::test(start_paused = true)]
    async fn the_payees_are_those_of_the_last_answer() {
        let (mut datum, now) = (datum(), Instant::now());
        assert_eq!((datum.due(), paid(&datum)), (None, None));
        datum.connected(now);
        assert_eq!(datum.due(), Some(now));
        datum.looked();
        assert_eq!(datum.due(), None, "one question at a time");
        datum.answered(Ok(ANSWER), now);
        assert_eq!((datum.due(), paid(&datum)), (Some(now + PERIOD), Some(12)));

        for clears in 0..5 {
            datum.answered(Ok(ANSWER), now);
            let mut payees = datum.pool.payees();
            datum.answered(Ok(ANSWER), now);
            assert!(!payees.has_changed().unwrap(), "they are the same");
            match clears {
                0 => datum.answered(Ok(b"null"), now),
                1 => datum.away("not loaded", now),
                2 => datum.answered(Err("no such method".to_owned()), now),
                3 => datum.answered(Ok(br#"{"outputs":[]}"#), now),
                _ => datum.lost(),
            }
            assert!(payees.has_changed().unwrap());
            assert_eq!(*payees.borrow_and_update(), None, "{clears}");
            assert_eq!(datum.due(), (clears < 4).then_some(now + PERIOD));
            assert_eq!(datum.blocks.is_some(), [0, 2, 3].contains(&clears), "{clears}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_repeated() {
        let (mut datum, now) = (datum(), Instant::now());
        for turn in 0..3 {
            for (number, tell) in [
                |datum: &mut Datum, now| datum.away("not loaded", now),
                |datum: &mut Datum, now| datum.answered(Ok(b"null"), now),
                |datum: &mut Datum, now| datum.answered(Ok(b"x"), now),
                |datum: &mut Datum, now| datum.answered(Ok(ANSWER), now),
                |datum: &mut Datum, _| datum.lost(),
            ]
            .into_iter()
            .enumerate()
            {
                let mut payees = datum.pool.payees();
                tell(&mut datum, now);
                // they are set where it is logged
                assert!(payees.has_changed().unwrap(), "{turn} {number}");
                payees.mark_unchanged();
                tell(&mut datum, now);
                assert!(!payees.has_changed().unwrap(), "{turn} {number}");
            }
        }
    }

    #[test]
    fn answers() {
        let read = |answer: &str| payees(answer.as_bytes());
        assert_eq!(read("null"), Ok(None));
        assert_eq!(payees(ANSWER).unwrap().unwrap().count(), 2);
        for (nonsense, why) in [
            ("", "cannot be read"),
            ("{}", "outputs"),
            ("null null", "cannot be read"),
            (r#"{"outputs":[]}"#, "there is no output"),
            (r#"{"outputs":null}"#, "cannot be read"),
            (r#"{"outputs":[{"script":"51"}]}"#, "value"),
            (r#"{"outputs":[{"script":"51","value":-1}]}"#, "-1"),
            (r#"{"outputs":[{"script":"51","value":1.0}]}"#, "1.0"),
            (r#"{"outputs":[{"script":"51","value":"1"}]}"#, "u64"),
            (r#"{"outputs":[{"script":"51","value":18446744073709551615}]}"#, "all bitcoins"),
            (r#"{"outputs":[{"script":"51","value":1},{"script":"5","value":1}]}"#, "number 2"),
            (r#"{"outputs":[{"script":"0xff","value":1}]}"#, "number 1"),
            (r#"{"outputs":[{"script":"","value":1}]}"#, "empty script"),
            (r#"{"outputs":[],"outputs":[{"script":"51","value":1}]}"#, "duplicate"),
            (&" ".repeat(MAX_ANSWER + 1), "65537 bytes"),
        ] {
            let reason = read(nonsense).unwrap_err();
            assert!(reason.contains(why), "{nonsense}: {reason}");
        }
    }
}
