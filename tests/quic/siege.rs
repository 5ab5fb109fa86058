//! What an attack costs the server, and the honest miners beside it.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use blvm_stratum_v2::wire::url::StratumUrl;
use tokio::runtime::Builder;
use tokio::time::sleep;

use crate::house::honest::Honest;
use crate::usage;
use crate::victim::{Limits, Victim};

/// How long the honest miners mine undisturbed before an attack.
const PEACE: Duration = Duration::from_millis(1500);
const PACE: Duration = Duration::from_millis(20);
const MIB: f64 = 1024.0 * 1024.0;

pub(crate) struct Siege {
    // in the order in which they end
    miners: [Timed; 2],
    pub(crate) victim: Victim,
    peace: [Latency; 2],
    /// CPU time per second for the honest miners alone.
    idle: f64,
    rss: u64,
}

/// What it came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Of the server, in MiB: before, at the peak, at the end.
    pub(crate) memory: [f64; 3],
    /// Of the server, for each unit of the attack.
    pub(crate) cpu: Duration,
    /// Over QUIC, over TCP.
    pub(crate) latency: [Latency; 2],
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Latency {
    median: Duration,
    p99: Duration,
}

impl Siege {
    pub(crate) async fn lay(limits: Limits) -> Self {
        let victim = Victim::start(limits);
        let miners = [Timed::start(victim.quic.clone()), Timed::start(victim.tcp.clone())];
        sleep(PEACE / 3).await;
        for miner in &miners {
            miner.latency();
        }
        let (cpu, began) = (usage::cpu(victim.pid()), Instant::now());
        sleep(PEACE).await;
        let idle = (usage::cpu(victim.pid()) - cpu).as_secs_f64() / began.elapsed().as_secs_f64();
        let peace = [0, 1].map(|miner: usize| miners[miner].latency());
        let rss = usage::resident(victim.pid());
        Self { victim, miners, peace, idle, rss }
    }

    /// Attacks, then looks on until `calm` has passed. The attack tells how often it did what it does.
    pub(crate) async fn attack(
        &self,
        name: &str,
        calm: Duration,
        attack: impl Future<Output = u64>,
    ) -> Outcome {
        let pid = self.victim.pid();
        let (cpu, began) = (usage::cpu(pid), Instant::now());
        let mut peak = self.rss;
        let mut attack = std::pin::pin!(attack);
        let count = loop {
            tokio::select! {
                count = &mut attack => break count,
                () = sleep(Duration::from_millis(20)) => peak = peak.max(usage::resident(pid)),
            }
        };
        let took = began.elapsed().as_secs_f64();
        peak = peak.max(usage::resident(pid));
        let latency = [0, 1].map(|miner: usize| self.miners[miner].latency());
        sleep(calm).await;
        let spent = (usage::cpu(pid) - cpu).as_secs_f64() - self.idle * began.elapsed().as_secs_f64();
        let cpu = Duration::from_secs_f64(spent.max(0.0) / count.max(1) as f64);
        let memory = [self.rss, peak, usage::resident(pid)].map(|bytes| bytes as f64 / MIB);
        println!(
            "{name}: {count} in {took:.1} s, {cpu:.1?} each; memory {:.1}, {:.1}, {:.1} MiB; {}; {}",
            memory[0],
            memory[1],
            memory[2],
            self.told("quic", 0, latency[0]),
            self.told("tcp", 1, latency[1]),
        );
        Outcome { memory, cpu, latency }
    }

    fn told(&self, transport: &str, miner: usize, Latency { median, p99 }: Latency) -> String {
        let times = |now: Duration, then: Duration| now.as_secs_f64() / then.as_secs_f64();
        let peace = self.peace[miner];
        format!(
            "{transport} median {median:.1?} (x {:.1}), p99 {p99:.1?} (x {:.1})",
            times(median, peace.median),
            times(p99, peace.p99)
        )
    }
}

impl Outcome {
    /// What no attack here may do, with a machine that is busy otherwise in mind.
    pub(crate) fn is_bearable(&self, memory: f64) {
        assert!(self.memory[1] - self.memory[0] < memory, "{self:?}");
        for Latency { median, .. } in self.latency {
            assert!(median < Duration::from_millis(250), "{self:?}");
        }
    }
}

/// An honest miner on a thread of its own, and how long its shares took to be acknowledged.
struct Timed {
    shares: Arc<Mutex<Vec<Duration>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Timed {
    fn start(url: StratumUrl) -> Self {
        let (shares, stop): (Arc<Mutex<Vec<Duration>>>, Arc<AtomicBool>) = Default::default();
        let (book, stopped) = (shares.clone(), stop.clone());
        let thread = thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut honest = Honest::to(&url).await;
                while !stopped.load(Relaxed) {
                    let sent = Instant::now();
                    honest.share().await;
                    book.lock().unwrap().push(sent.elapsed());
                    sleep(PACE).await;
                }
            });
        });
        Self { shares, stop, thread: Some(thread) }
    }

    /// Since it was last asked.
    fn latency(&self) -> Latency {
        let mut shares = std::mem::take(&mut *self.shares.lock().unwrap());
        shares.sort();
        let of = |part: usize| shares.get(shares.len() * part / 100).copied().unwrap_or(Duration::MAX);
        Latency { median: of(50), p99: of(99) }
    }
}

impl Drop for Timed {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        let ended = self.thread.take().unwrap().join();
        if !thread::panicking() {
            ended.expect("an honest miner mines on");
        }
    }
}
