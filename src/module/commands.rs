//! The commands that the node's command line has for this module.

use std::fmt::Write;
use std::time::Duration;

use super::api::Api;
use super::api::miners::{DEFAULT_LIMIT, MAX_LIMIT, Miner};
use super::api::stats::AllCounts;
use crate::clock::unix_now;
use crate::mining::Difficulty;

/// No miner needs a harder share: at twelve shares a minute it is one of 10^21 hashes a second.
const MAX_DIFFICULTY: f64 = 1e12;

/// A command, as the node is to know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Command {
    /// How it is called.
    pub name: &'static str,
    /// What it does.
    pub about: &'static str,
    /// What it takes: values, by name or in this order.
    pub args: &'static [Argument],
}

/// What a command takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Argument {
    /// Its name; `--name` is its long form.
    pub name: &'static str,
    /// Its short form, without the dash.
    pub short_name: Option<&'static str>,
    /// Whether the command needs it.
    pub required: bool,
    /// Its value if it is not given.
    pub default: Option<&'static str>,
}

const DIFFICULTY: Argument =
    Argument { name: "difficulty", short_name: Some("d"), required: true, default: None };
const LIMIT: Argument =
    Argument { name: "limit", short_name: Some("l"), required: false, default: Some("100") };

/// All commands.
pub const COMMANDS: &[Command] = &[
    Command { name: "status", about: "How the server is doing", args: &[] },
    Command { name: "list_pools", about: "Whom the server mines for", args: &[] },
    Command { name: "list_miners", about: "Who is connected", args: &[LIMIT] },
    Command { name: "config_path", about: "Where the configuration was read from", args: &[] },
    Command {
        name: "set_difficulty",
        about: "The least difficulty of every channel until the server restarts; 0 for none",
        args: &[DIFFICULTY],
    },
];

/// What a command prints, and how it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// What it found.
    pub stdout: String,
    /// What went wrong.
    pub stderr: String,
    /// 0, or 2 if it was called in a way that makes no sense.
    pub exit_code: i32,
}

/// Runs a command.
#[must_use]
pub fn run(api: &Api, subcommand: &str, args: &[String]) -> Output {
    let printed = match COMMANDS.iter().find(|command| command.name == subcommand) {
        None => Err(format!("there is no such command; there are {}", names())),
        Some(command) => argument(command, args).and_then(|value| match command.name {
            "status" => Ok(status(api)),
            "list_pools" => Ok(list_pools(api)),
            "list_miners" => list_miners(api, value),
            "config_path" => Ok(config_path(api)),
            _ => set_difficulty(api, value),
        }),
    };
    match printed {
        Ok(stdout) => Output { stdout, stderr: String::new(), exit_code: 0 },
        Err(error) => Output { stdout: String::new(), stderr: format!("error: {error}\n"), exit_code: 2 },
    }
}

fn names() -> String {
    COMMANDS.iter().map(|command| command.name).collect::<Vec<_>>().join(", ")
}

/// The value of the one argument that a command has at most.
fn argument<'a>(command: &Command, args: &'a [String]) -> Result<Option<&'a str>, String> {
    let Some(argument) = command.args.first() else {
        return if args.is_empty() { Ok(None) } else { Err(format!("{} takes nothing", command.name)) };
    };
    let name = argument.name;
    let is_name = |text: &str| {
        text.strip_prefix("--") == Some(name)
            || argument.short_name.is_some_and(|short| text.strip_prefix('-') == Some(short))
    };
    match args {
        [] if argument.required => {
            Err(format!("{name} is missing: {} {}", command.name, name.to_uppercase()))
        }
        [] => Ok(argument.default),
        [flag, value] if is_name(flag) => Ok(Some(value)),
        [flag] if is_name(flag) => Err(format!("--{name} needs a value")),
        [one] => match one.split_once('=') {
            Some((flag, value)) if is_name(flag) => Ok(Some(value)),
            _ => Ok(Some(one)),
        },
        _ => Err(format!("{} takes {name} and nothing else", command.name)),
    }
}

fn status(api: &Api) -> String {
    let AllCounts { sum, quic, tcp } = api.counts();
    let work = api.pool().work().borrow().as_ref().map_or_else(
        || "none yet: the log says why".to_owned(),
        |work| {
            let (height, serial) = (work.tip.height, work.template.serial.0);
            format!("block {height} on {}, template {serial}", work.tip.prev_hash)
        },
    );
    let difficulty = api.pool().min_difficulty().map_or_else(
        || "as suits each miner".to_owned(),
        |Difficulty(least)| format!("as suits each miner, but at least {least}"),
    );
    let lines = [
        ("version", format!("{}, up {}", api.info().version, duration(api.uptime()))),
        ("listening", api.info().listen_urls.join(", ")),
        ("work", work),
        ("connections", format!("{} ({} QUIC, {} TCP)", sum.connections, quic.connections, tcp.connections)),
        ("channels", sum.channels.to_string()),
        ("hashrate", hashrate(sum.hashrate_hs)),
        ("difficulty", difficulty),
        ("shares", format!("{} accepted, {} rejected", sum.shares_accepted, sum.shares_rejected)),
        ("blocks", format!("{} found, {} refused by the node", sum.blocks, sum.solutions_refused)),
    ];
    table(&lines.map(|(name, text)| vec![name.to_owned(), text]))
}

