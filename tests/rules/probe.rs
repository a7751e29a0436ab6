//! What became of a packet: the kernel counts it before all rules, and behind them.

use std::cell::Cell;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::process::Output;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::eventually;
use crate::support::lab::{Host, Lab};
use crate::wire::{Body, Packet};

/// Counters before all rules and behind them. Pieces of a packet are counted one by one before.
const COUNTERS: &str = "table inet probe {
    counter arrived { }
    counter passed { }
    counter refused { }
    chain before { type filter hook prerouting priority -500; ip ttl 77 counter name arrived; ip6 hoplimit 77 counter name arrived; }
    chain local { type filter hook output priority -500; ip ttl 77 counter name arrived; ip6 hoplimit 77 counter name arrived; }
    chain behind { type filter hook input priority 500; ip ttl 77 counter name passed; ip6 hoplimit 77 counter name passed; }
    chain out { type filter hook postrouting priority 500; ip ttl 76-77 counter name passed; ip6 hoplimit 76-77 counter name passed; }
    chain answers { type filter hook output priority 499;
        tcp flags & rst == rst counter name refused
        icmp type destination-unreachable counter name refused
        icmpv6 type destination-unreachable counter name refused
    }
}";

/// A server with rules, and hosts that try them.
pub(crate) struct Probe {
    pub(crate) lab: Lab,
    pub(crate) dir: TempDir,
    next_port: Cell<u16>,
}

impl Probe {
    pub(crate) fn new() -> Probe {
        let lab = Lab::new();
        lab.server.sh(&format!("nft '{COUNTERS}'"));
        lab.server.sh("sysctl -qw net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0");
        Probe { lab, dir: tempfile::tempdir().expect("a directory"), next_port: Cell::new(20_000) }
    }

    /// Puts the addresses of the lab in the place of their names.
    pub(crate) fn named(&self, text: &str) -> String {
        let Lab { attacker, visitor, .. } = &self.lab;
        let mut text = text.to_owned();
        for (name, host) in [("ATT", attacker), ("VIS", visitor)] {
            for (digit, v6) in [("4", false), ("6", true)] {
                text = text.replace(&format!("SRV-{name}{digit}"), &host.server(v6).to_string());
                text = text.replace(&format!("{name}{digit}"), &host.address(v6).to_string());
            }
        }
        text
    }

    /// Writes a configuration with this `[host]` section.
    pub(crate) fn configure(&self, host: &str) {
        let dir = self.dir.path().display();
        let text = format!("[daemon]\nstate_dir = \"{dir}/state\"\n[host]\n{}\n", self.named(host));
        std::fs::write(self.dir.path().join("banward.toml"), text).expect("written");
    }

    pub(crate) fn banctl(&self, args: &[&str]) -> Output {
        let config = self.dir.path().join("banward.toml");
        let mut command = self.lab.server.command(env!("CARGO_BIN_EXE_banctl"));
        command.arg("--config").arg(config).args(args).env_remove("SSH_CONNECTION");
        command.stdin(std::process::Stdio::null()).output().expect("banctl runs")
    }

    /// Runs `banctl` and fails unless it succeeds; all that it said.
    #[track_caller]
    pub(crate) fn ctl(&self, args: &[&str]) -> String {
        let output = self.banctl(args);
        let said = said(&output);
        assert!(output.status.success(), "banctl {args:?}: {said}");
        said
    }

    /// Puts the section into the kernel, for good.
    #[track_caller]
    pub(crate) fn apply(&self, format: &str, host: &str) {
        self.configure(host);
        self.ctl(&["rules", "apply", "--format", format, "--confirm", "60"]);
        self.ctl(&["rules", "confirm"]);
        self.ctl(&["rules", "diff", "--format", format]);
    }

    /// The sentences come true in the mind and in the kernel.
    #[track_caller]
    pub(crate) fn expect(&self, sentences: &[&str]) {
        let path = self.dir.path().join("expect");
        let mut text = String::new();
        for sentence in sentences {
            let _ = writeln!(text, "{}", self.named(sentence));
        }
        std::fs::write(&path, &text).expect("written");
        self.ctl(&["rules", "check", "--expect", &path.display().to_string()]);
        self.kernel(sentences);
    }

