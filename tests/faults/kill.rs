//! `kill -9` at random moments, while logs are written and rotated and people ban and unban.
//!
//! Afterwards, every time: what was acknowledged is there, in the ledger, the kernel and the blocklist file; what was
//! taken back is not; who failed three times is banned and who failed twice is not, so no line was lost or counted twice.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::support::attack::{Attack, address};
use super::support::guard::Guard;
use super::support::lab::{Lab, sh};
use super::support::random::Random;
use super::support::{PATIENCE, processes};

/// Kills of one daemon; four daemons are killed in all.
const KILLS: u32 = 125;
/// The longest life of a daemon after it is ready, in milliseconds.
const LONGEST_LIFE: u64 = 120;
/// Lines that are written while there is no daemon, at most.
const MEANWHILE: u64 = 6;
/// In one of so many lives the log is rotated.
const ROTATED: u64 = 6;
/// Kinds of addresses: of attackers, of bans by hand, of bans by hand for a second.
const KINDS: [u8; 3] = [20, 30, 40];

#[test]
fn five_hundred_kills_cost_no_acknowledged_ban_and_no_line() {
    std::thread::scope(|scope| {
        for (seed, backend) in (1..).zip(["iptables", "nftables", "iptables", "nftables"]) {
            scope.spawn(move || Victim::new(backend, seed).live_and_die());
        }
    });
}

/// A daemon that is killed over and over, and what it has promised.
struct Victim {
    lab: Lab,
    backend: &'static str,
    guard: Guard,
    attack: Attack,
    person: Person,
    random: Random,
}

/// Bans and unbans, and remembers what was acknowledged.
struct Person {
    random: Random,
    next: u32,
    banned: BTreeSet<String>,
    unbanned: BTreeSet<String>,
    /// Asked for without an answer: either is right, until one of them is seen.
    open: BTreeSet<String>,
}

impl Person {
    fn act(&mut self, guard: &Guard) {
        match self.random.below(10) {
            0..5 => {
                let prefix = address(KINDS[1], self.next);
                self.next += 1;
                let done = guard.banctl(&["ban", &prefix, "--for", "1h"]).status.success();
                if done {
                    self.banned.insert(prefix)
                } else {
                    self.open.insert(prefix)
                };
            }
            5..9 if !self.banned.is_empty() => {
                let which = self.random.index(self.banned.len());
                let prefix = self.banned.iter().nth(which).unwrap().clone();
                self.banned.remove(&prefix);
                let done = guard.banctl(&["unban", &prefix]).status.success();
                if done {
                    self.unbanned.insert(prefix)
                } else {
                    self.open.insert(prefix)
                };
            }
            _ => {
                guard.banctl(&["ban", &address(KINDS[2], self.next), "--for", "1s"]);
                self.next += 1;
            }
        }
    }
}

impl Victim {
    fn new(backend: &'static str, seed: u64) -> Victim {
        let guard = Guard::new(&(super::backend(backend) + &Attack::jail("sshd")));
        guard.append("sshd.log", "");
        let attack = Attack::new(guard.path("sshd.log"), KINDS[0], seed);
        let none = BTreeSet::new;
        let random = Random::new(seed + 100);
        let person = Person { random, next: 0, banned: none(), unbanned: none(), open: none() };
        Victim { lab: Lab::new(), backend, guard, attack, person, random: Random::new(seed + 200) }
    }

    fn live_and_die(&mut self) {
        let begun = Instant::now();
        for life in 0..KILLS {
            self.guard.spawn(&self.lab.server);
            // Every third is killed while it starts, at whatever it is doing then.
            let ready = !life.is_multiple_of(3);
            if life.is_multiple_of(25) {
                println!("{}: {life} kills after {:?}", self.backend, begun.elapsed());
            }
            if ready {
                self.guard.await_ready();
                self.check();
            }
            let longest = if ready { LONGEST_LIFE } else { 2 * LONGEST_LIFE };
            let moment = Duration::from_micros(self.random.below(longest * 1000));
            self.work_until_killed(moment);
            for _ in 0..self.random.below(MEANWHILE) {
                self.attack.strike();
            }
        }
        self.guard.start(&self.lab.server);
        self.check();
        self.guard.ctl(&["ban", "198.51.100.1"]);
        self.guard.ctl(&["unban", "198.51.100.1"]);
        let said = self.guard.log();
        assert!(!said.contains("set aside") && !said.contains("were lost"), "{said}");
        let Person { banned, unbanned, .. } = &self.person;
        let (guilty, lines) = (self.attack.guilty.len(), self.attack.lines);
        println!("{} with {}: {KILLS} kills, {lines} lines, {guilty} offenders", self.guard.pid(), self.backend);
        println!("standing: {}, unbanned: {}", banned.len(), unbanned.len());
        assert!(guilty > 50 && banned.len() > 100 && unbanned.len() > 50, "there was load");
    }

