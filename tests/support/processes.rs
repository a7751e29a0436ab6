//! A daemon's processes, as the system lists them: there may be one or several.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

/// A process and all that came from it, itself first.
pub(crate) fn family(pid: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = all().filter_map(|child| Some((child, parent_of(child)?))).collect();
    let mut family = vec![pid];
    let mut next = 0;
    while let Some(parent) = family.get(next).copied() {
        family.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(child, _)| *child));
        next += 1;
    }
    family
}

/// Ends all of a family at once, as systemd does with what is left of a service.
pub(crate) fn kill_family(pid: u32) {
    for member in family(pid) {
        let member = i32::try_from(member).ok().and_then(Pid::from_raw).expect("a process");
        // It may have ended by itself.
        let _gone = kill_process(member, Signal::KILL);
    }
}

/// Threads of a process.
pub(crate) fn threads(pid: u32) -> Vec<u32> {
    numbers(&format!("/proc/{pid}/task")).collect()
}

/// A number of `/proc/PID/status`, such as `VmRSS` (in KiB) or `TracerPid`.
pub(crate) fn figure(pid: u32, name: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Open descriptors of a process.
pub(crate) fn descriptors(pid: u32) -> u64 {
    numbers(&format!("/proc/{pid}/fd")).count() as u64
}

fn all() -> impl Iterator<Item = u32> {
    numbers("/proc")
}

fn numbers(folder: &str) -> impl Iterator<Item = u32> + use<> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // `PID (name) state parent …`, and a name may hold anything.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}
