//! What the server says, for the test that runs it.

use std::io;
use std::sync::{Arc, Mutex};

use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;

use crate::core::until;

/// All that is said on this thread, which is all that a test's server says: it shares the thread
/// with the test.
pub(crate) struct Log {
    lines: Lines,
    _until_dropped: DefaultGuard,
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// What is said from now on.
    pub(crate) fn here() -> Self {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter("blvm_stratum_v2=debug,warn")
            .with_ansi(false)
            .with_writer(lines.clone())
            .finish();
        Self { lines, _until_dropped: tracing::subscriber::set_default(subscriber) }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.lines.0.lock().unwrap()).into_owned()
    }

    /// Waits for a line with all of these words, and answers it.
    pub(crate) async fn says(&self, words: &[&str]) -> String {
        let line = || {
            let text = self.text();
            text.lines().find(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned)
        };
        until(&format!("the log says {words:?}"), async || line().is_some()).await;
        line().expect("it is there")
    }
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Drop for Log {
    /// Shows it where a test has failed.
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the server said:\n{}", self.text());
        }
    }
}
