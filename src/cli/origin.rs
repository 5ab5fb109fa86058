//! Where a server's configuration comes from.

use std::fs;
use std::path::PathBuf;

use ring::digest::{SHA256, digest};

use super::config_path;
use crate::config::{Config, ConfigError, Environment, Overrides};

/// A file's SHA-256.
pub(super) type Content = [u8; 32];

/// Where the configuration is read from, as often as it is read.
#[derive(Debug, Clone)]
pub(super) enum Origin {
    /// The file that was named, or else the usual one, and the environment.
    File(Option<PathBuf>),
    /// What blvm-node says.
    Module(Environment),
}

impl Origin {
    pub(super) fn load(&self) -> Result<Config, ConfigError> {
        match self {
            Self::File(_) => Config::load(self.path().as_deref(), &Overrides::of_process()),
            Self::Module(environment) => Config::for_module(environment),
        }
    }

    /// The file, if there is one now. That of a module is looked for when it starts.
    pub(super) fn path(&self) -> Option<PathBuf> {
        match self {
            Self::File(named) => config_path(named.clone()),
            Self::Module(environment) => environment.config_path.clone(),
        }
    }

    /// As [`load`](Self::load), if a server that is `running` by another can do with it.
    pub(super) fn load_after(&self, running: &Config) -> Result<Config, String> {
        let config = self.load().map_err(|error| error.to_string())?;
        if let (None, Some(path)) = (&config.path, &running.path) {
            return Err(format!("{} is gone", path.display()));
        }
        config.options().map_err(|error| error.to_string())?;
        Ok(config)
    }

    /// What the file holds, to see whether it has changed.
    pub(super) fn content(&self) -> Option<Content> {
        let path = self.path().filter(|path| path.is_file())?;
        digest(&SHA256, &fs::read(path).ok()?).as_ref().try_into().ok()
    }
}
