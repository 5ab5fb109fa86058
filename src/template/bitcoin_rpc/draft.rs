//! From a node's template to something to mine on.

use std::sync::Arc;

use bitcoin::hex::FromHex;
use bitcoin::{Amount, BlockHash, Network};

use super::error::fit_for_log;
use super::fit::{Candidate, Size, fit};
use super::template::Template;
use crate::mining::payout::Room;
use crate::mining::{Coinbase, Target, Tip, merkle, witness};
use crate::template::{Body, Draft, Transactions};

/// Longer ones are not sent back.
const MAX_LONGPOLL_ID: usize = 1_000;
/// The challenge of a signet whose blocks need no signature: OP_TRUE.
const TRIVIAL_CHALLENGE: &str = "51";

/// A template that is fit to be mined on.
#[derive(Debug)]
pub(super) struct Fresh {
    pub(super) tip: Tip,
    pub(super) draft: Draft,
    /// To be told when there is better.
    pub(super) longpollid: Option<String>,
    /// How many of its transactions had no room beside our coinbase.
    pub(super) dropped: usize,
}

/// Why a template is not fit to be mined on.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TemplateError {
    #[error("{0} is out of range: {1}")]
    Range(&'static str, String),
    #[error("its bits {0:?} are no target")]
    Bits(String),
    #[error("its target {target} is not what its bits {bits} say")]
    TargetMismatch { target: String, bits: String },
    #[error("its transaction {0} does not parse: {1}")]
    Transaction(usize, String),
    #[error(
        "its witness commitment {theirs} does not fit its transactions, which make it {ours}: blocks would be invalid"
    )]
    Commitment { ours: String, theirs: String },
    #[error(
        "it leaves too little room for a coinbase, and says no fee of transaction {0}, so that it cannot be left out"
    )]
    NoFee(usize),
    #[error("its coinbasevalue {0} is less than the fees of its transactions")]
    Fees(u64),
    #[error("this signet's blocks need a signature of its owners, so that nobody else can mine")]
    Signet,
    #[error("it demands the rule {0:?}, which is unknown here: an update is needed")]
    Rule(String),
}

/// Makes something to mine on of `template`, with `room` left for the payout.
pub(super) fn build(
    template: &Template<'_>,
    network: Network,
    room: Room,
    transactions: &mut Transactions,
) -> Result<Fresh, TemplateError> {
    let version = i32::try_from(template.version)
        .map(i32::cast_unsigned)
        .or_else(|_| u32::try_from(template.version))
        .map_err(|_| TemplateError::Range("version", template.version.to_string()))?;
    if template.signet_challenge.as_ref().is_some_and(|challenge| challenge != TRIVIAL_CHALLENGE) {
        return Err(TemplateError::Signet);
    }
    if let Some(rule) = template.rules.as_ref().and_then(|rules| rules.unknown.as_ref()) {
        return Err(TemplateError::Rule(fit_for_log(rule)));
    }
    let tip = tip(template)?;

    let entries = template.transactions.iter().enumerate();
    let candidates: Result<Vec<_>, _> = entries.map(|(index, entry)| Candidate::read(index, entry)).collect();
    let mut candidates = candidates?;
    let commit = |to: &[Candidate]| {
        let wtxids: Vec<_> = to.iter().map(|candidate| candidate.wtxid).collect();
        witness::commitment(&wtxids)
    };
    if let Some(theirs) = &template.default_witness_commitment {
        let ours = witness::output(commit(&candidates)).script_pubkey.to_hex_string();
        if !theirs.eq_ignore_ascii_case(&ours) {
            return Err(TemplateError::Commitment { ours, theirs: fit_for_log(theirs) });
        }
    }
    let offered = candidates.len();
    let limits = Size::limits(template.weightlimit, template.sigoplimit);
    let value = fit(template.coinbasevalue, room, limits, &mut candidates)?;

    // only a regtest chain can be told to do without
    let segwit = template.default_witness_commitment.is_some()
        || network != Network::Regtest
        || template.rules.as_ref().is_none_or(|rules| rules.segwit);
    let commitment = segwit.then(|| commit(&candidates));
    let txids: Vec<_> = candidates.iter().map(|candidate| candidate.txid).collect();
    transactions.tidy();
    let body = candidates.iter().map(|candidate| transactions.intern(&candidate.bytes)).collect();
    let draft = Draft {
        version,
        version_rolling: true,
        coinbase: Coinbase::at(tip.height, value, commitment),
        merkle_path: merkle::path(&txids),
        body: Arc::new(Body::known(body)),
    };
    let longpollid = template.longpollid.clone().filter(|id| id.len() <= MAX_LONGPOLL_ID);
    Ok(Fresh { tip, draft, longpollid, dropped: offered - candidates.len() })
}