    fn work_until_killed(&mut self, moment: Duration) {
        let (guard, attack, person) = (&self.guard, &mut self.attack, &mut self.person);
        let dead = AtomicBool::new(false);
        let rotation = self.random.one_in(ROTATED);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                if rotation {
                    attack.rotate(9);
                }
                while !dead.load(Ordering::Relaxed) {
                    attack.strike();
                    std::thread::sleep(Duration::from_micros(attack.random.below(6000)));
                }
            });
            scope.spawn(|| {
                while !dead.load(Ordering::Relaxed) {
                    person.act(guard);
                }
            });
            std::thread::sleep(moment);
            guard.kill();
            dead.store(true, Ordering::Relaxed);
        });
        let pid = self.guard.pid();
        self.guard.end("KILL");
        assert!(processes::figure(pid, "VmRSS").is_none());
    }

    /// Waits until all that was promised holds, everywhere.
    fn check(&mut self) {
        let start = Instant::now();
        while let Some(wrong) = self.wrong() {
            assert!(start.elapsed() < PATIENCE, "with {}: {wrong}\n{}", self.backend, self.evidence(&wrong));
        }
        let listed = self.listed();
        for prefix in std::mem::take(&mut self.person.open) {
            let seen = if listed.contains(&prefix) { &mut self.person.banned } else { &mut self.person.unbanned };
            seen.insert(prefix);
        }
        let new: Vec<String> = self.attack.guilty.difference(&self.person.unbanned).cloned().collect();
        self.person.banned.extend(new);
    }

    /// What does not hold yet. What never may be fails at once.
    fn wrong(&self) -> Option<String> {
        let Person { banned, unbanned, open, .. } = &self.person;
        let listed = self.listed();
        for prefix in &listed {
            assert!(!unbanned.contains(prefix), "{prefix} was unbanned and came back");
            assert!(!self.attack.is_innocent(prefix), "{prefix} had failed too seldom: a line was counted twice");
        }
        let settled = |prefix: &&String| !open.contains(*prefix) && !unbanned.contains(*prefix);
        if let Some(lost) = banned.union(&self.attack.guilty).filter(settled).find(|prefix| !listed.contains(*prefix)) {
            return Some(format!("{lost} ought to be banned"));
        }
        let is_brief = |prefix: &String| prefix.starts_with(&format!("{}.", KINDS[2]));
        let lasting: BTreeSet<String> = listed.into_iter().filter(|prefix| !is_brief(prefix)).collect();
        for (place, text) in [("the kernel", self.kernel()), ("the blocklist file", self.blocklist())] {
            let held: BTreeSet<String> = addresses(&text).filter(|prefix| !is_brief(prefix)).collect();
            if let Some(differs) = held.symmetric_difference(&lasting).next() {
                return Some(format!("{differs} is in one of ledger and {place} only"));
            }
        }
        None
    }

    /// Where an address stands in the logs, and what the daemon knows of it.
    fn evidence(&self, wrong: &str) -> String {
        let address = wrong.split(' ').next().unwrap_or_default();
        let logs = sh(&format!("cd {} && grep -nF {address} sshd.log* | cut -c 1-200", self.guard.path("").display()));
        let why = self.guard.banctl(&["why", address]);
        logs + &String::from_utf8_lossy(&why.stdout)
    }

    /// The addresses of the ledger. None of the bans counts twice.
    fn listed(&self) -> BTreeSet<String> {
        let address = |ban: &serde_json::Value| {
            assert_eq!(ban["count"], 1, "{ban}");
            ban["prefix"].as_str().unwrap().trim_end_matches("/32").to_owned()
        };
        self.guard.bans().iter().map(address).collect()
    }

    fn kernel(&self) -> String {
        let show = if self.backend == "iptables" { "ipset save" } else { "nft list ruleset" };
        String::from_utf8_lossy(&self.lab.server.try_sh(show).stdout).into_owned()
    }

    fn blocklist(&self) -> String {
        std::fs::read_to_string(self.guard.path("ip.blocked")).unwrap_or_default()
    }
}

/// The words that are addresses.
fn addresses(text: &str) -> impl Iterator<Item = String> {
    let words = text.split(|c: char| c.is_whitespace() || c == ',');
    words.filter_map(|word| Some(word.parse::<Ipv4Addr>().ok()?.to_string()))
}
