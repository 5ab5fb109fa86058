//! The commands, as a person or a script uses them.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
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

    /// The one for QUIC, which comes first.
    fn url(&self) -> String {
        self.line_with("miners connect to").split_whitespace().last().unwrap().to_owned()
    }

    /// The URLs for QUIC and for TCP.
    fn urls(&self) -> [String; 2] {
        [self.url(), self.line_with("or to").split_whitespace().last().unwrap().to_owned()]
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
    let count = |path: &str| object.pointer(path).and_then(Value::as_u64).unwrap();
    let blocks = count("/blocks");
    assert!(blocks >= 2, "{object}");
    assert_eq!(count("/quic/blocks") + count("/tcp/blocks"), blocks);
    for transport in ["quic", "tcp"] {
        let (shares, blocks) =
            (count(&format!("/{transport}/shares_accepted")), count(&format!("/{transport}/blocks")));
        assert!(shares >= blocks && blocks >= 1, "{object}");
    }
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
        ("[stratum_v2]\nnetwork = \"main\"\n", "[[source]]"),
        ("[stratum_v2]\nnetwork = \"mainnet\"\n", "network"),
        ("[work]\nmin_interval = 0\n[[source]]\n", "type"),
        ("[[source]]\ntype = \"bitcoin_rcp\"\n", "config.toml:2: source[1].type"),
        ("[[source]]\ntype = \"bitcoin_rpc\"\n", "url"),
        ("[[source]]\ntype = \"bitcoin_rpc\"\nurl = \"x\"\ncookie = \"x\"\n", "cookie"),
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
fn all_that_is_wrong_about_sources_is_told_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let config = r#"
        [stratum_v2]
        coinbase_reward_script = "1BoatSLRHtKNngkdXEeobR76b53LETtpyT"
        [work]
        min_interval = 0
        [regtest]
        transactions = 3
        [[source]]
        type = "bitcoin_rpc"
        url = "http://127.0.0.1:8332"
        user = "miner"
        [[source]]
        type = "bitcoin_rpc"
        url = "127.0.0.1"
        user = "miner"
        password = "correct horse"
        [[source]]
        type = "template_provider"
        address = "127.0.0.1"
        [[source]]
        type = "template_provider"
        address = "127.0.0.1:8442"
        authority_key = "9bXiEd8boQVhq7WddEcERUL5tyyJVFYdU8th3HfbNXK3Yw6GRXx"
        [[source]]
        type = "bitcoin_ipc"
        socket = "/tmp/node.sock"
        version = 29
    "#;
    fs::write(directory.path().join("config.toml"), config).unwrap();
    let output = run(directory.path(), &["run"]);
    assert_eq!(output.status.code(), Some(3));
    let said = stderr(&output);
    for word in [
        "config.toml:6: regtest: ",
        "config.toml:5: work.min_interval: ",
        "config.toml:8: source[1]: needs either cookie_file",
        "config.toml:14: source[2].url: ",
        "config.toml:19: source[3].address: ",
        "config.toml:23: source[4].authority_key: ",
        ": source[5].",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert!(!said.contains("correct horse"), "{said}");
    fs::write(directory.path().join("config.toml"), config.replace("horse\"", "horse")).unwrap();
    let said = stderr(&run(directory.path(), &["run"]));
    assert!(said.contains("config.toml:16: password: ") && !said.contains("correct horse"), "{said}");

    let wrong_network =
        config.replace("1BoatSLRHtKNngkdXEeobR76b53LETtpyT", "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080");
    fs::write(directory.path().join("config.toml"), wrong_network).unwrap();
    let said = stderr(&run(directory.path(), &["run"]));
    assert!(said.contains("coinbase_reward_script: the address is for"), "{said}");
    let nobody = "[[source]]\ntype = \"bitcoin_rpc\"\nurl = \"http://127.0.0.1:8332\"\ncookie_file = \"x\"\n";
    fs::write(directory.path().join("config.toml"), nobody).unwrap();
    let said = stderr(&run(directory.path(), &["run"]));
    assert!(said.contains("coinbase_reward_script: must say who is paid"), "{said}");
}

#[test]
fn a_port_in_use_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap();
    let config = format!("[stratum_v2]\nlisten_addr = \"{taken}\"\n");
    fs::write(directory.path().join("config.toml"), config).unwrap();
    let output = run(directory.path(), &["run"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains(&taken.to_string()), "{}", stderr(&output));
}

/// A server on a free port, and what miners reach it by.
fn serve(directory: &Path) -> (Server, [String; 2]) {
    fs::write(directory.join("config.toml"), ON_A_FREE_PORT).unwrap();
    let server = Server::start(directory);
    let urls = server.urls();
    (server, urls)
}

const OTHER_KEY: &str = "9bXiEd8boQVhq7WddEcERUL5tyyJVFYdU8th3HfbNXK3Yw6GRXh";

fn with_other_key(url: &str) -> String {
    format!("{}/{OTHER_KEY}", url.rsplit_once('/').unwrap().0)
}

#[test]
fn ping_tells_each_step_and_how_long_it_took() {
    let directory = tempfile::tempdir().unwrap();
    let (_server, [quic, tcp]) = serve(directory.path());
    let of_quic = ["resolved", "verified", "set up", "opened", "job"];
    let of_tcp = ["resolved", "connected", "verified", "set up", "opened", "job"];
    for (url, transport, steps) in [(&quic, "QUIC", &of_quic[..]), (&tcp, "Noise-TCP", &of_tcp)] {
        let output = run(directory.path(), &["ping", "--url", url]);
        assert!(output.status.success(), "{}", stderr(&output));
        let said = stdout(&output);
        let mut lines = said.lines();
        for step in steps {
            let line = lines.next().unwrap_or_else(|| panic!("no {step} in {said}"));
            let took = line.strip_prefix(step).and_then(|rest| rest.split_once(" ms ")).unwrap().0;
            assert!(took.trim().parse::<f64>().unwrap() >= 0.0, "{line}");
        }
        assert_eq!(lines.next(), None);
        for what in ["verified by the pool's authority key, valid until", "Stratum V2 mining, version 2"] {
            assert!(said.contains(what), "{what:?} in {said}");
        }

        let output = run(directory.path(), &["ping", "--url", url, "--json"]);
        assert!(output.status.success(), "{}", stderr(&output));
        let object: Value = serde_json::from_str(&stdout(&output)).unwrap();
        assert_eq!(object["error"], Value::Null);
        assert_eq!((object["url"].as_str(), object["transport"].as_str()), (Some(&**url), Some(transport)));
        let told = object["steps"].as_array().unwrap();
        let names: Vec<_> = told.iter().map(|step| step["step"].as_str().unwrap()).collect();
        assert_eq!(names, steps);
        let sum: f64 = told.iter().map(|step| step["ms"].as_f64().unwrap()).sum();
        assert!(told.iter().all(|step| step["ms"].as_f64().unwrap() >= 0.0), "{object}");
        let total = object["total_ms"].as_f64().unwrap();
        assert!(total > 0.0 && sum <= total, "{object}");
    }
}

#[test]
fn ping_says_what_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let (server, [quic, tcp]) = serve(directory.path());
    let failing = |url: &str, advice: &str| {
        let output = run(directory.path(), &["ping", "--url", url]);
        assert_eq!(output.status.code(), Some(1), "{url}");
        assert!(stderr(&output).contains(advice), "{advice:?} in {}", stderr(&output));
        assert!(!stderr(&output).contains("panicked"), "{}", stderr(&output));

        let output = run(directory.path(), &["ping", "--url", url, "--json"]);
        assert_eq!(output.status.code(), Some(1), "{url}");
        let object: Value = serde_json::from_str(&stdout(&output)).unwrap();
        assert!(object["error"].as_str().unwrap().contains(advice), "{object}");
        assert!(object["steps"].is_array());
    };
    for url in [&quic, &tcp] {
        failing(&with_other_key(url), "check the key at the end of the URL");
    }
    drop(server);
    failing(&tcp, "cannot connect");
    failing(&quic, "check the host and the port in the URL");

    // an SV1 server takes what it is sent for a line that is no JSON
    let sv1 = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("stratum2+tcp://{}/{OTHER_KEY}", sv1.local_addr().unwrap());
    thread::spawn(move || {
        for mut stream in sv1.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"{\"id\":null,\"result\":null,\"error\":[20,\"not JSON\",null]}\n");
        }
    });
    failing(&url, "this is no Stratum V2 port");
}

