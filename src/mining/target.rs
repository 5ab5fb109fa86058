//! How hard it is to find a share: target, difficulty, hashrate.

use crate::wire::U256;

/// 2^256 as a float.
const TWO_256: f64 = TWO_64 * TWO_64 * TWO_64 * TWO_64;
const TWO_64: f64 = 18_446_744_073_709_551_616.0;

/// The target of difficulty 1, 0x00000000ffff0000.., as a float: it has 16 significant bits.
const TARGET_1: f64 = 65_535.0 * TWO_256 / 281_474_976_710_656.0;

/// The largest hash that counts, a number of 256 bits. Its order is numeric: greater is easier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target([u64; 4]); // most significant word first, so that the derived order is right

impl Target {
    /// Every hash meets it.
    pub const MAX: Target = Target([u64::MAX; 4]);
    /// No hash meets it, but for the one that is zero.
    pub const ZERO: Target = Target([0; 4]);

    /// Reads a number whose least significant byte is first: the order of SHA-256's output and of
    /// the wire.
    pub fn from_le_bytes(bytes: [u8; 32]) -> Target {
        let mut words = [0; 4];
        for (word, bytes) in words.iter_mut().rev().zip(bytes.as_chunks().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        Target(words)
    }

    /// Writes the number, least significant byte first.
    pub fn to_le_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (bytes, word) in bytes.as_chunks_mut().0.iter_mut().zip(self.0.into_iter().rev()) {
            *bytes = word.to_le_bytes();
        }
        bytes
    }

    /// Expands a header's nBits. None where consensus would not accept it: when it is negative,
    /// zero, or does not fit 256 bits.
    pub fn from_compact(nbits: u32) -> Option<Target> {
        const SIGN: u32 = 0x0080_0000;
        let mantissa = nbits & 0x007f_ffff;
        // The exponent counts bytes, the mantissa's three included.
        let (mantissa, shift) = match nbits >> 24 {
            len @ 0..3 => (mantissa >> (8 * (3 - len)), 0),
            len => (mantissa, 8 * (len - 3)),
        };
        let fits = mantissa.checked_ilog2()? + shift < 256;
        (nbits & SIGN == 0 && fits).then(|| Target::shifted(mantissa.into(), shift))
    }

    /// The target of a difficulty, to the precision of a float. What is not a positive number is
    /// the easiest there is.
    pub fn from_difficulty(difficulty: Difficulty) -> Target {
        if difficulty.0 > 0.0 { Target::from_f64(TARGET_1 / difficulty.0) } else { Target::MAX }
    }

    /// The inverse of [`from_difficulty`](Target::from_difficulty); infinite for a zero target.
    pub fn difficulty(&self) -> Difficulty {
        Difficulty(TARGET_1 / self.to_f64())
    }

    /// The target for which a miner finds `shares_per_minute` on average.
    ///
    /// The easiest there is, if the miner computes fewer hashes than that; zero, if no share is
    /// wanted.
    pub fn for_hashrate(hashrate: Hashrate, shares_per_minute: f64) -> Target {
        let hashes_per_share = hashrate.0 * 60.0 / shares_per_minute;
        // Of no hashes no share: what comes out is not a number.
        if hashes_per_share > 1.0 { Target::from_f64(TWO_256 / hashes_per_share) } else { Target::MAX }
    }

    /// How many hashes it takes on average to meet it.
    pub fn hashes_per_share(&self) -> f64 {
        // One hash more than the target's number meets it: zero.
        TWO_256 / (self.to_f64() + 1.0)
    }

    /// Whether a block hash, as SHA-256 puts it out, is at or below the target.
    pub fn is_met_by(&self, hash: &[u8; 32]) -> bool {
        Target::from_le_bytes(*hash) <= *self
    }

    fn to_f64(self) -> f64 {
        self.0.iter().fold(0.0, |high, word| high * TWO_64 + *word as f64)
    }

    /// Rounds a positive number towards zero; [`Target::MAX`] if it does not fit.
    fn from_f64(value: f64) -> Target {
        if value >= TWO_256 {
            return Target::MAX;
        }
        // value = mantissa * 2^(exponent - 1075), in the words of IEEE 754
        let bits = value.to_bits();
        let mantissa = bits & ((1 << 52) - 1) | 1 << 52;
        match (bits >> 52) as u32 {
            ..1023 => Target::ZERO,
            exponent @ ..1075 => Target::shifted(mantissa >> (1075 - exponent), 0),
            exponent => Target::shifted(mantissa, exponent - 1075),
        }
    }

