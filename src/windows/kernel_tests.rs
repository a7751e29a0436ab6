//! The kernel's own `recent` match sees packets in a network namespace, and a window sees hits at the same times.

use std::fs::File;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::*;

/// When packets are sent, in steps of 300 ms. With windows of whole seconds no age comes closer to an edge than 100 ms.
const STEPS: [u32; 14] = [0, 1, 2, 3, 6, 8, 9, 10, 14, 15, 16, 17, 18, 22];
const STEP: Duration = Duration::from_millis(300);
/// A packet that is later than this proves nothing; the machine was busy, and all is done again.
const PATIENCE: Duration = Duration::from_millis(80);

/// Which rules are compared: the option after `--set`, seconds and hitcount.
const RULES: [(Check, u32, u32); 6] = [
    (Check::Rcheck, 1, 3),
    (Check::Rcheck, 1, 4),
    (Check::Rcheck, 2, 5),
    (Check::Update, 1, 3),
    (Check::Update, 1, 4),
    (Check::Update, 2, 5),
];

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

/// Two rules for each of [`RULES`]; the second one counts the packets that are offences to the kernel.
fn make_rules() {
    for (number, (check, seconds, hitcount)) in RULES.iter().enumerate() {
        let option = if *check == Check::Update { "--update" } else { "--rcheck" };
        let recent = format!("-A INPUT -p udp -m recent --name list{number}");
        iptables(&format!("{recent} --set"));
        iptables(&format!("{recent} {option} --seconds {seconds} --hitcount {hitcount}"));
    }
}

/// How many packets each second rule has matched.
fn counters() -> Vec<u64> {
    let listed = iptables("-nvxL INPUT");
    let rules = listed.lines().filter(|line| line.contains("hit_count"));
    let counters: Vec<u64> = rules.map(|rule| rule.split_whitespace().next().unwrap().parse().unwrap()).collect();
    assert_eq!(counters.len(), RULES.len(), "{listed}");
    counters
}

/// Sends the packets. Answers with each one's time, and per rule whether it was an offence; or nothing, if too late.
fn send() -> Option<Vec<(Timestamp, Vec<bool>)>> {
    make_rules();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (start, mut before, mut seen) = (Instant::now(), counters(), Vec::new());
    for step in STEPS {
        let due = start + STEP * (step + 1);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let time = Timestamp::now();
        socket.send_to(b"x", "127.0.0.1:9").unwrap();
        if due.elapsed() > PATIENCE {
            return None;
        }
        let after = counters();
        seen.push((time, before.iter().zip(&after).map(|(before, after)| after > before).collect()));
        before = after;
    }
    Some(seen)
}

#[test]
fn recent_agrees_with_the_kernel_on_real_packets() {
    let attempt = |attempt| {
        let namespace = Namespace::new(attempt);
        let inside = || {
            let file = File::open(format!("/run/netns/{}", namespace.0)).unwrap();
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            send()
        };
        std::thread::scope(|scope| scope.spawn(inside).join()).unwrap()
    };
    let seen = (0..10).find_map(attempt).expect("the machine lets a packet be sent on time, in ten attempts");
    let source = "127.0.0.1/32".parse().unwrap();
    for (number, (check, seconds, hitcount)) in RULES.into_iter().enumerate() {
        let seconds = Duration::from_secs(u64::from(seconds));
        let mut window = Window::new(&Spec::Recent { hitcount, seconds, check }, 10);
        let ours: Vec<bool> = seen.iter().map(|(time, _)| window.hit(source, *time, 1).is_some()).collect();
        let kernels: Vec<bool> = seen.iter().map(|(_, offences)| offences[number]).collect();
        assert!(kernels.contains(&true) && kernels.contains(&false), "{check:?} {seconds:?} {hitcount}: {kernels:?}");
        assert_eq!(ours, kernels, "{check:?} {seconds:?} {hitcount}");
    }
}