fn list_pools(api: &Api) -> String {
    let height = api.pool().work().borrow().as_ref().map(|work| work.tip.height);
    let state = height.map_or("no work yet".to_owned(), |height| format!("mining block {height}"));
    let mut rows = vec![["POOL", "STATE"].map(str::to_owned).to_vec()];
    rows.push(vec!["this server, on its own node's blocks".to_owned(), state]);
    table(&rows)
}

fn list_miners(api: &Api, limit: Option<&str>) -> Result<String, String> {
    let limit = limit.map_or(Some(DEFAULT_LIMIT), |limit| limit.parse().ok());
    let limit = limit
        .filter(|limit| (1..=MAX_LIMIT).contains(limit))
        .ok_or_else(|| format!("limit must be a number from 1 to {MAX_LIMIT}"))?;
    let (total, miners) = (api.pool().roster().total(), api.miners(limit));
    if miners.is_empty() {
        return Ok("no miner is connected\n".to_owned());
    }
    let head = ["ENDPOINT", "DEVICE", "USERS", "CHANNELS", "ACCEPTED", "REJECTED", "HASHRATE", "LAST SHARE"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(miners.iter().map(row));
    let mut text = table(&rows);
    if total > miners.len() {
        let _ = writeln!(text, "and {} more", total - miners.len());
    }
    Ok(text)
}

fn row(miner: &Miner) -> Vec<String> {
    let ago = |at: u32| {
        let ago = unix_now().saturating_sub(at);
        format!("{} ago", duration(Duration::from_secs(ago.into())))
    };
    let mut users: Vec<&str> = miner.users.iter().map(String::as_str).collect();
    users.dedup();
    let (first, others) = users.split_first().map_or(("-", 0), |(first, others)| (*first, others.len()));
    // what comes from a client goes to somebody's terminal
    let user: String = first.chars().take(48).flat_map(char::escape_debug).collect();
    vec![
        miner.endpoint.clone(),
        if miner.device.is_empty() { "-".to_owned() } else { miner.device.clone() },
        if others > 0 { format!("{user} and {others} more") } else { user },
        miner.channels.to_string(),
        miner.shares_accepted.to_string(),
        miner.shares_rejected.to_string(),
        hashrate(miner.hashrate_hs),
        miner.last_share.map_or("never".to_owned(), ago),
    ]
}

fn config_path(api: &Api) -> String {
    match &api.info().config_path {
        Some(path) => format!("{}\n", path.display()),
        None => "no file was read: the server runs with its defaults\n".to_owned(),
    }
}

fn set_difficulty(api: &Api, value: Option<&str>) -> Result<String, String> {
    let network = api.pool().work().borrow().as_ref().map(|work| work.tip.report_target.difficulty().0);
    let least = least_difficulty(value.unwrap_or_default(), network)?;
    api.pool().set_min_difficulty(least);
    tracing::info!(least = least.map_or(0.0, |least| least.0), "the least difficulty was set");
    let what = match least {
        Some(Difficulty(least)) => format!("the least difficulty is {least}"),
        None => "there is no least difficulty any more".to_owned(),
    };
    Ok(format!("{what}: in force for channels that open, and within a minute for those that are open\n"))
}

/// What `text` says, if that makes sense where blocks have the difficulty `network`.
fn least_difficulty(text: &str, network: Option<f64>) -> Result<Option<Difficulty>, String> {
    let number: f64 = text.parse().map_err(|_| "difficulty must be a number, as in 1000 or 0.5")?;
    if !(0.0..=MAX_DIFFICULTY).contains(&number) {
        return Err(format!("difficulty must be a number from 0 to {MAX_DIFFICULTY}"));
    }
    // on test networks whose blocks are easier than any share, shares may be as hard as one likes
    if let Some(network) = network.filter(|network| *network >= 1.0 && number > *network) {
        return Err(format!(
            "difficulty is more than a block's, which is {network}: blocks would be refused"
        ));
    }
    Ok((number > 0.0).then_some(Difficulty(number)))
}

/// Columns one beside the other.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn hashrate(hashes_per_second: f64) -> String {
    let units = ["H/s", "kH/s", "MH/s", "GH/s", "TH/s", "PH/s", "EH/s"];
    let step = (hashes_per_second.max(1.0).log10() / 3.0).floor().min(units.len() as f64 - 1.0);
    format!("{:.2} {}", hashes_per_second / 1000_f64.powf(step), units[step as usize])
}

