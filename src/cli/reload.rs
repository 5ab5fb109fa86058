//! What changes while the server runs: its configuration, its certificates, how much it logs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use tokio::task::{JoinError, JoinHandle};
use tokio::time::{sleep, timeout};
use tracing::Level;

use super::control::Answer;
use super::limits::Limits;
use super::log::LogLevel;
use super::origin::{Content, Origin};
use super::report::Report;
use crate::aside::aside;
use crate::certs::{Look, Rotation};
use crate::clock::unix_now;
use crate::config::{Change, Config, Takes, Tls};
use crate::server::StratumV2Server;

/// How long files may take to be read.
const READ_PATIENCE: Duration = Duration::from_secs(20);
/// Who writes a file may need so long to write the other, or the rest.
const HALF_WRITTEN: Duration = Duration::from_secs(1);

/// What is said if they do not come in time.
const LATE: &str = "the configuration and the certificates cannot be read: their disk does not answer";

/// A server's configuration as it is in force, and how it changes.
pub(super) struct Running {
    origin: Origin,
    /// In force.
    config: Config,
    /// What the file held when the configuration was last read from it.
    content: Option<Content>,
    rotation: Arc<Mutex<Rotation>>,
    /// Under way. There is one at a time, so that a disk that does not answer holds up one thread.
    reading: Option<JoinHandle<Result<Seen, JoinError>>>,
    /// Whether it has been said that the disk does not answer.
    late: bool,
    /// Whether there are bad certificates of which nothing has been said, as a second look at them came too late.
    untold: bool,
    log: LogLevel,
}

/// What to take of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Load {
    All,
    /// `[tls]`.
    Tls,
    /// `[tls]`, if the file still holds this and nobody is let in by it.
    TlsIf(Option<Content>),
    Nothing,
}

/// What the files hold.
struct Seen {
    load: Load,
    /// The configuration's.
    content: Option<Content>,
    /// If the file was read: a configuration that works, or why there is none.
    loaded: Option<Result<Config, String>>,
    /// By what the certificates were looked at, if not by what is in force.
    tls: Option<Tls>,
    look: Look,
}

impl Running {
    /// `content` is what the file held when `config` was read from it.
    pub(super) fn new(
        origin: Origin,
        config: Config,
        content: Option<Content>,
        rotation: Rotation,
        log: LogLevel,
    ) -> Self {
        let rotation = Arc::new(Mutex::new(rotation));
        Self { origin, config, content, rotation, reading: None, late: false, untold: false, log }
    }

    /// How often the files are to be looked at.
    pub(super) fn poll_interval(&self) -> Duration {
        Duration::from_secs(self.config.tls.poll_interval)
    }

    /// Reads the configuration and the certificates, and applies what can change in a running server.
    pub(super) async fn reload(&mut self, server: &mut StratumV2Server) -> Report {
        let mut report = Report::default();
        if let Some(Seen { loaded, look, .. }) = self.see(server, &mut report, Load::All).await {
            match loaded {
                Some(Ok(newer)) => self.apply(newer, server, &mut report).await,
                Some(Err(error)) => report.say(Level::ERROR, format!("everything stays as it was: {error}")),
                None => {}
            }
            self.judge(look, server, &mut report, true).await;
        }
        report.or("nothing has changed")
    }

    /// Reads the certificates again, from where the configuration says now.
    pub(super) async fn reload_certificates(&mut self, server: &mut StratumV2Server) -> Report {
        let mut report = Report::default();
        if let Some(seen) = self.see(server, &mut report, Load::Tls).await {
            self.take_certificates(seen, server, &mut report, true).await;
        }
        report.or("the certificates are the same as before")
    }

    /// As [`reload_certificates`](Self::reload_certificates), as often as one likes: what was said is not said again.
    pub(super) async fn poll(&mut self, server: &mut StratumV2Server) -> Report {
        let mut report = Report::default();
        let Some(seen) = self.see(server, &mut report, Load::Nothing).await else { return report };
        let content = seen.content;
        self.take_certificates(seen, server, &mut report, false).await;
        if content != self.content {
            // who writes it may not be done
            sleep(HALF_WRITTEN).await;
            if let Some(seen) = self.see(server, &mut report, Load::TlsIf(content)).await {
                self.take_certificates(seen, server, &mut report, false).await;
            }
        }
        report
    }

    /// What is about to run out.
    pub(super) fn expiring(&self) -> Report {
        let mut report = Report::default();
        if let Some(rotation) = self.rotation() {
            for told in rotation.expiring(unix_now()) {
                report.say(Level::WARN, told);
            }
        }
        report
    }

