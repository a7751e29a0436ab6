//! A million bans, half of them of IPv6 networks: what one more costs, what a packet costs, what they weigh, and how
//! long a restart takes.

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::host::{mebibytes, resident};
use crate::latency;
use crate::report::Report;
use crate::storm::{await_installed, restore, settle};
use crate::support::PATIENCE;
use crate::support::guard::now;
use crate::support::lab::Lab;

const BANS: u32 = 1_000_000;

/// Packets that are timed at once, and how often: the best time counts.
const PACKETS: u32 = 100_000;
const BLASTS: usize = 5;

/// Bans that are timed one by one beside the million.
const ROUNDS: usize = 20;

pub(crate) fn measure(report: &mut Report) {
    for backend in ["iptables", "nftables"] {
        of(backend, report);
    }
}

fn of(backend: &str, report: &mut Report) {
    let lab = Lab::new();
    let at_once = "[jail.at-once]\nfilter = \"sshd\"\nsource = { files = [\"DIR/bans.log\"] }\n\
                   window = { hitcount = 1, seconds = 600 }\nban = { time = \"7d\" }\ntrack = 1000\n";
    let mut guard = latency::prepare(&(latency::config(backend) + at_once));
    guard.append("bans.log", "");
    guard.start(&lab.server);
    guard.ctl(&["ban", "192.0.2.1"]);
    let alone = packet(&lab);
    let start = Instant::now();
    guard.append("bans.log", &lines(Ipv4Addr::new(20, 0, 0, 9), 0x2a00));
    let installed = await_installed(&guard, u64::from(BANS) + 1);
    let took = start.elapsed().as_secs_f64();
    report.row(
        &format!("{backend}: {installed} bans, one line each"),
        &format!("{took:.1} s"),
        "half of them IPv6 /64",
    );
    let together = packet(&lab);
    report.row(
        &format!("{backend}: a packet past {installed} bans"),
        &format!("{together:.0} ns"),
        &format!("past one ban {alone:.0} ns: {:.2} times that", together / alone),
    );
    let (median, p99) = latency::of_file(&lab, &guard, ROUNDS);
    report.row(
        &format!("{backend}: append to first dropped packet, median"),
        &format!("{median:.2} ms"),
        &format!("p99 {p99:.2} ms, with {installed} bans in place"),
    );
    let before = guard.lines();
    guard.append(latency::LOG, &lines(Ipv4Addr::new(100, 0, 0, 9), 0x2a01));
    let start = Instant::now();
    while guard.lines() < before + u64::from(BANS) && start.elapsed() < PATIENCE * 6 {
        std::thread::sleep(Duration::from_millis(50));
    }
    settle();
    let (all, own) = mebibytes(resident(&guard));
    report.row(&format!("{backend}: resident with them and {BANS} tracked sources"), &all, &own);
    restore(report, backend, &mut guard, &lab.server);
    settle();
    let (all, own) = mebibytes(resident(&guard));
    report.row(&format!("{backend}: resident after that"), &all, &own);
}

/// A failed log-in from each of a million sources, half of them of IPv6.
fn lines(first: Ipv4Addr, prefix: u16) -> String {
    let (stamp, first) = (now(), u32::from(first));
    let mut text = String::with_capacity(BANS as usize * 130);
    for number in 0..BANS / 2 {
        let ipv4 = Ipv4Addr::from(first + number * 256);
        let ipv6 = Ipv6Addr::from(u128::from(prefix) << 112 | u128::from(number) << 64 | 7);
        for source in [ipv4.to_string(), ipv6.to_string()] {
            writeln!(text, "{stamp} web sshd[7]: Failed password for root from {source} port 4022 ssh2")
                .expect("a String");
        }
    }
    text
}

/// Nanoseconds from a packet's sending until it is there: on a veth the sender does all of it.
fn packet(lab: &Lab) -> f64 {
    let receiver = lab.server.on(|| UdpSocket::bind("0.0.0.0:9997").expect("the port is free"));
    let sender = lab.visitor.on(|| UdpSocket::bind("0.0.0.0:0").expect("a port"));
    let target = SocketAddr::new(lab.visitor.server(false), 9997);
    let blast = || {
        let start = Instant::now();
        for _ in 0..PACKETS {
            // A full buffer at the other end is no matter: the packet was let through.
            let _sent = sender.send_to(b"x", target);
        }
        start.elapsed().as_nanos() as f64 / f64::from(PACKETS)
    };
    let best = (0..BLASTS).map(|_| blast()).fold(f64::INFINITY, f64::min);
    drop(receiver);
    best
}
