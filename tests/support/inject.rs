//! System calls of a running daemon that fail or take long. strace holds all its threads meanwhile, so that nothing of
//! the machine has to break for it.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::eventually;
use super::guard::Guard;
use super::processes::{family, figure, threads};

/// How long strace may take to let go.
const MANNERS: Duration = Duration::from_secs(2);

/// The fault lasts as long as this value lives.
pub(crate) struct Injected(Child);

impl Injected {
    /// Injects `fault` (as in `error=EIO`, `error=EIO:when=1+3` or `delay_enter=1000000`, in microseconds) into these
    /// system calls of all processes of the daemon.
    pub(crate) fn into(guard: &Guard, calls: &str, fault: &str) -> Injected {
        Injected::with(guard, calls, fault, &[])
    }

    /// The same for what the daemon says to the kernel's firewall, by the sockets that it has now.
    pub(crate) fn into_netlink(guard: &Guard, calls: &str, fault: &str) -> Injected {
        let mut sockets = Vec::new();
        eventually("the daemon has a way to the kernel", || {
            sockets = family(guard.pid()).iter().flat_map(|pid| netlink_sockets(*pid)).collect();
            !sockets.is_empty()
        });
        Injected::with(guard, calls, fault, &sockets)
    }

    fn with(guard: &Guard, calls: &str, fault: &str, files: &[String]) -> Injected {
        let all: Vec<u32> = family(guard.pid()).into_iter().flat_map(threads).collect();
        let mut strace = Command::new("strace");
        if files.is_empty() {
            // Threads that are started meanwhile, too; where programs are run, strace would stumble over them.
            strace.arg("--follow-forks");
        }
        strace.args(["-qqq", "-o"]).arg(guard.path("strace.log"));
        strace.args(["-e", &format!("trace={calls}"), "-e", &format!("inject={calls}:{fault}")]);
        strace.args(files.iter().map(|file| format!("--trace-path={file}")));
        strace.args(all.iter().map(|thread| format!("--attach={thread}")));
        let child = strace.stdin(Stdio::null()).spawn().expect("strace runs: it is in the package of that name");
        let held = |pid: &u32| figure(*pid, "TracerPid").is_none_or(|tracer| tracer == u64::from(child.id()));
        eventually("strace holds the daemon", || all.iter().all(held));
        Injected(child)
    }
}

/// What `/proc/PID/fd` calls the sockets of a process that speak netlink with netfilter.
fn netlink_sockets(pid: u32) -> Vec<String> {
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/netlink")).unwrap_or_default();
    // sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let netfilter = rows.filter(|row| row.get(1) == Some(&"12"));
    let sockets: Vec<String> = netfilter.filter_map(|row| Some(format!("socket:[{}]", row.get(9)?))).collect();
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let links = open.filter_map(|entry| Some(std::fs::read_link(entry.path()).ok()?.display().to_string()));
    links.filter(|link| sockets.contains(link)).collect()
}

impl Drop for Injected {
    fn drop(&mut self) {
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw).expect("a process");
        // At this signal it lets go of the daemon; so does the kernel, should strace be at a loss.
        let _gone = kill_process(pid, Signal::TERM);
        let deadline = Instant::now() + MANNERS;
        while matches!(self.0.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}
