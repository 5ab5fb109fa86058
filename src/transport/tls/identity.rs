//! The server's TLS key and the certificates that go with it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256,
    PublicKeyData, date_time_ymd,
};
use ring::digest::{SHA256, digest};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

use super::leaf::Leaf;
use super::serving::{self, server_config};
use super::{Facts, IdentityError, NAME, OID, TlsError, extension_value, pem, provider};
use crate::wire::certificate::{Certificate, Subject};
use crate::wire::keys::{AuthorityPublicKey, AuthoritySecretKey};
use crate::wire::url::pin_text;

/// What a server proves itself with: a key, the leaf certificate for it and its chain. Or a
/// client, to a server that wants it to.
pub struct TlsIdentity {
    chain: Vec<CertificateDer<'static>>,
    key: Zeroizing<PrivateKeyDer<'static>>,
    leaf: Leaf,
    facts: Facts,
}

impl TlsIdentity {
    /// A new key with a self-signed leaf for which `authority` vouches in this span of unix time,
    /// both ends included. As miners' clocks are off, `valid_from` is best a little in the past.
    ///
    /// The key is ECDSA on P-256: TLS stacks for embedded devices lack Ed25519.
    pub fn issue(
        authority: &AuthoritySecretKey,
        valid_from: u32,
        not_valid_after: u32,
    ) -> Result<Self, TlsError> {
        Self::issue_for(&[], authority, valid_from, not_valid_after)
    }

