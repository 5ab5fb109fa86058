//! The binary as blvm-node starts it: without arguments, with its environment, its limits and its
//! pipes, which nobody reads. There is no node: its JSON-RPC cannot be reached.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const BINARY: &str = env!("CARGO_BIN_EXE_blvm-stratum-v2");
/// Long enough for a busy machine; what is tested takes seconds.
const PATIENCE: Duration = Duration::from_secs(60);
/// What every module here is set to.
const SETTINGS: [(&str, &str); 3] = [
    ("LISTEN_ADDR", "127.0.0.1:0"),
    ("NETWORK", "regtest"),
    ("COINBASE_REWARD_SCRIPT", "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"),
];

/// Waits for what comes.
fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// A node's directory.
struct Node(tempfile::TempDir);

impl Node {
    fn new() -> Self {
        let node = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(node.data_dir()).unwrap();
        node
    }

    fn data_dir(&self) -> PathBuf {
        self.0.path().join("modules/miner")
    }

    fn write_config(&self, text: &str) {
        fs::write(self.data_dir().join("config.toml"), text).unwrap();
    }

    /// All that is logged so far.
    fn log(&self) -> String {
        let files = fs::read_dir(self.data_dir()).unwrap().map(|entry| entry.unwrap().path());
        let of_log =
            |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("blvm-stratum-v2.");
        files.filter(of_log).map(|path| fs::read_to_string(path).unwrap()).collect()
    }

    /// The environment that the node sets, for a command that runs the binary.
    fn set_up<'c>(&self, command: &'c mut Command, settings: &[(&str, &str)]) -> &'c mut Command {
        command
            .env_remove("RUST_LOG")
            .env("MODULE_ID", "miner_7")
            .env("MODULE_NAME", "miner")
            .env("SOCKET_PATH", self.0.path().join("modules/sockets/node.sock"))
            .env("DATA_DIR", self.data_dir())
            .envs(settings.iter().map(|(key, value)| (format!("MODULE_CONFIG_{key}"), value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
    }

    fn start(&self, settings: &[(&str, &str)]) -> Module<'_> {
        self.start_as(&mut Command::new(BINARY), &[&SETTINGS, settings].concat())
    }

    fn start_as(&self, command: &mut Command, settings: &[(&str, &str)]) -> Module<'_> {
        Module { node: self, seen: self.log().len(), child: self.set_up(command, settings).spawn().unwrap() }
    }
}

/// A module that is killed with the test.
struct Module<'n> {
    node: &'n Node,
    /// What was in the log before.
    seen: usize,
    child: Child,
}

impl Module<'_> {
    fn line_with(&self, text: &str) -> String {
        wait_for(text, || {
            let log = self.node.log();
            log[self.seen.min(log.len())..].lines().find(|line| line.contains(text)).map(str::to_owned)
        })
    }

    /// The URL for a transport, `quic` or `tcp`.
    fn url(&self, transport: &str) -> String {
        let line = self.line_with(&format!("stratum2+{transport}://"));
        line.split_whitespace().last().unwrap().to_owned()
    }

    /// What /proc says of it.
    fn status(&self, key: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap()
    }

    fn ended(mut self) -> ExitStatus {
        wait_for("the end", || self.child.try_wait().unwrap())
    }
}

impl Drop for Module<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A miner gets a channel; without a source, no job.
fn a_miner_connects(url: &str) {
    let mut ping = Command::new(BINARY)
        .args(["ping", "--url", url])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(ping.stdout.take().unwrap()).lines().map_while(Result::ok);
    let said = lines.inspect(|line| assert!(!line.is_empty())).find(|line| line.starts_with("set up"));
    let _ = ping.kill();
    let _ = ping.wait();
    assert!(said.is_some(), "{url} does not answer");
}

