//! The handshake (§4.5): `-> e`, then `<- e, ee, s, es, SIGNATURE_NOISE_MESSAGE`.

use bitcoin::secp256k1::ellswift::{ElligatorSwift, ElligatorSwiftParty};
use bitcoin::secp256k1::{PublicKey, XOnlyPublicKey};
use rand_core::CryptoRng;
use ring::aead::{Aad, LessSafeKey};
use ring::digest::{Context, SHA256};
use ring::hkdf;
use zeroize::Zeroizing;

use super::NoiseError;
use super::cipher::{Opener, Sealer, TAG_LEN, aead, nonce};
use crate::wire::certificate::{Certificate, CertificateError, Subject};
use crate::wire::keys::{AuthorityPublicKey, AuthoritySecretKey, KeyError, Secret, secp};

const PROTOCOL_NAME: &[u8] = b"Noise_NX_Secp256k1+EllSwift_ChaChaPoly_SHA256";
/// The length of a public key on the wire (§4.3.1.1).
const ELLSWIFT_LEN: usize = 64;
/// Where the encrypted certificate starts in act 2.
const CERTIFICATE_AT: usize = 2 * ELLSWIFT_LEN + TAG_LEN;

/// The length of act 1: the initiator's ephemeral key.
pub const ACT1_LEN: usize = ELLSWIFT_LEN;
/// The length of act 2: the responder's ephemeral key, its static key and its certificate, the
/// latter two encrypted. (The 170 bytes of §4.5.2.1 date from before EllSwift.)
pub const ACT2_LEN: usize = CERTIFICATE_AT + Certificate::LEN + TAG_LEN;

/// The client, between act 1 and act 2.
#[derive(Debug)]
pub struct Initiator {
    ephemeral: KeyPair,
    symmetric: Symmetric,
}

impl Initiator {
    /// §4.5.1.1: starts a handshake with act 1, which is to be sent.
    #[must_use]
    pub fn new(rng: &mut impl CryptoRng) -> (Self, [u8; ACT1_LEN]) {
        let ephemeral = KeyPair::generate(rng);
        let act1 = ephemeral.public.to_array();
        (Self { ephemeral, symmetric: Symmetric::after_act1(&act1) }, act1)
    }

    /// §4.5.2.2 and §4.5.3: reads act 2, and accepts only a server for which `authority`
    /// vouches at unix time `now`, by the certificate that is returned.
    pub fn finish(
        self,
        act2: &[u8; ACT2_LEN],
        authority: &AuthorityPublicKey,
        now: u32,
    ) -> Result<((Sealer, Opener), Certificate), NoiseError> {
        let (ciphers, certificate, key) = self.read(act2)?;
        certificate.verify(authority, Subject::NoiseKey(&key), now)?;
        Ok((ciphers, certificate))
    }

    /// [`finish`](Self::finish) with whoever answers, for where no authority key is known. Nobody
    /// can listen in, but whoever sits in between can pass for the server.
    pub fn finish_unverified(self, act2: &[u8; ACT2_LEN]) -> Result<(Sealer, Opener), NoiseError> {
        self.read(act2).map(|(ciphers, ..)| ciphers)
    }

    /// What act 2 says: the certificate, and the static key that it should be for.
    fn read(
        self,
        act2: &[u8; ACT2_LEN],
    ) -> Result<((Sealer, Opener), Certificate, XOnlyPublicKey), NoiseError> {
        let Self { ephemeral, mut symmetric } = self;
        let mut act2 = *act2;
        let (re, rest) = act2.split_first_chunk_mut::<ELLSWIFT_LEN>().expect("act 2 starts with a key");
        let (rs, certificate) = rest.split_at_mut(ELLSWIFT_LEN + TAG_LEN);

        symmetric.mix_hash(re);
        let key = symmetric.mix_key(&ephemeral.ecdh(*re, ElligatorSwiftParty::A));
        let rs = symmetric.decrypt_and_hash(&key, rs)?;
        let key = symmetric.mix_key(&ephemeral.ecdh(rs, ElligatorSwiftParty::A));
        let certificate = Certificate::from_bytes(&symmetric.decrypt_and_hash(&key, certificate)?);

        let static_key = PublicKey::from_ellswift(ElligatorSwift::from_array(rs)).x_only_public_key().0;
        let (c1, c2) = symmetric.split();
        Ok(((Sealer::new(&c1), Opener::new(&c2)), certificate, static_key))
    }
}

