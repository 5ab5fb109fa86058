//! What is served, or would be, in facts.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use getrandom::SysRng;
use rand_core::UnwrapErr;
use serde::{Deserialize, Serialize};

use super::authority::{self, Authority};
use super::set::{Part, Set, Snapshot};
use super::tls::Held;
use super::{CertsError, Options, check, endpoint, noise, private, tls};
use crate::transport::tls::Date;
use crate::wire::certificate::Certificate;
use crate::wire::keys::AuthoritySecretKey;

/// What a server is known by. Times are in unix seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The authority's public key, unless it is still to be made.
    pub authority_key: Option<String>,
    /// Whether its secret is at hand, so that what it vouches for is renewed by the server.
    pub has_secret: bool,
    /// What TLS serves: first for all, then by name.
    pub certificates: Vec<PairReport>,
    /// Whose certificates miners over QUIC must show, if any.
    pub client_ca: Vec<CaReport>,
    /// What Noise serves, if it is spoken.
    pub noise: Option<NoiseReport>,
    /// What a start would make.
    pub to_be_made: Vec<PathBuf>,
    /// What is wrong, and what to do about it.
    pub problems: Vec<String>,
    /// What is as it is said to be, and not for everybody.
    pub warnings: Vec<String>,
}

/// A TLS certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairReport {
    /// Its file.
    pub certificate: PathBuf,
    /// Its key's file.
    pub key: PathBuf,
    /// Whose it is.
    pub subject: String,
    /// Who has signed it.
    pub issuer: String,
    /// The DNS names and IP addresses that it is for.
    pub names: Vec<String>,
    /// The first second of its validity.
    pub valid_from: u32,
    /// The last.
    pub valid_until: u32,
    /// The pin of its key.
    pub pin: String,
    /// Whether the authority key vouches for it.
    pub by_authority: bool,
    /// Whether the server renews it.
    pub renewed_by_server: bool,
}

/// A CA of clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaReport {
    /// Its file.
    pub file: PathBuf,
    /// Who it is.
    pub subject: String,
    /// The last second of its validity.
    pub valid_until: u32,
}

/// What Noise serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum NoiseReport {
    /// Certified by the server as needed.
    ByServer {
        /// For so many seconds at a time.
        validity: u64,
    },
    /// Certified elsewhere.
    File {
        /// Its file.
        file: PathBuf,
        /// The first second of its validity.
        valid_from: u32,
        /// The last.
        valid_until: u32,
    },
}

impl Report {
    /// What a start with these options would serve and make at unix time `now`. Makes nothing.
    #[must_use]
    pub fn inspect(options: &Options, now: u32) -> Self {
        let mut report = Self {
            authority_key: None,
            has_secret: false,
            certificates: Vec::new(),
            client_ca: Vec::new(),
            noise: None,
            to_be_made: Vec::new(),
            problems: Vec::new(),
            warnings: Vec::new(),
        };
        if let Err(error) = report.look(options, now) {
            report.problems.push(error.to_string());
        }
        report
    }

    fn look(&mut self, options: &Options, now: u32) -> Result<(), CertsError> {
        let found = authority::load(&options.directory)?;
        let is_new = found.is_none();
        if is_new {
            let names = [authority::FILE_NAME, authority::PUBLIC_FILE];
            self.to_be_made.extend(names.map(|name| options.directory.join(name)));
        }
        // one that is to be made has signed nothing that is there, and so has one made for this look
        let authority = found.unwrap_or_else(|| {
            let secret = AuthoritySecretKey::generate(&mut UnwrapErr(SysRng));
            Authority { public: secret.public_key(), secret: Some(Arc::new(secret)), new: true }
        });
        self.has_secret = authority.secret.is_some();
        self.authority_key = (!is_new).then(|| authority.public.to_string());
        let endpoint = options.directory.join(endpoint::FILE_NAME);
        if !endpoint.exists() {
            self.to_be_made.push(endpoint);
        }
        let files = Options { noise: options.noise && !self.has_secret, ..options.clone() };
        let mut snapshot = Snapshot::read(&files)?;
        let makes = tls::places(options, Some(&authority)).first().is_some_and(|place| place.makes);
        let part = snapshot.first_part();
        let first_is_new = makes && !matches!(part, Part::Certificate);
        if let (true, Some(secret)) = (first_is_new, &authority.secret) {
            self.to_be_made.push(options.first.certificate.clone());
            let kept = match part {
                Part::Key(key) => Some(key),
                _ => {
                    self.to_be_made.push(options.first.key.clone());
                    None
                }
            };
            let span = Certificate::span(now, tls::VALIDITY);
            let stand_in = tls::issue(&options.first.certificate, kept, &[], secret, span)?;
            snapshot = snapshot.with_first(&stand_in);
        }
        let set = snapshot.parse(&files, &authority)?;
        let facts = Self::of(&authority, &set, &files);
        self.certificates = facts.certificates.into_iter().skip(first_is_new.into()).collect();
        self.client_ca = facts.client_ca;
        self.noise = options.noise.then_some(facts.noise).flatten();
        let due = |path: &PathBuf| {
            self.has_secret && set.pairs().any(|held| held.pair.certificate == *path && held.is_due(now))
        };
        self.to_be_made
            .extend(set.pairs().map(|held| held.pair.certificate.clone()).filter(|path| due(path)));
        self.problems = check::problems(&set, &files, now, None);
        self.warnings.extend(check::open_doors(options, options.noise));
        Ok(())
    }

