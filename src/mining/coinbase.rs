//! The coinbase transaction, from what a source offers to what a job carries.
//!
//! A [`Coinbase`] lacks its payout and the space that miners search; [`Coinbase::assemble`] adds
//! both and cuts the transaction where the extranonce goes (§5.3.16). The scriptSig then reads:
//!
//! ```text
//! script_prefix | push(tag) | push(serial, salt) | push(extranonce)
//! ```

use std::ops::Deref;

use bitcoin::consensus::encode;

use bitcoin::script::{Builder, PushBytesBuf};
use bitcoin::{OutPoint, Transaction, TxOut, Witness};

use super::TemplateSerial;
use super::hash::Prefix;
use super::witness;

/// Consensus allows a coinbase's scriptSig no more bytes.
const MAX_SCRIPT_LEN: usize = 100;
/// The largest push whose opcode is its length.
const MAX_SHORT_PUSH: usize = 75;

/// The coinbase as a source offers it: still without payout and extranonce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coinbase {
    /// The transaction's version.
    pub version: u32,
    /// What the scriptSig must start with: the block's height (BIP34) and whatever else the source
    /// demands.
    pub script_prefix: Vec<u8>,
    /// The only input's sequence number.
    pub sequence: u32,
    /// What the payout outputs may take together, in satoshis.
    pub value: u64,
    /// What must follow the payout outputs, the witness commitment for one.
    pub trailing_outputs: Vec<TxOut>,
    /// The transaction's lock time.
    pub lock_time: u32,
    /// Whether the outputs hold a witness commitment: in a block, the coinbase then has the witness
    /// that goes with it (BIP141). Jobs never see that witness (§3.7).
    pub witness_commitment: bool,
}

impl Coinbase {
    /// One as miners make it for a block at `height`, where the source does not say how.
    #[must_use]
    pub fn at(height: u32, value: u64, witness_commitment: Option<[u8; 32]>) -> Self {
        Self {
            version: 2,
            script_prefix: Self::bip34(height),
            // with the lock time, keeps the txid from ever having been used before
            sequence: 0xffff_fffe,
            lock_time: height.saturating_sub(1),
            value,
            trailing_outputs: witness_commitment.map(witness::output).into_iter().collect(),
            witness_commitment: witness_commitment.is_some(),
        }
    }

    /// `height` as a scriptSig has to start with it (BIP34): numbers up to 16 have opcodes of their own.
    #[must_use]
    pub fn bip34(height: u32) -> Vec<u8> {
        Builder::new().push_int(i64::from(height)).into_bytes()
    }

    /// The height that a scriptSig starts with; the inverse of [`bip34`](Self::bip34).
    #[must_use]
    pub fn height(script_sig: &[u8]) -> Option<u32> {
        match *script_sig.first()? {
            0x00 => Some(0),
            small @ 0x51..=0x60 => Some(u32::from(small - 0x50)),
            len @ 1..=5 => {
                let number = script_sig.get(1..=usize::from(len))?;
                let (last, _) = number.split_last()?;
                // negative, or more than a height can be
                if *last >= 0x80 || number.iter().skip(4).any(|byte| *byte != 0) {
                    return None;
                }
                let mut bytes = [0; 4];
                bytes.iter_mut().zip(number).for_each(|(byte, from)| *byte = *from);
                Some(u32::from_le_bytes(bytes))
            }
            _ => None,
        }
    }

    /// Pays `outputs` and leaves `extranonce_len` bytes open.
    ///
    /// Coinbases of one `serial` and `salt` share one search space, all others are apart: the
    /// serial tells templates apart, the salt variants of the same template. Only the serial's low
    /// half goes in: four billion templates later nobody works on the first any more.
    ///
    /// # Errors
    ///
    /// The extranonce fits no push, or the scriptSig gets too long.
    pub fn assemble(
        &self,
        serial: TemplateSerial,
        salt: u32,
        tag: &[u8],
        outputs: &[TxOut],
        extranonce_len: usize,
    ) -> Result<CoinbaseParts, CoinbaseError> {
        if !(1..=MAX_SHORT_PUSH).contains(&extranonce_len) {
            return Err(CoinbaseError::ExtranonceLength);
        }
        let mut script = self.script_prefix.clone();
        if !tag.is_empty() {
            script.extend(push(tag)?);
        }
        script.extend(push(&[(serial.0 as u32).to_le_bytes(), salt.to_le_bytes()].concat())?);
        script.push(extranonce_len as u8);
        let script_len = script.len() + extranonce_len;
        if script_len > MAX_SCRIPT_LEN {
            return Err(CoinbaseError::ScriptTooLong);
        }

        let mut prefix = self.version.to_le_bytes().to_vec();
        prefix.push(1);
        prefix.extend(encode::serialize(&OutPoint::null()));
        prefix.push(script_len as u8);
        prefix.extend(script);

        let outputs: Vec<_> = outputs.iter().chain(&self.trailing_outputs).cloned().collect();
        let mut suffix = self.sequence.to_le_bytes().to_vec();
        suffix.extend(encode::serialize(&outputs));
        suffix.extend(self.lock_time.to_le_bytes());

        Ok(CoinbaseParts { prefix, suffix, extranonce_len, witness_commitment: self.witness_commitment })
    }
}

