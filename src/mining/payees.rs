//! Payouts that somebody else decides on: a pool that this server coordinates with.

use bitcoin::{Amount, Script, TxOut};

use super::payout::Room;
use super::witness;

/// Outputs that come before whatever else a coinbase pays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payees {
    outputs: Vec<TxOut>,
    sum: Amount,
}

impl Payees {
    /// What they take at most: as much as a hundred outputs of the usual kinds.
    pub const ROOM: Room = Room { size: 4096, sigops: 4 * 100 };

    /// So many at most: with the rest and what a source wants, the number of outputs still takes a byte.
    pub const MAX_COUNT: usize = 200;

    /// Those that are paid by these outputs.
    pub fn new(outputs: Vec<TxOut>) -> Result<Self, PayeesError> {
        if outputs.is_empty() {
            return Err(PayeesError::None);
        }
        if outputs.len() > Self::MAX_COUNT {
            return Err(PayeesError::TooMany(outputs.len()));
        }
        if outputs.iter().any(|output| output.script_pubkey.is_empty()) {
            return Err(PayeesError::EmptyScript);
        }
        if witness::find(&outputs).is_some() {
            return Err(PayeesError::Commitment);
        }
        let none = Room { size: 0, sigops: 0 };
        let room = outputs.iter().fold(none, |room, output| room.plus(Room::of(&output.script_pubkey)));
        if room.size > Self::ROOM.size {
            return Err(PayeesError::TooLarge(room.size));
        }
        if room.sigops > Self::ROOM.sigops {
            return Err(PayeesError::TooManySigops(room.sigops));
        }
        let mut values = outputs.iter().map(|output| output.value);
        let sum = values.try_fold(Amount::ZERO, Amount::checked_add).filter(|sum| *sum <= Amount::MAX_MONEY);
        Ok(Self { sum: sum.ok_or(PayeesError::TooMuch)?, outputs })
    }

    /// What they are paid together, in satoshis.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.sum.to_sat()
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.outputs.len()
    }

    /// The outputs that spend a coinbase's `value`, in satoshis: theirs, then what is left, to `rest`. The sum is
    /// exactly `value`. None if that is less than they are to be paid.
    #[must_use]
    pub fn outputs(&self, value: u64, rest: &Script) -> Option<Vec<TxOut>> {
        let left = value.checked_sub(self.sum())?;
        let mut outputs = self.outputs.clone();
        if left > 0 {
            outputs.push(TxOut { value: Amount::from_sat(left), script_pubkey: rest.to_owned() });
        }
        Some(outputs)
    }
}

/// Why outputs cannot be paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PayeesError {
    /// There has to be one.
    #[error("there is no output")]
    None,
    /// More than [`Payees::MAX_COUNT`].
    #[error("{0} outputs are more than {max}", max = Payees::MAX_COUNT)]
    TooMany(usize),
    /// Anybody could spend that output.
    #[error("an output has an empty script")]
    EmptyScript,
    /// It would stand for the block's own (BIP141).
    #[error("an output is a witness commitment, which is the block's to make")]
    Commitment,
    /// More bytes than were kept free.
    #[error("the outputs take {0} bytes, which is more than {max}", max = Payees::ROOM.size)]
    TooLarge(u32),
    /// More than were kept free.
    #[error("the outputs' signature operations count {0}, which is more than {max}", max = Payees::ROOM.sigops)]
    TooManySigops(u16),
    /// More than there will ever be.
    #[error("the outputs are worth more than all bitcoins")]
    TooMuch,
}

#[cfg(test)]
mod tests {
    use bitcoin::ScriptBuf;
    use proptest::prelude::*;

    use super::*;

    fn output(value: u64, script: &[u8]) -> TxOut {
        TxOut { value: Amount::from_sat(value), script_pubkey: ScriptBuf::from_bytes(script.to_vec()) }
    }

    fn rest() -> &'static Script {
        Script::from_bytes(&[0x52])
    }

    #[test]
    fn they_come_first_and_the_rest_is_the_operators() {
        let theirs = [output(7, &[0x51]), output(0, &[0x6a, 0x00]), output(3, &[0x51])];
        let payees = Payees::new(theirs.to_vec()).unwrap();
        assert_eq!((payees.sum(), payees.count()), (10, 3));
        assert_eq!(payees.outputs(9, rest()), None);
        assert_eq!(payees.outputs(10, rest()).unwrap(), theirs);
        let with_rest = payees.outputs(11, rest()).unwrap();
        assert_eq!((&with_rest[..3], &with_rest[3]), (&theirs[..], &output(1, &[0x52])));
    }

    #[test]
    fn what_cannot_be_paid() {
        let check = |outputs: Vec<TxOut>| Payees::new(outputs).map(drop);
        assert_eq!(check(vec![]), Err(PayeesError::None));
        assert_eq!(check(vec![output(1, &[0x51]), output(1, &[])]), Err(PayeesError::EmptyScript));
        assert_eq!(check(vec![output(0, &[0x51]); 200]), Ok(()));
        assert_eq!(check(vec![output(0, &[0x51]); 201]), Err(PayeesError::TooMany(201)));
        // 8 bytes of value, 3 of length
        assert_eq!(check(vec![output(1, &[0x51; 4085])]), Ok(()));
        assert_eq!(check(vec![output(1, &[0x51; 4086])]), Err(PayeesError::TooLarge(4097)));
        assert_eq!(check(vec![output(1, &[0xac; 100])]), Ok(()));
        assert_eq!(check(vec![output(1, &[0xac; 101])]), Err(PayeesError::TooManySigops(404)));
        let most = Amount::MAX_MONEY.to_sat();
        assert_eq!(check(vec![output(most - 1, &[0x51]), output(1, &[0x51])]), Ok(()));
        for values in [[most, 1], [1, most], [u64::MAX, 2], [u64::MAX, u64::MAX]] {
            let outputs = values.map(|value| output(value, &[0x51])).to_vec();
            assert_eq!(check(outputs), Err(PayeesError::TooMuch), "{values:?}");
        }
        let commitment = witness::output([7; 32]);
        assert_eq!(check(vec![commitment, output(1, &[0x51])]), Err(PayeesError::Commitment));
    }

    proptest! {
        #[test]
        fn all_is_paid_and_nothing_else(
            values in prop::collection::vec(0..1_000_000_u64, 1..20),
            value in 0..20_000_000_u64,
        ) {
            let theirs: Vec<_> = values.iter().map(|value| output(*value, &[0x51])).collect();
            let sum: u64 = values.iter().sum();
            match Payees::new(theirs.clone()).unwrap().outputs(value, rest()) {
                None => prop_assert!(sum > value),
                Some(outputs) => {
                    prop_assert_eq!(outputs.iter().map(|output| output.value.to_sat()).sum::<u64>(), value);
                    prop_assert_eq!(&outputs[..theirs.len()], &theirs[..]);
                    let rest = &outputs[theirs.len()..];
                    prop_assert_eq!(rest.len(), usize::from(value > sum));
                    prop_assert!(rest.iter().all(|output| output.script_pubkey.as_bytes() == [0x52]));
                }
            }
        }
    }
}