fn tip(template: &Template<'_>) -> Result<Tip, TemplateError> {
    let range =
        |what, value: &dyn std::fmt::Display| TemplateError::Range(what, fit_for_log(&value.to_string()));
    let prev_hash: BlockHash = template
        .previousblockhash
        .parse()
        .map_err(|_| range("previousblockhash", &template.previousblockhash))?;
    if !(1..=i32::MAX.cast_unsigned()).contains(&template.height) {
        return Err(range("height", &template.height));
    }
    if template.coinbasevalue > Amount::MAX_MONEY.to_sat() {
        return Err(range("coinbasevalue", &template.coinbasevalue));
    }
    let bits = <[u8; 4]>::from_hex(&template.bits).ok().map(u32::from_be_bytes);
    let (nbits, target) = bits
        .and_then(|bits| Some((bits, Target::from_compact(bits)?)))
        .ok_or_else(|| TemplateError::Bits(fit_for_log(&template.bits)))?;
    if let Some(theirs) = &template.target {
        let same = <[u8; 32]>::from_hex(theirs).is_ok_and(|mut bytes| {
            bytes.reverse();
            Target::from_le_bytes(bytes) == target
        });
        if !same {
            let bits = template.bits.clone().into_owned();
            return Err(TemplateError::TargetMismatch { target: fit_for_log(theirs), bits });
        }
    }
    Ok(Tip {
        prev_hash,
        height: template.height,
        min_ntime: template.curtime.max(template.mintime.unwrap_or(0)),
        nbits,
        network_target: target,
        report_target: target,
    })
}

#[cfg(test)]
mod tests {
    use bitcoin::absolute::LockTime;
    use bitcoin::block::{Header, Version};
    use bitcoin::consensus::encode::serialize_hex;
    use bitcoin::consensus::{deserialize, encode};
    use bitcoin::hashes::Hash;
    use bitcoin::{
        Block, CompactTarget, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode, TxOut, Txid,
        Witness,
    };
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::mining::TemplateSerial;

    const ROOM: Room = Room { size: 51, sigops: 4 };
    const PREV: &str = "0f18d583a06c69cc76375a61f860e6bd307eed20fd27e5b73ae3ba000d9f2a03";
    const COMMITMENT_OF_NONE: &str =
        "6a24aa21a9ede2f61c3f71d1defd3fa999dfa36953755c690689799962b48bebd836974e8cf9";

    /// As Bitcoin Core 31 has it on regtest, with nothing in its mempool.
    fn core() -> Value {
        json!({
            "capabilities": ["proposal"],
            "version": 536_870_912,
            "rules": ["csv", "!segwit", "taproot"],
            "vbavailable": {},
            "vbrequired": 0,
            "previousblockhash": PREV,
            "transactions": [],
            "coinbaseaux": {},
            "coinbasevalue": 5_000_000_000_u64,
            "longpollid": format!("{PREV}111"),
            "target": "7fffff0000000000000000000000000000000000000000000000000000000000",
            "mintime": 1_795_532_828,
            "mutable": ["time", "transactions", "prevblock"],
            "noncerange": "00000000ffffffff",
            "sigoplimit": 80_000,
            "sizelimit": 4_000_000,
            "weightlimit": 4_000_000,
            "curtime": 1_795_532_830,
            "bits": "207fffff",
            "height": 111,
            "default_witness_commitment": COMMITMENT_OF_NONE,
        })
    }

