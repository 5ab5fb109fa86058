//! Where the programs are that are made of blvm-node.

use std::env;
use std::path::{Path, PathBuf};

/// The path of one. None if they are not there, which only CI takes amiss.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let built = || Some(Path::new(&env::var_os("HOME")?).join(".cache/blvm-stratum-v2/blvm-0.1.83"));
    let programs = env::var_os("BLVM_PEERS").map(PathBuf::from).or_else(built);
    let found = programs.filter(|programs| programs.join("complete").is_file());
    if found.is_none() {
        assert!(env::var_os("CI").is_none(), "no blvm-node: run tests/peers/blvm_node.sh first");
        println!("skipped: blvm-node not found (tests/peers/blvm_node.sh builds it)");
    }
    found.map(|programs| programs.join(name))
}
