//! Certificates for a server that does not have the authority's secret, made where that is.

use std::path::PathBuf;
use std::time::Duration;

use super::private::Draft;
use super::{CertsError, authority, noise, private, tls};
use crate::wire::certificate::Certificate;
use crate::wire::keys::AuthoritySecretKey;

/// What to make.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The directory to put it into.
    pub directory: PathBuf,
    /// For how long, from now.
    pub valid_for: Duration,
    /// DNS names and IP addresses for the TLS certificate.
    pub names: Vec<String>,
    /// Replace what is there.
    pub replace: bool,
    /// Keep the TLS key that is there, and with it the pin.
    pub keep_key: bool,
}

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// All files, also one that was there already.
    pub files: Vec<PathBuf>,
    /// The pin of the TLS key.
    pub pin: String,
    /// The first second of validity, in unix time.
    pub valid_from: u32,
    /// The last.
    pub not_valid_after: u32,
}

/// Makes `authority.pub`, `tls.key`, `tls.pem` and `noise.pem` at unix time `now`.
///
/// All of them are written beside their places before the first is put there: a full disk or a
/// directory that is not ours changes nothing. Each is put there whole, the TLS key first. Who is
/// interrupted meanwhile has a key and a certificate that do not belong together, which no server
/// takes, or files without an `authority.pub`; doing it again with `replace` mends it.
pub fn make(authority: &AuthoritySecretKey, wanted: &Wanted, now: u32) -> Result<Made, CertsError> {
    let path = |name: &str| wanted.directory.join(name);
    let (public, noise) = (path(authority::PUBLIC_FILE), path(noise::FILE_NAME));
    let (certificate, key) = (path(tls::CERTIFICATE_FILE), path(tls::KEY_FILE));
    let seconds = u32::try_from(wanted.valid_for.as_secs()).ok();
    let fits = |seconds: &u32| *seconds >= tls::SHORTEST && now.checked_add(*seconds).is_some();
    let Some(seconds) = seconds.filter(fits) else {
        return Err(CertsError::Asked(
            "it must be valid for an hour at least, and end before 2106".to_owned(),
        ));
    };
    let (valid_from, not_valid_after) = Certificate::span(now, seconds);

    let there = authority::read_public(&public)?;
    if there.is_some_and(|there| there != authority.public_key()) && !wanted.replace {
        return Err(CertsError::Exists(public));
    }
    if let Some(path) = [&key, &certificate, &noise].into_iter().find(|path| !wanted.replace && path.exists())
    {
        return Err(CertsError::Exists(path.clone()));
    }
    // where a secret is, it is the one that counts
    let secret = path(authority::FILE_NAME);
    if secret.exists() && authority::load_secret(&secret)?.public_key() != authority.public_key() {
        return Err(CertsError::TwoAuthorities { key: secret, public });
    }

    let kept = if wanted.keep_key { private::read_secret(&key)? } else { None };
    if wanted.keep_key && kept.is_none() {
        return Err(CertsError::Asked(format!(
            "{} is not there to be kept: check the directory, or leave out --keep-key to have a new one",
            key.display()
        )));
    }
    let names = &wanted.names;
    let kept_key = kept.as_ref().map(|pem| &pem[..]);
    let identity = tls::issue(&certificate, kept_key, names, authority, (valid_from, not_valid_after))?;
    // a wildcard stands for any one label
    let found = |name: &str| match name.strip_prefix("*.") {
        Some(rest) => identity.covers(&format!("any.{rest}")),
        None => identity.covers(name),
    };
    if let Some(name) = names.iter().find(|name| !found(name)) {
        return Err(CertsError::Asked(format!(
            "{name:?} is neither a DNS name, nor one after \"*.\", nor an IP address"
        )));
    }
    let static_key = noise::make(authority, valid_from, not_valid_after);

    let mut drafts = Vec::new();
    if kept.is_none() {
        drafts.push(Draft::write(&key, identity.key_pem().as_bytes())?);
    }
    drafts.push(Draft::write(&certificate, identity.chain_pem().as_bytes())?);
    drafts.push(Draft::write(&noise, noise::to_pem(&static_key).as_bytes())?);
    if there != Some(authority.public_key()) {
        drafts.push(Draft::write(&public, format!("{}\n", authority.public_key()).as_bytes())?);
    }
    for draft in drafts {
        if wanted.replace { draft.put_over()? } else { draft.put_new()? }
    }
    let files = vec![public, key, certificate, noise];
    Ok(Made { files, pin: identity.pin(), valid_from, not_valid_after })
}
