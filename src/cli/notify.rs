//! What systemd is told of a server that it has started (sd_notify(3)): no one, if none has.

use std::io;
use std::time::Duration;

use sd_notify::NotifyState::{Ready, Reloading, Status, Stopping, Watchdog};
use sd_notify::{NotifyState, notify, watchdog_enabled};
use tokio::time::{interval, timeout};

use crate::aside::aside;

/// systemd that does not listen for this long is not waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// Miners are served. The status is a line for `systemctl status`.
pub(super) async fn ready(status: String) {
    tell(move || notify(&[Ready, Status(&status)])).await;
}

/// The configuration is being read anew: [`ready`] is to follow, whatever comes of it.
pub(super) async fn reloading() {
    tell(|| notify(&[Reloading, NotifyState::monotonic_usec_now()?])).await;
}

/// No more miners are served.
pub(super) async fn stopping() {
    tell(|| notify(&[Stopping, Status("stopping")])).await;
}

/// Says again and again that the runtime is not stuck, if that is asked for.
pub(super) async fn watchdog() {
    let Some(within) = watchdog_enabled().filter(|within| !within.is_zero()) else { return };
    let mut due = interval((within / 2).max(Duration::from_millis(1)));
    loop {
        due.tick().await;
        tell(|| notify(&[Watchdog])).await;
    }
}

async fn tell(send: impl FnOnce() -> io::Result<()> + Send + 'static) {
    let sent = timeout(PATIENCE, aside(send)).await;
    let error = match sent {
        Ok(Ok(Ok(()))) => return,
        Ok(Ok(Err(error))) => error,
        Ok(Err(panicked)) => panicked.into(),
        Err(late) => late.into(),
    };
    tracing::warn!("cannot tell systemd at NOTIFY_SOCKET how the server is: {error}");
}
