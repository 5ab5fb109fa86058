//! `module.toml` is what the node takes for a manifest.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use blvm_stratum_v2::config::Config;

use crate::programs::program;

/// The project's own.
pub(crate) fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("module.toml")
}

/// What the node's own code says of it. None if there is no blvm-node.
fn verdict(manifest: &Path) -> Option<Vec<String>> {
    let output = Command::new(program("blvm_manifest")?).arg(manifest).output().unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    Some(text.lines().map(str::to_owned).collect())
}

#[test]
fn it_is_valid_and_of_this_version() {
    let Some(verdict) = verdict(&path()) else { return };
    let name = format!("blvm-stratum-v2 {}", env!("CARGO_PKG_VERSION"));
    assert_eq!(verdict, [name, "valid".to_owned()]);
}

#[test]
fn the_node_tells_what_is_wrong_with_one() {
    let home = tempfile::tempdir().unwrap();
    let spoilt = home.path().join("module.toml");
    let text = fs::read_to_string(path()).unwrap();
    fs::write(&spoilt, text.replace("\"read_blockchain\"", "\"get_block_template\"")).unwrap();
    let Some(verdict) = verdict(&spoilt) else { return };
    assert_eq!(verdict[1..], ["Unknown capability: get_block_template".to_owned()]);
}

/// What the server asks the node for needs them, and nothing else does.
#[test]
fn it_lists_the_capabilities_that_are_used() {
    let manifest: toml::Table = fs::read_to_string(path()).unwrap().parse().unwrap();
    let mut listed: Vec<_> = manifest["capabilities"].as_array().unwrap().iter().collect();
    listed.sort_by_key(|capability| capability.as_str());
    let used = [
        "call_module",
        "discover_modules",
        "publish_events",
        "read_blockchain",
        "read_chain_state",
        "register_module_api",
        "register_rpc_endpoint",
        "subscribe_events",
    ];
    assert_eq!(listed.iter().map(|capability| capability.as_str().unwrap()).collect::<Vec<_>>(), used);
}

/// What an operator can set is described where the node looks for it.
#[test]
fn the_keys_that_it_describes_are_keys() {
    let manifest: toml::Table = fs::read_to_string(path()).unwrap().parse().unwrap();
    let schema = manifest["config_schema"].as_table().unwrap();
    assert!(schema.len() > 5);
    for (key, about) in schema {
        assert!(!about.as_str().unwrap().is_empty());
        let (table, key) = key.split_once('.').unwrap_or(("stratum_v2", key));
        // no key is a date: what there is complains of that
        let config = format!("[{table}]\n{key} = 1979-05-27\n");
        let error = toml::from_str::<Config>(&config).unwrap_err();
        assert!(!error.message().contains("unknown field"), "{table}.{key}: {error}");
    }
}
