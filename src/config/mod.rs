//! `config.toml`.

mod blvm;
mod changes;
mod draft;
mod hints;
mod keys;
mod log;
mod module;
mod overrides;
mod problem;
mod quic;
mod regtest;
mod secrets;
mod source;
mod stratum_v2;
mod tls;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bitcoin::Network;
use serde::Deserialize;

pub use self::blvm::Blvm;
pub use self::changes::{Change, Takes};
use self::draft::Draft;
pub use self::log::Log;
pub use self::module::Environment;
pub use self::overrides::Overrides;
use self::problem::Checks;
pub use self::problem::{ConfigError, Place, Places, Problem};
pub use self::quic::Quic;
pub use self::regtest::Regtest;
pub use self::source::{Kind, Source, Work};
pub use self::stratum_v2::{Chain, StratumV2};
pub use self::tls::{Noise, Pair, Tls};
use crate::mining::payees::Payees;
use crate::mining::payout::PayoutPolicy;
use crate::{pool, server, template};

/// What `config.toml` may say. Everything has a default.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The server.
    pub stratum_v2: StratumV2,
    /// What is logged.
    pub log: Log,
    /// Certificates for QUIC.
    pub tls: Tls,
    /// The QUIC transport.
    pub quic: Quic,
    /// The TCP transport.
    pub noise: Noise,
    /// How often there is new work.
    pub work: Work,
    /// Where work comes from, best first: the embedded chain if there is none.
    pub source: Vec<Source>,
    /// The embedded chain.
    pub regtest: Option<Regtest>,
    /// The blvm-node that this server belongs to.
    pub blvm: Blvm,
    /// The file that all of this was read from.
    #[serde(skip)]
    pub path: Option<PathBuf>,
    /// Where in it, or in the environment, each key is.
    #[serde(skip)]
    pub places: Places,
}

/// Two that say the same are equal, wherever they say it.
impl PartialEq for Config {
    fn eq(&self, other: &Self) -> bool {
        let Self { stratum_v2, log, tls, quic, noise, work, source, regtest, blvm, path: _, places: _ } =
            self;
        (stratum_v2, log, tls) == (&other.stratum_v2, &other.log, &other.tls)
            && (quic, noise, work) == (&other.quic, &other.noise, &other.work)
            && (source, regtest, blvm) == (&other.source, &other.regtest, &other.blvm)
    }
}

impl Config {
    /// What the file says, if there is one, and `overrides` over it. Passwords are read from their files.
    ///
    /// # Errors
    ///
    /// All keys that there are not and types that do not fit, with whatever else is then known to be wrong. Values of
    /// the right type that do not work are an error of [`options`](Self::options).
    pub fn load(path: Option<&Path>, overrides: &Overrides) -> Result<Self, ConfigError> {
        let text = path.map(read).transpose()?.unwrap_or_default();
        let mut draft = Draft::default();
        if let Some(path) = path {
            draft.file(path, &text)?;
        }
        draft.overrides(overrides);
        draft.finish(|_| ())
    }

    /// Every key that there is, as `table.key`; `source.url` and `tls.certificate.key_path` may be there many times.
    #[must_use]
    pub fn keys() -> Vec<String> {
        let of = |table: &'static keys::Table| table.keys.iter().map(|key| format!("{}.{key}", table.name));
        keys::tables().iter().flat_map(of).collect()
    }

    /// What the server and its parts take. All that is wrong is reported at once.
    pub fn options(&self) -> Result<server::Options, ConfigError> {
        self.check().map_err(ConfigError::Wrong)
    }

    fn check(&self) -> Result<server::Options, Vec<Problem>> {
        let mut checks = Checks::default();
        let server = &self.stratum_v2;
        let named = server.check(&mut checks);
        self.log.check(&mut checks);
        self.tls.check(&mut checks);
        self.quic.check(&mut checks);
        self.noise.check(&mut checks);
        self.blvm.check(server.solo, &mut checks);
        if let Some(regtest) = &self.regtest {
            regtest.check(&mut checks);
        }
        let payout = server.payout(self.network(), self.has_source(), &mut checks);
        let template = self.template(payout.as_ref(), &mut checks);
        let (Some((tag, server_id)), Some(payout), Some(template), true) =
            (named, payout, template, checks.is_empty())
        else {
            return Err(checks.done(&self.places));
        };
        Ok(server::Options {
            listen_addr: server.listen_addr,
            handshake_timeout: Duration::from_secs(server.handshake_timeout),
            max_connections: server.max_connections,
            max_connections_per_ip: server.max_connections_per_ip,
            max_tcp_connections: usize::MAX,
            noise_enabled: self.noise.enabled,
            quic: self.quic.options(server),
            pool: pool::Options { session: server.session(), payout, tag, server_id },
            template,
        })
    }

    /// The network to mine on.
    #[must_use]
    pub fn network(&self) -> Network {
        let usual = if self.has_source() { Chain::Main } else { Chain::Regtest };
        self.stratum_v2.network.unwrap_or(usual).into()
    }

    /// Whether work comes from a node, and not from the embedded chain.
    #[must_use]
    pub fn has_source(&self) -> bool {
        !self.source.is_empty() || self.blvm.names_node()
    }

    /// Sources are checked for a `payout` of no size if that is wrong.
    fn template(&self, payout: Option<&PayoutPolicy>, checks: &mut Checks) -> Option<template::Options> {
        let network = self.network();
        let pace = self.work.pace(checks);
        if !self.has_source() {
            if network != Network::Regtest {
                let text = format!(
                    "is {}: that takes a [[source]], a node to have work from",
                    network.to_core_arg()
                );
                checks.tell("stratum_v2.network", &["source", "blvm"], text);
            }
            return Some(self.regtest.clone().unwrap_or_default().options());
        }
        if self.regtest.is_some() {
            let text = "is the embedded chain, which is not used beside a [[source]]: remove it";
            checks.tell("regtest", &[], text);
        }
        let solo = PayoutPolicy::Solo { fee: None, network };
        let room = payout.unwrap_or(&solo).room();
        let common = source::Common {
            network,
            room: if self.blvm.datum { room.plus(Payees::ROOM) } else { room },
            pace: pace.unwrap_or_default(),
            work: &self.work,
            data_dir: &self.stratum_v2.data_dir,
        };
        let sources = if self.source.is_empty() {
            vec![self.blvm.source(&common, checks)]
        } else {
            let of = |(number, source): (usize, &Source)| source.options(number + 1, &common, checks);
            self.source.iter().enumerate().map(of).collect()
        };
        let solutions = Some(self.stratum_v2.data_dir.join("solutions"));
        Some(template::Options {
            sources: sources.into_iter().collect::<Option<_>>()?,
            pace: common.pace,
            solutions,
        })
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    fs::read_to_string(path).map_err(|error| ConfigError::Read(path.to_owned(), error))
}