    /// As [`issue`](Self::issue), with these DNS names and IP addresses in the leaf.
    pub fn issue_for(
        names: &[String],
        authority: &AuthoritySecretKey,
        valid_from: u32,
        not_valid_after: u32,
    ) -> Result<Self, TlsError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        Self::certify(key, names, authority, valid_from, not_valid_after)
    }

    /// As [`issue_for`](Self::issue_for), for a key in PEM that there is already: in PKCS #8 form,
    /// as those that are issued here are.
    pub fn certify_pem(
        key: &[u8],
        names: &[String],
        authority: &AuthoritySecretKey,
        valid_from: u32,
        not_valid_after: u32,
    ) -> Result<Self, TlsError> {
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsError::NotPem("private key"))?;
        let key = KeyPair::try_from(&*Zeroizing::new(key))?;
        Self::certify(key, names, authority, valid_from, not_valid_after)
    }

    /// The same key, so that pins stay valid, and the same names, with a new self-signed leaf. The
    /// key must be in PKCS #8 form, as those that are issued here are.
    pub fn renewed(
        &self,
        authority: &AuthoritySecretKey,
        valid_from: u32,
        not_valid_after: u32,
    ) -> Result<Self, TlsError> {
        let key = KeyPair::try_from(&*self.key)?;
        let facts = self.facts();
        let names: Vec<_> = facts.real_names().map(str::to_owned).collect();
        Self::certify(key, &names, authority, valid_from, not_valid_after)
    }

    fn certify(
        key: KeyPair,
        names: &[String],
        authority: &AuthoritySecretKey,
        valid_from: u32,
        not_valid_after: u32,
    ) -> Result<Self, TlsError> {
        let spki = key.subject_public_key_info();
        let spki_hash = digest(&SHA256, &spki).as_ref().try_into().expect("SHA-256 is 32 bytes");
        let certificate =
            Certificate::issue(authority, Subject::TlsKey(&spki_hash), valid_from, not_valid_after);
        let time = |unix: u32| date_time_ymd(1970, 1, 1) + Duration::from_secs(unix.into());

        let nameless = [NAME.to_owned()];
        let mut params = CertificateParams::new(if names.is_empty() { &nameless } else { names })?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, NAME);
        params.not_before = time(valid_from);
        params.not_after = time(not_valid_after);
        params.custom_extensions =
            vec![CustomExtension::from_oid_content(&OID, extension_value(&certificate).into())];
        let chain = vec![params.self_signed(&key)?.into()];
        Self::new(chain, Zeroizing::new(key.into()))
    }

    /// Reads a chain, leaf first, and the leaf's key: PKCS #8, SEC 1 or PKCS #1. Refuses a pair
    /// that does not belong together.
    pub fn from_pem(certificates: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificates).collect();
        let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or(TlsError::NotPem("certificate"))?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsError::NotPem("private key"))?;
        Self::new(chain, Zeroizing::new(key))
    }

    fn new(
        chain: Vec<CertificateDer<'static>>,
        key: Zeroizing<PrivateKeyDer<'static>>,
    ) -> Result<Self, TlsError> {
        let first = chain.first().ok_or(TlsError::NotPem("certificate"))?;
        let (leaf, facts) = (Leaf::read(first)?, Facts::read(first)?);
        let identity = Self { chain, key, leaf, facts };
        identity.certified_key()?.keys_match().map_err(TlsError::Mismatch)?;
        Ok(identity)
    }

    /// The chain, leaf first, as PEM.
    #[must_use]
    pub fn chain_pem(&self) -> String {
        self.chain.iter().map(|der| pem::encode("CERTIFICATE", der).to_string()).collect()
    }

    /// The key as PEM.
    #[must_use]
    pub fn key_pem(&self) -> Zeroizing<String> {
        let label = match &*self.key {
            PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
            PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
            _ => "PRIVATE KEY",
        };
        pem::encode(label, self.key.secret_der())
    }

    /// What an authority says about the key, if the leaf carries it. Nothing about it is checked.
    #[must_use]
    pub fn authority_certificate(&self) -> Option<Certificate> {
        self.leaf.certificate.clone().ok()
    }

    /// What `authority` says about the key, if it holds at unix time `now`.
    pub fn vouched_by(&self, authority: &AuthorityPublicKey, now: u32) -> Result<Certificate, IdentityError> {
        self.leaf.vouched_by(authority, now)
    }

    /// What `authority` says about the key, whether or not it is the time for it.
    pub fn signed_by(&self, authority: &AuthorityPublicKey) -> Result<Certificate, IdentityError> {
        self.leaf.signed_by(authority)
    }

    /// What stands in the leaf.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Whether the leaf is for this DNS name or IP address, as clients that verify names see it.
    #[must_use]
    pub fn covers(&self, name: &str) -> bool {
        let name = ServerName::try_from(name).ok();
        name.is_some_and(|name| self.chain.first().is_some_and(|leaf| serving::covers(leaf, &name)))
    }

    /// Whether the same certificates are shown by the same key.
    #[must_use]
    pub fn shows_the_same(&self, other: &Self) -> bool {
        self.chain == other.chain
    }

    /// How many certificates there are beside the leaf.
    #[must_use]
    pub fn intermediates(&self) -> usize {
        self.chain.len().saturating_sub(1)
    }

    /// The last second of X.509's own validity, in unix time, as far as 32 bits reach.
    #[must_use]
    pub fn not_after(&self) -> u32 {
        self.leaf.not_after
    }

    /// SHA-256 of the key's SubjectPublicKeyInfo in DER: what a pin pins.
    #[must_use]
    pub fn spki_hash(&self) -> [u8; 32] {
        self.leaf.spki_hash
    }

    /// The pin as it stands in a URL: `sha256/` and 43 characters of base64url.
    #[must_use]
    pub fn pin(&self) -> String {
        pin_text(&self.spki_hash())
    }

    /// A configuration that serves this identity over TLS 1.3 to clients that offer [`ALPN`](super::ALPN). It
    /// asks for no client certificate, sends no tickets, and takes no early data.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, TlsError> {
        server_config(&[self], 0, None)
    }

    /// The chain and the key, for one who shows them.
    pub(super) fn parts(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        (self.chain.clone(), self.key.clone_key())
    }

    pub(super) fn certified_key(&self) -> Result<CertifiedKey, TlsError> {
        let key = provider().key_provider.load_private_key(self.key.clone_key());
        Ok(CertifiedKey::new(self.chain.clone(), key.map_err(TlsError::Mismatch)?))
    }
}

