//! Serving what the files hold, and following their changes.

use std::path::PathBuf;
use std::sync::Arc;

use ring::digest::{Context, SHA256};

use super::authority::{self, Authority};
use super::set::{Part, Set, Snapshot};
use super::tls::Held;
use super::{CertsError, Options, Report, check, endpoint, noise, tls};
use crate::transport::NoiseIdentity;
use crate::transport::quic::EndpointKeys;
use crate::transport::tls::{Date, Serving};
use crate::wire::certificate::Certificate;
use crate::wire::keys::AuthorityPublicKey;

/// What is served, and where it comes from. All of it blocks on files.
///
/// ```text
/// start ──> serving ──look: all good──> offered ──served──> serving the new (new connections only)
///              │                           └──look: all good──> offered again, the newest
///              └──────look: any bad───> serving the old
/// ```
#[derive(Debug)]
pub struct Rotation {
    authority: Authority,
    /// What handshakes over Noise present, if there are any.
    noise: Option<Arc<NoiseIdentity>>,
    options: Options,
    set: Set,
    /// What the last look has offered, with what names its files.
    offered: Option<(Set, Options)>,
    /// What was bad at the last look, if anything, and why.
    bad: Option<([u8; 32], String)>,
}

/// A rotation that has begun.
#[derive(Debug)]
pub struct Started {
    /// To look with.
    pub rotation: Rotation,
    /// To serve.
    pub parts: Parts,
    /// What the operator should know.
    pub told: Vec<String>,
    /// What may be as it should be, or not.
    pub warnings: Vec<String>,
    /// What the operator should do something about. It is served nevertheless.
    pub problems: Vec<String>,
}

/// What a server is known by.
#[derive(Debug)]
pub struct Parts {
    /// Vouches for the server.
    pub authority: AuthorityPublicKey,
    /// For Noise, if there is anything to show. The rotation replaces what is in it.
    pub noise: Option<Arc<NoiseIdentity>>,
    /// For TLS.
    pub tls: Serving,
    /// For QUIC.
    pub endpoint: EndpointKeys,
}

/// What a look at the files brought.
#[derive(Debug)]
pub enum Look {
    /// Nothing new.
    Same,
    /// Something better. It is offered at each look until it is [served](Rotation::served).
    Swapped(Swap),
    /// Something that is not to be served: what was served before still is.
    Bad {
        /// What is wrong with it.
        why: CertsError,
        /// Whether it was there at the last look already. If not, somebody may be writing just now.
        seen_before: bool,
    },
}

/// What takes the place of what was served.
#[derive(Debug)]
pub struct Swap {
    /// For connections over QUIC that come from now on.
    pub tls: Serving,
    /// What the operator should know.
    pub told: Vec<String>,
    /// What miners will notice, and what could not be done.
    pub warnings: Vec<String>,
    /// Tells it from all others.
    digest: [u8; 32],
}

impl Rotation {
    /// Reads everything at unix time `now`, after making what is missing and can be made.
    pub fn start(options: Options, now: u32) -> Result<Started, CertsError> {
        let mut told = Vec::new();
        let authority = authority::load_or_create(&options.directory)?;
        if authority.new {
            let key = options.directory.join(authority::FILE_NAME);
            told.push(format!("made the authority key {}; keep a copy of it in a safe place", key.display()));
        }
        // who has the secret certifies as it is needed
        let files = Options { noise: options.noise && authority.secret.is_none(), ..options.clone() };
        let Renewal { renewed, failed } = renew(&files, &authority, now);
        let mut snapshot = Snapshot::read(&files)?;
        let places = tls::places(&options, Some(&authority));
        let mut made = None;
        if let (Some(place), Some(secret)) = (places.first(), &authority.secret)
            && place.makes
        {
            let (kept, done) = match snapshot.first_part() {
                Part::Nothing => (None, Some("")),
                Part::Key(key) => (Some(key), Some(", with the key that was there")),
                Part::Certificate => (None, None),
            };
            if done.is_some() {
                let span = Certificate::span(now, tls::VALIDITY);
                let identity = tls::issue(&place.pair.certificate, kept, &[], secret, span)?;
                tls::keep(place.pair, &identity, kept.is_some())?;
                made = done;
                snapshot = Snapshot::read(&files)?;
            }
        }
        let set = snapshot.parse(&files, &authority)?;
        set.warn_of_readers(&files);
        let mut problems: Vec<_> = failed.iter().map(ToString::to_string).collect();
        problems.extend(check::problems(&set, &files, now, None));
        for (index, held) in set.pairs().enumerate() {
            let certificate = held.pair.certificate.display();
            told.push(held.told(&match made {
                Some(how) if index == 0 => format!("made the TLS certificate {certificate}{how}"),
                _ if renewed.contains(&held.pair.certificate) => {
                    format!("renewed the TLS certificate {certificate}, with the same key")
                }
                _ => String::new(),
            }));
        }
        let (secret, new) = endpoint::load_or_create(&options.directory)?;
        if new {
            let path = options.directory.join(endpoint::FILE_NAME);
            told.push(format!("made the endpoint's secret {}", path.display()));
        }
        let tls = set.serving(&authority)?;
        let warnings = check::open_doors(&options, options.noise).into_iter().collect();
        let mut rotation = Self { authority, noise: None, options: files, set, offered: None, bad: None };
        rotation.noise = rotation.noise_identity(options.noise);
        told.extend(noise_told(&rotation.set, &rotation.options));
        let parts = Parts {
            authority: rotation.authority.public,
            noise: rotation.noise.clone(),
            tls,
            endpoint: EndpointKeys::derive(secret.as_bytes()),
        };
        Ok(Started { rotation, parts, told, warnings, problems })
    }

