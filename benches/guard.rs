//! `make bench`: the figures of a running daemon, each beside what it is to be compared with.
//!
//! These are measurements, not tests: nothing fails because a machine is slow. Figures of one run may be compared
//! with each other; machines differ, and so do hours.

#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures for people are rounded"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::fmt::Write as _;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use support::eventually;
use support::guard::{Guard, now};
use support::lab::Lab;

/// Bans that are timed one by one.
const ROUNDS: usize = 60;
/// Sources of the storm, and hits of each.
const STORM: u32 = 100_000;
const HITS: u32 = 5;
/// Lines of the log that is scanned.
const LINES: usize = 1_000_000;

fn main() {
    row("what", "figure", "beside");
    for backend in ["iptables", "nftables"] {
        latency(backend);
        storm_and_restore(backend);
    }
    idle();
    scan();
}

fn row(what: &str, figure: &str, beside: &str) {
    println!("{what:<52} {figure:>14}  {beside}");
}

fn config(backend: &str) -> String {
    format!(
        "[firewall]\nbackend = \"{backend}\"\n[defaults]\ntrack = 200000\n[jail.sshd]\nfilter = \"sshd\"\n\
         source = {{ files = [\"DIR/auth.log\"] }}\nwindow = {{ hitcount = {HITS}, seconds = 600 }}\n"
    )
}

/// From the append of the deciding line to the first packet that is dropped.
fn latency(backend: &str) {
    let lab = Lab::new();
    let mut guard = Guard::new(&config(backend));
    guard.append("auth.log", "");
    guard.start(&lab.server);
    let receiver = lab.server.on(|| UdpSocket::bind("0.0.0.0:9999").expect("the port is free"));
    receiver.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
    let sender = lab.attacker.on(|| UdpSocket::bind("0.0.0.0:0").expect("a port"));
    let target = SocketAddr::new(lab.attacker.server(false), 9999);
    let (start, arrived, stop) = (Instant::now(), AtomicU64::new(0), AtomicBool::new(false));
    let mut times: Vec<f64> = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                // Dropped packets are what is measured.
                let _dropped = sender.send_to(b"x", target);
                std::thread::sleep(Duration::from_micros(20));
            }
        });
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                if receiver.recv(&mut [0; 8]).is_ok() {
                    let at = u64::try_from(start.elapsed().as_nanos()).expect("a short run");
                    arrived.store(at, Ordering::Relaxed);
                }
            }
        });
        for _ in 0..ROUNDS {
            let before = arrived.load(Ordering::Relaxed);
            eventually("packets arrive", || arrived.load(Ordering::Relaxed) > before);
            let address = lab.attacker.v4.to_string();
            let line = support::guard::failed_password("root", &address);
            guard.append("auth.log", &line.repeat(HITS as usize - 1));
            std::thread::sleep(Duration::from_millis(30));
            let appended = start.elapsed();
            guard.append("auth.log", &line);
            loop {
                let last = arrived.load(Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(50));
                if arrived.load(Ordering::Relaxed) == last {
                    times.push((Duration::from_nanos(last).as_secs_f64() - appended.as_secs_f64()).max(0.0) * 1e3);
                    break;
                }
            }
            guard.ctl(&["unban", &address]);
        }
        stop.store(true, Ordering::Relaxed);
    });
    times.sort_by(f64::total_cmp);
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    row(
        &format!("{backend}: append to first dropped packet, median"),
        &format!("{:.2} ms", at(0.5)),
        &format!(
            "p95 {:.2} ms of {} bans; one `{} add` by exec: {}",
            at(0.95),
            times.len(),
            backend_tool(backend),
            exec(&lab, backend)
        ),
    );
}

fn backend_tool(backend: &str) -> &'static str {
    if backend == "iptables" { "ipset" } else { "nft" }
}

/// What one process per ban costs here and now, at least.
fn exec(lab: &Lab, backend: &str) -> String {
    let list = if backend == "iptables" { "ipset list -n" } else { "nft list tables" };
    let start = Instant::now();
    for _ in 0..20 {
        lab.server.on(|| Command::new("sh").args(["-c", &format!("exec {list}")]).output()).expect("it runs");
    }
    format!("{:.2} ms", start.elapsed().as_secs_f64() * 1e3 / 20.0)
}

