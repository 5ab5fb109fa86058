//! The `[quic]` table: the QUIC transport.

use std::time::Duration;

use serde::Deserialize;

use super::StratumV2;
use super::problem::Checks;
use crate::transport::quic;

/// The `[quic]` table.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quic {
    /// Seconds without a word from a miner after which it is given up.
    pub idle_timeout: u64,
    /// Seconds between packets that keep NAT bindings alive.
    pub keep_alive: u64,
    /// Handshakes under way from which on clients have to show that their address is theirs.
    pub validate_above: usize,
    /// Handshakes under way at most.
    pub max_handshakes: usize,
    /// Bytes that may come on one stream before they are read.
    pub stream_window: u32,
    /// Bytes that may come on all streams of a connection before they are read.
    pub receive_window: u32,
    /// Bytes kept for a connection until they are acknowledged.
    pub send_window: u32,
    /// Bytes for the UDP socket's buffers.
    pub socket_buffer: usize,
}

impl Default for Quic {
    fn default() -> Self {
        let options = quic::Options::default();
        Self {
            idle_timeout: options.idle_timeout.as_secs(),
            keep_alive: options.keep_alive.as_secs(),
            validate_above: options.validate_above,
            max_handshakes: options.max_handshakes,
            stream_window: options.stream_window,
            receive_window: options.receive_window,
            send_window: options.send_window,
            socket_buffer: options.socket_buffer,
        }
    }
}

impl Quic {
    pub(super) fn check(&self, checks: &mut Checks) {
        checks.must("quic.idle_timeout", (5..=3600).contains(&self.idle_timeout), "5 to 3600 seconds");
        if !(1..self.idle_timeout).contains(&self.keep_alive) {
            let must = "must be at least 1 and less than quic.idle_timeout";
            checks.tell("quic.keep_alive", &["quic.idle_timeout"], must);
        }
        checks.must("quic.max_handshakes", self.max_handshakes > 0, "at least 1");
        let window = 4096..=16 * 1024 * 1024;
        checks.must("quic.stream_window", window.contains(&self.stream_window), "4096 to 16777216 bytes");
        checks.must("quic.receive_window", window.contains(&self.receive_window), "4096 to 16777216 bytes");
        checks.must("quic.send_window", window.contains(&self.send_window), "4096 to 16777216 bytes");
        checks.must("quic.socket_buffer", self.socket_buffer <= 1 << 30, "at most 1073741824 bytes");
    }

    pub(super) fn options(&self, server: &StratumV2) -> quic::Options {
        quic::Options {
            handshake_timeout: Duration::from_secs(server.handshake_timeout),
            idle_timeout: Duration::from_secs(self.idle_timeout),
            keep_alive: Duration::from_secs(self.keep_alive),
            // one for each channel, and some for channels that are refused
            max_streams: u32::try_from(server.max_channels_per_connection)
                .unwrap_or(u32::MAX)
                .saturating_add(16),
            validate_above: self.validate_above,
            max_handshakes: self.max_handshakes,
            stream_window: self.stream_window,
            receive_window: self.receive_window,
            send_window: self.send_window,
            socket_buffer: self.socket_buffer,
        }
    }
}
