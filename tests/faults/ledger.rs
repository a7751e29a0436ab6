//! Files of the ledger that are torn, and disks that are full, slow, broken or read-only.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Instant;

use super::support::eventually;
use super::support::guard::{Guard, SECOND};
use super::support::inject::Injected;
use super::support::lab::{Lab, sh};
use super::support::random::Random;
use super::{attack, backend, guarded, passes};

/// Starts on a ledger that was damaged, per backend.
const DAMAGES: u64 = 12;

/// What every ban is, whoever made it and whatever is said of it.
fn banned(guard: &Guard) -> BTreeSet<String> {
    guard.bans().iter().map(|ban| ban["prefix"].to_string() + &ban["until"].to_string()).collect()
}

fn files_of(guard: &Guard) -> Vec<PathBuf> {
    let files = sh(&format!("find {} -type f -size +0 | sort", guard.path("state/ledger").display()));
    files.lines().map(PathBuf::from).collect()
}

/// Cuts a file of the ledger somewhere, or changes some of its bytes. What was done, in words.
fn damage(guard: &Guard, random: &mut Random) -> String {
    let files = files_of(guard);
    let path = &files[random.index(files.len())];
    let file = OpenOptions::new().write(true).open(path).unwrap();
    let length = file.metadata().unwrap().len();
    let place = random.below(length);
    if random.one_in(2) {
        file.set_len(place).unwrap();
        return format!("{} was cut at {place} of {length}", path.display());
    }
    let bytes: Vec<u8> = (0..=random.below(16)).map(|_| u8::try_from(random.below(256)).unwrap()).collect();
    file.write_all_at(&bytes[..bytes.len().min(usize::try_from(length - place).unwrap())], place).unwrap();
    format!("{} has other bytes at {place} of {length}", path.display())
}

fn a_torn_ledger_costs_nothing(backend: &str, seed: u64) {
    let lab = Lab::new();
    let mut random = Random::new(seed);
    let mut guard = guarded(&lab, backend);
    for round in 0..DAMAGES {
        guard.ctl(&["ban", &format!("192.0.2.{round}"), "--for", "2h"]);
        guard.ctl(&["ban", &format!("2001:db8:{round}::/64"), "--for", "forever"]);
        guard.ctl(&["ban", &format!("198.51.100.{round}"), "--for", "2h"]);
        guard.ctl(&["unban", &format!("198.51.100.{round}")]);
        let before = banned(&guard);
        let written = || fs::read_to_string(guard.path("ip.blocked")).unwrap_or_default();
        eventually("the blocklist file follows", || {
            written().contains(&format!("192.0.2.{round}\n")) && !written().contains("198.51.100.")
        });
        guard.end("KILL");
        let what = damage(&guard, &mut random);
        guard.start(&lab.server);
        assert_eq!(banned(&guard), before, "{what}");
    }
}

#[test]
fn a_ledger_that_is_torn_anywhere_costs_no_ban_and_brings_none_back_with_iptables() {
    a_torn_ledger_costs_nothing("iptables", 1);
}

#[test]
fn a_ledger_that_is_torn_anywhere_costs_no_ban_and_brings_none_back_with_nftables() {
    a_torn_ledger_costs_nothing("nftables", 2);
}

/// A disk that answers so to writing: nobody is told that a ban is safe, guarding goes on, and all is made good.
fn a_broken_disk_is_survived(calls: &str, error: &str) {
    let lab = Lab::new();
    let mut guard = guarded(&lab, "nftables");
    guard.ctl(&["ban", "192.0.2.1"]);
    let fault = Injected::into(&guard, calls, &format!("error={error}"));
    let refused = guard.banctl(&["ban", "192.0.2.2"]);
    assert_eq!(refused.status.code(), Some(1));
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(why.contains("not safely recorded"), "{why}");
    attack(&guard, "sshd.log", &lab.attacker.v4.to_string());
    eventually("guarding goes on", || !passes(&lab.attacker));
    eventually("it is said", || guard.troubles().contains("cannot be written"));
    assert_eq!(guard.status()["health"], "degraded");
    // The blocklist file may lie on that disk, too.
    let of_ledger = |line: &&str| line.contains("The ledger in") && line.contains("cannot be written");
    assert_eq!(guard.log().lines().filter(of_ledger).count(), 1, "once:\n{}", guard.log());
    drop(fault);
    eventually("it recovers", || guard.status()["health"] == "ok");
    guard.ctl(&["unban", "192.0.2.1"]);
    let bans = banned(&guard);
    assert_eq!(bans.len(), 2);
    guard.end("KILL");
    guard.start(&lab.server);
    assert_eq!(banned(&guard), bans, "nothing was forgotten");
}

