//! The kernel's own `recent` and `limit` matches see packets in a network namespace, at times that chance chose, and
//! windows see hits at the same times. Each must say the same of every packet.

use std::fs::File;
use std::hash::RandomState;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::*;
use crate::filters::Effect;

/// Packets of one run, and the longest pause between two.
const PACKETS: usize = 20;
const LONGEST_GAP: i64 = 1300;
/// No packet is planned so that this many milliseconds more or less could change what any rule says of it.
const MARGIN: i64 = 120;
/// A packet that is later than this proves nothing; the machine was busy, and all is done again.
const PATIENCE: Duration = Duration::from_millis(80);

/// What is compared.
#[derive(Clone, Copy, Debug)]
enum Rule {
    /// `--seconds` and `--hitcount` behind `--set`; with `--reap` or without, which must make no difference.
    Recent { check: Check, seconds: u32, hitcount: u32, reap: bool },
    /// Packets a minute, and at once.
    Limit { per_minute: u32, burst: u32 },
}

const RULES: [Rule; 11] = [
    recent(Check::Rcheck, 1, 3, false),
    recent(Check::Rcheck, 2, 4, false),
    recent(Check::Rcheck, 3, 6, true),
    recent(Check::Rcheck, 2, 1, true),
    recent(Check::Update, 1, 3, false),
    recent(Check::Update, 2, 4, true),
    recent(Check::Update, 2, 6, false),
    Rule::Limit { per_minute: 60, burst: 3 },
    Rule::Limit { per_minute: 90, burst: 1 },
    Rule::Limit { per_minute: 33, burst: 7 },
    Rule::Limit { per_minute: 120, burst: 2 },
];

const fn recent(check: Check, seconds: u32, hitcount: u32, reap: bool) -> Rule {
    Rule::Recent { check, seconds, hitcount, reap }
}

impl Rule {
    fn spec(self) -> Spec {
        match self {
            Rule::Recent { check, seconds, hitcount, .. } => {
                Spec::Recent { hitcount, seconds: Duration::from_secs(seconds.into()), check }
            }
            Rule::Limit { per_minute, burst } => Spec::Limit { interval: Duration::from_secs(60) / per_minute, burst },
        }
    }

    /// Adds it to the chain, under a number of its own; the last rule of it matches what [`Rule::over`] reads.
    fn install(self, number: usize) {
        match self {
            Rule::Recent { check, seconds, hitcount, reap } => {
                let option = if check == Check::Update { "--update" } else { "--rcheck" };
                let reap = if reap { " --reap" } else { "" };
                let recent = format!("-A INPUT -p udp -m recent --name list{number}");
                iptables(&format!("{recent} --set"));
                iptables(&format!("{recent} {option} --seconds {seconds}{reap} --hitcount {hitcount}"));
            }
            Rule::Limit { per_minute, burst } => {
                iptables(&format!("-A INPUT -p udp -m limit --limit {per_minute}/minute --limit-burst {burst}"));
            }
        }
    }

    /// Whether a packet was one too many, by whether the rule matched it.
    fn over(self, matched: bool) -> bool {
        match self {
            Rule::Recent { .. } => matched,
            Rule::Limit { .. } => !matched,
        }
    }

    /// How many milliseconds decide about the last packet of a plan: how far it is from the edge.
    fn margin(self, plan: &[i64]) -> i64 {
        match self {
            Rule::Recent { check, seconds, hitcount, .. } => {
                let (window, wanted) = (i64::from(seconds) * 1000, hitcount as usize);
                let (mut stamps, mut margin) = (Vec::new(), i64::MAX);
                for now in plan {
                    stamps.push(*now);
                    let decisive = stamps.len().checked_sub(wanted).map(|at| now - stamps[at]);
                    margin = decisive.map_or(i64::MAX, |age| (age - window).abs());
                    if check == Check::Update && decisive.is_some_and(|age| age <= window) {
                        stamps.push(*now);
                    }
                }
                margin
            }
            Rule::Limit { per_minute, burst } => {
                let interval = 60_000 / i64::from(per_minute);
                let full = interval * i64::from(burst);
                let (mut credit, mut last, mut margin) = (full, 0, i64::MAX);
                for now in plan {
                    // Not what the bucket can hold: what flows over is safe too.
                    let poured = credit + now - last;
                    (margin, last) = ((poured - interval).abs(), *now);
                    credit = full.min(poured);
                    if credit >= interval {
                        credit -= interval;
                    }
                }
                margin
            }
        }
    }
}

