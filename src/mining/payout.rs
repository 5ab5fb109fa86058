//! Who is paid by a block.

use std::sync::Arc;

use bitcoin::{Amount, Network, Script, TxOut};

use super::reward_script::{self, ScriptError};

/// No fee output is made below this many satoshis: spending it would cost more than it holds.
const DUST: u64 = 546;

/// The channels of one class are paid alike: their coinbase outputs are the same, so they can
/// share jobs. What these are, the [`Payout`] of the day says.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PayoutClass {
    /// The operator is paid, and settles with the miners by their shares.
    Pool,
    /// The miner who finds the block is paid by it, less what the operator keeps.
    Solo {
        /// The miner's script.
        miner: Arc<Script>,
    },
}

fn output(script: &Script, value: u64) -> TxOut {
    TxOut { value: Amount::from_sat(value), script_pubkey: script.to_owned() }
}

/// What payout outputs may add to a coinbase (§7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Their serialised bytes at most.
    pub size: u32,
    /// Their signature operations at most, as a block's limit of 80,000 counts them: each four
    /// times.
    pub sigops: u16,
}

impl Room {
    /// What one output to `script` takes.
    pub(super) fn of(script: &Script) -> Self {
        let size = bitcoin::consensus::encode::serialize(&output(script, 0)).len();
        Self {
            size: u32::try_from(size).unwrap_or(u32::MAX),
            sigops: u16::try_from(4 * script.count_sigops_legacy()).unwrap_or(u16::MAX),
        }
    }

    /// More than any payout takes.
    pub(crate) const ENOUGH: Self = Self { size: u32::MAX, sigops: u16::MAX };

    /// What either of them takes at most.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self { size: self.size.max(other.size), sigops: self.sigops.max(other.sigops) }
    }

    /// Whether this is room for `other`.
    #[must_use]
    pub fn holds(self, other: Self) -> bool {
        self.max(other) == self
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { size: self.size.saturating_add(other.size), sigops: self.sigops.saturating_add(other.sigops) }
    }
}

/// A part of the reward.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Fee {
    script: Arc<Script>,
    rate: BasisPoints,
}

impl Fee {
    /// `rate` of every reward goes to `script`.
    pub fn new(script: Arc<Script>, rate: BasisPoints) -> Fee {
        Fee { script, rate }
    }
}

/// A rate in hundredths of a percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BasisPoints(u16);

impl BasisPoints {
    const WHOLE: u16 = 10_000;

    /// None from 10,000 on: who keeps all runs a pool.
    pub fn new(hundredths_of_a_percent: u16) -> Option<BasisPoints> {
        (hundredths_of_a_percent < Self::WHOLE).then_some(BasisPoints(hundredths_of_a_percent))
    }

    /// Rounded down.
    fn of(self, value: u64) -> u64 {
        let part = u128::from(value) * u128::from(self.0) / u128::from(Self::WHOLE);
        part as u64 // not above `value`
    }
}

/// Decides by a channel's `user_identity` who is paid for its blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PayoutPolicy {
    /// Always the operator.
    Pool {
        /// The operator's script.
        script: Arc<Script>,
    },
    /// The address in the identity.
    Solo {
        /// What the operator keeps.
        fee: Option<Fee>,
        /// The network that addresses must be for.
        network: Network,
    },
}

/// What a `user_identity` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payee<'a> {
    /// Who is paid by a block.
    pub class: PayoutClass,
    /// Whom shares are credited to: the identity up to its first dot. In solo mode, the address.
    pub account: &'a str,
    /// Which of the account's machines: what follows the dot. May be empty.
    pub worker: &'a str,
}

/// Why a `user_identity` is refused: `invalid-user-identity`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// It would garble logs.
    #[error("the user identity holds a control character")]
    ControlCharacter,
    /// Solo miners are paid to an address.
    #[error("the user identity must be ADDRESS or ADDRESS.WORKER: {0}")]
    Address(#[from] ScriptError),
}