/// A server's static key and the certificate for it. One identity answers any number of
/// handshakes, and signs nothing while it does.
#[derive(Debug)]
pub struct StaticIdentity {
    pair: KeyPair,
    certificate: Certificate,
}

impl StaticIdentity {
    /// A new static key with a certificate from `authority` for a span of unix time. As miners'
    /// clocks are off, `valid_from` is best a little in the past.
    #[must_use]
    pub fn new(
        authority: &AuthoritySecretKey,
        valid_from: u32,
        not_valid_after: u32,
        rng: &mut impl CryptoRng,
    ) -> Self {
        let pair = KeyPair::generate(rng);
        let key = pair.secret.x_only();
        let certificate = Certificate::issue(authority, Subject::NoiseKey(&key), valid_from, not_valid_after);
        Self { pair, certificate }
    }

    /// A static key with a certificate that was made elsewhere, checked to be `authority`'s and
    /// for this key. Its dates are not looked at: it may be made ahead of time.
    pub fn from_parts(
        static_secret: &[u8; 32],
        certificate: Certificate,
        authority: &AuthorityPublicKey,
        rng: &mut impl CryptoRng,
    ) -> Result<Self, IdentityError> {
        let pair = KeyPair::new(Secret::from_bytes(static_secret)?, rng);
        certificate.verify_signature(authority, Subject::NoiseKey(&pair.secret.x_only()))?;
        Ok(Self { pair, certificate })
    }

    /// The static secret key, to be stored next to [`Self::certificate`].
    #[must_use]
    pub fn static_secret(&self) -> Zeroizing<[u8; 32]> {
        self.pair.secret.to_bytes()
    }

    /// The certificate that every handshake carries.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// §4.5.1.2 and §4.5.2.1: answers act 1 with act 2, which is to be sent. Every 64 bytes are
    /// an act 1, so this cannot fail: whether the two agree shows when the first frame opens.
    #[must_use]
    pub fn respond(
        &self,
        act1: &[u8; ACT1_LEN],
        rng: &mut impl CryptoRng,
    ) -> ([u8; ACT2_LEN], Sealer, Opener) {
        let mut symmetric = Symmetric::after_act1(act1);
        let ephemeral = KeyPair::generate(rng);
        let mut act2 = [0; ACT2_LEN];
        let (e, rest) = act2.split_at_mut(ELLSWIFT_LEN);
        let (s, certificate) = rest.split_at_mut(ELLSWIFT_LEN + TAG_LEN);

        e.copy_from_slice(&ephemeral.public.to_array());
        symmetric.mix_hash(e);
        let key = symmetric.mix_key(&ephemeral.ecdh(*act1, ElligatorSwiftParty::B));
        symmetric.encrypt_and_hash(&key, &self.pair.public.to_array(), s);
        let key = symmetric.mix_key(&self.pair.ecdh(*act1, ElligatorSwiftParty::B));
        symmetric.encrypt_and_hash(&key, &self.certificate.to_bytes(), certificate);

        let (c1, c2) = symmetric.split();
        (act2, Sealer::new(&c2), Opener::new(&c1))
    }
}

/// Why a secret and a certificate do not make an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The static secret is not a key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The certificate is not this authority's, or for another static key.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

/// generateKey() (§4.4.2): a secret and its public key as it is sent.
#[derive(Debug)]
struct KeyPair {
    secret: Secret,
    public: ElligatorSwift,
}

impl KeyPair {
    fn generate(rng: &mut impl CryptoRng) -> Self {
        Self::new(Secret::generate(rng), rng)
    }

    /// A key has many encodings; the random one that is chosen looks like noise.
    fn new(secret: Secret, rng: &mut impl CryptoRng) -> Self {
        let mut choice = [0; 32];
        rng.fill_bytes(&mut choice);
        let public = ElligatorSwift::from_seckey(secp(), secret.0, Some(choice));
        Self { secret, public }
    }