struct Namespace(String);

impl Namespace {
    fn new(attempt: u32) -> Namespace {
        assert!(rustix::process::geteuid().is_root(), "this test needs root: it makes a network namespace");
        let namespace = Namespace(format!("bw-{}-w{attempt}", std::process::id()));
        tool("ip", &["netns", "add", &namespace.0]);
        tool("ip", &["-n", &namespace.0, "link", "set", "lo", "up"]);
        namespace
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

fn tool(name: &str, arguments: &[&str]) -> String {
    let output = Command::new(name).args(arguments).output().unwrap();
    assert!(output.status.success(), "{name} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn iptables(rule: &str) -> String {
    tool("iptables", &["-w"].into_iter().chain(rule.split(' ')).collect::<Vec<_>>())
}

/// When packets are sent, in milliseconds; none so that a little more or less could change a verdict.
fn plan() -> Vec<i64> {
    let chance = RandomState::new();
    let mut plan = vec![0];
    for draw in 0_u64.. {
        let gap = i64::try_from(chance.hash_one(draw) % LONGEST_GAP.unsigned_abs()).unwrap();
        plan.push(plan[plan.len() - 1] + gap.max(1));
        if RULES.iter().any(|rule| rule.margin(&plan) < MARGIN) {
            plan.pop();
        }
        if draw % 1000 == 999 {
            // A dead end.
            plan.truncate(1);
        }
        if plan.len() == PACKETS {
            break;
        }
    }
    plan
}

/// How many packets the deciding rules have matched.
fn counters() -> Vec<u64> {
    let listed = iptables("-nvxL INPUT");
    let rules = listed.lines().filter(|line| line.contains("hit_count") || line.contains("limit: avg"));
    let counters: Vec<u64> = rules.map(|rule| rule.split_whitespace().next().unwrap().parse().unwrap()).collect();
    assert_eq!(counters.len(), RULES.len(), "{listed}");
    counters
}

/// Sends the packets. Answers with each one's time, and per rule whether it was one too many; or nothing, if too late.
fn send(plan: &[i64]) -> Option<Vec<(Timestamp, Vec<bool>)>> {
    RULES.iter().enumerate().for_each(|(number, rule)| rule.install(number));
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (mut before, start, mut seen) = (counters(), Instant::now(), Vec::new());
    for millis in plan {
        let due = start + Duration::from_millis(100 + millis.unsigned_abs());
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let time = Timestamp::now();
        socket.send_to(b"x", "127.0.0.1:9").unwrap();
        if due.elapsed() > PATIENCE {
            return None;
        }
        let after = counters();
        let matched = before.iter().zip(&after).map(|(before, after)| after > before);
        seen.push((time, RULES.iter().zip(matched).map(|(rule, matched)| rule.over(matched)).collect()));
        before = after;
    }
    Some(seen)
}

fn hit(time: Timestamp) -> Hit {
    Hit {
        address: "127.0.0.1".parse().unwrap(),
        time,
        filter: 0,
        pattern: 0,
        user: None,
        port: None,
        evidence: Evidence::Forgeable,
        effect: Effect::Count(1),
        repeat: 1,
        line: crate::filters::Excerpt::default(),
    }
}

#[test]
fn recent_and_limit_agree_with_the_kernel_on_every_packet() {
    let attempt = |attempt| {
        let (namespace, plan) = (Namespace::new(attempt), plan());
        let inside = || {
            let file = File::open(format!("/run/netns/{}", namespace.0)).unwrap();
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            send(&plan)
        };
        Some((std::thread::scope(|scope| scope.spawn(inside).join()).unwrap()?, plan.clone()))
    };
    let (seen, plan) = (0..10).find_map(attempt).expect("the machine lets a packet be sent on time, in ten attempts");
    let source = "127.0.0.1/32".parse().unwrap();
    for (number, rule) in RULES.into_iter().enumerate() {
        let mut window = Window::new(&rule.spec(), 10);
        let ours: Vec<bool> = seen.iter().map(|(time, _)| window.hit(source, &hit(*time)).is_some()).collect();
        let kernels: Vec<bool> = seen.iter().map(|(_, over)| over[number]).collect();
        assert_eq!(ours, kernels, "{rule:?}, packets at {plan:?}");
    }
    let verdicts: Vec<bool> = seen.into_iter().flat_map(|(_, over)| over).collect();
    assert!(verdicts.contains(&true) && verdicts.contains(&false));
}