    fn built_for(network: Network, template: &Value) -> Result<Fresh, TemplateError> {
        let text = template.to_string();
        build(&serde_json::from_str(&text).unwrap(), network, ROOM, &mut Transactions::default())
    }

    fn built(template: &Value) -> Result<Fresh, TemplateError> {
        built_for(Network::Regtest, template)
    }

    /// The template with another member, or without it if that is null.
    fn with(member: &str, value: Value) -> Value {
        let mut template = core();
        let members = template.as_object_mut().unwrap();
        members.insert(member.to_owned(), value);
        members.retain(|_, value| !value.is_null());
        template
    }

    fn transaction(seed: u32, outputs: usize, witness: usize) -> Transaction {
        let txid = Txid::hash(&seed.to_le_bytes());
        let witness = if witness == 0 { Witness::new() } else { Witness::from_slice(&[vec![7; witness]]) };
        Transaction {
            version: bitcoin::transaction::Version::TWO,
            lock_time: LockTime::ZERO,
            input: vec![TxIn {
                previous_output: OutPoint { txid, vout: seed },
                script_sig: ScriptBuf::new(),
                sequence: Sequence::MAX,
                witness,
            }],
            output: vec![
                TxOut {
                    value: Amount::from_sat(546),
                    script_pubkey: ScriptBuf::from_bytes(vec![0xac])
                };
                outputs
            ],
        }
    }

    /// The block that comes of a draft when it is mined.
    fn mined(fresh: &Fresh) -> Block {
        let payout = TxOut {
            value: Amount::from_sat(fresh.draft.coinbase.value),
            script_pubkey: vec![0x51; 42].into(),
        };
        let parts = fresh.draft.coinbase.assemble(TemplateSerial(1), 0, &[b'x'; 50], &[payout], 20).unwrap();
        let coinbase = parts.transaction(&[0; 20]).unwrap();
        let root = merkle::fold(coinbase.compute_txid().to_byte_array(), &fresh.draft.merkle_path);
        let body = fresh.draft.body.get().unwrap().iter();
        Block {
            header: Header {
                version: Version::from_consensus(fresh.draft.version as i32),
                prev_blockhash: fresh.tip.prev_hash,
                merkle_root: TxMerkleNode::from_byte_array(root),
                time: fresh.tip.min_ntime,
                bits: CompactTarget::from_consensus(fresh.tip.nbits),
                nonce: 0,
            },
            txdata: std::iter::once(coinbase).chain(body.map(|bytes| deserialize(bytes).unwrap())).collect(),
        }
    }

    #[test]
    fn what_bitcoin_core_has() {
        let fresh = built(&core()).unwrap();
        let target = Target::from_compact(0x207f_ffff).unwrap();
        assert_eq!(
            fresh.tip,
            Tip {
                prev_hash: PREV.parse().unwrap(),
                height: 111,
                min_ntime: 1_795_532_830,
                nbits: 0x207f_ffff,
                network_target: target,
                report_target: target,
            }
        );
        assert_eq!(fresh.draft.version, 0x2000_0000);
        assert_eq!(fresh.draft.coinbase.value, 5_000_000_000);
        assert_eq!(fresh.draft.coinbase.lock_time, 110);
        assert_eq!(
            fresh.draft.coinbase.trailing_outputs[0].script_pubkey.to_hex_string(),
            COMMITMENT_OF_NONE
        );
        assert_eq!(fresh.longpollid, Some(format!("{PREV}111")));
        let block = mined(&fresh);
        assert!(block.check_merkle_root() && block.check_witness_commitment());
        assert_eq!(block.bip34_block_height(), Ok(111));
    }

    #[test]
    fn what_blvm_node_has() {
        let one = transaction(1, 1, 100);
        let mut template = with("default_witness_commitment", Value::Null);
        template["rules"] = json!(["csv", "segwit", "taproot"]);
        // its idea of a txid is not everybody's
        template["transactions"] =
            json!([{ "data": serialize_hex(&one), "txid": "00".repeat(32), "fee": 5 }]);
        let fresh = built(&template).unwrap();
        let block = mined(&fresh);
        assert_eq!(block.txdata[1], one);
        assert!(block.check_merkle_root() && block.check_witness_commitment());
    }

