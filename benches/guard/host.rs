//! What the kernel says of a running daemon: of all its processes together.

use std::path::PathBuf;
use std::time::Duration;

use crate::support::guard::Guard;
use crate::support::processes::family;

/// A line of `/proc/PID/status` that is in KiB, in MiB.
pub(crate) fn status(pid: u32, key: &str) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with(key))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024.0)
}

/// Resident memory, and the part of it that is the daemon's own: the rest are pages of the program's file, which all
/// processes share and which count once.
pub(crate) fn resident(guard: &Guard) -> (f64, f64) {
    let of = |key| status(guard.pid(), key).expect("the daemon runs");
    // A tool that was started may have ended.
    let own = family(guard.pid()).into_iter().filter_map(|pid| status(pid, "RssAnon:")).sum();
    (own + of("VmRSS:") - of("RssAnon:"), own)
}

pub(crate) fn mebibytes((all, own): (f64, f64)) -> (String, String) {
    (format!("{all:.1} MiB"), format!("{own:.1} MiB of it are its own, not its program's"))
}

fn tasks(guard: &Guard) -> impl Iterator<Item = PathBuf> {
    let tasks = |pid| std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    family(guard.pid()).into_iter().flat_map(tasks).map(|task| task.path())
}

pub(crate) fn threads(guard: &Guard) -> usize {
    tasks(guard).count()
}

/// How often any thread of the daemon went to sleep and was woken.
pub(crate) fn switches(guard: &Guard) -> u64 {
    let of_task = |path: PathBuf| {
        let status = std::fs::read_to_string(path.join("status")).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches:")).map(str::to_owned);
        line.and_then(|line| line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok())).unwrap_or(0)
    };
    tasks(guard).map(of_task).sum()
}

/// Time on a processor of all threads so far; the first field of `schedstat` is in nanoseconds (proc(5)).
pub(crate) fn cpu(guard: &Guard) -> Duration {
    let of_task = |task: PathBuf| {
        let line = std::fs::read_to_string(task.join("schedstat")).unwrap_or_default();
        line.split_whitespace().next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0)
    };
    Duration::from_nanos(tasks(guard).map(of_task).sum())
}
