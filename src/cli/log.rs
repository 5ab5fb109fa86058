//! The log, and how much is in it.

use std::env;
use std::io;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Comes before the configuration, if it is set.
const VARIABLE: &str = "RUST_LOG";

/// How much is logged, which can be changed at any time.
pub(super) struct LogLevel {
    set: Box<dyn Fn(EnvFilter) -> bool + Send + Sync>,
    /// The variable says it.
    fixed: bool,
}

impl LogLevel {
    /// Logs to standard error from now on.
    pub(super) fn to_stderr(level: &str) -> Self {
        let ansi = io::IsTerminal::is_terminal(&io::stderr());
        Self::start(level, io::stderr, ansi, true)
    }

    /// Logs to `writer` from now on. What cannot be written is lost.
    pub(super) fn to_file<W>(level: &str, writer: W) -> Self
    where
        W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
    {
        Self::start(level, writer, false, false)
    }

    fn start<W>(level: &str, writer: W, ansi: bool, complain: bool) -> Self
    where
        W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
    {
        // one that is there and empty is what units and compose files make of none
        let of_variable = env::var(VARIABLE).ok().filter(|level| !level.trim().is_empty());
        let of_variable = of_variable.and_then(|level| filter(&level));
        let fixed = of_variable.is_some();
        let builder = tracing_subscriber::fmt()
            .with_writer(writer)
            .with_target(false)
            .with_ansi(ansi)
            .log_internal_errors(complain)
            .with_env_filter(of_variable.or_else(|| filter(level)).unwrap_or_default())
            .with_filter_reloading();
        let handle = builder.reload_handle();
        builder.init();
        Self { set: Box::new(move |filter| handle.reload(filter).is_ok()), fixed }
    }

    /// For what logs nothing.
    #[cfg(test)]
    pub(super) fn none() -> Self {
        Self { set: Box::new(|_| true), fixed: false }
    }

    /// Whether the level is as wanted now: the variable may say otherwise, or `level` may be none.
    pub(super) fn set(&self, level: &str) -> bool {
        !self.fixed && filter(level).is_some_and(|filter| (self.set)(filter))
    }
}

/// `None` if `level` is no level and no list of directives.
fn filter(level: &str) -> Option<EnvFilter> {
    // what that crate has to say of Bitcoin Core's interface, the source of work says better
    EnvFilter::try_new(format!("{level},bitcoin_core_sv2=error")).ok()
}