    #[test]
    fn members_that_nobody_needs() {
        for member in ["rules", "target", "mintime", "sigoplimit", "weightlimit", "longpollid", "vbavailable"]
        {
            assert!(built(&with(member, Value::Null)).unwrap().draft.coinbase.witness_commitment, "{member}");
        }
        assert_eq!(built(&with("version", json!(-2))).unwrap().draft.version, u32::MAX - 1);
        assert_eq!(built(&with("version", json!(u32::MAX))).unwrap().draft.version, u32::MAX);
        assert_eq!(built(&with("mintime", json!(u32::MAX))).unwrap().tip.min_ntime, u32::MAX);
        assert_eq!(built(&with("longpollid", json!("x".repeat(1_001)))).unwrap().longpollid, None);
    }

    #[test]
    fn a_chain_without_segwit() {
        let mut template = with("default_witness_commitment", Value::Null);
        template["rules"] = json!(["csv"]);
        let fresh = built(&template).unwrap();
        assert!(!fresh.draft.coinbase.witness_commitment && fresh.draft.coinbase.trailing_outputs.is_empty());
        assert!(built_for(Network::Bitcoin, &template).unwrap().draft.coinbase.witness_commitment);
    }

    #[test]
    fn templates_that_are_no_good() {
        let refused = |member: &str, value: Value| built(&with(member, value)).unwrap_err();
        let range = |member, value: Value| matches!(refused(member, value), TemplateError::Range(m, _) if m == member);
        assert!(range("version", json!(1_u64 << 32)));
        assert!(range("version", json!(-1_i64 << 32)));
        assert!(range("height", json!(0)));
        assert!(range("height", json!(u32::MAX)));
        assert!(range("previousblockhash", json!("00")));
        assert!(range("previousblockhash", json!("zz".repeat(32))));
        assert!(range("coinbasevalue", json!(u64::MAX)));
        for bits in ["", "207fff", "207ffffff", "zzzzzzzz", "20ffffff", "00000000", "ff7fffff"] {
            assert!(matches!(refused("bits", json!(bits)), TemplateError::Bits(_)), "{bits}");
        }
        for target in ["", "7f", &"0".repeat(64), &"z".repeat(64)] {
            assert!(
                matches!(refused("target", json!(target)), TemplateError::TargetMismatch { .. }),
                "{target}"
            );
        }
        for data in [
            "",
            "0",
            "zz",
            "00",
            &serialize_hex(&transaction(1, 1, 0))[2..],
            &format!("{}00", serialize_hex(&transaction(1, 1, 0))),
        ] {
            let refused = refused("transactions", json!([{ "data": data }]));
            assert!(matches!(refused, TemplateError::Transaction(0, _)), "{data}");
        }
        for commitment in ["", "6a24aa21a9ed", &format!("{COMMITMENT_OF_NONE}00")] {
            let refused = refused("default_witness_commitment", json!(commitment));
            assert!(matches!(refused, TemplateError::Commitment { .. }), "{commitment}");
        }
        assert_eq!(refused("signet_challenge", json!("5121aa")), TemplateError::Signet);
        assert!(built(&with("signet_challenge", json!("51"))).is_ok());
        assert_eq!(refused("rules", json!(["!segwit", "!next"])), TemplateError::Rule("!next".into()));
    }

    #[test]
    fn what_cannot_be_left_out() {
        let full = |fee: Value| {
            let mut template = with("default_witness_commitment", Value::Null);
            template["weightlimit"] = json!(1_500);
            template["transactions"] = json!([{ "data": serialize_hex(&transaction(1, 10, 0)), "fee": fee }]);
            built(&template)
        };
        assert_eq!(full(Value::Null).unwrap_err(), TemplateError::NoFee(0));
        assert_eq!(full(json!(5_000_000_001_u64)).unwrap_err(), TemplateError::Fees(5_000_000_000));
        let fresh = full(json!(5_000_000_000_u64)).unwrap();
        assert_eq!((fresh.draft.coinbase.value, fresh.dropped), (0, 1));
    }