    /// Reads everything again, by what `options` say now, and offers all of it or nothing. What the
    /// server has renewed itself is offered even if the rest is bad.
    pub fn look(&mut self, options: &Options, now: u32) -> Look {
        if let Some(noise) = &self.noise {
            noise.set_validity(options.noise_validity);
        }
        // whether there is a listener for Noise was settled at the start
        let options = Options { noise: self.options.noise, ..options.clone() };
        self.offered = None;
        let Renewal { renewed, mut failed } = renew(&options, &self.authority, now);
        let found = self.find(&options, now).and_then(|found| match (found, failed.pop()) {
            (None, Some(why)) => Err(Bad::because(&self.set.digest, why)),
            (found, last) => Ok(found.map(|set| (set, failed.into_iter().chain(last)))),
        });
        let found = match found {
            Ok(None) => {
                self.bad = None;
                return Look::Same;
            }
            Ok(Some((set, failed))) => {
                self.offer(set, options, &renewed, failed.map(|error| error.to_string()).collect())
            }
            Err(Bad { digest, why }) => match self.renewed_alone(&digest, now) {
                None => Err(Bad { digest, why }),
                Some((set, renewed)) => {
                    let why = format!("all other certificates stay as they were: {why}");
                    self.offer(set, self.options.clone(), &renewed, vec![why])
                }
            },
        };
        match found {
            Ok(swap) => {
                self.bad = None;
                Look::Swapped(swap)
            }
            Err(Bad { digest, why }) => {
                let before = self.bad.replace((digest, why.to_string()));
                let seen_before = before.is_some_and(|(before, _)| before == digest);
                Look::Bad { why: *why, seen_before }
            }
        }
    }

    /// To be told that connections over QUIC are shown what a look has offered: those over Noise are
    /// from now on, too. Without it, what was served before still counts.
    pub fn served(&mut self, swap: &Swap) {
        // a look that nobody waited for may have offered something else since
        let Some((set, options)) = self.offered.take_if(|(set, _)| set.digest == swap.digest) else { return };
        if noise_certificate(&self.set) != noise_certificate(&set)
            && let (Some(noise), Some(identity)) = (&self.noise, &set.noise)
        {
            noise.replace(identity.clone());
        }
        (self.set, self.options) = (set, options);
    }

    /// What expires within 14 days, or has expired, and is not renewed by the server, with what is
    /// to be done about it; and why what the files hold now is not served, if it is not.
    #[must_use]
    pub fn expiring(&self, now: u32) -> Vec<String> {
        let mut lines = check::expiring(&self.set, &self.options, self.authority.secret.is_some(), now);
        lines.extend(self.refused());
        lines
    }

    /// What is served, and what is wrong with it at unix time `now`, or soon will be.
    #[must_use]
    pub fn status(&self, now: u32) -> Report {
        let mut report = Report::of(&self.authority, &self.set, &self.options);
        let mut problems = check::problems(&self.set, &self.options, now, None);
        let others: Vec<_> = self.expiring(now).into_iter().filter(|line| !problems.contains(line)).collect();
        problems.extend(others);
        report.problems = problems;
        report.warnings.extend(check::open_doors(&self.options, self.noise.is_some()));
        report
    }

    fn refused(&self) -> Option<String> {
        let (_, why) = self.bad.as_ref()?;
        Some(format!("what the certificates' files hold now is not served: {why}"))
    }

    /// What the files hold, if it is another set than what is served, and as good.
    fn find(&self, options: &Options, now: u32) -> Result<Option<Set>, Bad> {
        let snapshot = Snapshot::read(options).map_err(|why| Bad::because(&[], why))?;
        let digest = snapshot.digest;
        let bad = |why| Bad { digest, why: Box::new(why) };
        if digest == self.set.digest {
            return Ok(None);
        }
        let set = snapshot.parse(options, &self.authority).map_err(bad)?;
        let mut wrong = check::problems(&set, options, now, Some(&self.set));
        wrong.extend(check::refusals(&self.set, &set, options));
        if wrong.is_empty() { Ok(Some(set)) } else { Err(bad(CertsError::Refused(wrong))) }
    }

