//! A TLS certificate and its key on disk: read, made, renewed.

use std::path::Path;

use super::authority::{self, Authority};
use super::{CertsError, Options, Pair, private};
use crate::transport::tls::{Date, IdentityError, TlsError, TlsIdentity};
use crate::wire::certificate::Certificate;
use crate::wire::keys::AuthoritySecretKey;

/// The certificate's file, in the directory of the certificates: a chain in PEM, leaf first.
pub const CERTIFICATE_FILE: &str = "tls.pem";
/// The key's file beside it, in PEM.
pub const KEY_FILE: &str = "tls.key";

/// For how long the authority vouches for the TLS key, in seconds: two years. A server renews it
/// when half of it is over.
pub(super) const VALIDITY: u32 = 2 * 365 * 24 * 3600;
/// No certificate is made or renewed for less, in seconds: it would have to be again at once.
pub(super) const SHORTEST: u32 = 3600;

/// Where a pair comes from, for errors that say what to do.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) pair: &'a Pair,
    /// The keys of the configuration that name its files.
    pub(super) keys: [String; 2],
    /// Whether the server makes both files if neither is there.
    pub(super) makes: bool,
    /// Whether it would, had it the authority's secret.
    pub(super) usual: bool,
}

/// All places of pairs, the first one's first.
pub(super) fn places<'a>(options: &'a Options, authority: Option<&Authority>) -> Vec<Place<'a>> {
    let usual = options.first == Options::usual_pair(&options.directory);
    // without either half of an authority's key, a new one is made
    let makes = usual && authority.is_none_or(|authority| authority.secret.is_some());
    let first = ["tls.cert_path", "tls.key_path"].map(str::to_owned);
    let more = options.more.iter().enumerate().map(|(index, pair)| {
        let keys = ["cert_path", "key_path"].map(|key| format!("tls.certificate[{index}].{key}"));
        Place { pair, keys, makes: false, usual: false }
    });
    [Place { pair: &options.first, keys: first, makes, usual }].into_iter().chain(more).collect()
}

/// A certificate, its key, and what the authority says about it.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) pair: Pair,
    pub(super) identity: TlsIdentity,
    /// The authority's word, whatever the time.
    pub(super) word: Option<Certificate>,
}

impl Held {
    /// As its files are now.
    pub(super) fn at(place: &Place<'_>, authority: &Authority, directory: &Path) -> Result<Self, CertsError> {
        let (chain, key) = (private::read(&place.pair.certificate)?, private::read(&place.pair.key)?);
        let contents = [&chain, &key].map(|contents| contents.as_ref().map(|contents| &contents[..]));
        Self::read(place, contents, authority, directory)
    }

    /// From the contents of its files, `None` if they are not there.
    pub(super) fn read(
        place: &Place<'_>,
        contents: [Option<&[u8]>; 2],
        authority: &Authority,
        directory: &Path,
    ) -> Result<Self, CertsError> {
        let Pair { certificate, key } = place.pair.clone();
        let makes = place.makes;
        let (chain, secret) = match contents {
            [Some(chain), Some(secret)] => (chain, secret),
            [None, None] if place.usual => return Err(CertsError::NoPair { certificate, key }),
            [Some(_), None] if place.usual => {
                return Err(CertsError::Half { missing: key, present: certificate, makes });
            }
            [None, Some(_)] if makes => return Err(CertsError::NoCertificate { certificate, key }),
            [None, Some(_)] if place.usual => {
                return Err(CertsError::Half { missing: certificate, present: key, makes });
            }
            [None, _] => {
                return Err(CertsError::Missing { path: certificate, key: place.keys[0].clone() });
            }
            [Some(_), None] => return Err(CertsError::Missing { path: key, key: place.keys[1].clone() }),
        };
        let identity = match TlsIdentity::from_pem(chain, secret) {
            Ok(identity) => identity,
            Err(error) => return Err(CertsError::Tls { certificate, key, error, makes }),
        };
        let word = match identity.signed_by(&authority.public) {
            Ok(word) => Some(word),
            Err(IdentityError::NoExtension) => None,
            Err(IdentityError::WrongAuthority) => {
                let half =
                    if authority.secret.is_some() { authority::FILE_NAME } else { authority::PUBLIC_FILE };
                let authority = directory.join(half);
                return Err(CertsError::OtherAuthority { certificate, key, authority, makes });
            }
            Err(error) => {
                let error = TlsError::Identity(error);
                return Err(CertsError::Tls { certificate, key, error, makes });
            }
        };
        Ok(Self { pair: place.pair.clone(), identity, word })
    }

