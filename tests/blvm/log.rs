//! What a process says, in a file of its.

use std::fs;
use std::path::PathBuf;

use crate::patience::until;

pub(crate) struct Log {
    path: PathBuf,
}

impl Log {
    pub(crate) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// All of it. Nothing if there is no file yet.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.path).unwrap_or_default()).into_owned()
    }

    /// The end of it.
    pub(crate) fn tail(&self) -> String {
        let text = self.text();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    /// How long it is: what comes later is what comes after that.
    pub(crate) fn len(&self) -> usize {
        self.text().len()
    }

    /// The first line after `start` with all of these words.
    pub(crate) fn line(&self, start: usize, words: &[&str]) -> Option<String> {
        let text = self.text();
        let later = text.get(start..).unwrap_or_default();
        later.lines().find(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned)
    }

    /// Waits for a line with all of these words, and answers it.
    pub(crate) async fn says(&self, words: &[&str]) -> String {
        self.says_after(0, words).await
    }

    /// [`says`](Self::says), after `start`.
    pub(crate) async fn says_after(&self, start: usize, words: &[&str]) -> String {
        let path = self.path.display();
        until(&format!("{path} says {words:?}"), async || self.line(start, words).is_some()).await;
        self.line(start, words).expect("it is there")
    }
}
