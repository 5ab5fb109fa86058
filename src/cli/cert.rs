//! `cert`: certificates by hand.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::control::{self, Answer, Question};
use super::{Failure, config};
use crate::certs::{NoiseReport, Options, Report, authority, make};
use crate::clock::unix_now;
use crate::config::ConfigError;
use crate::transport::tls::{Date, Facts};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Make certificates for a server that does not have the authority's secret. Needs no network.
    New(New),
    /// Show what is served: by the running server, or what the configuration would have one serve.
    Show(Show),
    /// Have the running server read its certificates again.
    Reload,
    /// Print the pin of a certificate's key, as it stands in a URL.
    Pin(Pin),
}

#[derive(Debug, clap::Args)]
pub(super) struct New {
    /// The authority's secret key; without it, authority.key in certs_dir.
    #[arg(long, value_name = "FILE")]
    authority: Option<PathBuf>,
    /// The directory to put authority.pub, tls.key, tls.pem and noise.pem into: the server's certs_dir,
    /// or one to copy from there.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// For how long, as in 90d, 12h or 2y.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    valid_for: Duration,
    /// A DNS name or an IP address for the TLS certificate. May be given several times.
    #[arg(long = "name", value_name = "NAME")]
    names: Vec<String>,
    /// Replace what is there.
    #[arg(long)]
    force: bool,
    /// With --force, keep the TLS key that is there, so that pins stay valid.
    #[arg(long, requires = "force")]
    keep_key: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Show {
    /// A certificate in PEM, leaf first, or one for Noise, to be shown instead.
    file: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Pin {
    /// A certificate in PEM, leaf first; without it, the one that the configuration names.
    file: Option<PathBuf>,
}

pub(super) async fn cert(command: Command, named: Option<PathBuf>) -> Result<(), Failure> {
    // a server is asked, whatever has become of its configuration
    match command {
        Command::Reload => return control::demand(named, Question::ReloadCertificates).await,
        Command::Show(Show { file: None, json }) => return show_served(json, named).await,
        _ => {}
    }
    let options = options(named)?;
    let done = match command {
        Command::New(args) => new(args, &options),
        Command::Show(Show { file: Some(file), json }) => show(&file, json),
        Command::Pin(args) => pin(args, &options),
        Command::Show(_) | Command::Reload => Ok(()),
    };
    done.map_err(Failure::Run)
}

fn options(named: Option<PathBuf>) -> Result<Options, ConfigError> {
    Ok(config(named)?.unwrap_or_default().certs())
}

fn new(args: New, options: &Options) -> Result<(), Box<dyn std::error::Error>> {
    let path = args.authority.unwrap_or_else(|| options.directory.join(authority::FILE_NAME));
    let authority = authority::load_secret(&path)?;
    let wanted = make::Wanted {
        directory: args.out,
        valid_for: args.valid_for,
        names: args.names,
        replace: args.force,
        keep_key: args.keep_key,
    };
    let made = make::make(&authority, &wanted, unix_now())?;
    if args.json {
        let object = serde_json::json!({
            "authority_key": authority.public_key().to_string(),
            "files": made.files,
            "names": wanted.names,
            "pin": made.pin,
            "valid_from": made.valid_from,
            "valid_until": made.not_valid_after,
        });
        println!("{object}");
        return Ok(());
    }
    for file in &made.files {
        println!("{}", file.display());
    }
    println!("valid from {} until {}", Date(made.valid_from), Date(made.not_valid_after));
    println!("miners know the server by {}, or by ?pin={}", authority.public_key(), made.pin);
    println!("without the secret the server cannot renew them: do this again before they expire");
    Ok(())
}

fn show(path: &Path, json: bool) -> Result<(), Box<dyn std::error::Error>> {
    match (NoiseReport::of_file(path)?, json) {
        (Some(noise), true) => println!("{}", serde_json::json!({ "noise": noise })),
        (Some(noise), false) => println!("{noise}"),
        (None, true) => println!("{}", serde_json::to_string(&facts(path)?)?),
        (None, false) => println!("{}\n{}", path.display(), facts(path)?),
    }
    Ok(())
}

async fn show_served(json: bool, named: Option<PathBuf>) -> Result<(), Failure> {
    let (data_dir, _) = control::data_dir(named.clone());
    let failed =
        |why: String| Failure::Run(format!("cannot ask the server of {}: {why}", data_dir.display()).into());
    let (by, report): (_, Report) = match control::ask(&data_dir, Question::ShowCertificates).await {
        Ok(Some(Answer { good: true, text })) => (
            "served by the running server",
            serde_json::from_str(&text).map_err(|error| failed(error.to_string()))?,
        ),
        Ok(Some(Answer { good: false, text })) => return Err(failed(text)),
        Ok(None) => (
            "no server is running on this data directory; one would serve",
            Report::inspect(&options(named)?, unix_now()),
        ),
        Err(error) => return Err(failed(error.to_string())),
    };
    if json {
        println!("{}", serde_json::to_string(&report).map_err(|error| failed(error.to_string()))?);
    } else {
        print!("{by}\n{report}");
    }
    Ok(())
}

fn facts(path: &Path) -> Result<Facts, Box<dyn std::error::Error>> {
    let pem = fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    Ok(Facts::from_pem(&pem).map_err(|error| format!("{}: {error}", path.display()))?)
}

fn pin(args: Pin, options: &Options) -> Result<(), Box<dyn std::error::Error>> {
    let path = args.file.unwrap_or_else(|| options.first.certificate.clone());
    println!("{}", facts(&path)?.pin);
    Ok(())
}

/// A whole number and its unit.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("{text:?} is no time: write a number and a unit (h, d, w or y), as in 90d, 12h or 2y");
    let at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(at);
    let seconds: u64 = match unit {
        "h" => 3600,
        "d" => 24 * 3600,
        "w" => 7 * 24 * 3600,
        "y" => 365 * 24 * 3600,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(seconds).filter(|seconds| *seconds > 0).map(Duration::from_secs).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        let days = |days: u64| Ok(Duration::from_secs(days * 24 * 3600));
        assert_eq!(duration("90d"), days(90));
        assert_eq!(duration("2y"), days(730));
        assert_eq!(duration("1w"), days(7));
        assert_eq!(duration("36h").map(|time| time.as_secs()), Ok(129_600));
        // neither minutes nor months
        for wrong in
            ["", "d", "90", "0d", "-1d", "1.5d", "90 d", "90D", "d90", "99999999999999999y", "1é", "3m"]
        {
            assert!(duration(wrong).unwrap_err().contains("(h, d, w or y)"), "{wrong}");
        }
    }
}
