//! `check-config`: what the server would do.

use std::fmt::Display;
use std::time::Duration;

use bitcoin::{Address, Network, Script};
use futures_util::future::join_all;
use serde_json::{Map, Value, json};
#[cfg(feature = "bitcoin-ipc")]
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::Failure;
use super::limits::Limits;
use crate::aside::aside;
use crate::certs;
use crate::clock::unix_now;
use crate::config::{Config, ConfigError, Overrides};
use crate::mining::reward_script;
use crate::template::SourceOptions;
use crate::template::bitcoin_rpc::BitcoinRpc;
use crate::template::tdp::TemplateProvider;

/// How long a source may take to show that it is there.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Ask every source of work whether it is there. It is an error if none is.
    #[arg(long)]
    probe: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

pub(super) async fn check_config(
    args: Args,
    config: Result<Option<Config>, ConfigError>,
) -> Result<(), Failure> {
    let mut report = Report::default();
    let checked = check(args.probe, config, &mut report).await;
    if let Err(Failure::Config(error)) = &checked {
        report.is("problems", problems(error));
    }
    report.is("good", json!(checked.is_ok()));
    if args.json {
        println!("{}", Value::Object(report.object));
    } else {
        report.lines.iter().for_each(|line| println!("{}", line.trim_end()));
    }
    checked
}

async fn check(
    probe: bool,
    config: Result<Option<Config>, ConfigError>,
    report: &mut Report,
) -> Result<(), Failure> {
    let config = config?.unwrap_or_default();
    let options = config.options()?;
    let file = config.path.as_ref().map(|path| path.display().to_string());
    report.tell("configuration", file.as_deref().unwrap_or("no file: defaults"), json!(file));
    let overrides = Overrides::of_process();
    let names = overrides.names().collect::<Vec<_>>();
    if !names.is_empty() {
        report.tell("overridden by", names.join(", "), Value::Null);
    }
    report.is("overrides", json!(names));
    if !config.stratum_v2.enabled {
        report.tell("enabled", "no: run leaves at once (stratum_v2.enabled is false)", Value::Null);
    }
    report.is("enabled", json!(config.stratum_v2.enabled));
    let network = config.network();
    report.tell("network", network.to_core_arg(), json!(network.to_core_arg()));
    listening(&config, report);

    let certs = config.certs();
    let identity = aside(move || certs::Report::inspect(&certs, unix_now())).await.map_err(failed)?;
    for (number, line) in identity.to_string().lines().enumerate() {
        report.tell(if number == 0 { "identity" } else { "" }, line, Value::Null);
    }
    report.is("identity", json!(identity));

    payout(&config, network, report);
    let names = options.template.sources.iter().map(name).collect::<Vec<_>>();
    let answers = match probe {
        true => join_all(options.template.sources.iter().map(asked)).await.into_iter().map(Some).collect(),
        false => vec![None; names.len()],
    };
    for (name, answer) in names.iter().zip(&answers) {
        let object = json!({
            "name": name,
            "usable": answer.as_ref().map(Result::is_ok),
            "detail": answer.as_ref().map(|answer| match answer { Ok(text) | Err(text) => text }),
        });
        let text = match answer {
            None => name.clone(),
            Some(Ok(detail)) => format!("{name}: {detail}"),
            Some(Err(error)) => format!("{name}: cannot be used: {error}"),
        };
        report.add("sources", "source", text, object);
    }
    let limits = Limits::of_process().too_low(&options, false);
    for too_low in &limits {
        report.tell("limits", too_low, Value::Null);
    }
    report.is("limits", json!(limits));
    if answers.iter().all(|answer| matches!(answer, Some(Err(_)))) {
        return Err(Failure::Run("no source can be used: there would be no work".into()));
    }
    if !identity.problems.is_empty() {
        return Err(Failure::Run(
            "miners would not be served as they should be: mind the problems above".into(),
        ));
    }
    Ok(())
}

fn failed(error: impl std::error::Error + 'static) -> Failure {
    Failure::Run(error.into())
}

fn problems(error: &ConfigError) -> Value {
    match error {
        ConfigError::Wrong(problems) => problems
            .iter()
            .map(|problem| {
                let place = problem.place.as_ref().map(ToString::to_string);
                json!({ "place": place, "key": problem.key, "text": problem.text })
            })
            .collect(),
        ConfigError::Toml { place, message } => {
            json!([{ "place": place.to_string(), "key": null, "text": message }])
        }
        ConfigError::Read(path, error) => {
            json!([{ "place": path, "key": null, "text": format!("cannot be read: {error}") }])
        }
    }
}

