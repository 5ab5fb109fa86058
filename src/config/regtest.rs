//! The `[regtest]` table: the embedded chain.

use std::path::PathBuf;

use serde::Deserialize;

use super::problem::Checks;
use crate::template;
use crate::template::regtest::MAX_TRANSACTIONS;

/// The `[regtest]` table: the embedded chain.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Regtest {
    /// Where to keep the chain. In memory if there is none.
    pub file: Option<PathBuf>,
    /// Transactions to make up for each block.
    pub transactions: usize,
}

impl Regtest {
    pub(super) fn check(&self, checks: &mut Checks) {
        checks.must("regtest.transactions", self.transactions <= MAX_TRANSACTIONS, "at most 4000");
    }

    pub(super) fn options(self) -> template::Options {
        template::Options::embedded(template::regtest::Options {
            file: self.file,
            transactions: self.transactions,
            future_templates: true,
            ..Default::default()
        })
    }
}
