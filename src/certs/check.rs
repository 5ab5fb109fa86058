//! Whether what is to be served is fit for it.

use std::path::Path;
use std::sync::Arc;

use super::set::Set;
use super::tls::Held;
use super::{Options, noise};
use crate::transport::tls::{Date, NAME};

/// How long before its end a certificate is spoken of, in seconds: 14 days, or half its time if that
/// is less.
const NOTICE: u32 = 14 * 24 * 3600;

const NEW_ONE: &str = "make another with cert new where the authority's secret is";
const REPLACE: &str = "replace it and its key";
const NEW_CA: &str = "put a new one there, and give miners certificates of it";

/// What of a set has a time, and what to do when that is over.
struct Timed<'a> {
    path: &'a Path,
    from: u32,
    until: u32,
    remedy: &'static str,
}

impl<'a> Timed<'a> {
    fn of(held: &'a Held) -> Self {
        let (from, until) = held.validity();
        let remedy = if held.word.is_some() { NEW_ONE } else { REPLACE };
        Self { path: &held.pair.certificate, from, until, remedy }
    }

    fn problem(&self, now: u32) -> Option<String> {
        let path = self.path.display();
        if now > self.until {
            Some(format!(
                "{path} has expired at {}: check this machine's clock, else {}",
                Date(self.until),
                self.remedy
            ))
        } else if now < self.from {
            Some(format!(
                "{path} is not valid before {}: check this machine's clock, else {}",
                Date(self.from),
                self.remedy
            ))
        } else {
            None
        }
    }

    fn ends_soon(&self, now: u32) -> Option<String> {
        let notice = NOTICE.min(self.until.saturating_sub(self.from) / 2);
        if now <= self.until && self.until - now >= notice {
            return None;
        }
        if now > self.until {
            return self.problem(now);
        }
        Some(format!("{} expires at {}: {}", self.path.display(), Date(self.until), self.remedy))
    }
}

/// What is wrong with time and names, but for the time of what `served` has already: to keep that
/// would be no better.
pub(super) fn problems(set: &Set, options: &Options, now: u32, served: Option<&Set>) -> Vec<String> {
    let mut problems: Vec<String> = set
        .pairs()
        .filter(|held| {
            !served
                .is_some_and(|served| served.pairs().any(|old| old.identity.shows_the_same(&held.identity)))
        })
        .filter_map(|held| Timed::of(held).problem(now))
        .collect();
    let missing: Vec<_> =
        options.names.iter().filter(|name| !set.first.identity.covers(name)).map(String::as_str).collect();
    if !missing.is_empty() {
        problems.push(format!(
            "{} is not for {} (tls.names), but {}: get one that is, or correct tls.names",
            set.first.pair.certificate.display(),
            missing.join(" and "),
            names(&set.first),
        ));
    }
    let same_ca = served.is_some_and(|served| {
        served.client_ca.as_ref().map(|ca| ca.facts()) == set.client_ca.as_ref().map(|ca| ca.facts())
    });
    if !same_ca {
        let cas = client_cas(set, options);
        let wrong: Vec<_> = cas.iter().filter_map(|ca| ca.problem(now)).collect();
        // one that is good is enough
        if wrong.len() == cas.len() {
            problems.extend(wrong);
        }
    }
    let served_noise = served.and_then(|served| served.noise.as_ref());
    if let Some(identity) = &set.noise
        && served_noise.is_none_or(|old| old.certificate() != identity.certificate())
    {
        let path = options.directory.join(noise::FILE_NAME);
        problems.extend(noise_time(set, &path).and_then(|timed| timed.problem(now)));
    }
    problems
}

/// Why `new` must not take the place of `old`: miners would be refused that are not now.
pub(super) fn refusals(old: &Set, new: &Set, options: &Options) -> Vec<String> {
    let mut refusals = Vec::new();
    if old.unasked().word.is_some() && new.unasked().word.is_none() {
        refusals.push(format!(
            "{} is not signed by the authority key, as {} is, which is in use: every miner with the key in its URL would refuse it; restart the server if this is wanted",
            new.unasked().pair.certificate.display(),
            old.unasked().pair.certificate.display(),
        ));
    }
    if options.names.is_empty() {
        let facts = old.first.identity.facts();
        let lost = facts.real_names().filter(|name| !is_for(&new.first, name));
        refusals.extend(lost_names(lost, &new.first, ", or set tls.names"));
    }
    for (served, next) in in_the_same_file(&old.more, new) {
        let facts = served.identity.facts();
        let lost = facts.real_names().filter(|name| !new.pairs().any(|held| is_for(held, name)));
        refusals.extend(lost_names(lost, next, ""));
    }
    refusals
}