fn kill(signal: &str, pid: u32) {
    assert!(Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
}

#[test]
fn a_module_serves_and_the_nodes_settings_override_its_file() {
    let node = Node::new();
    // an address that is nobody's here, and keys with and without their table
    node.write_config("listen_addr = \"192.0.2.1:0\"\n[stratum_v2]\nnetwork = \"regtest\"\n");
    let settings = [
        ("LISTEN_ADDR", "127.0.0.1:0"),
        SETTINGS[2],
        ("STRATUM_V2", "stratum_v2.enabled,false,stratum_v2.listen_addr,\"192.0.2.1:0\""),
        ("VERSION", "0.1.0"),
        ("NO_SUCH_KEY", "hunter2"),
    ];
    let mut module = node.start_as(&mut Command::new(BINARY), &settings);
    a_miner_connects(&module.url("quic"));
    a_miner_connects(&module.url("tcp"));
    module.line_with("MODULE_CONFIG_NO_SUCH_KEY is ignored");
    assert!(!node.log().contains("hunter2") && !node.log().contains('\x1b'), "{}", node.log());
    assert!(node.data_dir().join("certs/authority.key").is_file());
    assert!(node.data_dir().join("solutions").is_dir());
    kill("-TERM", module.child.id());
    module.line_with("stopping");
    let (mut out, mut err) = (module.child.stdout.take().unwrap(), module.child.stderr.take().unwrap());
    assert!(module.ended().success());
    let mut said = String::new();
    out.read_to_string(&mut said).unwrap();
    err.read_to_string(&mut said).unwrap();
    assert_eq!(said, "", "nothing goes to the node's pipes");
    assert_eq!(fs::read_to_string(node.data_dir().join("stderr.log")).unwrap(), "");
}

#[test]
fn what_is_wrong_is_in_the_log_by_its_name() {
    let fails = |file: &str, settings: &[(&str, &str)], words: &[&str]| {
        let node = Node::new();
        node.write_config(file);
        let module = node.start_as(&mut Command::new(BINARY), settings);
        assert_eq!(module.ended().code(), Some(3), "{file} {settings:?}: {}", node.log());
        for word in words {
            assert!(node.log().contains(word), "{word}: {}", node.log());
        }
        assert!(!node.log().contains("hunter2"), "{}", node.log());
    };
    fails(
        "",
        &[("SOLO", "hunter2"), SETTINGS[1]],
        &["MODULE_CONFIG_SOLO: stratum_v2.solo: must be true or false"],
    );
    fails(
        "",
        &[("QUIC.IDLE_TIMEOUT", "hunter2")],
        &["MODULE_CONFIG_QUIC.IDLE_TIMEOUT: quic.idle_timeout: must be"],
    );
    fails("", &[("LISTEN_ADDR", "hunter2")], &["MODULE_CONFIG_LISTEN_ADDR"]);
    fails("", &[], &["coinbase_reward_script: must say who is paid"]);
    fails("pool_url = \"stratum+tcp://hunter2\"\n", &SETTINGS, &["stratum_v2.pool_url", "not supported yet"]);
    fails(
        "\nlisten_adr = \"hunter2\"\n",
        &SETTINGS,
        &["config.toml:2: listen_adr: ", "is listen_addr meant?"],
    );
    fails(
        "solo = true\n[stratum_v2]\nsolo = true\n",
        &SETTINGS,
        &["solo: stands at the top and as stratum_v2.solo"],
    );

    let node = Node::new();
    assert!(node.start(&[("ENABLED", "false")]).ended().success());
    assert!(node.log().contains("stratum_v2.enabled is false"), "{}", node.log());
}

/// Connects until the log has so many bytes, and then once more.
fn fill_the_log(module: &Module<'_>, bytes: usize) {
    let url = module.url("quic");
    wait_for("a large log", || {
        a_miner_connects(&url);
        (module.node.log().len() >= bytes).then_some(())
    });
    for transport in ["quic", "tcp"] {
        a_miner_connects(&module.url(transport));
    }
}

#[test]
fn pipes_that_nobody_reads_do_not_block() {
    let node = Node::new();
    let mut command = Command::new(BINARY);
    node.set_up(&mut command, &SETTINGS).env("RUST_LOG", "trace");
    let module = Module { node: &node, seen: node.log().len(), child: command.spawn().unwrap() };
    fill_the_log(&module, 300_000);
}

#[test]
fn a_full_disk_does_not_end_it() {
    const FULL: usize = 100_000;
    let node = Node::new();
    let mut command = Command::new("sh");
    command.args(["-c", &format!("trap '' XFSZ; exec prlimit --fsize={FULL} {BINARY}")]);
    node.set_up(&mut command, &SETTINGS).env("RUST_LOG", "trace");
    let module = Module { node: &node, seen: 0, child: command.spawn().unwrap() };
    fill_the_log(&module, FULL);
    assert_eq!(node.log().len(), FULL);
    assert_eq!(fs::read_to_string(node.data_dir().join("stderr.log")).unwrap(), "");
}

#[test]
fn it_ends_with_the_node() {
    let node = Node::new();
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{BINARY} & wait")]);
    let shell = node.start_as(&mut command, &SETTINGS);
    shell.url("tcp");
    let children = format!("/proc/{0}/task/{0}/children", shell.child.id());
    let pid = fs::read_to_string(children).unwrap().trim().to_owned();
    assert!(Path::new("/proc").join(&pid).exists());
    kill("-KILL", shell.child.id());
    shell.line_with("the node is gone: stopping");
    // a zombie, if whoever inherits it does not look after it
    wait_for("the end", || {
        let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        (state.is_empty() || state.contains(") Z ")).then_some(())
    });
}

#[test]
fn after_sigkill_it_is_the_same_again() {
    let node = Node::new();
    let mut module = node.start(&[]);
    let key = |module: &Module<'_>| module.url("quic").rsplit('/').next().unwrap().to_owned();
    let before = key(&module);
    module.child.kill().unwrap();
    assert!(!module.ended().success());
    let last_words = node.data_dir().join("stderr.log");
    fs::write(&last_words, vec![b'x'; (1 << 20) + 1]).unwrap();
    let again = node.start(&[]);
    assert_eq!(key(&again), before);
    assert_eq!(fs::metadata(last_words).unwrap().len(), 0, "it does not grow for ever");
}

#[test]
fn it_keeps_within_the_nodes_limits() {
    let node = Node::new();
    let mut command = Command::new("prlimit");
    command.args(["--as=536870912", "--nofile=256", BINARY]);
    let module = node.start_as(&mut command, &SETTINGS);
    module.line_with("default_max_file_descriptors = 10048");
    module.line_with("default_max_memory_bytes");
    a_miner_connects(&module.url("tcp"));
    let (peak, threads) = (module.status("VmPeak:"), module.status("Threads:"));
    assert!(peak < 192 * 1024, "{peak} kB");
    let environment = fs::read(format!("/proc/{}/environ", module.child.id())).unwrap();
    assert!(environment.split(|byte| *byte == 0).any(|variable| variable == b"MALLOC_ARENA_MAX=2"));
    assert!(threads <= 7, "{threads} threads");
}

/// The limit of processes counts all of the user's, and does not hold for root.
#[test]
fn ten_threads_will_do_and_one_as_well() {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        eprintln!("skipped: takes root, to become a user of whom nothing else runs");
        return;
    }
    let node = Node::new();
    let binary = node.0.path().join("modules/module");
    fs::copy(BINARY, &binary).unwrap();
    for path in [node.0.path(), &node.data_dir()] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    }
    let user = (100_000 + std::process::id()).to_string();
    let as_user = |args: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", &user, "--regid", &user, "--clear-groups", "--inh-caps=-all"]);
        command.arg("--bounding-set=-all").args(args);
        command
    };
    let limited = || as_user(&["prlimit", "--nproc=10", "--as=536870912", binary.to_str().unwrap()]);
    let module = node.start_as(&mut limited(), &SETTINGS);
    a_miner_connects(&module.url("quic"));
    a_miner_connects(&module.url("tcp"));
    drop(module);
    // the node has more threads than that
    let mut others: Vec<_> = (0..10).map(|_| as_user(&["sleep", "60"]).spawn().unwrap()).collect();
    thread::sleep(Duration::from_millis(500));
    let module = node.start_as(&mut limited(), &SETTINGS);
    module.line_with("default_max_child_processes");
    assert_eq!(module.status("Threads:"), 1);
    a_miner_connects(&module.url("quic"));
    a_miner_connects(&module.url("tcp"));
    // it has looked for the node's cookie, which is work for another thread where there is one
    module.line_with("the source has no work");
    drop(module);
    for other in &mut others {
        other.kill().unwrap();
        other.wait().unwrap();
    }
}