    /// `value << bits`, where the result is known to fit.
    fn shifted(value: u64, bits: u32) -> Target {
        let wide = u128::from(value) << (bits % 64);
        let lowest = 3 - (bits / 64) as usize;
        let mut words = [0; 4];
        words[lowest] = wide as u64;
        if lowest > 0 {
            words[lowest - 1] = (wide >> 64) as u64;
        }
        Target(words)
    }
}

impl From<U256> for Target {
    fn from(number: U256) -> Target {
        Target::from_le_bytes(number.0)
    }
}

impl From<Target> for U256 {
    fn from(target: Target) -> U256 {
        U256(target.to_le_bytes())
    }
}

/// How many times harder than the easiest block of the main network, the one with nBits
/// 0x1d00ffff.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Difficulty(pub f64);

impl Difficulty {
    /// How many hashes a share of this difficulty stands for: 2^32 and a little, times that.
    pub fn hashes(self) -> f64 {
        self.0 * (TWO_256 / TARGET_1)
    }
}

/// Hashes per second: zero or more, never infinite.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Hashrate(pub(super) f64);

impl Hashrate {
    /// A hashrate that a client claims (§5.3.2, §5.3.7). None if it is negative, infinite or not a
    /// number: `invalid-nominal-hashrate`.
    pub fn new(hashes_per_second: f32) -> Option<Hashrate> {
        (hashes_per_second.is_finite() && hashes_per_second >= 0.0)
            .then_some(Hashrate(hashes_per_second.into()))
    }

    /// In hashes per second.
    pub fn get(self) -> f64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::Hash;
    use bitcoin::{BlockHash, CompactTarget};
    use proptest::prelude::*;
    use stratum_core::channels_sv2::target::hash_rate_to_target;

    use super::*;

    fn oracle(target: Target) -> bitcoin::Target {
        bitcoin::Target::from_le_bytes(target.to_le_bytes())
    }

    fn hashrate(hashes_per_second: f64) -> Hashrate {
        Hashrate::new(hashes_per_second as f32).unwrap()
    }

    fn is_close(a: f64, b: f64) -> bool {
        (a / b - 1.0).abs() < 1e-12
    }

    #[test]
    fn compact_targets_that_consensus_refuses() {
        for (nbits, why) in [
            (0x1d80_ffff, "negative"),
            (0x0480_0001, "negative and small"),
            (0x1d00_0000, "zero"),
            (0x0000_ffff, "zero: all of the mantissa shifted out"),
            (0x0200_00ff, "zero"),
            (0x2300_0001, "257 bits"),
            (0x2200_0100, "257 bits"),
            (0x2101_0000, "257 bits"),
            (0xff12_3456, "far too large"),
        ] {
            assert_eq!(Target::from_compact(nbits), None, "{nbits:#x}: {why}");
        }
    }

    #[test]
    fn compact_targets_at_the_limits() {
        for (nbits, word, value) in [
            (0x0112_0000, 3, 0x12),
            (0x0300_0001, 3, 1),
            (0x0380_0000 - 1, 3, 0x7f_ffff),
            (0x2200_00ff, 0, 0xff << 56),
            (0x2100_ffff, 0, 0xffff << 48),
            (0x207f_ffff, 0, 0x7f_ffff << 40),
            (0x1d00_ffff, 0, 0xffff_0000),
        ] {
            let mut words = [0; 4];
            words[word] = value;
            assert_eq!(Target::from_compact(nbits), Some(Target(words)), "{nbits:#x}");
        }
    }

    #[test]
    fn difficulty_one() {
        let one = Target::from_compact(0x1d00_ffff).unwrap();
        assert_eq!(Target::from_difficulty(Difficulty(1.0)), one);
        assert_eq!(one.difficulty(), Difficulty(1.0));
        assert!(is_close(Difficulty(3.0).hashes(), 3.0 * one.hashes_per_share()));
    }

