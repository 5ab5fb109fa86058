//! What a process or a thread uses, as the kernel counts it.

#![allow(dead_code)]

use std::fs;
use std::time::Duration;

/// The kernel's unit of CPU time: USER_HZ is 100 on every platform that these tests run on.
const TICK: Duration = Duration::from_millis(10);

/// Resident memory in bytes.
pub(crate) fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    kib * 1024
}

/// CPU time of a process, its past threads too, user and system.
pub(crate) fn cpu(pid: u32) -> Duration {
    ticks(&format!("/proc/{pid}/stat")).unwrap()
}

/// CPU time of a thread of this process, None if it has ended.
pub(crate) fn cpu_of_thread(tid: u32) -> Option<Duration> {
    ticks(&format!("/proc/self/task/{tid}/stat"))
}

/// CPU time of the living threads of this process whose name begins so.
pub(crate) fn cpu_of_threads(name: &str) -> Duration {
    threads(name).into_iter().filter_map(cpu_of_thread).sum()
}

/// Threads of this process whose name begins so. The kernel keeps 15 bytes of a name.
pub(crate) fn threads(name: &str) -> Vec<u32> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let named = tasks.filter_map(|task| {
        let task = task.unwrap();
        let comm = fs::read_to_string(task.path().join("comm")).ok()?; // it may have ended
        comm.starts_with(name).then(|| task.file_name().to_str().unwrap().parse().unwrap())
    });
    named.collect()
}

pub(crate) fn this_thread() -> u32 {
    let link = fs::read_link("/proc/thread-self").unwrap();
    link.file_name().unwrap().to_str().unwrap().parse().unwrap()
}

fn ticks(path: &str) -> Option<Duration> {
    let stat = fs::read_to_string(path).ok()?;
    // the name stands in brackets and may contain anything; the state, field 3, follows
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |field: usize| fields[field - 3].parse::<u32>().unwrap();
    Some(TICK * (ticks(14) + ticks(15)))
}