    /// What is served.
    pub(super) fn served(&self) -> Answer {
        let Some(rotation) = self.rotation() else {
            return Answer { good: false, text: LATE.to_owned() };
        };
        let text = serde_json::to_string(&rotation.status(unix_now())).unwrap_or_default();
        Answer { good: true, text }
    }

    /// The files as they are now, `None` if they cannot be read in time: what they held is then taken when it comes.
    async fn see(&mut self, server: &mut StratumV2Server, report: &mut Report, load: Load) -> Option<Seen> {
        let asked = matches!(load, Load::All | Load::Tls);
        if self.reading.is_some() {
            let mut late = self.read(report, asked).await?;
            if asked {
                // it is read once more: what was wrong then is of no interest
                late.loaded.take_if(|loaded| loaded.is_err());
            }
            Box::pin(self.take_certificates(late, server, report, asked)).await;
            if self.reading.is_some() {
                return None;
            }
        }
        let (origin, rotation, running) = (self.origin.clone(), self.rotation.clone(), self.config.clone());
        let read = move || {
            let content = origin.content();
            let loads = asked || load == Load::TlsIf(content);
            let loaded = loads.then(|| origin.load_after(&running));
            let (certs, tls) = match &loaded {
                Some(Ok(newer)) if load == Load::All => {
                    (newer.with_restart_keys_of(&running).certs(), Some(newer.tls.clone()))
                }
                Some(Ok(newer)) if asked || keeps_client_ca(&running, newer) => {
                    let tls = newer.tls.clone();
                    (Config { tls: tls.clone(), ..running }.certs(), Some(tls))
                }
                _ => (running.certs(), None),
            };
            // nothing is left half-done in it by a panic
            let mut rotation = rotation.lock().unwrap_or_else(PoisonError::into_inner);
            Seen { load, content, loaded, tls, look: rotation.look(&certs, unix_now()) }
        };
        self.reading = Some(tokio::spawn(aside(read)));
        self.read(report, asked).await
    }

    /// What the reading that is under way brings.
    async fn read(&mut self, report: &mut Report, asked: bool) -> Option<Seen> {
        let reading = self.reading.as_mut()?;
        let Ok(read) = timeout(READ_PATIENCE, reading).await else {
            if asked || !self.late {
                report.say(Level::ERROR, LATE);
            }
            self.late = true;
            return None;
        };
        self.reading = None;
        self.late = false;
        match read.and_then(|read| read) {
            Ok(seen) => {
                if seen.loaded.is_some() {
                    self.content = seen.content;
                }
                Some(seen)
            }
            Err(error) => {
                report.say(
                    Level::ERROR,
                    format!("the files cannot be read, by a fault of this program: {error}"),
                );
                None
            }
        }
    }

    /// Takes the certificates, and from the configuration where they are.
    async fn take_certificates(
        &mut self,
        seen: Seen,
        server: &mut StratumV2Server,
        report: &mut Report,
        asked: bool,
    ) {
        match (seen.tls, seen.loaded) {
            (Some(tls), _) => self.config.tls = tls,
            (None, Some(Ok(_))) => report.say(
                Level::WARN,
                "the changed configuration wants no client certificates any more: that takes a reload by hand",
            ),
            (None, Some(Err(error))) => {
                let level = if let Load::TlsIf(_) = seen.load { Level::WARN } else { Level::ERROR };
                report.say(level, format!("the changed configuration is of no use: {error}"));
            }
            (None, None) => {}
        }
        self.judge(seen.look, server, report, asked).await;
    }

