//! A burst of sources that all cross the threshold, and a restart with all of them banned.

use std::fmt::Write;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use crate::host::{mebibytes, resident};
use crate::latency::{HITS, LOG, config, start};
use crate::report::Report;
use crate::support::guard::{Guard, now};
use crate::support::lab::{Host, Lab};

/// Sources of the storm.
const STORM: u32 = 100_000;

/// How long all may take to be in the kernel.
const DEADLINE: Duration = Duration::from_secs(180);

pub(crate) fn measure(report: &mut Report) {
    for backend in ["iptables", "nftables"] {
        let lab = Lab::new();
        let mut guard = start(&lab, &config(backend));
        let storm = storm();
        guard.append(LOG, &storm);
        let written = Instant::now();
        let installed = await_installed(&guard, u64::from(STORM));
        let took = written.elapsed();
        report.row(
            &format!("{backend}: {STORM} sources cross the threshold in a burst"),
            &format!("{:.2} s", took.as_secs_f64()),
            &format!("{installed} in the kernel, so long after the last line"),
        );
        settle();
        let (all, own) = mebibytes(resident(&guard));
        report.row(&format!("{backend}: resident with {installed} bans"), &all, &own);
        restore(report, backend, &mut guard, &lab.server);
    }
}

/// Waits until the kernel holds so many entries; how many it holds.
pub(crate) fn await_installed(guard: &Guard, wanted: u64) -> u64 {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let installed = guard.status()["installed"].as_u64().unwrap_or(0);
        if installed >= wanted || Instant::now() > deadline {
            return installed;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What is written behind the bans, the ledger and the list, is done.
pub(crate) fn settle() {
    std::thread::sleep(Duration::from_secs(5));
}

/// Starts with an empty kernel and a ledger that is whole; until READY.
pub(crate) fn restore(report: &mut Report, backend: &str, guard: &mut Guard, server: &Host) {
    guard.end("TERM");
    server.sh("iptables -F; iptables -X; ip6tables -F; ip6tables -X; ipset destroy; nft flush ruleset");
    let start = Instant::now();
    guard.start(server);
    let took = start.elapsed();
    let installed = guard.status()["installed"].as_u64().unwrap_or(0);
    report.row(
        &format!("{backend}: restore of {installed} bans until READY"),
        &format!("{:.2} s", took.as_secs_f64()),
        "from an empty kernel",
    );
}

fn storm() -> String {
    let stamp = now();
    let mut text = String::new();
    for _ in 0..HITS {
        for number in 0..STORM {
            let source = Ipv4Addr::from(0x1400_0009 + (number << 8));
            writeln!(text, "{stamp} web sshd[7]: Failed password for root from {source} port 4022 ssh2")
                .expect("a String takes everything");
        }
    }
    text
}