impl PayoutPolicy {
    /// The largest output that an address stands for: 40 bytes of witness program and the opcodes
    /// around it; and the most signature operations, those of a P2PKH address.
    const ANY_ADDRESS: Room = Room { size: 8 + 1 + 42, sigops: 4 };

    /// What the outputs of every class take at most.
    #[must_use]
    pub fn room(&self) -> Room {
        match self {
            PayoutPolicy::Pool { script } => Room::of(script),
            PayoutPolicy::Solo { fee: None, .. } => Self::ANY_ADDRESS,
            PayoutPolicy::Solo { fee: Some(fee), .. } => Self::ANY_ADDRESS.plus(Room::of(&fee.script)),
        }
    }

    /// Whom a channel opened with this `user_identity` works for (§5.3.2).
    ///
    /// Where the operator is paid, any text will do that has no control characters.
    pub fn class_for<'a>(&self, user_identity: &'a str) -> Result<Payee<'a>, IdentityError> {
        if user_identity.contains(char::is_control) {
            return Err(IdentityError::ControlCharacter);
        }
        let (account, worker) = user_identity.split_once('.').unwrap_or((user_identity, ""));
        let class = match self {
            PayoutPolicy::Pool { .. } => PayoutClass::Pool,
            PayoutPolicy::Solo { network, .. } => {
                let miner = reward_script::parse_address(account, *network)?;
                PayoutClass::Solo { miner: miner.as_script().into() }
            }
        };
        Ok(Payee { class, account, worker })
    }

    /// The outputs that spend a coinbase's `value`. None for a class that is not of this policy.
    fn outputs(&self, class: &PayoutClass, value: u64) -> Option<Vec<TxOut>> {
        match (self, class) {
            (PayoutPolicy::Pool { script }, PayoutClass::Pool) => Some(vec![output(script, value)]),
            (PayoutPolicy::Solo { fee, .. }, PayoutClass::Solo { miner }) => {
                let fee = fee.as_ref().map(|fee| (fee, fee.rate.of(value)));
                Some(match fee.filter(|(_, part)| *part >= DUST && value - part >= DUST) {
                    Some((fee, part)) => vec![output(miner, value - part), output(&fee.script, part)],
                    None => vec![output(miner, value)],
                })
            }
            (PayoutPolicy::Pool { .. }, PayoutClass::Solo { .. })
            | (PayoutPolicy::Solo { .. }, PayoutClass::Pool) => None,
        }
    }
}

/// Who is paid at present: by a policy that may have followed others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payout {
    policy: PayoutPolicy,
    /// The last policy that opened channels of the other kind: those that are still there keep it.
    before: Option<PayoutPolicy>,
}

impl Payout {
    /// By a policy that follows none.
    #[must_use]
    pub fn new(policy: PayoutPolicy) -> Self {
        Self { policy, before: None }
    }

    /// By another policy from now on. It decides for all channels of its kind, whenever they were
    /// opened.
    #[must_use]
    pub fn followed_by(&self, policy: PayoutPolicy) -> Self {
        let same_kind = matches!(
            (&self.policy, &policy),
            (PayoutPolicy::Pool { .. }, PayoutPolicy::Pool { .. })
                | (PayoutPolicy::Solo { .. }, PayoutPolicy::Solo { .. })
        );
        let before = if same_kind { self.before.clone() } else { Some(self.policy.clone()) };
        Self { policy, before }
    }

    /// Decides on the channels that are opened.
    #[must_use]
    pub fn policy(&self) -> &PayoutPolicy {
        &self.policy
    }

    /// What the outputs of every class take at most.
    #[must_use]
    pub fn room(&self) -> Room {
        let before = self.before.as_ref().map(PayoutPolicy::room);
        before.map_or(self.policy.room(), |before| self.policy.room().max(before))
    }