fn push(data: &[u8]) -> Result<Vec<u8>, CoinbaseError> {
    let data = PushBytesBuf::try_from(data.to_vec()).map_err(|_| CoinbaseError::ScriptTooLong)?;
    Ok(Builder::new().push_slice(data).into_bytes())
}

/// A coinbase around the extranonce, without the fields of BIP141 (§5.3.16).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoinbaseParts {
    /// `coinbase_tx_prefix`.
    pub prefix: Vec<u8>,
    /// `coinbase_tx_suffix`.
    pub suffix: Vec<u8>,
    /// How many bytes go between them.
    pub extranonce_len: usize,
    /// Whether the coinbase in a block has a witness.
    pub witness_commitment: bool,
}

impl CoinbaseParts {
    /// The txid, in the byte order in which SHA-256 puts it out.
    ///
    /// `extranonce` is all of it, the server's prefix included, and has the length it was
    /// assembled for.
    #[must_use]
    pub fn txid(&self, extranonce: &[u8]) -> [u8; 32] {
        Prefix::new(&self.prefix).sha256d([extranonce, &self.suffix])
    }

    /// The transaction as a block has it, its witness included.
    ///
    /// # Errors
    ///
    /// `extranonce` has not the length that the parts were made for, or they are no transaction.
    pub fn transaction(&self, extranonce: &[u8]) -> Result<Transaction, CoinbaseError> {
        if extranonce.len() != self.extranonce_len {
            return Err(CoinbaseError::ExtranonceLength);
        }
        let bytes = [&self.prefix, extranonce, &self.suffix].concat();
        let mut transaction: Transaction =
            encode::deserialize(&bytes).map_err(|_| CoinbaseError::NotATransaction)?;
        if self.witness_commitment {
            let input = transaction.input.first_mut().ok_or(CoinbaseError::NotATransaction)?;
            input.witness = Witness::from_slice(&[witness::RESERVED_VALUE]);
        }
        Ok(transaction)
    }
}

/// The operator's mark in the coinbases of his blocks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tag(Vec<u8>);

impl Tag {
    /// What is left for a tag when the source takes 8 bytes, the most that §7.2 lets it, and the
    /// extranonce 20.
    pub const MAX_LEN: usize = MAX_SCRIPT_LEN - 8 - (1 + 8) - (1 + 20) - 1;

    /// No bytes: no tag.
    ///
    /// # Errors
    ///
    /// More than [`Tag::MAX_LEN`] bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, CoinbaseError> {
        let bytes = bytes.into();
        if bytes.len() > Self::MAX_LEN { Err(CoinbaseError::TagTooLong) } else { Ok(Self(bytes)) }
    }
}

impl Deref for Tag {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// Why a coinbase cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CoinbaseError {
    /// The scriptSig would exceed 100 bytes.
    #[error("the coinbase's scriptSig would exceed {MAX_SCRIPT_LEN} bytes")]
    ScriptTooLong,
    /// The tag alone is longer than allowed.
    #[error("a coinbase tag has at most {} bytes", Tag::MAX_LEN)]
    TagTooLong,
    /// An extranonce of this length has no place.
    #[error("the extranonce has the wrong length")]
    ExtranonceLength,
    /// Prefix, extranonce and suffix do not make a transaction with one input.
    #[error("the coinbase's parts do not form a transaction")]
    NotATransaction,
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::Hash;
    use bitcoin::{Amount, ScriptBuf};

    use super::*;

    fn output(value: u64, script: &[u8]) -> TxOut {
        TxOut { value: Amount::from_sat(value), script_pubkey: ScriptBuf::from_bytes(script.to_vec()) }
    }

    fn offer() -> Coinbase {
        Coinbase {
            version: 2,
            script_prefix: Coinbase::bip34(840_000),
            sequence: 0xffff_fffe,
            value: 5_000_000_000,
            trailing_outputs: vec![output(0, &[0x6a, 0x01, 0xaa])],
            lock_time: 839_999,
            witness_commitment: true,
        }
    }

    const SERIAL: TemplateSerial = TemplateSerial(0x1_2345_6789);

    fn parts(tag: &[u8], extranonce_len: usize) -> Result<CoinbaseParts, CoinbaseError> {
        offer().assemble(SERIAL, 0xaabb_ccdd, tag, &[output(5_000_000_000, &[0x51])], extranonce_len)
    }

    #[test]
    fn heights_are_encoded_as_the_network_wants_them() {
        for (height, script) in [
            (1, vec![0x51]),
            (16, vec![0x60]),
            (17, vec![0x01, 0x11]),
            (127, vec![0x01, 0x7f]),
            (128, vec![0x02, 0x80, 0x00]),
            (255, vec![0x02, 0xff, 0x00]),
            (256, vec![0x02, 0x00, 0x01]),
            (32_768, vec![0x03, 0x00, 0x80, 0x00]),
            (840_000, vec![0x03, 0x40, 0xd1, 0x0c]),
        ] {
            assert_eq!(Coinbase::bip34(height), script, "{height}");
            let longer = [&script[..], &[0x08, 0xff]].concat();
            assert_eq!(Coinbase::height(&longer), Some(height));
        }
        assert_eq!(Coinbase::height(&Coinbase::bip34(u32::MAX)), Some(u32::MAX));
        for nonsense in
            [&[][..], &[0x01], &[0x03, 0x40, 0xd1], &[0x01, 0x81], &[0x05, 0, 0, 0, 0, 1], &[0x6a]]
        {
            assert_eq!(Coinbase::height(nonsense), None, "{nonsense:?}");
        }
    }

