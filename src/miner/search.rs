//! Threads that hash.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bitcoin::hashes::{Hash, HashEngine, sha256};
use tokio::sync::mpsc;

use super::Progress;
use super::assignment::Assignment;
use crate::mining::Target;

/// Hashes between two looks at whether there is something else to do.
const STRIDE: u32 = 1 << 14;
/// The lowest of the version bits that BIP323 gives to the miner.
const VERSION_SHIFT: u32 = 5;
/// Shares that may wait to be sent. A thread that finds the queue full waits.
const QUEUE: usize = 64;

/// A nonce that leads to the target.
#[derive(Debug, Clone)]
pub(super) struct Nonce {
    /// Where it was found, and what for.
    pub(super) seat: u32,
    pub(super) assignment: Arc<Assignment>,
    /// The version that was hashed.
    pub(super) version: u32,
    /// The time that was hashed.
    pub(super) ntime: u32,
    /// The nonce.
    pub(super) nonce: u32,
    /// Whether it makes a block.
    pub(super) block: bool,
}

/// Threads that look for nonces until this is dropped.
#[derive(Debug)]
pub(super) struct Search {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Changes with every assignment.
    turn: AtomicU64,
    /// With the seat that it is of.
    assignment: Mutex<Option<(u32, Arc<Assignment>)>>,
    progress: Arc<Progress>,
}

impl Search {
    /// Starts the threads. They idle until there is an assignment.
    pub(super) fn start(threads: u32, progress: Arc<Progress>) -> (Self, mpsc::Receiver<Nonce>) {
        let (found, nonces) = mpsc::channel(QUEUE);
        let shared = Arc::new(Shared { progress, turn: AtomicU64::new(0), assignment: Mutex::default() });
        for index in 0..threads {
            let (shared, found) = (Arc::downgrade(&shared), found.clone());
            thread::spawn(move || {
                while let Some(shared) = shared.upgrade() {
                    if !shared.search(index, &found) {
                        break;
                    }
                }
            });
        }
        (Self { shared }, nonces)
    }

    /// What to hash from now on, and for which seat.
    pub(super) fn assign(&self, seat: u32, assignment: Option<Assignment>) {
        *self.shared.lock() = assignment.map(|assignment| (seat, Arc::new(assignment)));
        self.shared.turn.fetch_add(1, Relaxed);
    }
}

impl Drop for Search {
    fn drop(&mut self) {
        self.assign(0, None);
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(u32, Arc<Assignment>)>> {
        self.assignment.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works on the present assignment until there is another. False when nobody listens.
    fn search(&self, index: u32, found: &mpsc::Sender<Nonce>) -> bool {
        let turn = self.turn.load(Relaxed);
        let Some((seat, assignment)) = self.lock().clone() else {
            thread::sleep(Duration::from_millis(5));
            return !found.is_closed();
        };
        let network = Target::from_compact(assignment.nbits).unwrap_or(Target::ZERO);
        // each thread has a version of its own, and so a search space
        let version = assignment.version ^ (index << VERSION_SHIFT);
        let mut header = assignment.header();
        header[0..4].copy_from_slice(&version.to_le_bytes());
        for ntime in assignment.ntime.. {
            header[68..72].copy_from_slice(&ntime.to_le_bytes());
            let midstate = midstate(&header);
            let mut nonce = 0_u32;
            loop {
                for _ in 0..STRIDE {
                    let hash = hash(&midstate, &mut header, nonce);
                    if assignment.target.is_met_by(&hash) {
                        let block = network.is_met_by(&hash);
                        let assignment = assignment.clone();
                        let nonce = Nonce { seat, assignment, version, ntime, nonce, block };
                        if found.blocking_send(nonce).is_err() {
                            return false;
                        }
                        if self.turn.load(Relaxed) != turn {
                            return true;
                        }
                    }
                    nonce = nonce.wrapping_add(1);
                }
                self.progress.hashes.fetch_add(u64::from(STRIDE), Relaxed);
                if self.turn.load(Relaxed) != turn {
                    return true;
                }
                if nonce == 0 {
                    break;
                }
            }
        }
        true
    }
}

/// SHA-256 after the first 64 of the header's 80 bytes.
fn midstate(header: &[u8; 80]) -> sha256::HashEngine {
    let mut engine = sha256::HashEngine::default();
    engine.input(&header[..64]);
    engine
}

fn hash(midstate: &sha256::HashEngine, header: &mut [u8; 80], nonce: u32) -> [u8; 32] {
    header[76..80].copy_from_slice(&nonce.to_le_bytes());
    let mut engine = midstate.clone();
    engine.input(&header[64..]);
    sha256::Hash::from_engine(engine).hash_again().to_byte_array()
}

/// How many headers one thread hashes in a second, measured for a moment.
pub(super) fn measure() -> f64 {
    let mut header = [0; 80];
    let midstate = midstate(&header);
    let start = Instant::now();
    let mut hashes = 0_u32;
    while start.elapsed() < Duration::from_millis(200) {
        for nonce in hashes..hashes + STRIDE {
            std::hint::black_box(hash(&midstate, &mut header, nonce));
        }
        hashes += STRIDE;
    }
    f64::from(hashes) / start.elapsed().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::sha256d;

    use super::*;

    #[test]
    fn the_midstate_changes_nothing() {
        let mut header = [7; 80];
        let midstate = midstate(&header);
        let hash = hash(&midstate, &mut header, 0x0102_0304);
        assert_eq!(header[76..80], [4, 3, 2, 1]);
        assert_eq!(hash, sha256d::Hash::hash(&header).to_byte_array());
    }
}
