//! What the system allows this process, and whether that will do.

use std::fs;

use crate::server::Options;

/// Files that are not for miners over TCP: the node, found blocks, the log, listeners.
const FILES_BESIDES_MINERS: u64 = 48;
/// Address space without any miner: code, stacks, and what the allocator takes in advance.
const MEMORY_BESIDES_MINERS: u64 = 160 << 20;
/// What an idle miner with a channel takes, over QUIC.
const MEMORY_OF_MINER: u64 = 46 << 10;

/// The soft limits of this process; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    files: Option<u64>,
    memory: Option<u64>,
}

impl Limits {
    /// As they are now.
    pub(super) fn of_process() -> Self {
        Self::parse(&fs::read_to_string("/proc/self/limits").unwrap_or_default())
    }

    fn parse(table: &str) -> Self {
        let soft = |name: &str| {
            let line = table.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse().ok()
        };
        Self { files: soft("Max open files"), memory: soft("Max address space") }
    }

    /// How many miners over TCP leave files enough for the rest.
    pub(super) fn tcp_connections(&self) -> usize {
        let files = self.files.map(|files| files.saturating_sub(FILES_BESIDES_MINERS));
        files.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX))
    }

    /// What is too low for so many miners, and what to do. `module` is whether blvm-node sets the
    /// limits.
    pub(super) fn too_low(&self, options: &Options, module: bool) -> Vec<String> {
        let miners = options.max_connections as u64;
        let mut told = Vec::new();
        let wanted = miners.saturating_add(FILES_BESIDES_MINERS);
        if let Some(files) = self.files.filter(|files| *files < wanted) {
            let raise = if module {
                format!(
                    "set default_max_file_descriptors = {wanted} in [module_resource_limits] of the node's config"
                )
            } else {
                format!("raise it by ulimit -n {wanted}")
            };
            told.push(format!(
                "the limit of {files} open files leaves room for {} miners over TCP, and max_connections is \
                 {miners}: {raise}, lower max_connections, or let miners use QUIC, which takes none",
                self.tcp_connections()
            ));
        }
        let wanted = miners.saturating_mul(MEMORY_OF_MINER).saturating_add(MEMORY_BESIDES_MINERS);
        if let Some(memory) = self.memory.filter(|memory| *memory < wanted) {
            let fit = memory.saturating_sub(MEMORY_BESIDES_MINERS) / MEMORY_OF_MINER;
            let raise = if module {
                format!(
                    "set default_max_memory_bytes = {wanted} in [module_resource_limits] of the node's config"
                )
            } else {
                format!("raise it by ulimit -v {}", wanted / 1024)
            };
            told.push(format!(
                "the limit of {} MiB address space is enough for some {fit} miners, and max_connections is \
                 {miners}: {raise}, or lower max_connections",
                memory >> 20
            ));
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const OF_A_MODULE: &str = "\
Limit                     Soft Limit           Hard Limit           Units
Max processes             10                   10                   processes
Max open files            256                  256                  files
Max address space         536870912            536870912            bytes
";

    #[test]
    fn what_is_too_low_is_told_with_what_to_set() {
        let limits = Limits::parse(OF_A_MODULE);
        assert_eq!((limits.files, limits.memory), (Some(256), Some(512 << 20)));
        assert_eq!(limits.tcp_connections(), 208);
        let mut options = Config::default().options().unwrap();
        let told = limits.too_low(&options, true);
        let [files, memory] = &told[..] else { panic!("{told:?}") };
        assert!(
            files.contains("208 miners") && files.contains("default_max_file_descriptors = 10048"),
            "{files}"
        );
        assert!(memory.contains("default_max_memory_bytes = 638812160"), "{memory}");
        assert!(limits.too_low(&options, false)[0].contains("ulimit -n 10048"));
        options.max_connections = 208;
        assert!(limits.too_low(&options, true).is_empty());
        let none = Limits::parse("Max open files   unlimited   unlimited   files\n");
        assert_eq!((none.tcp_connections(), none.too_low(&options, true).len()), (usize::MAX, 0));
    }
}