    pub(super) fn of(authority: &Authority, set: &Set, options: &Options) -> Self {
        let has_secret = authority.secret.is_some();
        let cas = set.client_ca.as_ref().map_or(&[][..], |ca| ca.facts());
        let noise = match &set.noise {
            Some(identity) => Some(NoiseReport::File {
                file: options.directory.join(noise::FILE_NAME),
                valid_from: identity.certificate().valid_from(),
                valid_until: identity.certificate().not_valid_after(),
            }),
            None if has_secret => Some(NoiseReport::ByServer { validity: options.noise_validity.as_secs() }),
            None => None,
        };
        Self {
            authority_key: Some(authority.public.to_string()),
            has_secret,
            certificates: set.pairs().map(|held| PairReport::of(held, has_secret)).collect(),
            client_ca: cas
                .iter()
                .map(|ca| CaReport {
                    file: options.client_ca.clone().unwrap_or_default(),
                    subject: ca.subject.clone(),
                    valid_until: ca.valid_until,
                })
                .collect(),
            noise,
            to_be_made: Vec::new(),
            problems: Vec::new(),
            warnings: Vec::new(),
        }
    }
}

impl NoiseReport {
    /// Of a file, if it holds a certificate for Noise. Nothing about it is checked.
    pub fn of_file(path: &Path) -> Result<Option<Self>, CertsError> {
        let certificate = private::read(path)?.and_then(|pem| noise::certificate(&pem));
        Ok(certificate.map(|certificate| Self::File {
            file: path.to_owned(),
            valid_from: certificate.valid_from(),
            valid_until: certificate.not_valid_after(),
        }))
    }
}

impl PairReport {
    fn of(held: &Held, has_secret: bool) -> Self {
        let facts = held.identity.facts();
        let (valid_from, valid_until) = held.validity();
        Self {
            certificate: held.pair.certificate.clone(),
            key: held.pair.key.clone(),
            subject: facts.subject.clone(),
            issuer: facts.issuer.clone(),
            names: facts.real_names().map(str::to_owned).collect(),
            valid_from,
            valid_until,
            pin: facts.pin.clone(),
            by_authority: held.word.is_some(),
            renewed_by_server: has_secret && held.is_ours(),
        }
    }
}

/// For people, a few lines for each thing.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secret = if self.has_secret { "its secret is here" } else { "without its secret" };
        match &self.authority_key {
            Some(key) => writeln!(f, "authority key {key}, {secret}")?,
            None => writeln!(f, "authority key: to be made")?,
        }
        for certificate in &self.certificates {
            write!(f, "{certificate}")?;
        }
        for ca in &self.client_ca {
            let (file, until) = (ca.file.display(), Date(ca.valid_until));
            writeln!(f, "miners over QUIC show a certificate of {}, {file}, until {until}", ca.subject)?;
        }
        if let Some(noise) = &self.noise {
            writeln!(f, "{noise}")?;
        }
        for path in &self.to_be_made {
            writeln!(f, "to be made: {}", path.display())?;
        }
        self.warnings.iter().try_for_each(|warning| writeln!(f, "mind: {warning}"))?;
        self.problems.iter().try_for_each(|problem| writeln!(f, "problem: {problem}"))
    }
}

impl fmt::Display for NoiseReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByServer { validity } => {
                write!(f, "Noise certificate: by the server, for {validity} s at a time")
            }
            Self::File { file, valid_from, valid_until } => {
                let (from, until) = (Date(*valid_from), Date(*valid_until));
                write!(f, "Noise certificate {}: from {from} until {until}", file.display())
            }
        }
    }
}

impl fmt::Display for PairReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "TLS certificate {}, key {}", self.certificate.display(), self.key.display())?;
        writeln!(f, "  of {}, signed by {}", self.subject, self.issuer)?;
        if !self.names.is_empty() {
            writeln!(f, "  for {}", self.names.join(", "))?;
        }
        let renewed = if self.renewed_by_server { ", renewed by the server" } else { "" };
        writeln!(f, "  from {} until {}{renewed}", Date(self.valid_from), Date(self.valid_until))?;
        let verified = if self.by_authority { "by the authority key, or " } else { "as a web server's, or " };
        writeln!(f, "  miners verify it {verified}by ?pin={}", self.pin)
    }
}