impl fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsIdentity").field("pin", &self.pin()).field("key", &"<redacted>").finish()
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;
    use x509_parser::prelude::{FromDer, X509Certificate};

    use super::*;
    use crate::transport::tls::ALPN;

    const FROM: u32 = 1_700_000_000;
    const UNTIL: u32 = 4_000_000_000; // GeneralizedTime from 2050 on

    fn authority() -> AuthoritySecretKey {
        AuthoritySecretKey::generate(&mut StdRng::seed_from_u64(1))
    }

    fn issued() -> TlsIdentity {
        TlsIdentity::issue(&authority(), FROM, UNTIL).unwrap()
    }

    #[test]
    fn the_leaf_is_small_and_says_the_same_twice() {
        let identity = issued();
        let [leaf] = &identity.chain[..] else { panic!("one certificate") };
        assert!(leaf.len() < 500, "{} bytes", leaf.len());
        let (rest, x509) = X509Certificate::from_der(leaf).unwrap();
        assert!(rest.is_empty());
        assert_eq!(x509.validity().not_before.timestamp(), i64::from(FROM));
        assert_eq!(x509.validity().not_after.timestamp(), i64::from(UNTIL));
        let extension = x509.extensions().iter().find(|e| e.value.len() == 76).unwrap();
        assert!(!extension.critical);
        // both readers find the same key
        assert_eq!(digest(&SHA256, x509.public_key().raw).as_ref(), identity.spki_hash());
        let word = identity.vouched_by(&authority().public_key(), FROM).unwrap();
        assert_eq!((word.valid_from(), word.not_valid_after()), (FROM, UNTIL));
        assert_eq!(identity.authority_certificate(), Some(word));
        assert_eq!(identity.not_after(), UNTIL);
    }

    #[test]
    fn keys_are_new_unless_renewed() {
        let (one, other) = (issued(), issued());
        assert_ne!(one.pin(), other.pin());
        let renewed = one.renewed(&authority(), FROM + 1, UNTIL).unwrap();
        assert_eq!(renewed.pin(), one.pin());
        assert_ne!(renewed.chain, one.chain);
        assert_eq!(renewed.authority_certificate().unwrap().valid_from(), FROM + 1);
    }

    #[test]
    fn pem_and_back() {
        let identity = issued();
        let read =
            TlsIdentity::from_pem(identity.chain_pem().as_bytes(), identity.key_pem().as_bytes()).unwrap();
        assert_eq!(read.chain, identity.chain);
        assert_eq!(read.key, identity.key);
        assert!(read.pin().starts_with("sha256/") && read.pin().len() == 50);
    }

    #[test]
    fn a_chain_and_every_form_of_key_are_read() {
        let identity = issued();
        let chain = identity.chain_pem() + &issued().chain_pem();
        // SEC 1 is what PKCS #8 has in its only OCTET STRING of this length
        let pkcs8 = identity.key.secret_der();
        let at = pkcs8.windows(4).position(|window| window == [0x04, 0x6d, 0x30, 0x6b]).unwrap() + 2;
        let sec1 = pem::encode("EC PRIVATE KEY", &pkcs8[at..at + 0x6d]);
        let read = TlsIdentity::from_pem(chain.as_bytes(), sec1.as_bytes()).unwrap();
        assert_eq!((read.chain.len(), read.pin()), (2, identity.pin()));
        assert_eq!(read.key_pem(), sec1);
        read.server_config().unwrap();
        // the ring crate makes PKCS #8 only, and so the one who renews needs it
        assert!(matches!(read.renewed(&authority(), FROM, UNTIL), Err(TlsError::Issue(_))));

        let rsa = include_bytes!("testdata/rsa.pem");
        let read = TlsIdentity::from_pem(rsa, include_bytes!("testdata/rsa.key")).unwrap();
        assert!(read.key_pem().starts_with("-----BEGIN RSA PRIVATE KEY-----\n"));
        assert_eq!(read.authority_certificate(), None);
        read.server_config().unwrap();
    }

    #[test]
    fn what_does_not_belong_together_is_refused() {
        let (one, other) = (issued(), issued());
        let read = |chain: &str, key: &str| TlsIdentity::from_pem(chain.as_bytes(), key.as_bytes());
        let mixed = read(&one.chain_pem(), &other.key_pem());
        assert!(matches!(mixed, Err(TlsError::Mismatch(_))), "{mixed:?}");
        let order = read(&(other.chain_pem() + &one.chain_pem()), &one.key_pem());
        assert!(matches!(order, Err(TlsError::Mismatch(_))), "the leaf comes first");
        assert!(matches!(read("", &one.key_pem()), Err(TlsError::NotPem("certificate"))));
        assert!(matches!(read(&one.key_pem(), &one.key_pem()), Err(TlsError::NotPem("certificate"))));
        assert!(matches!(read(&one.chain_pem(), ""), Err(TlsError::NotPem("private key"))));
        let damaged = pem::encode("CERTIFICATE", &one.chain[0][1..]);
        let damaged = read(&damaged, &one.key_pem());
        assert!(matches!(damaged, Err(TlsError::Identity(IdentityError::MalformedCertificate))));
    }

    #[test]
    fn the_key_is_not_printed() {
        let identity = issued();
        let printed = format!("{identity:?} {identity:#?}");
        assert!(printed.contains("<redacted>") && printed.contains(&identity.pin()));
        // nor its bytes, in any of the forms in which Debug shows them
        let key = identity.key.secret_der();
        for part in [format!("{:?}", &key[40..44]), format!("{:02x?}", &key[40..44])] {
            assert!(!printed.contains(part.trim_matches(['[', ']'])));
        }
        assert!(!printed.contains(identity.key_pem().lines().nth(1).unwrap()));
    }

    #[test]
    fn the_configuration_keeps_no_sessions() {
        let config = issued().server_config().unwrap();
        assert_eq!(config.alpn_protocols, [ALPN]);
        assert!(!config.session_storage.can_cache());
        assert!(!config.ticketer.enabled());
        assert_eq!((config.send_tls13_tickets, config.max_early_data_size), (0, 0));
    }
}