    /// ECDH(k, rk), where this side is the initiator, `A`, or the responder, `B`.
    fn ecdh(&self, theirs: [u8; ELLSWIFT_LEN], party: ElligatorSwiftParty) -> Zeroizing<[u8; 32]> {
        let theirs = ElligatorSwift::from_array(theirs);
        let (a, b) = match party {
            ElligatorSwiftParty::A => (self.public, theirs),
            ElligatorSwiftParty::B => (theirs, self.public),
        };
        Zeroizing::new(ElligatorSwift::shared_secret(a, b, self.secret.0, party, None).to_secret_bytes())
    }
}

/// The variables `ck` and `h` of §4.4.2. The key `k` is not kept: in this handshake each one
/// encrypts one thing, with nonce 0.
struct Symmetric {
    chaining_key: Zeroizing<[u8; 32]>,
    hash: [u8; 32],
}

impl Symmetric {
    /// Both sides' state once act 1 is known.
    fn after_act1(act1: &[u8; ACT1_LEN]) -> Self {
        let name = sha256(&[PROTOCOL_NAME]);
        let mut symmetric = Self { chaining_key: Zeroizing::new(name), hash: sha256(&[&name]) };
        symmetric.mix_hash(act1);
        symmetric.mix_hash(&[]);
        symmetric
    }

    fn mix_hash(&mut self, data: &[u8]) {
        self.hash = sha256(&[&self.hash, data]);
    }

    fn mix_key(&mut self, input: &[u8; 32]) -> LessSafeKey {
        let (chaining_key, key) = hkdf(&self.chaining_key, input);
        self.chaining_key = chaining_key;
        aead(&key)
    }

    fn encrypt_and_hash(&mut self, key: &LessSafeKey, plaintext: &[u8], out: &mut [u8]) {
        let (text, tag) = out.split_at_mut(plaintext.len());
        text.copy_from_slice(plaintext);
        let computed = key
            .seal_in_place_separate_tag(nonce(0), Aad::from(self.hash), text)
            .expect("a handshake's parts are far below the cipher's limit");
        tag.copy_from_slice(computed.as_ref());
        self.mix_hash(out);
    }

    fn decrypt_and_hash<const N: usize>(
        &mut self,
        key: &LessSafeKey,
        ciphertext: &mut [u8],
    ) -> Result<[u8; N], NoiseError> {
        let before = self.hash;
        self.mix_hash(ciphertext);
        let plaintext = key.open_in_place(nonce(0), Aad::from(before), ciphertext);
        let plaintext = plaintext.map_err(|_| NoiseError::Decrypt)?;
        Ok((&*plaintext).try_into().expect("the parts of act 2 have fixed lengths"))
    }

    /// The keys from initiator to responder, and back.
    fn split(self) -> (Zeroizing<[u8; 32]>, Zeroizing<[u8; 32]>) {
        hkdf(&self.chaining_key, &[])
    }
}

impl std::fmt::Debug for Symmetric {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<redacted>")
    }
}

fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    parts.iter().for_each(|part| context.update(part));
    context.finish().as_ref().try_into().expect("SHA-256 is 32 bytes")
}

/// HKDF of §4.4.2 with two outputs: RFC 5869 with an empty `info` and twice the hash's length.
fn hkdf(chaining_key: &[u8; 32], input: &[u8]) -> (Zeroizing<[u8; 32]>, Zeroizing<[u8; 32]>) {
    struct TwoHashes;

    impl hkdf::KeyType for TwoHashes {
        fn len(&self) -> usize {
            64
        }
    }

    let key = hkdf::Salt::new(hkdf::HKDF_SHA256, chaining_key).extract(input);
    let mut outputs = Zeroizing::new([[0; 32]; 2]);
    key.expand(&[], TwoHashes)
        .and_then(|key| key.fill(outputs.as_flattened_mut()))
        .expect("HKDF gives up to 255 hashes");
    (Zeroizing::new(outputs[0]), Zeroizing::new(outputs[1]))
}
