//! Certificates that are replaced under miners who submit without a pause.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use blvm_stratum_v2::transport::client::{Client, ClientError, Device};
use blvm_stratum_v2::transport::tls::{IdentityError, TlsIdentity};
use blvm_stratum_v2::wire::keys::AuthoritySecretKey;
use blvm_stratum_v2::wire::url::{StratumUrl, Transport, Trust};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::fleet::{Books, Miner};
use crate::node::Node;
use crate::process::{Home, Process};
use crate::raw::soon;
use crate::work::{config, node};
use crate::{DAY, ask, command, now, said};

/// Over each transport.
const MINERS: usize = 100;
const SWAPS: usize = 50;
const PACE: Duration = Duration::from_millis(200);

/// With a name that every certificate must have; the table for TLS comes last.
fn named(node: &Node) -> String {
    format!("{}[tls]\nnames = [\"pool.example\"]\n", config(node))
}

/// Who makes certificates elsewhere, for a server that has no secret of the authority.
struct Operator<'h> {
    home: &'h Home,
    authority: AuthoritySecretKey,
}

impl<'h> Operator<'h> {
    fn new(home: &'h Home) -> Self {
        let operator = |args: &[&str]| {
            let made = command(home.path(), args);
            assert!(made.status.success(), "{args:?}: {}", said(&made));
        };
        operator(&["keygen", "--out", "vault/authority.key"]);
        let authority = ["--authority", "vault/authority.key"];
        let rest = ["--out", "certs", "--valid-for", "90d", "--name", "pool.example"];
        operator(&[&["cert", "new"][..], &authority, &rest].concat());
        let key = fs::read_to_string(home.path().join("vault/authority.key")).unwrap();
        Self { home, authority: key.trim().parse().unwrap() }
    }

    fn issue(&self) -> TlsIdentity {
        self.issue_for("pool.example", now() - DAY, now() + 30 * DAY)
    }

    fn issue_for(&self, name: &str, from: u32, until: u32) -> TlsIdentity {
        TlsIdentity::issue_for(&[name.to_owned()], &self.authority, from, until).unwrap()
    }

    /// As a script does it, one after the other.
    fn put(&self, certificate: &str, key: &str) {
        put(&self.home.path().join("certs"), certificate, key);
    }
}

fn put(directory: &Path, certificate: &str, key: &str) {
    fs::create_dir_all(directory).unwrap();
    fs::write(directory.join("tls.key"), key).unwrap();
    fs::write(directory.join("tls.pem"), certificate).unwrap();
}

fn put_pair(directory: &Path, pair: &TlsIdentity) {
    put(directory, &pair.chain_pem(), &pair.key_pem());
}

/// `cert reload`: whether the server has taken them, and what it says.
async fn reload(home: &Home) -> (bool, String) {
    ask(home.path(), &["cert", "reload"]).await
}

/// What is not to be served.
#[derive(Debug, Clone, Copy)]
enum Bad {
    AnotherKey,
    HalfWritten,
    Expired,
    AnotherAuthority,
    AnotherName,
}

impl Bad {
    const ALL: [Self; 5] =
        [Self::AnotherKey, Self::HalfWritten, Self::Expired, Self::AnotherAuthority, Self::AnotherName];

    fn put(self, operator: &Operator<'_>) {
        let (one, other) = (operator.issue(), operator.issue());
        let (certificate, key) = match self {
            Self::AnotherKey => (one.chain_pem(), other.key_pem()),
            Self::HalfWritten => {
                let mut half = one.chain_pem();
                half.truncate(half.len() / 2);
                (half, one.key_pem())
            }
            Self::Expired => {
                let expired = operator.issue_for("pool.example", now() - 2 * DAY, now() - DAY);
                (expired.chain_pem(), expired.key_pem())
            }
            Self::AnotherAuthority => {
                let authority = AuthoritySecretKey::generate(&mut StdRng::seed_from_u64(7));
                let operator = Operator { home: operator.home, authority };
                let theirs = operator.issue();
                (theirs.chain_pem(), theirs.key_pem())
            }
            Self::AnotherName => {
                let named = operator.issue_for("other.example", now() - DAY, now() + DAY);
                (named.chain_pem(), named.key_pem())
            }
        };
        operator.put(&certificate, &key);
    }

    /// Of what the operator is told.
    fn word(self) -> &'static str {
        match self {
            Self::AnotherKey => "do not belong together",
            Self::HalfWritten => "no certificate in PEM form",
            Self::Expired => "expired",
            Self::AnotherAuthority => "another authority key",
            Self::AnotherName => "pool.example",
        }
    }
}