/// A burst of sources that all cross the threshold, and a restart with all of them banned.
fn storm_and_restore(backend: &str) {
    let lab = Lab::new();
    let mut guard = Guard::new(&config(backend));
    guard.append("auth.log", "");
    guard.start(&lab.server);
    let storm = storm();
    let start = Instant::now();
    guard.append("auth.log", &storm);
    let written = start.elapsed();
    let installed = || guard.status()["installed"].as_u64().unwrap_or(0);
    let deadline = Instant::now() + Duration::from_secs(120);
    while installed() < u64::from(STORM) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    let took = start.elapsed();
    let banned = installed();
    row(
        &format!("{backend}: {STORM} sources cross the threshold in a burst"),
        &format!("{:.2} s", took.as_secs_f64()),
        &format!("{banned} in the kernel; writing the lines alone {:.2} s", written.as_secs_f64()),
    );
    row(&format!("{backend}: resident with {banned} bans"), &format!("{:.1} MiB", resident(&guard)), "");
    // Let the ledger be whole: what is measured is the restore, not the reading of the log again.
    guard.end("TERM");
    lab.server.sh("iptables -F; iptables -X; ip6tables -F; ip6tables -X; ipset destroy; nft flush ruleset");
    let start = Instant::now();
    guard.start(&lab.server);
    let took = start.elapsed();
    row(
        &format!("{backend}: restore of {banned} bans until READY"),
        &format!("{:.2} s", took.as_secs_f64()),
        &format!("{} in the kernel", guard.status()["installed"]),
    );
}

fn storm() -> String {
    let stamp = now();
    let mut text = String::new();
    for _ in 0..HITS {
        for n in 0..STORM {
            let (a, b, c) = (20 + n / 65_536, n / 256 % 256, n % 256);
            let line =
                writeln!(text, "{stamp} web sshd[7]: Failed password for root from {a}.{b}.{c}.9 port 4022 ssh2");
            line.expect("a String takes everything");
        }
    }
    text
}

fn resident(guard: &Guard) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", guard.pid())).expect("the daemon runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("it is there");
    let kib: f64 = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number");
    kib / 1024.0
}

/// How often any thread of the daemon went to sleep and was woken.
fn switches(guard: &Guard) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", guard.pid())).expect("the daemon runs");
    let of_task = |path: std::path::PathBuf| {
        let status = std::fs::read_to_string(path.join("status")).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches:")).map(str::to_owned);
        line.and_then(|line| line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok())).unwrap_or(0)
    };
    tasks.flatten().map(|task| of_task(task.path())).sum()
}

/// Time on a processor of all threads so far; the first field of `schedstat` is in nanoseconds (proc(5)).
fn cpu(guard: &Guard) -> Duration {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", guard.pid())).expect("the daemon runs");
    let of_task = |task: std::path::PathBuf| {
        let line = std::fs::read_to_string(task.join("schedstat")).unwrap_or_default();
        line.split_whitespace().next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0)
    };
    Duration::from_nanos(tasks.flatten().map(|task| of_task(task.path())).sum())
}

fn idle() {
    /// The daemon looks around less often once nothing has happened for half a minute.
    const SETTLED: Duration = Duration::from_secs(40);
    const WATCHED: Duration = Duration::from_secs(60);
    let lab = Lab::new();
    let mut jails = String::from("[firewall]\nbackend = \"iptables\"\n");
    for jail in ["sshd", "sshd2", "sshd3"] {
        write!(jails, "[jail.{jail}]\nfilter = \"sshd\"\nsource = {{ files = [\"DIR/auth.log\"] }}\n")
            .expect("a String");
    }
    for jail in ["ping-drop", "syn-flood"] {
        write!(jails, "[jail.{jail}]\nfilter = \"{jail}\"\nsource = \"kernel\"\n").expect("a String");
    }
    let mut guard = Guard::new(&jails);
    guard.append("auth.log", "");
    guard.start(&lab.server);
    std::thread::sleep(SETTLED);
    let before = (switches(&guard), cpu(&guard));
    std::thread::sleep(WATCHED);
    let wakes = (switches(&guard) - before.0) as f64 / WATCHED.as_secs_f64();
    let busy = cpu(&guard).saturating_sub(before.1);
    let threads = std::fs::read_dir(format!("/proc/{}/task", guard.pid())).expect("the daemon runs").count();
    row("idle, five jails: resident", &format!("{:.1} MiB", resident(&guard)), &format!("{threads} threads"));
    row("idle, five jails: wake-ups of all threads", &format!("{wakes:.2} /s"), "");
    row("idle, five jails: processor time in a minute", &format!("{:.1} ms", busy.as_secs_f64() * 1e3), "");
}