    /// The outputs that spend a coinbase's `value`, in satoshis: their sum is exactly that. None for
    /// a class that no policy has had.
    ///
    /// The fee is rounded down. It is not taken if that would make an output too small to be
    /// worth spending.
    #[must_use]
    pub fn outputs(&self, class: &PayoutClass, value: u64) -> Option<Vec<TxOut>> {
        self.policies().find_map(|policy| policy.outputs(class, value))
    }

    /// The operator's own script, if he has ever been paid for channels.
    #[must_use]
    pub fn operator(&self) -> Option<&Script> {
        self.policies().find_map(|policy| match policy {
            PayoutPolicy::Pool { script } => Some(&**script),
            PayoutPolicy::Solo { .. } => None,
        })
    }

    fn policies(&self) -> impl Iterator<Item = &PayoutPolicy> {
        std::iter::once(&self.policy).chain(&self.before)
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::ScriptBuf;
    use proptest::prelude::*;

    use super::*;

    const MINER: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";

    fn operator() -> Arc<Script> {
        Script::from_bytes(&[0x51]).into()
    }

    fn solo(fee: Option<u16>) -> PayoutPolicy {
        let fee = fee.map(|rate| Fee::new(operator(), BasisPoints::new(rate).unwrap()));
        PayoutPolicy::Solo { fee, network: Network::Regtest }
    }

    /// The values paid to the miner and to the operator, in that order.
    fn values(fee: Option<u16>, value: u64) -> Vec<u64> {
        let class = solo(fee).class_for(MINER).unwrap().class;
        let outputs = Payout::new(solo(fee)).outputs(&class, value).unwrap();
        let miner = reward_script::parse_address(MINER, Network::Regtest).unwrap();
        assert_eq!(outputs[0].script_pubkey, miner);
        assert!(outputs[1..].iter().all(|output| *output.script_pubkey == *operator()));
        outputs.into_iter().map(|output| output.value.to_sat()).collect()
    }

    #[test]
    fn a_pool_takes_any_name() {
        let policy = PayoutPolicy::Pool { script: operator() };
        for (identity, account, worker) in [
            ("", "", ""),
            ("alice", "alice", ""),
            ("alice.", "alice", ""),
            ("alice.rig.2", "alice", "rig.2"),
            ("m\u{fc}ller.\u{26cf} 1", "m\u{fc}ller", "\u{26cf} 1"),
        ] {
            let class = PayoutClass::Pool;
            assert_eq!(policy.class_for(identity), Ok(Payee { class, account, worker }));
        }
        for identity in ["a\nb", "a\0", "a\u{7f}", "a\u{85}"] {
            assert_eq!(policy.class_for(identity), Err(IdentityError::ControlCharacter));
        }
        let outputs = Payout::new(policy).outputs(&PayoutClass::Pool, 7);
        assert_eq!(
            outputs.unwrap(),
            [TxOut { value: Amount::from_sat(7), script_pubkey: (*operator()).to_owned() }]
        );
    }

    #[test]
    fn a_solo_miner_is_named_by_an_address() {
        let identity = format!("{MINER}.rig.2");
        let payee = solo(None).class_for(&identity).unwrap();
        assert_eq!((payee.account, payee.worker), (MINER, "rig.2"));

        let shouted = MINER.to_uppercase();
        assert_eq!(solo(None).class_for(&shouted).unwrap().class, payee.class, "one script, one class");

        for identity in ["", ".rig", "alice", "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"] {
            let refused = solo(None).class_for(identity);
            assert!(matches!(refused, Err(IdentityError::Address(_))), "{identity}");
        }
        assert_eq!(solo(None).class_for("\u{1b}[2J"), Err(IdentityError::ControlCharacter));
    }

    #[test]
    fn room_for_what_is_paid() {
        let p2wpkh = ScriptBuf::from_hex("0014751e76e8199196d454941c45d1b3a323f1433bd6").unwrap();
        let p2pkh = ScriptBuf::from_hex("76a914751e76e8199196d454941c45d1b3a323f1433bd688ac").unwrap();
        let pool = |script: &ScriptBuf| PayoutPolicy::Pool { script: script.as_script().into() }.room();
        assert_eq!(pool(&p2wpkh), Room { size: 8 + 1 + 22, sigops: 0 });
        assert_eq!(pool(&p2pkh), Room { size: 8 + 1 + 25, sigops: 4 });
        assert_eq!(solo(None).room(), Room { size: 51, sigops: 4 });
        let fee = Fee::new(p2pkh.as_script().into(), BasisPoints::new(100).unwrap());
        let with_fee = PayoutPolicy::Solo { fee: Some(fee), network: Network::Bitcoin };
        assert_eq!(with_fee.room(), Room { size: 51 + 34, sigops: 8 });
    }

    #[test]
    fn a_policy_that_follows_another() {
        let pool = |op: u8| PayoutPolicy::Pool { script: Script::from_bytes(&[op]).into() };
        let miner = solo(None).class_for(MINER).unwrap().class;
        let scripts = |payout: &Payout, class: &PayoutClass| {
            let outputs = payout.outputs(class, 1_000_000)?;
            Some(outputs.iter().map(|output| output.script_pubkey.as_bytes()[0]).collect::<Vec<_>>())
        };
        let first = Payout::new(pool(0x52));
        assert_eq!(scripts(&first, &miner), None, "nobody can have opened such a channel");
        let second = first.followed_by(pool(0x53));
        assert_eq!(second, Payout::new(pool(0x53)));
        assert_eq!(scripts(&second, &PayoutClass::Pool), Some(vec![0x53]));
        assert_eq!(second.room(), pool(0x53).room());

        // a channel keeps its kind, and with it whom it is worked for
        let third = second.followed_by(solo(None)).followed_by(solo(Some(100)));
        assert_eq!(scripts(&third, &PayoutClass::Pool), Some(vec![0x53]));
        assert_eq!(scripts(&third, &miner), Some(vec![0x00, 0x51]));
        assert_eq!(third.operator().unwrap().as_bytes(), [0x53]);
        assert_eq!(third.room(), solo(Some(100)).room());
        let large = Payout::new(PayoutPolicy::Pool { script: Script::from_bytes(&[0x51; 99]).into() });
        assert_eq!(large.followed_by(solo(None)).room(), Room { size: 8 + 1 + 99, sigops: 4 });

        let fourth = third.followed_by(pool(0x54));
        assert_eq!(scripts(&fourth, &PayoutClass::Pool), Some(vec![0x54]));
        assert_eq!(scripts(&fourth, &miner), Some(vec![0x00, 0x51]));
    }

    #[test]
    fn fees() {
        assert_eq!(values(None, 312_500_000), [312_500_000]);
        assert_eq!(values(Some(200), 312_500_000), [306_250_000, 6_250_000]);
        assert_eq!(values(Some(100), 54_699), [54_153, 546], "rounded down");
        assert_eq!(values(Some(100), 54_599), [54_599], "a fee of dust");
        assert_eq!(values(Some(9_999), 1_000_000), [1_000_000], "dust for the miner");
        assert_eq!(values(Some(100), 0), [0]);
        assert_eq!(BasisPoints::new(10_000), None);
    }

    proptest! {
        #[test]
        fn all_is_paid_and_nothing_else(value in any::<u64>(), rate in prop::option::of(0_u16..10_000)) {
            let values = values(rate, value);
            prop_assert_eq!(values.iter().map(|part| u128::from(*part)).sum::<u128>(), u128::from(value));
            let fee = values.get(1).copied().unwrap_or(0);
            prop_assert!(u128::from(fee) * 10_000 <= u128::from(value) * u128::from(rate.unwrap_or(0)));
            prop_assert!(fee == 0 || fee >= DUST);
        }
    }
}
