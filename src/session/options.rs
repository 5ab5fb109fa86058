//! What an operator can set about sessions.

use core::time::Duration;

use crate::mining::vardiff;

/// Limits and habits of every session.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// What a channel's difficulty aims at.
    pub vardiff: vardiff::Options,
    /// How many accepted shares one SubmitShares.Success acknowledges at most.
    pub share_batch_size: u32,
    /// A channel's shares are acknowledged at once, but no more often than this unless a batch
    /// is full.
    pub share_batch_interval: Duration,
    /// How long a client may take to SetupConnection.
    pub setup_timeout: Duration,
    /// How long a connection may be without a channel. Clients may measure their hashrate before
    /// they open one, which takes SRI's mining device some five seconds.
    pub open_timeout: Duration,
    /// Channels per connection.
    pub max_channels: usize,
    /// Jobs of one tip that a channel may still submit for; older ones are stale.
    pub max_jobs: usize,
    /// Of these, jobs made for the channel alone, one with each SetTarget, of which there is at
    /// most one a second. They are not shared with anyone, so a client that has its targets
    /// changed all the time must not have many of them kept.
    pub max_own_jobs: usize,
    /// Shares of one tip remembered per channel to recognise duplicates. When they are used up
    /// the channel's jobs are replaced by harder ones, so that forgetting the shares is safe.
    pub max_seen_shares: usize,
    /// Consecutive shares refused for the miner's fault, after which the connection is closed;
    /// stale and duplicate shares count a tenth.
    pub max_bad_shares: u32,
    /// Clients whose vendor contains one of these (in any case) are sent work channel by channel,
    /// as their firmware drops messages that address a group.
    pub per_channel_vendors: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            vardiff: vardiff::Options::default(),
            share_batch_size: 10,
            share_batch_interval: Duration::from_millis(100),
            setup_timeout: Duration::from_secs(10),
            open_timeout: Duration::from_secs(60),
            max_channels: 2048,
            max_jobs: 64,
            max_own_jobs: 4,
            max_seen_shares: 16_384,
            max_bad_shares: 1000,
            per_channel_vendors: ["bitaxe", "nerd", "esp-miner"].map(String::from).to_vec(),
        }
    }
}