    #[test]
    fn transactions_are_shared_between_templates() {
        let template = |seeds: &[u32]| {
            let mut template = with("default_witness_commitment", Value::Null);
            let data = seeds.iter().map(|seed| json!({ "data": serialize_hex(&transaction(*seed, 1, 1)) }));
            template["transactions"] = data.collect();
            template.to_string()
        };
        let mut transactions = Transactions::default();
        let mut built = |text: &str| {
            build(&serde_json::from_str(text).unwrap(), Network::Regtest, ROOM, &mut transactions).unwrap()
        };
        let (one, two) = (built(&template(&[1, 2])), built(&template(&[3, 2])));
        let (one, two) = (one.draft.body.get().unwrap(), two.draft.body.get().unwrap());
        assert!(Arc::ptr_eq(&one[1], &two[1]));
        assert_ne!(one[0], two[0]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn blocks_are_valid_and_fit(
            shapes in prop::collection::vec((1_usize..40, 0_usize..200, 0_u64..10_000, 0_u64..400), 0..40),
            weightlimit in 1_000_u64..40_000,
            sigoplimit in 0_u64..8_000,
            commits: bool,
        ) {
            let transactions: Vec<_> = shapes
                .iter()
                .enumerate()
                .map(|(index, (outputs, witness, ..))| transaction(index as u32, *outputs, *witness))
                .collect();
            let fees: u64 = shapes.iter().map(|shape| shape.2).sum();
            let mut template = core();
            template["weightlimit"] = json!(weightlimit);
            template["sigoplimit"] = json!(sigoplimit);
            template["coinbasevalue"] = json!(5_000_000_000 + fees);
            template["transactions"] = transactions
                .iter()
                .zip(&shapes)
                .map(|(tx, (_, _, fee, sigops))| json!({ "data": serialize_hex(tx), "fee": fee, "sigops": sigops }))
                .collect();
            // what the bitcoin crate says of the template as it came
            let zero = bitcoin::Wtxid::all_zeros();
            let wtxids = std::iter::once(zero).chain(transactions.iter().map(Transaction::compute_wtxid));
            let root = bitcoin::merkle_tree::calculate_root(wtxids.map(|wtxid| wtxid.to_raw_hash())).unwrap();
            let commitment = Block::compute_witness_commitment(&root.into(), &[0; 32]);
            template["default_witness_commitment"] = json!(format!("6a24aa21a9ed{}", encode::serialize_hex(&commitment.to_byte_array())));
            if !commits {
                template.as_object_mut().unwrap().remove("default_witness_commitment");
            }
            let fresh = built(&template).unwrap();
            let block = mined(&fresh);
            prop_assert!(block.check_merkle_root());
            prop_assert!(block.check_witness_commitment());
            prop_assert_eq!(bitcoin::VarInt(block.txdata.len() as u64).size(), 1);

            let kept = block.txdata.len() - 1;
            prop_assert_eq!(&block.txdata[1..], &transactions[..kept]);
            prop_assert_eq!(fresh.dropped, transactions.len() - kept);
            let left: u64 = shapes[..kept].iter().map(|shape| shape.2).sum();
            prop_assert_eq!(fresh.draft.coinbase.value, 5_000_000_000 + left);
            let fits = |count: usize| {
                let weight: u64 = transactions[..count].iter().map(|tx| tx.weight().to_wu()).sum();
                let sigops: u64 = shapes[..count].iter().map(|(outputs, _, _, sigops)| (4 * *outputs as u64).max(*sigops)).sum();
                1_168 + 4 * 51 + weight <= weightlimit && 4 + sigops <= sigoplimit
            };
            if kept > 0 {
                prop_assert!(fits(kept));
                prop_assert!(block.weight().to_wu() <= weightlimit);
            }
            prop_assert!(kept == transactions.len() || !fits(kept + 1));
        }
    }
}