    async fn apply(&mut self, newer: Config, server: &mut StratumV2Server, report: &mut Report) {
        let (restart, now): (Vec<_>, Vec<_>) =
            self.config.changes(&newer).into_iter().partition(|change| change.takes == Takes::Restart);
        let newer = newer.with_restart_keys_of(&self.config);
        let (mut too_low, mut waits) = (Vec::new(), false);
        let applied = match newer.options() {
            Ok(mut options) => {
                let limits = Limits::of_process();
                options.max_tcp_connections = limits.tcp_connections();
                if options.max_connections > self.config.stratum_v2.max_connections {
                    too_low = limits.too_low(&options, matches!(self.origin, Origin::Module(_)));
                }
                let payout = options.pool.payout.clone();
                let applied = server.apply(options).await;
                waits = applied.is_ok() && *server.pool().terms().payout.policy() != payout;
                applied.map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = applied {
            report.say(Level::ERROR, format!("everything but [tls] stays as it was: {error}"));
            self.config.tls = newer.tls;
            return;
        }
        let mut left = Vec::new();
        if newer.log != self.config.log && !self.log.set(&newer.log.level) {
            report.say(Level::WARN, "log.level stays as it is: RUST_LOG comes first");
            left.push("log.");
        }
        // the look at the certificates says what came of theirs
        left.push("tls.");
        let taken = |change: &&Change| !left.iter().any(|left| change.key.starts_with(left));
        let keys = |changes: Vec<&Change>| {
            changes.iter().map(|change| change.key.as_str()).collect::<Vec<_>>().join(", ")
        };
        let now = keys(now.iter().filter(taken).collect());
        if !now.is_empty() {
            report.say(Level::INFO, format!("applied: {now}"));
        }
        if waits {
            report.say(
                Level::WARN,
                "the payout is as it was until a source has work with room for the new one",
            );
        }
        for too_low in too_low {
            report.say(Level::WARN, too_low);
        }
        if !restart.is_empty() {
            let restart = keys(restart.iter().collect());
            report.say(Level::WARN, format!("stays as it is until a restart: {restart}"));
        }
        self.config = newer;
    }

    /// Has what is good served. What is bad may be half-written, so it is looked at again before anything is said; if
    /// nobody has `asked`, what was said before is not said again.
    async fn judge(&mut self, look: Look, server: &mut StratumV2Server, report: &mut Report, asked: bool) {
        let look = match look {
            Look::Bad { seen_before: true, .. } if !asked && !self.untold => return,
            Look::Bad { seen_before: false, .. } => {
                sleep(HALF_WRITTEN).await;
                match Box::pin(self.see(server, report, Load::Nothing)).await {
                    Some(Seen { look, .. }) => look,
                    None => {
                        self.untold = true;
                        return;
                    }
                }
            }
            look => look,
        };
        self.untold = false;
        match look {
            Look::Same => {}
            Look::Swapped(swap) => {
                if let Err(error) = server.set_tls(swap.tls.clone()) {
                    report.say(Level::ERROR, format!("QUIC does not take the certificates: {error}"));
                    return;
                }
                // what is not marked is offered again
                if let Some(mut rotation) = self.rotation() {
                    rotation.served(&swap);
                }
                swap.told.into_iter().for_each(|told| report.say(Level::INFO, told));
                swap.warnings.into_iter().for_each(|warning| report.say(Level::WARN, warning));
            }
            Look::Bad { why, .. } => {
                report.say(Level::ERROR, format!("the certificate in use stays in use: {why}"));
            }
        }
    }

    /// `None` while the files are being read.
    fn rotation(&self) -> Option<MutexGuard<'_, Rotation>> {
        match self.rotation.try_lock() {
            Ok(rotation) => Some(rotation),
            Err(TryLockError::Poisoned(rotation)) => Some(rotation.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

/// Whether miners over QUIC need a certificate by `newer` if they do now. A file that is being written may lack it.
fn keeps_client_ca(running: &Config, newer: &Config) -> bool {
    running.tls.client_ca_path.is_none() || newer.tls.client_ca_path.is_some()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
    use std::sync::mpsc;
    use std::thread;

    use tokio::task::yield_now;
    use tokio::time::advance;

    use super::*;
    use crate::certs::Started;
    use crate::mining::extranonce::BootEpoch;
    use crate::server::Identity;
    use crate::transport::tls::TlsIdentity;
    use crate::wire::keys::AuthoritySecretKey;

    async fn start(directory: &Path, tls: Tls) -> (Running, StratumV2Server) {
        let mut config = Config { tls, ..Config::default() };
        config.stratum_v2.listen_addr = "127.0.0.1:0".parse().unwrap();
        config.stratum_v2.certs_dir = directory.to_owned();
        let Started { rotation, parts, .. } = Rotation::start(config.certs(), unix_now()).unwrap();
        let identity = Identity::of(parts, BootEpoch::of_start(0));
        let server = StratumV2Server::start(config.options().unwrap(), identity).await.unwrap();
        let origin = Origin::File(Some(directory.join("config.toml")));
        let content = origin.content();
        (Running::new(origin, config, content, rotation, LogLevel::none()), server)
    }

    /// A disk that does not answer, for as long as this is there.
    struct Hangs(Option<(mpsc::Sender<()>, thread::JoinHandle<()>)>);

    impl Hangs {
        fn of(running: &Running) -> Self {
            let rotation = running.rotation.clone();
            let (stuck, held) = mpsc::channel();
            let (go_on, gone_on) = mpsc::channel::<()>();
            let disk = thread::spawn(move || {
                let _hangs = rotation.lock().unwrap();
                stuck.send(()).unwrap();
                let _ = gone_on.recv();
            });
            held.recv().unwrap();
            Self(Some((go_on, disk)))
        }
    }

    impl Drop for Hangs {
        fn drop(&mut self) {
            if let Some((go_on, disk)) = self.0.take() {
                drop(go_on);
                disk.join().unwrap();
            }
        }
    }

    fn issue(directory: &Path) -> TlsIdentity {
        let authority = fs::read_to_string(directory.join("authority.key")).unwrap();
        let authority: AuthoritySecretKey = authority.trim().parse().unwrap();
        let pair = TlsIdentity::issue(&authority, unix_now() - 100, unix_now() + 1_000_000).unwrap();
        fs::write(directory.join("tls.key"), &*pair.key_pem()).unwrap();
        fs::write(directory.join("tls.pem"), pair.chain_pem()).unwrap();
        pair
    }

    /// What comes of it while more time passes than files may take.
    async fn late(change: impl Future<Output = Report>) -> Report {
        let passes = async {
            yield_now().await;
            advance(READ_PATIENCE + Duration::from_secs(1)).await;
        };
        tokio::join!(change, passes).0
    }

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_does_not_answer_holds_up_one_thread_and_loses_nothing() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("config.toml"), "").unwrap();
        let (mut running, mut server) = start(directory.path(), Tls::default()).await;
        let hangs = Hangs::of(&running);
        let pair = issue(directory.path());

        let said = late(running.poll(&mut server)).await.answer();
        assert_eq!(said, Answer { good: false, text: format!("{LATE}\n") });
        let reading = running.reading.as_ref().unwrap().id();
        assert!(late(running.poll(&mut server)).await.lines.is_empty(), "it is said once");
        assert_eq!(running.reading.as_ref().unwrap().id(), reading, "there is no second");
        // nothing else waits for it
        assert!(!running.served().good && running.expiring().lines.is_empty());

        drop(hangs);
        let told = running.poll(&mut server).await.answer();
        assert!(told.good && told.text.contains("tls.pem"), "{told:?}");
        assert!(running.served().text.contains(&pair.pin()));
        assert!(running.reading.is_none());
    }

    /// What was asked for holds, when it comes, for what is served and for what is in force alike.
    #[tokio::test(start_paused = true)]
    async fn a_reload_that_comes_late_is_one_thing() {
        let directory = tempfile::tempdir().unwrap();
        let ca = directory.path().join("ca.pem");
        fs::write(&ca, rcgen::generate_simple_self_signed(["ca".to_owned()]).unwrap().cert.pem()).unwrap();
        fs::write(directory.path().join("config.toml"), "").unwrap();
        let tls = Tls { client_ca_path: Some(ca), ..Tls::default() };
        let (mut running, mut server) = start(directory.path(), tls).await;
        let hangs = Hangs::of(&running);
        assert!(!late(running.reload(&mut server)).await.is_good());
        drop(hangs);
        let told = running.poll(&mut server).await.answer();
        assert!(told.text.contains("need no certificate any more"), "{told:?}");
        assert_eq!(running.config.tls.client_ca_path, None);
        assert!(running.poll(&mut server).await.lines.is_empty());
    }

    /// Bad certificates are told of, even if nobody could look at them twice in time.
    #[tokio::test(start_paused = true)]
    async fn what_is_bad_is_told_when_it_can_be() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("config.toml"), "").unwrap();
        let (mut running, mut server) = start(directory.path(), Tls::default()).await;
        fs::write(directory.path().join("tls.pem"), "half").unwrap();
        let rotation = running.rotation.clone();
        let (looked, hangs) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(true)));
        let disk = thread::spawn({
            let (looked, hangs) = (looked.clone(), hangs.clone());
            move || {
                // as soon as the first look is over
                let _stuck = loop {
                    let guard = rotation.lock().unwrap();
                    if !guard.expiring(unix_now()).is_empty() {
                        break guard;
                    }
                };
                looked.store(true, Relaxed);
                while hangs.load(Relaxed) {
                    thread::yield_now();
                }
            }
        });
        let passes = async {
            while !looked.load(Relaxed) {
                yield_now().await;
            }
            for _ in 0..30 {
                advance(Duration::from_secs(1)).await;
            }
        };
        let (said, ()) = tokio::join!(running.poll(&mut server), passes);
        assert_eq!(said.answer().text, format!("{LATE}\n"));
        hangs.store(false, Relaxed);
        disk.join().unwrap();
        let said = running.poll(&mut server).await.answer();
        assert!(said.text.contains("the certificate in use stays in use"), "{said:?}");
        assert!(running.poll(&mut server).await.lines.is_empty());
    }
}