/// Whether who connects now is shown this.
async fn is_served(url: &StratumUrl, identity: &TlsIdentity) -> bool {
    let pinned = StratumUrl { trust: Trust::Pins(vec![identity.spki_hash()]), ..url.clone() };
    match soon("a connection", Client::connect(&pinned, &Device::default())).await {
        Ok(client) => {
            client.close().await;
            true
        }
        Err(ClientError::Identity(IdentityError::NotPinned { .. })) => false,
        Err(error) => panic!("{error}"),
    }
}

/// Waits until it is.
async fn is_served_soon(url: &StratumUrl, identity: &TlsIdentity) {
    soon("the new certificate is served", async {
        while !is_served(url, identity).await {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// Miners over both transports, who submit until they are told to stop.
struct Fleet {
    submitting: Arc<AtomicBool>,
    mining: JoinSet<(Transport, Books)>,
}

impl Fleet {
    async fn start(server: &Process, miners: usize) -> Self {
        let submitting = Arc::new(AtomicBool::new(true));
        let mut mining = JoinSet::new();
        for number in 0..2 * miners {
            let transport = if number % 2 == 0 { Transport::Quic } else { Transport::Tcp };
            let url = StratumUrl { transport, ..server.quic.clone() };
            let mut miner = Miner::at(&url, 1).await;
            let submitting = submitting.clone();
            mining.spawn(async move {
                while submitting.load(Relaxed) {
                    // fails if the connection does
                    miner.mine(PACE, Duration::from_secs(1)).await;
                }
                (transport, miner.settle().await)
            });
        }
        Self { submitting, mining }
    }

    /// No connection was lost, and no share.
    async fn all_is_well(mut self, shares: u64) {
        self.submitting.store(false, Relaxed);
        let mut all = Vec::new();
        while let Some(settled) = self.mining.join_next().await {
            all.push(settled.unwrap());
        }
        for transport in [Transport::Quic, Transport::Tcp] {
            let books = all.iter().filter(|(of, _)| *of == transport).map(|(_, books)| *books);
            let Books { sent, accepted, refused } = books.sum();
            println!("{transport}: {sent} shares, {refused} refused");
            assert_eq!((accepted, refused), (sent, 0), "{transport}");
            assert!(sent >= shares, "there was a load over {transport}: {sent} shares");
        }
    }
}

#[tokio::test]
async fn fifty_swaps_cost_no_connection_and_no_share() {
    let node = node().await;
    let home = Home::new(&named(&node)).logging();
    let operator = Operator::new(&home);
    let server = home.start(0);
    let fleet = Fleet::start(&server, MINERS).await;

    let mut newest: Option<TlsIdentity> = None;
    for swap in 0..SWAPS {
        let pair = operator.issue();
        operator.put(&pair.chain_pem(), &pair.key_pem());
        let (taken, said) = reload(&home).await;
        assert!(taken && said.contains("certs/tls.pem"), "swap {swap}: {said}");
        assert!(is_served(&server.quic, &pair).await, "swap {swap}: {said}");
        if let Some(before) = newest.replace(pair) {
            assert!(!is_served(&server.quic, &before).await, "swap {swap}");
        }
        let bad = Bad::ALL[swap % Bad::ALL.len()];
        bad.put(&operator);
        let (taken, said) = reload(&home).await;
        assert!(!taken && said.contains(bad.word()), "{bad:?}: {said}");
        assert!(is_served(&server.quic, newest.as_ref().unwrap()).await, "{bad:?}");
    }

    fleet.all_is_well(20 * MINERS as u64).await;
    let log = home.log();
    let told = |word: &str| log.lines().filter(|line| line.contains(word)).count();
    assert_eq!(told("INFO new connections are shown the TLS certificate certs/tls.pem"), SWAPS, "{log}");
    assert_eq!(told("ERROR the certificate in use stays in use"), SWAPS, "{log}");
    server.terminate().await;
}

/// The ways by which a server learns of another pair, with miners at work.
#[tokio::test]
async fn a_server_learns_of_another_pair_by_every_way() {
    let node = node().await;
    let config = named(&node);
    let home = Home::new(&format!("{config}poll_interval = 1\n")).logging();
    let operator = Operator::new(&home);
    let server = home.start(0);
    let fleet = Fleet::start(&server, 5).await;

    // by looking at the files
    let pair = operator.issue();
    operator.put(&pair.chain_pem(), &pair.key_pem());
    is_served_soon(&server.quic, &pair).await;

    // what is half there is told of once, and taken when it is whole
    let pair = operator.issue();
    operator.put(&pair.chain_pem()[..100], &pair.key_pem());
    soon("the half-written pair is told of", async {
        while !home.log().contains("no certificate in PEM form") {
            sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    sleep(Duration::from_secs(4)).await;
    assert_eq!(home.log().matches("no certificate in PEM form").count(), 1);
    operator.put(&pair.chain_pem(), &pair.key_pem());
    is_served_soon(&server.quic, &pair).await;

    // by other paths in the configuration, which is looked at too
    let at = |name: &str| home.path().join(name);
    let paths = |directory: &str| {
        format!(
            "cert_path = \"{directory}/tls.pem\"\nkey_path = \"{directory}/tls.key\"\npoll_interval = 1\n"
        )
    };
    let configure = |tls: &str| {
        let port = server.quic.port;
        let text = format!("[stratum_v2]\nlisten_addr = \"127.0.0.1:{port}\"\n{config}{tls}");
        fs::write(at("config.toml"), text).unwrap();
    };
    let pair = operator.issue();
    put_pair(&at("elsewhere"), &pair);
    configure(&paths("elsewhere"));
    is_served_soon(&server.quic, &pair).await;

    // by a link to a link, as Kubernetes swaps a secret's files
    let pair = operator.issue();
    put_pair(&at("mount/..one"), &pair);
    link("..one", &at("mount/..data"));
    for name in ["tls.pem", "tls.key"] {
        symlink(format!("..data/{name}"), at("mount").join(name)).unwrap();
    }
    configure(&paths("mount"));
    is_served_soon(&server.quic, &pair).await;
    let pair = operator.issue();
    put_pair(&at("mount/..two"), &pair);
    link("..two", &at("mount/..data"));
    is_served_soon(&server.quic, &pair).await;

    // by SIGHUP alone, with nothing else to wake it up
    configure(&paths("mount").replace("poll_interval = 1", "poll_interval = 86400"));
    let (taken, said) = reload(&home).await;
    assert!(taken, "{said}");
    let pair = operator.issue();
    put_pair(&at("mount/..three"), &pair);
    link("..three", &at("mount/..data"));
    sleep(Duration::from_secs(2)).await;
    assert!(!is_served(&server.quic, &pair).await);
    server.signal("HUP");
    is_served_soon(&server.quic, &pair).await;

    fleet.all_is_well(50).await;
    server.terminate().await;
}

/// What asks all the time does not keep the server from looking.
#[tokio::test]
async fn a_monitor_does_not_stop_the_rotation() {
    let node = node().await;
    let home = Home::new(&format!("{}poll_interval = 2\n", named(&node)));
    let operator = Operator::new(&home);
    let server = home.start(0);
    let pair = operator.issue();
    operator.put(&pair.chain_pem(), &pair.key_pem());
    soon("the new certificate is served", async {
        while !is_served(&server.quic, &pair).await {
            let (good, told) = ask(home.path(), &["cert", "show", "--json"]).await;
            assert!(good, "{told}");
        }
    })
    .await;
    server.terminate().await;
}

/// A configuration that is being written may lack anything for a moment.
#[tokio::test]
async fn half_a_configuration_lets_nobody_in() {
    let node = node().await;
    let ca = rcgen::generate_simple_self_signed(["ca".to_owned()]).unwrap();
    let wanted = format!("{}client_ca_path = \"ca.pem\"\npoll_interval = 1\n", named(&node));
    let home = Home::new(&wanted).logging();
    let operator = Operator::new(&home);
    fs::write(home.path().join("ca.pem"), ca.cert.pem()).unwrap();
    let server = home.start(0);
    let pair = operator.issue();
    let refused = async || {
        let client = Client::connect(&server.quic, &Device::default()).await;
        match client {
            Ok(mut client) => client.set_up().await.is_err(),
            Err(_) => true,
        }
    };
    assert!(refused().await, "it is wanted at all");
    fs::write(home.path().join("config.toml"), "").unwrap();
    soon("it is told", async {
        while !home.log().contains("wants no client certificates any more: that takes a reload by hand") {
            sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    // it is looked at all the same
    operator.put(&pair.chain_pem(), &pair.key_pem());
    soon("the log has the new pair", async {
        while !home.log().contains("new connections are shown the TLS certificate certs/tls.pem") {
            sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    assert!(refused().await);
    let written = fs::read_to_string(home.path().join("config.toml")).unwrap();
    assert_eq!(written, "");
    server.terminate().await;
}

/// Makes a link, at once in the place of another.
fn link(to: &str, at: &Path) {
    let mut draft = PathBuf::from(at);
    draft.set_extension("new");
    symlink(to, &draft).unwrap();
    fs::rename(draft, at).unwrap();
}
