//! Work for the house's miners, made by the test.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use blvm_stratum_v2::mining::{Template, TemplateSerial, Tip, Work};

use crate::house::House;

/// What the house's miners mine now.
fn present(house: &House) -> Work {
    Work::clone(house.pool.work().borrow().as_ref().unwrap())
}

/// The same with a serial of its own, as if transactions had come.
fn another(template: &Template) -> Arc<Template> {
    static SERIAL: AtomicU64 = AtomicU64::new(1 << 32);
    Arc::new(Template { serial: TemplateSerial(SERIAL.fetch_add(1, Relaxed)), ..template.clone() })
}

/// A job for the next block is prepared.
pub(crate) fn prepare_future(house: &House) {
    let work = present(house);
    let future = vec![another(&work.template)];
    house.pool.publish(Arc::new(Work { future, ..work }));
}

/// Fees have risen.
pub(crate) fn raise_fees(house: &House) {
    let work = present(house);
    house.pool.publish(Arc::new(Work { template: another(&work.template), ..work }));
}

/// Someone has found a block; what was prepared for the next one, if anything was, is mined.
pub(crate) fn find_block(house: &House) {
    let mut work = present(house);
    let mut prev_hash = work.tip.prev_hash.to_byte_array();
    for byte in &mut prev_hash {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            break;
        }
    }
    let tip =
        Tip { prev_hash: BlockHash::from_byte_array(prev_hash), height: work.tip.height + 1, ..*work.tip };
    let template = work.future.pop().unwrap_or_else(|| another(&work.template));
    house.pool.publish(Arc::new(Work { tip: Arc::new(tip), template, future: Vec::new() }));
}
