//! What has come of a change, for the log and for whoever has asked for it.

use tracing::Level;

use super::control::Answer;

/// What an operator reads of a change, here and in the log.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) lines: Vec<(Level, String)>,
}

impl Report {
    pub(super) fn say(&mut self, level: Level, text: impl Into<String>) {
        self.lines.push((level, text.into()));
    }

    /// This, if there is nothing else to say.
    pub(super) fn or(mut self, text: &str) -> Self {
        if self.lines.is_empty() {
            self.say(Level::INFO, text);
        }
        self
    }

    /// Whether all was done.
    pub(super) fn is_good(&self) -> bool {
        self.lines.iter().all(|(level, _)| *level > Level::ERROR)
    }

    pub(super) fn log(&self) {
        for (level, text) in &self.lines {
            match *level {
                Level::ERROR => tracing::error!("{text}"),
                Level::WARN => tracing::warn!("{text}"),
                _ => tracing::info!("{text}"),
            }
        }
    }

    pub(super) fn answer(&self) -> Answer {
        Answer {
            good: self.is_good(),
            text: self.lines.iter().map(|(_, text)| format!("{text}\n")).collect(),
        }
    }

    /// The worst of it, in a line.
    pub(super) fn summary(&self) -> &str {
        let worst = self.lines.iter().min_by_key(|(level, _)| *level);
        worst.and_then(|(_, text)| text.lines().next()).unwrap_or_default()
    }
}