    #[test]
    fn the_parts_are_cut_around_the_extranonce() {
        let parts = parts(b"/me/", 20).unwrap();
        let mut prefix = vec![2, 0, 0, 0, 1];
        prefix.extend([0; 32]);
        prefix.extend([0xff; 4]);
        prefix.push(4 + 5 + 9 + 21);
        prefix.extend([0x03, 0x40, 0xd1, 0x0c]);
        prefix.extend([0x04, b'/', b'm', b'e', b'/']);
        prefix.extend([0x08, 0x89, 0x67, 0x45, 0x23, 0xdd, 0xcc, 0xbb, 0xaa]);
        prefix.push(0x14);
        assert_eq!(parts.prefix, prefix);

        let mut suffix = vec![0xfe, 0xff, 0xff, 0xff, 2];
        suffix.extend(5_000_000_000u64.to_le_bytes());
        suffix.extend([1, 0x51]);
        suffix.extend([0; 8]);
        suffix.extend([3, 0x6a, 0x01, 0xaa]);
        suffix.extend(839_999u32.to_le_bytes());
        assert_eq!(parts.suffix, suffix);
    }

    #[test]
    fn an_empty_tag_takes_no_space() {
        assert_eq!(parts(b"", 20).unwrap().prefix.len() + 2, parts(b"x", 20).unwrap().prefix.len());
    }

    #[test]
    fn the_transaction_has_the_witness_that_the_parts_lack() {
        let parts = parts(b"/me/", 20).unwrap();
        let extranonce: [u8; 20] = std::array::from_fn(|i| i as u8);
        let transaction = parts.transaction(&extranonce).unwrap();
        assert!(transaction.is_coinbase());
        assert_eq!(transaction.input[0].witness.to_vec(), [[0; 32]]);
        assert!(transaction.input[0].script_sig.as_bytes().ends_with(&extranonce));
        assert_eq!(transaction.compute_txid().to_byte_array(), parts.txid(&extranonce));
        assert_ne!(transaction.compute_wtxid().to_byte_array(), parts.txid(&extranonce));

        let bare = Coinbase { witness_commitment: false, ..offer() };
        let parts = bare.assemble(SERIAL, 0, b"", &[], 20).unwrap();
        assert!(parts.transaction(&extranonce).unwrap().input[0].witness.is_empty());
    }

    #[test]
    fn serial_and_salt_are_search_spaces_of_their_own() {
        let prefix =
            |serial, salt| offer().assemble(TemplateSerial(serial), salt, b"", &[], 20).unwrap().prefix;
        assert_ne!(prefix(1, 0), prefix(2, 0));
        assert_ne!(prefix(1, 0), prefix(1, 1));
        assert_ne!(prefix(1, 2), prefix(2, 1));
    }

    #[test]
    fn the_script_ends_at_one_hundred_bytes() {
        // 4 bytes of height, 9 of serial and salt, 1 + 20 of extranonce, 1 of the tag's opcode.
        let longest = parts(&[b'x'; 65], 20).unwrap();
        assert_eq!(longest.transaction(&[0; 20]).unwrap().input[0].script_sig.len(), 100);
        assert_eq!(parts(&[b'x'; 66], 20), Err(CoinbaseError::ScriptTooLong));
        assert_eq!(parts(&vec![b'x'; 100_000], 20), Err(CoinbaseError::ScriptTooLong));
    }

    #[test]
    fn the_longest_tag_fits_every_source() {
        let tag = Tag::new([b'x'; Tag::MAX_LEN]).unwrap();
        let greedy = Coinbase { script_prefix: vec![0x51; 8], ..offer() };
        let parts = greedy.assemble(SERIAL, 0, &tag, &[], 20).unwrap();
        assert_eq!(parts.transaction(&[0; 20]).unwrap().input[0].script_sig.len(), 100);
        assert_eq!(Tag::new([b'x'; Tag::MAX_LEN + 1]), Err(CoinbaseError::TagTooLong));
    }

    #[test]
    fn an_extranonce_has_the_length_that_was_left_for_it() {
        assert_eq!(parts(b"", 0), Err(CoinbaseError::ExtranonceLength));
        assert_eq!(parts(b"", 76), Err(CoinbaseError::ExtranonceLength));
        let parts = parts(b"", 20).unwrap();
        assert_eq!(parts.transaction(&[0; 19]), Err(CoinbaseError::ExtranonceLength));
        assert_eq!(parts.transaction(&[0; 21]), Err(CoinbaseError::ExtranonceLength));
    }
}