fn duration(time: Duration) -> String {
    match time.as_secs() {
        seconds @ ..120 => format!("{seconds} s"),
        seconds @ ..7200 => format!("{} min", seconds / 60),
        seconds @ ..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::module::api::Info;
    use crate::module::api::tests::{api, pool};

    fn run(api: &Api, subcommand: &str, args: &[&str]) -> Output {
        super::run(api, subcommand, &args.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    fn printed(api: &Api, subcommand: &str, args: &[&str]) -> String {
        let output = run(api, subcommand, args);
        assert_eq!((&*output.stderr, output.exit_code), ("", 0));
        output.stdout
    }

    fn refused(api: &Api, subcommand: &str, args: &[&str]) -> String {
        let output = run(api, subcommand, args);
        assert_eq!((&*output.stdout, output.exit_code), ("", 2));
        output.stderr
    }

    #[test]
    fn the_status_says_what_there_is() {
        let status = printed(&api(), "status", &[]);
        for line in [
            "version      0.1.0, up 0 s\n",
            "listening    stratum2+quic://192.0.2.9:3333\n",
            "work         block 100 on 01010101",
            "connections  1 (1 QUIC, 0 TCP)\n",
            "difficulty   as suits each miner\n",
            "shares       1234 accepted, 5 rejected\n",
        ] {
            assert!(status.contains(line), "{line} is not in\n{status}");
        }
        let status = printed(&Api::new(pool(), Info::default()), "status", &[]);
        assert!(status.contains("work         none yet"), "{status}");
    }

    #[test]
    fn lists_are_tables() {
        let miners = printed(&api(), "list_miners", &[]);
        let mut lines = miners.lines();
        let (head, row) = (lines.next().unwrap(), lines.next().unwrap());
        for (name, text) in [
            ("ENDPOINT", "quic://192.0.2.1:50123  "),
            ("DEVICE", "Bitaxe Gamma 2.9.0  "),
            ("USERS", "bc1qexample.rig1  "),
            ("ACCEPTED", "1234  "),
            ("REJECTED", "5  "),
        ] {
            let column = head.find(name).unwrap();
            assert!(row[column..].starts_with(text), "{name}:\n{miners}");
        }
        let nobody = Api::new(pool(), Info::default());
        assert_eq!(printed(&nobody, "list_miners", &["--limit", "3"]), "no miner is connected\n");
        assert!(printed(&api(), "list_pools", &[]).contains("mining block 100"));
        assert!(printed(&nobody, "list_pools", &[]).contains("no work yet"));
        assert!(refused(&nobody, "list_miners", &["0"]).contains("from 1 to 1000"));
    }

    #[test]
    fn the_configuration_is_found() {
        assert_eq!(printed(&api(), "config_path", &[]), "/etc/blvm/stratum.toml\n");
        let without = Api::new(pool(), Info::default());
        assert!(printed(&without, "config_path", &[]).contains("defaults"));
    }

    #[test]
    fn mistakes_are_explained() {
        let api = api();
        let known = "there are status, list_pools, list_miners, config_path, set_difficulty";
        assert!(refused(&api, "statsu", &[]).contains(known));
        assert!(refused(&api, "status", &["now"]).contains("status takes nothing"));
        assert!(refused(&api, "set_difficulty", &[]).contains("set_difficulty DIFFICULTY"));
        assert!(refused(&api, "set_difficulty", &["1", "2"]).contains("nothing else"));
        assert!(refused(&api, "set_difficulty", &["-d"]).contains("needs a value"));
    }

    #[test]
    fn the_difficulty_is_set_and_removed() {
        let api = api();
        for args in [&["0.5"][..], &["--difficulty", "0.5"], &["--difficulty=0.5"], &["-d", "5e-1"]] {
            api.pool().set_min_difficulty(None);
            assert!(printed(&api, "set_difficulty", args).starts_with("the least difficulty is 0.5:"));
            assert_eq!(api.pool().min_difficulty(), Some(Difficulty(0.5)));
        }
        assert!(printed(&api, "status", &[]).contains("but at least 0.5"));
        for text in ["-1", "NaN", "inf", "1e13", "much", ""] {
            assert!(refused(&api, "set_difficulty", &[text]).contains("difficulty must be a number"));
            assert_eq!(api.pool().min_difficulty(), Some(Difficulty(0.5)));
        }
        assert!(printed(&api, "set_difficulty", &["0"]).contains("no least difficulty any more"));
        assert_eq!(api.pool().min_difficulty(), None);
    }

    #[test]
    fn no_difficulty_is_beyond_a_blocks() {
        assert_eq!(least_difficulty("1000", Some(1000.0)), Ok(Some(Difficulty(1000.0))));
        assert!(least_difficulty("1001", Some(1000.0)).unwrap_err().contains("blocks would be refused"));
        assert_eq!(least_difficulty("7", Some(4.6e-10)), Ok(Some(Difficulty(7.0))), "regtest");
        assert_eq!(least_difficulty("7", None), Ok(Some(Difficulty(7.0))));
    }

    #[test]
    fn numbers_are_for_people() {
        for (number, text) in [(0.0, "0.00 H/s"), (999.0, "999.00 H/s"), (1.5e12, "1.50 TH/s")] {
            assert_eq!(hashrate(number), text);
        }
        assert_eq!(hashrate(2e21), "2000.00 EH/s");
        for (seconds, text) in [(119, "119 s"), (3600, "60 min"), (7200, "2 h"), (864_000, "10 days")] {
            assert_eq!(duration(Duration::from_secs(seconds)), text);
        }
    }
}
