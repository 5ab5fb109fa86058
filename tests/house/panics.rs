//! What panicked where. A panic in a connection's task ends that task alone, so nobody would hear
//! of it.

use std::sync::{Mutex, Once, PoisonError};
use std::thread;

static HOOK: Once = Once::new();
static THREADS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// From now on all panics are noted.
pub(crate) fn watch() {
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let name = thread::current().name().unwrap_or_default().to_owned();
            THREADS.lock().unwrap_or_else(PoisonError::into_inner).push(name);
            usual(panic);
        }));
    });
}

/// How many panics there were on threads of this name.
pub(crate) fn on(name: &str) -> usize {
    let threads = THREADS.lock().unwrap_or_else(PoisonError::into_inner);
    threads.iter().filter(|thread| *thread == name).count()
}