    /// The first and the last second at which all that verify it take it, in unix time.
    pub(super) fn validity(&self) -> (u32, u32) {
        let facts = self.identity.facts();
        let x509 = (facts.valid_from, facts.valid_until);
        self.word.map_or(x509, |word| (x509.0.max(word.valid_from()), x509.1.min(word.not_valid_after())))
    }

    /// Whether we have made it, so that we may make it anew.
    pub(super) fn is_ours(&self) -> bool {
        self.word.is_some() && self.identity.facts().self_signed && self.identity.intermediates() == 0
    }

    /// Whether it is ours and less than half of its time is left.
    pub(super) fn is_due(&self, now: u32) -> bool {
        let (from, until) = self.validity();
        // a clock that was set back may leave a certificate in the future
        self.is_ours() && (now < from || !lasts(from, until, now))
    }

    /// Whether it is what `old`, which is due, becomes by a renewal.
    pub(super) fn renews(&self, old: &Self, now: u32) -> bool {
        let names = |held: &Self| held.identity.facts().names.clone();
        self.is_ours()
            && !self.is_due(now)
            && self.identity.pin() == old.identity.pin()
            && names(self) == names(old)
    }

    /// Has the authority vouch for the same key and names for as long again, in the same file.
    pub(super) fn renew(&self, authority: &AuthoritySecretKey, now: u32) -> Result<(), CertsError> {
        let (from, until) = self.validity();
        let span = until.saturating_sub(from).saturating_sub(Certificate::BACKDATED).max(SHORTEST);
        let (from, until) = Certificate::span(now, span);
        let certificate = &self.pair.certificate;
        let renewed = self.identity.renewed(authority, from, until);
        let renewed = renewed.map_err(|error| CertsError::Issue(certificate.clone(), error))?;
        private::replace(certificate, renewed.chain_pem().as_bytes())
    }

    /// One line for the operator, after what was done to have it.
    pub(super) fn told(&self, done: &str) -> String {
        let certificate = self.pair.certificate.display();
        let done = if done.is_empty() { format!("TLS certificate {certificate}") } else { done.to_owned() };
        let until = Date(self.validity().1);
        match self.word {
            Some(_) => format!("{done}: miners verify it by the authority key, until {until}"),
            None => format!(
                "{done}: miners verify it as a web server's, until {until}, or by ?pin={} in their URL. The authority key has not signed it",
                self.identity.pin()
            ),
        }
    }
}

/// A certificate with these names for the key in `kept`, or for a new one, to be put there.
pub(super) fn issue(
    certificate: &Path,
    kept: Option<&[u8]>,
    names: &[String],
    authority: &AuthoritySecretKey,
    (from, until): (u32, u32),
) -> Result<TlsIdentity, CertsError> {
    let issued = match kept {
        Some(key) => TlsIdentity::certify_pem(key, names, authority, from, until),
        None => TlsIdentity::issue_for(names, authority, from, until),
    };
    issued.map_err(|error| CertsError::Issue(certificate.to_owned(), error))
}

/// Keeps what was issued. The key comes first: a certificate can be made for it again.
pub(super) fn keep(pair: &Pair, identity: &TlsIdentity, has_key: bool) -> Result<(), CertsError> {
    if !has_key {
        private::create(&pair.key, identity.key_pem().as_bytes())?;
    }
    private::create(&pair.certificate, identity.chain_pem().as_bytes())
}

/// Whether at least half of the time is left.
pub(super) fn lasts(from: u32, until: u32, now: u32) -> bool {
    until.saturating_sub(now) >= until.saturating_sub(from) / 2
}