#[test]
fn mine_takes_one_url_for_each_transport() {
    let directory = tempfile::tempdir().unwrap();
    let (_server, [quic, tcp]) = serve(directory.path());
    let mine = |urls: &[&str], user: &str| {
        let mut args = vec!["mine", "--user", user, "--shares", "2", "--seconds", "60", "--json"];
        args.extend(urls.iter().flat_map(|url| ["--url", url]));
        run(directory.path(), &args)
    };
    for urls in [[&*quic, &*tcp], [&*tcp, &*quic]] {
        let output = mine(&urls, "a.b");
        assert!(output.status.success(), "{}", stderr(&output));
        let object: Value = serde_json::from_str(stdout(&output).lines().last().unwrap()).unwrap();
        assert!(object["shares_accepted"].as_u64().unwrap() >= 2, "{object}");
        assert!(stderr(&output).contains("mining over=QUIC"), "{}", stderr(&output));
    }
    // where QUIC is somebody else, TCP will do
    let output = mine(&[&with_other_key(&quic), &tcp], "a.b");
    assert!(output.status.success(), "{}", stderr(&output));
    for word in ["mining over=Noise-TCP", "check the key at the end of the URL"] {
        assert!(stderr(&output).contains(word), "{word} in {}", stderr(&output));
    }
    for urls in [[&*tcp, &*tcp], [&*quic, &*quic]] {
        let output = mine(&urls, "a.b");
        assert_eq!(output.status.code(), Some(1));
        let advice = "one stratum2+quic:// and one stratum2+tcp:// URL of the same server";
        assert!(stderr(&output).contains(advice), "{}", stderr(&output));
    }
}

