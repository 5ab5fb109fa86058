//! The `[log]` table.

use serde::Deserialize;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::problem::Checks;

/// The `[log]` table.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// How much: error, warn, info, debug or trace, or directives as in `RUST_LOG`, which comes first.
    pub level: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".into() }
    }
}

impl Log {
    pub(super) fn check(&self, checks: &mut Checks) {
        // a word alone could be a part of the program, but hardly ever is meant so
        let mut words = self.level.split(',').filter(|part| !part.contains(['=', '[']));
        let levels = words.all(|word| word.trim().parse::<LevelFilter>().is_ok());
        checks.must(
            "log.level",
            levels && EnvFilter::try_new(&self.level).is_ok(),
            "error, warn, info, debug or trace, or directives as in RUST_LOG",
        );
    }
}
