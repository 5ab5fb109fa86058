//! The order of the modules, and the purity of the core.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What a module that reads no clock, socket, file or randomness of its own does not name.
const IMPURE: [&str; 17] = [
    "std::time",
    "Instant",
    "SystemTime",
    "Socket",
    "TcpStream",
    "TcpListener",
    "std::fs",
    "std::io",
    "std::env",
    "std::thread",
    "std::process",
    "std::sync::atomic",
    "tokio",
    "tracing",
    "getrandom",
    "SysRng",
    "async ",
];
const PURE: [&str; 3] = ["wire", "mining", "session"];

fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// The code of a file without comments and unit tests.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let text = text.split("#[cfg(test)]").next().unwrap().to_owned();
    let lines = text.lines().map(|line| line.split("//").next().unwrap());
    lines.collect::<Vec<_>>().join("\n")
}

/// Each top-level module's name and code, in the order in which lib.rs declares them.
fn modules() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut by_module: BTreeMap<String, String> = BTreeMap::new();
    for path in sources(&root) {
        let module = path.strip_prefix(&root).unwrap().components().next().unwrap();
        let module = module.as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned();
        *by_module.entry(module).or_default() += &code(&path);
    }
    let library = by_module["lib"].clone();
    let declared: Vec<_> = library
        .lines()
        .filter_map(|line| line.trim().strip_prefix("pub mod ")?.strip_suffix(';'))
        .map(|name| (name.to_owned(), by_module[name].clone()))
        .collect();
    assert_eq!(
        declared.len() + 2,
        by_module.len(),
        "lib.rs, main.rs and what lib.rs declares is all there is"
    );
    declared
}

/// The top-level modules that `code` uses.
fn used(code: &str) -> Vec<String> {
    code.split("crate::")
        .skip(1)
        .flat_map(|after| match after.strip_prefix('{') {
            Some(list) => {
                // `use crate::{a, b::C}`: the names at the list's first level
                let mut depth = 0;
                let mut names = vec![String::new()];
                for c in list.chars() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => names.push(String::new()),
                        c => names.last_mut().unwrap().push(c),
                    }
                }
                names
            }
            None => vec![after.to_owned()],
        })
        .map(|path| path.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect())
        .collect()
}

#[test]
fn no_module_uses_a_later_one() {
    let modules = modules();
    for (position, (name, code)) in modules.iter().enumerate() {
        for (later, _) in &modules[position + 1..] {
            assert!(!used(code).contains(later), "{name} uses {later}, which comes after it");
        }
    }
}

#[test]
fn the_core_is_pure() {
    for (name, code) in modules().iter().filter(|(name, _)| PURE.contains(&name.as_str())) {
        for impure in IMPURE {
            assert!(!code.contains(impure), "{name} names {impure}");
        }
    }
}

#[test]
fn the_reading_of_imports_works() {
    assert_eq!(used("use crate::wire::U256;\nuse crate::mining;"), ["wire", "mining"]);
    assert_eq!(used("use crate::{pool, session::{a, b}, x};"), ["pool", "session", "x"]);
}