    /// What is served, but for what has been renewed in its place: that is not to suffer from the
    /// rest of the files, whose digest this is.
    fn renewed_alone(&self, rest: &[u8], now: u32) -> Option<(Set, Vec<PathBuf>)> {
        self.authority.secret.as_ref()?;
        let mut set = self.set.clone();
        // it may not be where the options of this look have it
        renew(&self.options, &self.authority, now);
        let places = tls::places(&self.options, Some(&self.authority));
        let mut renewed = Vec::new();
        for (held, place) in set.pairs_mut().zip(&places).filter(|(held, _)| held.is_due(now)) {
            if let Ok(found) = Held::at(place, &self.authority, &self.options.directory)
                && found.renews(held, now)
            {
                *held = Arc::new(found);
                renewed.push(held.pair.certificate.clone());
            }
        }
        // no snapshot's, so that the next good one differs
        set.digest = hash([&set.digest, rest]);
        (!renewed.is_empty()).then_some((set, renewed))
    }

    fn offer(
        &mut self,
        set: Set,
        options: Options,
        renewed: &[PathBuf],
        failed: Vec<String>,
    ) -> Result<Swap, Bad> {
        let digest = set.digest;
        let tls = set.serving(&self.authority).map_err(|why| Bad { digest, why: Box::new(why) })?;
        set.warn_of_readers(&options);
        let mut warnings = check::warnings(&self.set, &set);
        warnings.extend(failed);
        let mut told = self.changes(&set, &options, renewed);
        if noise_certificate(&self.set) != noise_certificate(&set) {
            told.extend(noise_told(&set, &options));
        }
        self.offered = Some((set, options));
        Ok(Swap { tls, told, warnings, digest })
    }

    /// What differs between what is served and `set`.
    fn changes(&self, set: &Set, options: &Options, renewed: &[PathBuf]) -> Vec<String> {
        let same = |a: &Held, b: &Held| a.pair == b.pair && a.identity.shows_the_same(&b.identity);
        let mut told = Vec::new();
        for (index, held) in set.pairs().enumerate() {
            let before = self.set.pairs().nth(index);
            if before.is_some_and(|before| same(before, held)) {
                continue;
            }
            let certificate = held.pair.certificate.display();
            told.push(held.told(&if renewed.contains(&held.pair.certificate) {
                format!("renewed the TLS certificate {certificate}, with the same key")
            } else {
                format!("new connections are shown the TLS certificate {certificate}")
            }));
        }
        for gone in self.set.more.get(set.more.len()..).unwrap_or_default() {
            told.push(format!("{} is served no more", gone.pair.certificate.display()));
        }
        let ca = |set: &Set| set.client_ca.as_ref().map(|ca| ca.facts().to_vec());
        if ca(&self.set) != ca(set) {
            told.push(match &options.client_ca {
                Some(path) => format!("new miners over QUIC must show a certificate of {}", path.display()),
                None => "new miners over QUIC need no certificate any more".to_owned(),
            });
        }
        told
    }

    fn noise_identity(&self, wanted: bool) -> Option<Arc<NoiseIdentity>> {
        let identity = match &self.authority.secret {
            _ if !wanted => return None,
            Some(secret) => NoiseIdentity::new(secret.clone(), self.options.noise_validity),
            None => NoiseIdentity::fixed(self.set.noise.clone()?),
        };
        Some(Arc::new(identity))
    }
}

fn noise_told(set: &Set, options: &Options) -> Option<String> {
    let until = Date(set.noise.as_ref()?.certificate().not_valid_after());
    let path = options.directory.join(noise::FILE_NAME);
    Some(format!("Noise certificate {}, until {until}", path.display()))
}

fn noise_certificate(set: &Set) -> Option<Certificate> {
    set.noise.as_ref().map(|identity| *identity.certificate())
}

/// Why nothing is taken, and of what.
struct Bad {
    digest: [u8; 32],
    why: Box<CertsError>,
}

impl Bad {
    /// Told apart by what it says.
    fn because(of: &[u8], why: CertsError) -> Self {
        Self { digest: hash([of, why.to_string().as_bytes()]), why: Box::new(why) }
    }
}

fn hash(parts: [&[u8]; 2]) -> [u8; 32] {
    let mut hash = Context::new(&SHA256);
    parts.iter().for_each(|part| hash.update(part));
    hash.finish().as_ref().try_into().expect("SHA-256 is 32 bytes")
}

/// What was due.
struct Renewal {
    renewed: Vec<PathBuf>,
    failed: Vec<CertsError>,
}

/// Renews what is ours and due, if the authority's secret is at hand, whatever is wrong with the rest.
fn renew(options: &Options, authority: &Authority, now: u32) -> Renewal {
    let (mut renewed, mut failed) = (Vec::new(), Vec::new());
    if let Some(secret) = &authority.secret {
        let places = tls::places(options, Some(authority));
        // what cannot be read is told of by who reads all
        let held = places.iter().filter_map(|place| Held::at(place, authority, &options.directory).ok());
        for held in held.filter(|held| held.is_due(now)) {
            match held.renew(secret, now) {
                Ok(()) => renewed.push(held.pair.certificate.clone()),
                Err(error) => failed.push(error),
            }
        }
    }
    Renewal { renewed, failed }
}