fn lost_names<'a>(lost: impl Iterator<Item = &'a str>, next: &Held, or: &str) -> Option<String> {
    let lost: Vec<_> = lost.collect();
    (!lost.is_empty()).then(|| {
        format!(
            "{} is not for {}, as the one in use is, but {}; restart the server if this is wanted{or}",
            next.pair.certificate.display(),
            lost.join(" and "),
            names(next),
        )
    })
}

/// Of each pair that is served, what takes its place.
fn in_the_same_file<'a>(
    served: impl IntoIterator<Item = &'a Arc<Held>>,
    new: &'a Set,
) -> impl Iterator<Item = (&'a Held, &'a Held)> {
    served.into_iter().filter_map(|served| {
        let next = new.pairs().find(|next| next.pair.certificate == served.pair.certificate)?;
        Some((&**served, next))
    })
}

/// What some miners will notice when `new` takes the place of `old`.
pub(super) fn warnings(old: &Set, new: &Set) -> Vec<String> {
    let mut warnings = Vec::new();
    let first = [(&*old.first, &*new.first)];
    for (served, next) in first.into_iter().chain(in_the_same_file(&old.more, new)) {
        let (before, after) = (served.identity.pin(), next.identity.pin());
        let certificate = next.pair.certificate.display();
        if before != after {
            let others = match (served.word, next.word) {
                (Some(_), Some(_)) => "; those with the authority key do not notice",
                _ => "",
            };
            warnings.push(format!(
                "{certificate} has another key than before: miners with ?pin={before} in their URL need ?pin={after} instead{others}"
            ));
        }
        if served.word.is_none() && next.word.is_some() {
            warnings.push(format!(
                "{certificate} is signed by the authority key now: miners that verify the server by its name refuse it"
            ));
        }
    }
    let (served, next) = (old.unasked(), new.unasked());
    // between two of one place is said above
    let moved = served.pair != next.pair && !(is_first(served, old) && is_first(next, new));
    if moved && served.identity.pin() != next.identity.pin() {
        warnings.push(format!(
            "miners that ask for no name are shown {} instead of {}: those with ?pin={} in their URL need ?pin={} instead",
            next.pair.certificate.display(),
            served.pair.certificate.display(),
            served.identity.pin(),
            next.identity.pin(),
        ));
    }
    warnings
}

fn is_first(held: &Held, set: &Set) -> bool {
    std::ptr::eq(held, &*set.first)
}

/// What miners may do that the operator may not expect.
pub(super) fn open_doors(options: &Options, noise: bool) -> Option<String> {
    let path = options.client_ca.as_ref().filter(|_| noise)?;
    Some(format!(
        "miners over TCP need no certificate of {} (tls.client_ca_path), as Noise knows none: set noise.enabled = false if nobody else may connect",
        path.display()
    ))
}

/// What runs out soon or has, and is not renewed by this server.
pub(super) fn expiring(set: &Set, options: &Options, renews: bool, now: u32) -> Vec<String> {
    let path = options.directory.join(noise::FILE_NAME);
    // one that is due should have been renewed: that it is not has a reason that is told elsewhere
    let left = set.pairs().filter(|held| !(renews && held.is_ours() && !held.is_due(now)));
    left.map(Timed::of)
        .chain(client_cas(set, options))
        .chain(noise_time(set, &path))
        .filter_map(|timed| timed.ends_soon(now))
        .collect()
}

fn client_cas<'a>(set: &'a Set, options: &'a Options) -> Vec<Timed<'a>> {
    let path = options.client_ca.as_deref().unwrap_or(Path::new(""));
    let facts = set.client_ca.as_ref().map_or(&[][..], |ca| ca.facts());
    facts
        .iter()
        .map(|ca| Timed { path, from: ca.valid_from, until: ca.valid_until, remedy: NEW_CA })
        .collect()
}

fn noise_time<'a>(set: &Set, path: &'a Path) -> Option<Timed<'a>> {
    let certificate = set.noise.as_ref()?.certificate();
    let (from, until) = (certificate.valid_from(), certificate.not_valid_after());
    Some(Timed { path, from, until, remedy: NEW_ONE })
}

/// Whether all that `name` stands for, which may be a wildcard, finds `held`.
fn is_for(held: &Held, name: &str) -> bool {
    held.identity.covers(name)
        || held.identity.facts().names.iter().any(|other| other.eq_ignore_ascii_case(name))
}

fn names(held: &Held) -> String {
    let names = held.identity.facts().names.join(" and ");
    if names.is_empty() || names == NAME { "has no names".to_owned() } else { format!("for {names}") }
}