/// `banctl replay` beside ripgrep that merely counts the lines with the same literals.
fn scan() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("quiet.log");
    let mut text = String::new();
    for n in 0..LINES {
        let line = if n % 100 == 0 {
            writeln!(
                text,
                "Nov 21 01:30:00 web sshd[7]: Failed password for root from 192.0.2.{} port 4022 ssh2",
                n % 250
            )
        } else {
            writeln!(
                text,
                "Nov 21 01:30:00 web CRON[{n}]: pam_unix(cron:session): session opened for user root by (uid=0)"
            )
        };
        line.expect("a String takes everything");
    }
    std::fs::write(&path, &text).expect("written");
    let guard = Guard::new(&config("none"));
    let start = Instant::now();
    guard.ctl(&["replay", path.to_str().expect("a path")]);
    let ours = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let rg =
        Command::new("rg").args(["-j1", "-c", "-F", "-e", "Failed password", "-e", "Invalid user"]).arg(&path).output();
    let beside = match rg {
        Ok(_) => format!(
            "ripgrep with two of the literals: {:.1} M lines/s",
            LINES as f64 / start.elapsed().as_secs_f64() / 1e6
        ),
        Err(_) => "ripgrep is not installed".to_owned(),
    };
    row("banctl replay, 1 % evidence", &format!("{:.1} M lines/s", LINES as f64 / ours / 1e6), &beside);
    breadth(&path);
}

/// The same log with five filters and with all there are: the lines are none of the others'.
fn breadth(log: &Path) {
    const FEW: [&str; 5] = ["sshd", "ping-drop", "syn-flood", "http-auth", "dovecot"];
    let mut all: Vec<String> = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("filters"))
        .expect("the filters")
        .filter_map(|file| Some(file.ok()?.path().file_stem()?.to_str()?.to_owned()))
        .collect();
    all.sort();
    let few = lines_per_second(&FEW.map(str::to_owned), log);
    let beside = format!("with five of them: {few:.1} M lines/s");
    let label = format!("the same with all {} filters", all.len());
    row(&label, &format!("{:.1} M lines/s", lines_per_second(&all, log)), &beside);
}

/// In millions, the best of three.
fn lines_per_second(filters: &[String], log: &Path) -> f64 {
    let mut jails = config("none");
    for filter in filters {
        // Those that go by a LOG prefix take the one they have, or this one.
        let text =
            std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("filters/{filter}.toml")));
        let text = text.expect("a filter");
        let kernel = text.lines().any(|line| line.starts_with("format") && line.contains("\"kernel\""));
        let open = kernel && !text.contains("\nprefix");
        let prefix = if open { "log_prefix = \"BENCH-DROP:\"\n" } else { "" };
        write!(jails, "[jail.\"all-{filter}\"]\nfilter = \"{filter}\"\nsource = {{ stdin = true }}\n{prefix}")
            .expect("a String");
    }
    let guard = Guard::new(&jails);
    let run = || {
        let said = guard.ctl(&["replay", "--json", log.to_str().expect("a path")]);
        let rate = said.lines().last().and_then(|line| line.split_once("\"lines_per_second\":"));
        let rate = rate.and_then(|(_, rest)| rest.trim_end_matches('}').parse::<f64>().ok());
        rate.expect("replay ends with its speed") / 1e6
    };
    (0..3).map(|_| run()).fold(0.0, f64::max)
}