#[test]
fn miners_over_tcp_leave_files_for_the_rest() {
    const FILES: usize = 64;
    let node = Node::new();
    fs::write(node.0.path().join(".cookie"), "__cookie__:x").unwrap();
    let rpc = TcpListener::bind("127.0.0.1:0").unwrap();
    let rpc_url = format!("http://{}", rpc.local_addr().unwrap());
    let settings = [("BLVM.RPC_URL", &*rpc_url), ("HANDSHAKE_TIMEOUT", "600")];
    let mut command = Command::new("prlimit");
    command.args([&format!("--nofile={FILES}"), BINARY]);
    let module = node.start_as(&mut command, &[&SETTINGS, &settings[..]].concat());
    module.line_with("found above DATA_DIR");
    let url = module.url("tcp");
    let address = url.trim_start_matches("stratum2+tcp://").split('/').next().unwrap().to_owned();
    let mut miners: Vec<_> = (0..FILES).map(|_| TcpStream::connect(&address).unwrap()).collect();
    module.line_with("miners over TCP are refused");
    let served = |mut miner: &TcpStream| {
        miner.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let error = miner.read(&mut [0]).err().map(|error| error.kind());
        error == Some(ErrorKind::WouldBlock)
    };
    wait_for("refusals", || (miners.iter().filter(|miner| !served(miner)).count() >= 48).then_some(()));
    assert_eq!(miners.iter().filter(|miner| served(miner)).count(), FILES - 48);
    assert_eq!(node.log().matches("miners over TCP are refused").count(), 1, "not for each of them");
    a_miner_connects(&module.url("quic"));
    // the node is still asked, each time over a new connection
    rpc.set_nonblocking(true).unwrap();
    for _ in 0..64 {
        let _ = rpc.accept();
    }
    drop(wait_for("a question to the node", || rpc.accept().ok()));
    // places come back
    miners.clear();
    wait_for("a place", || served(&TcpStream::connect(&address).unwrap()).then_some(()));
    a_miner_connects(&url);
}