#[test]
fn run_has_one_port_and_keeps_what_miners_know_it_by() {
    let directory = tempfile::tempdir().unwrap();
    let (server, [quic, tcp]) = serve(directory.path());
    let rest = quic.strip_prefix("stratum2+quic://").unwrap();
    assert_eq!(tcp.strip_prefix("stratum2+tcp://"), Some(rest), "host, port and key are the same");
    let certs = ["authority.key", "tls.pem", "tls.key", "endpoint.key"];
    let contents = || certs.map(|name| fs::read(directory.path().join("certs").join(name)).unwrap());
    let before = contents();
    let mode = |name: &str| {
        fs::metadata(directory.path().join("certs").join(name)).unwrap().permissions().mode() & 0o777
    };
    for secret in ["authority.key", "tls.key", "endpoint.key"] {
        assert_eq!(mode(secret), 0o600, "{secret}");
    }
    drop(server);
    // restarted at the same place, it is the same server to those who pinned it
    let address = rest.split_once('/').unwrap().0;
    fs::write(directory.path().join("config.toml"), format!("[stratum_v2]\nlisten_addr = \"{address}\"\n"))
        .unwrap();
    let again = Server::start(directory.path());
    assert_eq!(again.urls(), [&*quic, &*tcp]);
    assert_eq!(contents(), before);
    let tls = blvm_stratum_v2::transport::tls::TlsIdentity::from_pem(&before[1], &before[2]).unwrap();
    let url = format!("stratum2+quic://{address}?pin={}", tls.pin());
    let output = run(directory.path(), &["ping", "--url", &url]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).contains("verified by a pin"), "{}", stdout(&output));
}

#[test]
fn a_udp_port_in_use_is_named_as_such() {
    let directory = tempfile::tempdir().unwrap();
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let taken = socket.local_addr().unwrap();
    fs::write(directory.path().join("config.toml"), format!("[stratum_v2]\nlisten_addr = \"{taken}\"\n"))
        .unwrap();
    let output = run(directory.path(), &["run"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains(&format!("cannot listen on udp {taken}")), "{}", stderr(&output));
}

#[test]
fn wrong_values_of_quic_are_reported_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let fails = |text: &str, keys: &[&str]| {
        fs::write(directory.path().join("config.toml"), format!("[quic]\n{text}")).unwrap();
        let output = run(directory.path(), &["run"]);
        assert_eq!(output.status.code(), Some(3), "{text}");
        for key in keys {
            assert!(stderr(&output).contains(key), "{key} for {text}: {}", stderr(&output));
        }
    };
    let wrong = [
        "idle_timeout = 4",
        "idle_timeout = 3601",
        "keep_alive = 0",
        "keep_alive = 60",
        "max_handshakes = 0",
        "stream_window = 4095",
        "receive_window = 1",
        "send_window = 16777217",
        "socket_buffer = 1073741825",
    ];
    for text in wrong {
        fails(text, &[&format!("quic.{}", text.split(' ').next().unwrap())]);
    }
    // all at once, and what is no number or no key at all
    fails("idle_timeout = 4\nsend_window = 0", &["quic.idle_timeout", "quic.send_window"]);
    fails("keep_alive = \"often\"", &["keep_alive"]);
    fails("keepalive = 1", &["keepalive"]);
}