    #[test]
    fn what_does_not_fit_is_clamped() {
        for easiest in [0.0, -1.0, f64::NAN, f64::MIN_POSITIVE, 2.0_f64.powi(-33)] {
            assert_eq!(Target::from_difficulty(Difficulty(easiest)), Target::MAX, "{easiest}");
        }
        assert_eq!(Target::from_difficulty(Difficulty(f64::INFINITY)), Target::ZERO);
        assert_eq!(Target::from_difficulty(Difficulty(1e300)), Target::ZERO);
        assert_eq!(Target::from_difficulty(Difficulty(2.0_f64.powi(223))), Target([0, 0, 0, 1]));
        assert_eq!(Target::for_hashrate(hashrate(0.0), 12.0), Target::MAX);
        assert_eq!(Target::for_hashrate(hashrate(0.0), 0.0), Target::MAX);
        assert_eq!(Target::for_hashrate(hashrate(1.0), 60.0), Target::MAX);
        assert_eq!(Target::for_hashrate(hashrate(1.0), f64::NAN), Target::MAX);
        assert_eq!(Target::for_hashrate(hashrate(1.0), 0.0), Target::ZERO);
        assert_eq!(Target::ZERO.difficulty(), Difficulty(f64::INFINITY));
        assert_eq!(Target::MAX.hashes_per_share(), 1.0);
    }

    #[test]
    fn a_claimed_hashrate_is_a_number() {
        for refused in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -1.0] {
            assert_eq!(Hashrate::new(refused), None);
        }
        assert_eq!(Hashrate::new(-0.0), Some(Hashrate(0.0)));
        assert_eq!(Hashrate::new(f32::MAX).unwrap().get(), f64::from(f32::MAX));
    }

    #[test]
    fn half_of_all_hashes_meet_half_of_the_range() {
        let half = Target::for_hashrate(hashrate(2.0), 60.0);
        assert_eq!(half, Target([1 << 63, 0, 0, 0]));
        let mut hash = half.to_le_bytes();
        assert!(half.is_met_by(&hash));
        hash[0] += 1;
        assert!(!half.is_met_by(&hash));
    }

    proptest! {
        #[test]
        fn bytes_and_order_agree_with_the_bitcoin_crate(a in any::<[u8; 32]>(), b in any::<[u8; 32]>()) {
            let (ours, other) = (Target::from(U256(a)), Target::from(U256(b)));
            prop_assert_eq!(U256::from(ours), U256(a));
            prop_assert_eq!(ours.cmp(&other), oracle(ours).cmp(&oracle(other)));
            prop_assert_eq!(ours.is_met_by(&b), oracle(ours).is_met_by(BlockHash::from_byte_array(b)));
            prop_assert!(is_close(ours.difficulty().0, oracle(ours).difficulty_float()));
        }

        /// Without the sign, which the oracle takes for a digit where the exponent is small.
        #[test]
        fn compact_agrees_with_the_bitcoin_crate(len in 0_u32..=0x20, mantissa in 0_u32..1 << 23) {
            let nbits = len << 24 | mantissa;
            let ours = Target::from_compact(nbits).unwrap_or(Target::ZERO);
            prop_assert_eq!(oracle(ours), bitcoin::Target::from_compact(CompactTarget::from_consensus(nbits)));
        }

        #[test]
        fn difficulty_there_and_back(exponent in -31.0..120.0) {
            let difficulty = Difficulty(2.0_f64.powf(exponent));
            prop_assert!(is_close(Target::from_difficulty(difficulty).difficulty().0, difficulty.0));
        }

        /// The oracle counts hashes per share in whole numbers, hence the lower limit.
        #[test]
        fn hashrate_agrees_with_channels_sv2(exponent in 5.0..21.0, shares_per_minute in 0.1..600.0) {
            let hashrate = hashrate(10.0_f64.powf(exponent));
            let ours = Target::for_hashrate(hashrate, shares_per_minute);
            let oracle = hash_rate_to_target(hashrate.get(), shares_per_minute).unwrap();
            let theirs = Target::from_le_bytes(oracle.to_le_bytes());
            prop_assert!((ours.to_f64() / theirs.to_f64() - 1.0).abs() < 2e-4);
        }

        #[test]
        fn hashrate_gives_the_wanted_shares(exponent in 0.0..21.0, shares_per_minute in 0.1..12.0) {
            let hashrate = hashrate(10.0_f64.powf(exponent));
            let target = Target::for_hashrate(hashrate, shares_per_minute);
            let found = hashrate.get() * 60.0 / target.hashes_per_share();
            prop_assert!(is_close(found, shares_per_minute));
        }
    }
}
