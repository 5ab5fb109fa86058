//! The commands, as a person or a script uses them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde_json::Value;

/// Long enough for a busy machine; what is tested takes seconds.
const PATIENCE: Duration = Duration::from_secs(60);

fn command(directory: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_blvm-stratum-v2"));
    command.args(args).current_dir(directory).env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

fn run(directory: &Path, args: &[&str]) -> Output {
    command(directory, args).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A server that is killed with the test.
struct Server {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Server {
    fn start(directory: &Path) -> Self {
        let mut child = command(directory, &["run"]).stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines }
    }

    /// Reads on to the line that has `text`.
    fn line_with(&self, text: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no line with {text:?}"));
            if line.contains(text) {
                return line;
            }
        }
    }

    fn url(&self) -> String {
        self.line_with("miners connect to").split_whitespace().last().unwrap().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const ON_A_FREE_PORT: &str = "[stratum_v2]\nlisten_addr = \"127.0.0.1:0\"\nshares_per_minute = 600\n";

#[test]
fn demo_finds_blocks_and_says_so_in_json() {
    let directory = tempfile::tempdir().unwrap();
    let output = run(directory.path(), &["demo", "--blocks", "2", "--json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let object: Value = serde_json::from_str(stdout(&output).lines().last().unwrap()).unwrap();
    let blocks = object["blocks"].as_u64().unwrap();
    assert!(blocks >= 2, "{object}");
    assert_eq!(object["tcp"]["blocks"].as_u64().unwrap(), blocks);
    assert!(object["tcp"]["shares_accepted"].as_u64().unwrap() >= blocks);
    assert!(object["shares_rejected"].is_u64());
    assert_eq!(object["tip"].as_str().unwrap().len(), 64);
    assert!(object["height"].as_u64().unwrap() >= blocks);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "a demo leaves nothing behind");
}

#[test]
fn demo_fails_with_a_reason() {
    let directory = tempfile::tempdir().unwrap();
    let output = run(directory.path(), &["demo", "--blocks", "1000000", "--seconds", "1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("of 1000000 blocks after 1 s"), "{}", stderr(&output));
}

#[test]
fn run_serves_a_miner_and_keeps_its_key() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("config.toml"), ON_A_FREE_PORT).unwrap();
    let server = Server::start(directory.path());
    server.line_with("authority.key");
    server.line_with("made the TLS certificate certs/tls.pem: miners verify it by the authority key");
    server.line_with("certs/endpoint.key");
    server.line_with("embedded regtest chain");
    let url = server.url();
    let key = directory.path().join("certs/authority.key");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);

    let mined = run(
        directory.path(),
        &["mine", "--url", &url, "--user", "a.b", "--blocks", "1", "--seconds", "60", "--json"],
    );
    assert!(mined.status.success(), "{}", stderr(&mined));
    let object: Value = serde_json::from_str(stdout(&mined).lines().last().unwrap()).unwrap();
    assert!(object["blocks"].as_u64().unwrap() >= 1, "{object}");
    assert!(object["shares_accepted"].as_u64().unwrap() >= 1, "{object}");

    let secret = fs::read_to_string(&key).unwrap();
    drop(server);
    let again = Server::start(directory.path());
    again.line_with("TLS certificate certs/tls.pem: miners verify it by the authority key");
    let again = again.url();
    assert_eq!(again.rsplit('/').next(), url.rsplit('/').next(), "the key stays");
    assert_eq!(fs::read_to_string(&key).unwrap(), secret);
}

#[test]
fn run_stops_on_sigterm() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("config.toml"), ON_A_FREE_PORT).unwrap();
    let mut server = Server::start(directory.path());
    server.url();
    let pid = server.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    server.line_with("stopping");
    assert!(server.child.wait().unwrap().success());
}

#[test]
fn a_miner_is_told_that_the_key_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("config.toml"), ON_A_FREE_PORT).unwrap();
    let server = Server::start(directory.path());
    let (address, _) = server.url().rsplit_once('/').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let other = "9bXiEd8boQVhq7WddEcERUL5tyyJVFYdU8th3HfbNXK3Yw6GRXh";
    let output = run(directory.path(), &["mine", "--url", &format!("{address}/{other}"), "--user", "a"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("authority"), "{}", stderr(&output));
}

#[test]
fn keygen_never_overwrites() {
    let directory = tempfile::tempdir().unwrap();
    let output = run(directory.path(), &["keygen", "--json"]);
    assert!(output.status.success());
    let object: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert!(object["authority_key"].as_str().unwrap().starts_with('9'));
    let key = directory.path().join(object["file"].as_str().unwrap());
    let secret = fs::read_to_string(&key).unwrap();
    assert!(!stdout(&output).contains(secret.trim()));
    let again = run(directory.path(), &["keygen"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again).contains("left alone"), "{}", stderr(&again));
    assert_eq!(fs::read_to_string(&key).unwrap(), secret);
}

#[test]
fn exit_codes_tell_errors_apart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    assert_eq!(run(path, &["dig"]).status.code(), Some(2));
    assert_eq!(run(path, &["mine", "--url", "http://x", "--user", "a"]).status.code(), Some(2));
    assert_eq!(run(path, &["run", "--config", "none.toml"]).status.code(), Some(3));
    let nobody = "stratum2+tcp://127.0.0.1:1/9bXiEd8boQVhq7WddEcERUL5tyyJVFYdU8th3HfbNXK3Yw6GRXh";
    assert_eq!(run(path, &["mine", "--url", nobody, "--user", "a"]).status.code(), Some(1));
}

#[test]
fn config_errors_name_the_file_and_the_key() {
    let directory = tempfile::tempdir().unwrap();
    let cases = [
        ("[stratum_v2]\nlisten_adr = \"127.0.0.1:0\"\n", "listen_adr"),
        ("[stratum_v2]\nlisten_addr = \"here\"\n", "listen_addr"),
        ("[stratum_v2]\nshare_batch_size = 0\nserver_id = 64\n", "server_id"),
        ("[stratum_v2]\nshare_batch_size = 0\nserver_id = 64\n", "share_batch_size"),
        ("[stratum_v2]\nshares_per_minute = nan\n", "shares_per_minute"),
        ("[stratum_v2]\nsolo_fee = 100\n", "solo_fee"),
        ("[stratum_v2]\nsolo = true\nsolo_fee = 100\n", "coinbase_reward_script"),
        (
            "[stratum_v2]\ncoinbase_reward_script = \"1BoatSLRHtKNngkdXEeobR76b53LETtpyT\"\n",
            "coinbase_reward_script",
        ),
    ];
    for (text, key) in cases {
        fs::write(directory.path().join("config.toml"), text).unwrap();
        let output = run(directory.path(), &["run"]);
        assert_eq!(output.status.code(), Some(3), "{text}");
        assert!(stderr(&output).contains(key), "{text}: {}", stderr(&output));
    }
    fs::write(directory.path().join("config.toml"), "[stratum_v2]\nenabled = false\n").unwrap();
    assert!(run(directory.path(), &["run"]).status.success());
}

#[test]
fn a_port_in_use_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap();
    let config = format!("[stratum_v2]\nlisten_addr = \"{taken}\"\n");
    fs::write(directory.path().join("config.toml"), config).unwrap();
    let output = run(directory.path(), &["run"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains(&taken.to_string()), "{}", stderr(&output));
}