fn listening(config: &Config, report: &mut Report) {
    let address = config.stratum_v2.listen_addr;
    let tcp = config.noise.enabled.then(|| address.to_string());
    let text = match tcp {
        Some(_) => format!("udp {address} for QUIC, tcp {address} for Noise"),
        None => format!("udp {address} for QUIC (noise.enabled is false)"),
    };
    report.tell("listens on", text, json!({ "udp": address.to_string(), "tcp": tcp }));
}

fn payout(config: &Config, network: Network, report: &mut Report) {
    let server = &config.stratum_v2;
    // it has been read before, to have options
    let script = server.coinbase_reward_script.as_deref();
    let script = script.and_then(|script| reward_script::parse(script, network).ok());
    let address = script.as_deref().and_then(|script| address(script, network));
    let hex = script.as_ref().map(|script| script.to_hex_string());
    let who = match (&address, &hex) {
        (Some(address), Some(hex)) => format!("{address} (script {hex})"),
        (_, Some(hex)) => format!("the script {hex}"),
        (_, None) => "nobody: what the embedded chain pays is worth nothing".to_owned(),
    };
    let fee = f64::from(server.solo_fee) / 100.0;
    let text = match (server.solo, server.solo_fee) {
        (false, _) => who,
        (true, 0) => "each block pays its finder (solo)".to_owned(),
        (true, _) => format!("each block pays its finder (solo), and {fee} % of it {who}"),
    };
    let fee = server.solo.then_some(fee);
    let object = json!({ "address": address, "script": hex, "solo": server.solo, "solo_fee_percent": fee });
    report.tell("payout", text, object);
    report.tell("signature", format!("{:?}", server.pool_signature), json!(server.pool_signature));
}

fn address(script: &Script, network: Network) -> Option<String> {
    Address::from_script(script, network).ok().map(|address| address.to_string())
}

/// What the log calls a source.
fn name(source: &SourceOptions) -> String {
    match source {
        SourceOptions::BitcoinRpc(options) => format!("bitcoin_rpc {}", options.url),
        SourceOptions::TemplateProvider(options) => format!("template_provider {}", options.address),
        #[cfg(feature = "bitcoin-ipc")]
        SourceOptions::BitcoinIpc(options) => format!("bitcoin_ipc {}", options.socket.display()),
        SourceOptions::Regtest(_) => "the embedded chain, whose coins are worth nothing".to_owned(),
    }
}

/// What a source says, or why it says nothing.
async fn asked(source: &SourceOptions) -> Result<String, String> {
    let answer = async {
        match source {
            SourceOptions::BitcoinRpc(options) => {
                let node = BitcoinRpc::new(options.clone()).map_err(|error| error.to_string())?;
                let height = node.height().await.map_err(|error| error.to_string())?;
                let version = node.subversion(PATIENCE).await.map_err(|error| error.to_string())?;
                let version = version.replace(char::is_control, "?");
                Ok(format!("{version} on {} at height {height}", options.network.to_core_arg()))
            }
            SourceOptions::TemplateProvider(options) => {
                let provider = TemplateProvider::new(options.clone());
                provider.reach().await.map_err(|error| error.to_string())?;
                Ok("it is there, and distributes templates".to_owned())
            }
            #[cfg(feature = "bitcoin-ipc")]
            SourceOptions::BitcoinIpc(options) => {
                UnixStream::connect(&options.socket).await.map_err(|error| error.to_string())?;
                Ok("its socket takes connections".to_owned())
            }
            SourceOptions::Regtest(_) => Ok("always there".to_owned()),
        }
    };
    let late = |_| Err(format!("no answer within {} s", PATIENCE.as_secs()));
    timeout(PATIENCE, answer).await.unwrap_or_else(late)
}

/// What there is to say: as lines, and as an object.
#[derive(Default)]
struct Report {
    lines: Vec<String>,
    object: Map<String, Value>,
}

impl Report {
    fn tell(&mut self, what: &str, text: impl Display, value: Value) {
        self.lines.push(format!("{what:<14} {text}"));
        if !value.is_null() {
            self.is(&what.replace(' ', "_"), value);
        }
    }

    /// One of several.
    fn add(&mut self, all: &str, what: &str, text: impl Display, value: Value) {
        self.tell(what, text, Value::Null);
        match self.object.get_mut(all) {
            Some(Value::Array(array)) => array.push(value),
            _ => self.is(all, json!([value])),
        }
    }

    fn is(&mut self, key: &str, value: Value) {
        self.object.insert(key.to_owned(), value);
    }
}
