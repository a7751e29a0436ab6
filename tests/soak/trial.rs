//! A daemon with one backend, and all that happens to it.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::crowd::Crowd;
use super::support::attack::address;
use super::support::guard::{Guard, SECOND};
use super::support::lab::Lab;
use super::support::random::Random;
use super::support::{Over, PATIENCE, processes};
use super::tally::{Sample, Tally};

/// Kinds of addresses that a person bans, by their first byte.
const BY_HAND: u8 = 30;
/// Of these, as many stand at a time.
const STANDING: usize = 100;
/// Addresses that a person bans, in turn.
const ADDRESSES: u32 = 2000;
/// Pauses between the lines, in microseconds at most; between what else happens, in milliseconds.
const LINE: u64 = 20_000;
const PAUSE: u64 = 200;

pub(crate) struct Trial {
    lab: Lab,
    backend: &'static str,
    guard: Guard,
    seed: u64,
    random: Random,
    banned: BTreeSet<String>,
    next: u32,
    tally: Tally,
}

impl Trial {
    pub(crate) fn new(backend: &'static str, seed: u64) -> Trial {
        let guard = Guard::new(&(format!("[firewall]\nbackend = \"{backend}\"\n") + &Crowd::jail()));
        guard.append("sshd.log", "");
        let (random, banned, tally) = (Random::new(seed + 100), BTreeSet::new(), Tally::default());
        Trial { lab: Lab::new(), backend, guard, seed, random, banned, next: 0, tally }
    }

    /// Everything at once until the time is over; then everything has to be right.
    pub(crate) fn run(mut self, length: Duration) -> Tally {
        self.start();
        let done = AtomicBool::new(false);
        let (begun, pace) = (Instant::now(), self.seed + 200);
        // It goes on whatever happens to the daemon.
        let crowd = Mutex::new(Crowd::new(self.guard.path("sshd.log"), self.seed));
        std::thread::scope(|scope| {
            let _over = Over(&done);
            scope.spawn(|| {
                let mut random = Random::new(pace);
                while !done.load(Ordering::Relaxed) {
                    crowd.lock().unwrap().strike();
                    std::thread::sleep(Duration::from_micros(random.below(LINE)));
                }
            });
            // Restarts in the first part and near the end: between them, a life that is long enough to see memory grow.
            let mut restarts = [4, 8, 12, 16, 20, 95].map(|percent| length * percent / 100).into_iter().peekable();
            while begun.elapsed() < length {
                if restarts.next_if(|at| begun.elapsed() >= *at).is_some() {
                    self.restart();
                }
                self.disturb(&crowd);
                self.look(&crowd);
                std::thread::sleep(Duration::from_millis(self.random.below(PAUSE)));
            }
        });
        self.settle(&crowd);
        let Crowd { lines, offenders, seen, lost, wrong, .. } = crowd.into_inner().unwrap();
        self.tally.lost.extend(lost);
        self.tally.wrong.extend(wrong);
        Tally { lines, offenders, seen, ..self.tally }
    }

    fn start(&mut self) {
        self.guard.start(&self.lab.server);
        self.tally.lives.push(Vec::new());
    }

    fn restart(&mut self) {
        let how = if self.tally.restarts.is_multiple_of(2) { "KILL" } else { "TERM" };
        self.guard.end(how);
        self.tally.restarts += 1;
        self.start();
    }

    fn disturb(&mut self, crowd: &Mutex<Crowd>) {
        match self.random.below(40) {
            0 => {
                self.guard.ctl(&["reload"]);
                self.tally.reloads += 1;
            }
            1 => {
                let flushes =
                    ["iptables -F", "ipset flush", "nft flush ruleset", "iptables -D INPUT 1", "ip6tables -F"];
                // There may be none of it with this backend.
                self.lab.server.try_sh(flushes[self.random.index(flushes.len())]);
                self.tally.flushes += 1;
            }
            2 => {
                crowd.lock().unwrap().rotate();
                self.tally.rotations += 1;
            }
            _ if self.banned.len() < STANDING => self.ban(),
            _ => self.unban(),
        }
    }

    fn ban(&mut self) {
        let address = address(BY_HAND, self.next % ADDRESSES);
        self.next += 1;
        if self.banned.contains(&address) {
            return;
        }
        // While somebody flushes the firewall, it may only say that it will follow. It is recorded all the same.
        self.guard.banctl(&["ban", &address, "--for", "1h"]);
        self.banned.insert(address);
        self.tally.acknowledged += 1;
    }

    fn unban(&mut self) {
        let which = self.random.index(self.banned.len());
        let address = self.banned.iter().nth(which).unwrap().clone();
        self.guard.banctl(&["unban", &address]);
        self.banned.remove(&address);
        self.tally.acknowledged += 1;
    }

    /// Compares the ledger with what was promised and deserved, and notes what the daemon holds.
    fn look(&mut self, crowd: &Mutex<Crowd>) {
        let listed = self.listed();
        for promised in self.banned.difference(&listed) {
            self.tally.lost.push(format!("{promised}, banned by hand"));
        }
        let by_hand = |address: &&String| address.starts_with(&format!("{BY_HAND}."));
        for undead in listed.difference(&self.banned).filter(by_hand) {
            self.tally.wrong.push(format!("{undead}, unbanned by hand"));
        }
        crowd.lock().unwrap().judge(listed.into_iter());
        let family = processes::family(self.guard.pid());
        let kib = family.iter().filter_map(|pid| processes::figure(*pid, "VmRSS")).sum();
        let descriptors = family.iter().map(|pid| processes::descriptors(*pid)).sum();
        let life = self.tally.lives.last_mut().expect("it was started");
        life.push(Sample { at: Instant::now(), kib, descriptors });
    }

    /// Waits until everybody who deserves it is banned, and the kernel holds what the ledger says.
    fn settle(&mut self, crowd: &Mutex<Crowd>) {
        let begun = Instant::now();
        loop {
            self.look(crowd);
            let (ledger, kernel) = (self.listed(), self.kernel());
            (self.tally.in_ledger, self.tally.in_kernel) = (ledger.len(), kernel.len());
            let health = self.guard.status()["health"].as_str().unwrap_or_default().to_owned();
            let settled = crowd.lock().unwrap().is_settled();
            if settled && ledger == kernel && health == "ok" {
                return;
            }
            if begun.elapsed() > 2 * PATIENCE {
                let agree = ledger == kernel;
                let text =
                    format!("with {}: health {health}, settled: {settled}, kernel agrees: {agree}", self.backend);
                return self.tally.unsettled.push(text);
            }
            std::thread::sleep(SECOND);
        }
    }

    fn listed(&self) -> BTreeSet<String> {
        let address = |ban: &serde_json::Value| ban["prefix"].as_str().unwrap().trim_end_matches("/32").to_owned();
        self.guard.bans().iter().map(address).collect()
    }

    fn kernel(&self) -> BTreeSet<String> {
        let show = if self.backend == "iptables" { "ipset save" } else { "nft list ruleset" };
        let text = String::from_utf8_lossy(&self.lab.server.try_sh(show).stdout).into_owned();
        let words = text.split(|c: char| c.is_whitespace() || c == ',');
        words.filter(|word| word.parse::<Ipv4Addr>().is_ok()).map(str::to_owned).collect()
    }
}
