//! What is wrong with a configuration, and where.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Where something is said.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In a file, on a line counted from 1. None if the file does not say it at all.
    File(PathBuf, Option<usize>),
    /// In a variable of the environment.
    Variable(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, Some(line)) => write!(f, "{}:{line}", path.display()),
            Self::File(path, None) => write!(f, "{}", path.display()),
            Self::Variable(name) => f.write_str(name),
        }
    }
}

/// Where each key, table and entry of a configuration is from.
#[derive(Debug, Clone, Default)]
pub struct Places {
    pub(super) file: Option<PathBuf>,
    pub(super) of: BTreeMap<String, Place>,
}

impl Places {
    /// Where `key` is, or what it is in.
    pub(super) fn find(&self, key: &str) -> Option<Place> {
        let around = |key: &str| Some(key.rsplit_once(['.', '['])?.0.to_owned());
        let mut at = Some(key.to_owned());
        while let Some(name) = at {
            if let Some(place) = self.of.get(&name) {
                return Some(place.clone());
            }
            at = around(&name);
        }
        self.file.clone().map(|path| Place::File(path, None))
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where it is. None if nothing says so, and it should.
    pub place: Option<Place>,
    /// What it is about, as `table.key`, `source[2].url` or `[table]`.
    pub key: String,
    /// What is wrong, without the value.
    pub text: String,
    /// The keys and tables of which any may be the reason.
    pub(super) about: Vec<String>,
}

impl Problem {
    pub(super) fn new(place: Option<Place>, key: impl Into<String>, text: impl Into<String>) -> Self {
        Self { place, key: key.into(), text: text.into(), about: Vec::new() }
    }

    /// Whether it may come of `other` being wrong, and would be gone with that.
    pub(super) fn follows(&self, other: &str) -> bool {
        let within = |inner: &str, outer: &str| {
            inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        self.about.iter().any(|about| within(about, other) || within(other, about))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        write!(f, "{}: {}", self.key, self.text)
    }
}

/// What is wrong with the values of a configuration, as it comes to light.
#[derive(Debug, Default)]
pub(super) struct Checks(Vec<Problem>);

impl Checks {
    /// `key` must be so, and it is if it `holds`.
    pub(super) fn must(&mut self, key: &str, holds: bool, be: &str) {
        if !holds {
            self.tell(key, &[], format!("must be {be}"));
        }
    }

    /// Something is wrong about `key`, unless the reason is in `others`.
    pub(super) fn tell(&mut self, key: &str, others: &[&str], text: impl Into<String>) {
        let about = [key].iter().chain(others).map(|key| (*key).to_owned()).collect();
        self.0.push(Problem { about, ..Problem::new(None, key, text) });
    }

    /// All that is wrong, in the order of the places.
    pub(super) fn done(self, places: &Places) -> Vec<Problem> {
        let placed = |problem: Problem| Problem { place: places.find(&problem.key), ..problem };
        sorted(self.0.into_iter().map(placed).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// As they stand in the file, then what is of the environment.
pub(super) fn sorted(mut problems: Vec<Problem>) -> Vec<Problem> {
    problems.sort_by(|a, b| a.place.cmp(&b.place));
    problems
}

/// Which line of a text a byte is on.
pub(super) fn line_of(text: &str, byte: usize) -> usize {
    text.as_bytes().iter().take(byte).filter(|byte| **byte == b'\n').count() + 1
}

/// What is wrong with the configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {0}: {1}")]
    Read(PathBuf, io::Error),
    /// The file is not TOML.
    #[error("{place}: {message}")]
    Toml {
        /// Where.
        place: Place,
        /// What is wrong there.
        message: String,
    },
    /// Keys that do not exist, types that do not fit, and values that do not work.
    #[error("the configuration does not work:\n  {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n  "))]
    Wrong(Vec<Problem>),
}

impl ConfigError {
    /// The text is not TOML.
    pub(super) fn syntax(path: &Path, text: &str, error: &toml::de::Error) -> Self {
        let line = line_of(text, error.span().map_or(0, |span| span.start));
        // what is no key may be a password that goes on from the line before
        let key = text.lines().nth(line - 1).and_then(|line| line.split_once('=')).map(|(key, _)| key.trim());
        let is_key = |key: &&str| key.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c));
        let message = match key.filter(is_key) {
            Some(key) => format!("{key}: {}", error.message()),
            None => error.message().to_owned(),
        };
        Self::Toml { place: Place::File(path.to_owned(), Some(line)), message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_that_of_the_key_or_of_what_it_is_in() {
        let at = |line| Place::File("f".into(), Some(line));
        let of = [("source[2].url", 7), ("source[2]", 6), ("quic", 2)];
        let of = of.map(|(key, line)| (key.to_owned(), at(line))).into();
        let places = Places { file: Some("f".into()), of };
        for (key, place) in [
            ("source[2].url", at(7)),
            ("source[2].user", at(6)),
            ("quic.keep_alive", at(2)),
            ("source[1].url", Place::File("f".into(), None)),
        ] {
            assert_eq!(places.find(key), Some(place), "{key}");
        }
        assert_eq!(Places::default().find("quic"), None);
    }

    #[test]
    fn what_follows_from_something_else() {
        let problem =
            Problem { about: vec!["source[2]".into(), "blvm.datum".into()], ..Problem::new(None, "", "") };
        for reason in ["source[2].url", "source", "source[2]", "blvm", "blvm.datum"] {
            assert!(problem.follows(reason), "{reason}");
        }
        for reason in ["source[21]", "source[1].url", "blvm.connect", "sour"] {
            assert!(!problem.follows(reason), "{reason}");
        }
    }
}