    /// The sentences come true in the kernel.
    #[track_caller]
    pub(crate) fn kernel(&self, sentences: &[&str]) {
        for sentence in sentences {
            let wanted = sentence.split_whitespace().next().expect("a verdict");
            let verdict = self.play(&self.named(sentence));
            assert_eq!(verdict, wanted, "{sentence}\n{}", self.rules());
        }
    }

    fn rules(&self) -> String {
        self.lab.server.sh("iptables -S; ip6tables -S; nft list table inet banward_host 2>/dev/null || :")
    }

    /// Sends the packet of a sentence as often as it says, and tells what became of the last.
    #[track_caller]
    pub(crate) fn play(&self, sentence: &str) -> &'static str {
        let words: Vec<&str> = sentence.split_whitespace().collect();
        let after = |key: &str| words.iter().position(|word| *word == key).map(|at| words[at + 1]);
        let out = words[1] == "out";
        let from: Option<IpAddr> = after("from").map(|address| address.parse().expect("an address"));
        let to: Option<IpAddr> = after("to").map(|address| address.parse().expect("an address"));
        let v6 = from.or(to).is_some_and(|address| address.is_ipv6());
        let Lab { server, attacker, visitor } = &self.lab;
        let sender = match from {
            _ if out => server,
            Some(address) if address == visitor.address(v6) => visitor,
            _ => attacker,
        };
        let here = if out { attacker.server(v6) } else { sender.server(v6) };
        let (source, destination) = match (out, words[1]) {
            (true, _) => (here, to.unwrap_or(attacker.address(v6))),
            (_, "forward") => (from.unwrap_or(attacker.address(v6)), to.unwrap_or(visitor.address(v6))),
            _ => (from.unwrap_or(attacker.address(v6)), to.unwrap_or(here)),
        };
        let times: u32 = after("times").map_or(1, |times| times.parse().expect("a number"));
        let mut verdict = "";
        for _ in 0..times {
            let port = self.next_port.get();
            self.next_port.set(port + 1);
            let number = || words[3].parse().expect("a port");
            let body = match words[2] {
                "tcp" => Body::Tcp { from: port, to: number(), flags: after("flags").map_or(2, flags) },
                "udp" => Body::Udp { from: port, to: number() },
                _ => Body::Icmp { kind: if v6 { 128 } else { 8 } },
            };
            let packet = Packet { source, destination, body, fragmented: words.contains(&"fragmented") };
            verdict = self.send(sender, &packet);
        }
        verdict
    }

    /// Sends a packet and tells what became of it.
    #[track_caller]
    pub(crate) fn send(&self, sender: &Host, packet: &Packet) -> &'static str {
        let [arrived, passed, refused] = self.counters();
        let pieces = if packet.fragmented { 2 } else { 1 };
        let mut sent = Instant::now();
        packet.send(sender);
        eventually("the packet is there", || {
            // A neighbour that is slow to say where it is costs a packet on the way there.
            if sent.elapsed() > Duration::from_secs(4) {
                sent = Instant::now();
                packet.send(sender);
            }
            self.counters()[0] >= arrived + pieces
        });
        let now = self.counters();
        match (now[1] > passed, now[2] > refused) {
            (true, _) => "accept",
            (false, true) => "reject",
            (false, false) => "drop",
        }
    }

    fn counters(&self) -> [u64; 3] {
        let text = self.lab.server.sh("nft list counters table inet probe");
        ["arrived", "passed", "refused"].map(|name| {
            let after = text.split(&format!("counter {name} {{")).nth(1).expect("a counter");
            let count = after.split("packets ").nth(1).and_then(|rest| rest.split_whitespace().next());
            count.expect("a count").parse().expect("a number")
        })
    }
}

pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn flags(text: &str) -> u8 {
    let names = [("FIN", 1), ("SYN", 2), ("RST", 4), ("PSH", 8), ("ACK", 16), ("URG", 32), ("ALL", 63), ("NONE", 0)];
    text.split(',').map(|name| names.iter().find(|(known, _)| *known == name).expect("a flag").1).sum()
}

pub(crate) const FORMATS: [&str; 2] = ["iptables", "nft"];
