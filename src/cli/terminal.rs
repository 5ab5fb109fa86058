//! Progress that people watch and programs can read.

use std::io::{IsTerminal, Write, stdout};

/// A line that is written over in a terminal, and a line each time elsewhere.
pub(super) struct LiveLine {
    terminal: bool,
    last: String,
}

impl LiveLine {
    pub(super) fn new() -> Self {
        Self { terminal: stdout().is_terminal(), last: String::new() }
    }

    pub(super) fn show(&mut self, line: String) {
        if line == self.last {
            return;
        }
        if self.terminal {
            print!("\r\x1b[K{line}");
            // what cannot be shown cannot be helped
            let _ = stdout().flush();
        } else {
            println!("{line}");
        }
        self.last = line;
    }

    pub(super) fn end(self) {
        if self.terminal && !self.last.is_empty() {
            println!();
        }
    }
}

/// Hashes per second, with a unit that keeps the number short.
pub(super) fn hashrate(mut hashes_per_second: f64) -> String {
    for unit in ["H/s", "kH/s", "MH/s", "GH/s", "TH/s"] {
        if hashes_per_second < 1000.0 {
            return format!("{hashes_per_second:.1} {unit}");
        }
        hashes_per_second /= 1000.0;
    }
    format!("{hashes_per_second:.1} PH/s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashrates_are_short() {
        assert_eq!(hashrate(0.0), "0.0 H/s");
        assert_eq!(hashrate(6_540_000.0), "6.5 MH/s");
        assert_eq!(hashrate(2.5e18), "2500.0 PH/s");
    }
}
