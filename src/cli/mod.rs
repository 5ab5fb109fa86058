//! The commands. Each is a few lines over the library.

mod cert;
mod check_config;
mod control;
mod demo;
mod keygen;
mod limits;
mod log;
mod manual;
mod mine;
mod module;
mod notify;
mod origin;
mod own;
mod ping;
mod reload;
mod report;
mod run;
mod terminal;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::control::Question;
use self::log::LogLevel;
use crate::config::{Config, ConfigError, Environment, Overrides};

/// The file that is read when no other is named.
const CONFIG_FILE: &str = "config.toml";

/// A Stratum V2 mining server.
///
/// Exit codes: 0 all went well, 1 it did not, 2 wrong usage, 3 wrong configuration.
#[derive(Debug, Parser)]
#[command(version, verbatim_doc_comment)]
struct Cli {
    /// The configuration; without it, config.toml if there is one.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve miners.
    Run,
    /// Mine with the CPU.
    Mine(mine::Args),
    /// Connect to a server and tell what it is and how long each step takes.
    Ping(ping::Args),
    /// Show a server and miners finding blocks on a chain of their own.
    Demo(demo::Args),
    /// Make, look at and replace certificates.
    #[command(subcommand)]
    Cert(cert::Command),
    /// Have the running server read its configuration and certificates again.
    Reload,
    /// Make the authority key, by which miners know the server.
    Keygen(keygen::Args),
    /// Say what the server would do with its configuration, and change nothing.
    CheckConfig(check_config::Args),
    /// Print the manual page.
    Man,
    /// Print what makes a shell complete the arguments.
    Completions(manual::Args),
}

/// Runs the command that the arguments name. blvm-node gives none, but its environment.
#[must_use]
pub fn main() -> ExitCode {
    if env::args_os().len() <= 1
        && let Some(environment) = Environment::of_process()
    {
        return module::main(environment);
    }
    let cli = Cli::parse();
    let quiet = matches!(cli.command, Command::Demo(_) | Command::Ping(_) | Command::CheckConfig(_));
    let log = LogLevel::to_stderr(if quiet { "warn" } else { "info" });
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::Run(error.into()).exit(),
    };
    let done = runtime.block_on(async {
        match cli.command {
            Command::Run => run::run(cli.config, log).await,
            Command::Mine(args) => mine::mine(args).await,
            Command::Ping(args) => ping::ping(args).await,
            Command::Demo(args) => demo::demo(args).await,
            Command::Cert(command) => cert::cert(command, cli.config).await,
            Command::Reload => control::demand(cli.config, Question::Reload).await,
            Command::Keygen(args) => keygen::keygen(&args, &config(cli.config)?),
            Command::CheckConfig(args) => check_config::check_config(args, config(cli.config)).await,
            Command::Man => Ok(manual::man()?),
            Command::Completions(args) => Ok(manual::completions(&args)?),
        }
    });
    // threads that still hash or read do not hold up the end
    runtime.shutdown_background();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.exit(),
    }
}

/// Why a command did not do what it was to do.
enum Failure {
    Config(ConfigError),
    Run(Box<dyn std::error::Error>),
}

impl Failure {
    fn told(self) -> (ExitCode, Box<dyn std::error::Error>) {
        match self {
            Self::Run(error) => (1.into(), error),
            Self::Config(error) => (3.into(), error.into()),
        }
    }

    fn exit(self) -> ExitCode {
        let (code, error) = self.told();
        eprintln!("error: {error}");
        code
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl From<Box<dyn std::error::Error>> for Failure {
    fn from(error: Box<dyn std::error::Error>) -> Self {
        Self::Run(error)
    }
}

fn config(path: Option<PathBuf>) -> Result<Option<Config>, ConfigError> {
    let path = config_path(path);
    let overrides = Overrides::of_process();
    if path.is_none() && overrides.is_empty() {
        return Ok(None);
    }
    Config::load(path.as_deref(), &overrides).map(Some)
}

/// The file to read, if there is one.
fn config_path(named: Option<PathBuf>) -> Option<PathBuf> {
    named.or_else(|| Some(PathBuf::from(CONFIG_FILE)).filter(|default| default.exists()))
}
