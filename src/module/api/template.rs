//! `get_template`.

use bitcoin::hex::DisplayHex;
use serde::Serialize;

use super::{Api, ApiError};

#[derive(Serialize)]
pub(super) struct TemplateView {
    height: u32,
    prev_hash: String,
    version: u32,
    nbits: String,
    min_ntime: u32,
    network_target: String,
    coinbase_value: u64,
    merkle_path: Vec<String>,
    template: u64,
}

impl Api {
    pub(super) fn template(&self) -> Result<TemplateView, ApiError> {
        let work = self.pool.work().borrow().clone().ok_or(ApiError::NoWork)?;
        let mut network_target = work.tip.network_target.to_le_bytes();
        network_target.reverse();
        Ok(TemplateView {
            height: work.tip.height,
            prev_hash: work.tip.prev_hash.to_string(),
            version: work.template.version,
            nbits: format!("{:08x}", work.tip.nbits),
            min_ntime: work.tip.min_ntime,
            network_target: network_target.to_lower_hex_string(),
            coinbase_value: work.template.coinbase.value,
            merkle_path: work.template.merkle_path.iter().map(|hash| hash.0.to_lower_hex_string()).collect(),
            template: work.template.serial.0,
        })
    }
}
