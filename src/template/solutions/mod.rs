//! Found blocks on their way out: to disk first, then to every source, until one has taken them.

mod courier;
mod store;

pub use courier::{Courier, Fate, Outcome};
pub use store::{Store, StoreError};

#[cfg(test)]
mod tests;
