//! Bitcoin mining without protocol state: work, jobs, shares, targets.
//!
//! Pure: no clock, no socket, no randomness of its own.

pub mod coinbase;
pub mod extranonce;
pub mod hash;
pub mod job;
pub mod merkle;
pub mod moment;
pub mod payees;
pub mod payout;
pub mod reward_script;
pub mod share;
pub mod target;
pub mod vardiff;
pub mod witness;
pub mod work;

pub use coinbase::Coinbase;
pub use moment::Moment;
pub use target::{Difficulty, Hashrate, Target};
pub use work::{Template, TemplateSerial, Tip, Work};