#[test]
fn a_disk_that_fails_to_flush_is_said_and_made_good() {
    a_broken_disk_is_survived("fsync,fdatasync,sync_file_range", "EIO");
}

#[test]
fn a_disk_that_turns_read_only_is_said_and_made_good() {
    a_broken_disk_is_survived("pwrite64,pwritev,fdatasync,ftruncate,rename,renameat,renameat2", "EROFS");
}

#[test]
fn a_slow_disk_makes_acknowledgements_wait_and_nothing_else() {
    let lab = Lab::new();
    let guard = guarded(&lab, "nftables");
    let fault = Injected::into(&guard, "fsync,fdatasync", "delay_enter=3000000");
    std::thread::scope(|scope| {
        let asked = Instant::now();
        let asking = scope.spawn(|| guard.ctl(&["ban", "192.0.2.1"]));
        guard.await_ban("192.0.2.1/32");
        attack(&guard, "sshd.log", &lab.attacker.v4.to_string());
        eventually("packets are dropped", || !passes(&lab.attacker));
        assert!(!asking.is_finished() || asked.elapsed() > 3 * SECOND, "nobody is told before it is so");
        asking.join().unwrap();
        assert!(asked.elapsed() >= 3 * SECOND, "it is safe only then");
    });
    drop(fault);
    eventually("all is well", || guard.status()["health"] == "ok");
}

/// A guard whose state lies on a file system of its own, of six megabytes.
fn on_a_small_disk(lab: &Lab) -> (Guard, Mounted) {
    let mut guard = Guard::new(&(backend("iptables") + &super::jail("sshd")));
    guard.append("sshd.log", "");
    let state = guard.path("state").display().to_string();
    sh(&format!("mkdir -p {state} && mount -t tmpfs -o size=6m none {state}"));
    let mounted = Mounted(state);
    guard.start(&lab.server);
    lab.server.listen(super::PORT);
    (guard, mounted)
}

#[test]
fn a_disk_that_fills_up_is_said_and_made_good() {
    let lab = Lab::new();
    let (mut guard, mounted) = on_a_small_disk(&lab);
    let full = mounted.fill();
    // What was given to the ledger before may have room for some more bans.
    let mut asked = (1..255).map(|n| guard.banctl(&["ban", &format!("192.0.2.{n}")]));
    let refused = asked.find(|answer| answer.status.code() == Some(1)).expect("the disk is full");
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(why.contains("not safely recorded"), "{why}");
    attack(&guard, "sshd.log", &lab.attacker.v4.to_string());
    eventually("guarding goes on", || !passes(&lab.attacker));
    eventually("it is said", || guard.status()["health"] == "degraded");
    drop(full);
    eventually("it recovers", || guard.status()["health"] == "ok");
    let bans = banned(&guard);
    guard.end("KILL");
    guard.start(&lab.server);
    assert_eq!(banned(&guard), bans, "nothing was forgotten");
    guard.end("KILL");
}

#[test]
fn a_start_on_a_full_disk_is_refused_with_the_remedy_and_spoils_nothing() {
    let lab = Lab::new();
    let (mut guard, mounted) = on_a_small_disk(&lab);
    guard.ctl(&["ban", &lab.attacker.v4.to_string(), "--for", "1h"]);
    guard.end("KILL");
    let full = mounted.fill();
    for _ in 0..3 {
        guard.spawn(&lab.server);
        assert_eq!(guard.exit_code(), Some(1));
    }
    assert!(guard.log().contains("Free space on that file system"), "{}", guard.log());
    assert!(!passes(&lab.attacker), "what is in the kernel stays there");
    drop(full);
    lab.server.sh("iptables -F; iptables -X; ip6tables -F; ip6tables -X; ipset destroy");
    guard.start(&lab.server);
    assert!(!passes(&lab.attacker), "and what is in the ledger comes back");
    assert_eq!(guard.bans().len(), 1);
    guard.end("KILL");
}

/// A file system of the test's own, away when dropped.
struct Mounted(String);

impl Mounted {
    fn fill(&self) -> Full {
        let path = PathBuf::from(&self.0).join("filling");
        sh(&format!("cat /dev/zero > {} 2>/dev/null || true", path.display()));
        Full(path)
    }
}

/// What takes all the room of a file system until it is dropped.
struct Full(PathBuf);

impl Drop for Full {
    fn drop(&mut self) {
        fs::remove_file(&self.0).expect("there was room for its name");
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        sh(&format!("umount --lazy {}", self.0));
    }
}
