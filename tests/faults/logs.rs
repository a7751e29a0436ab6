//! Logs that are rotated, truncated, removed, replaced or silent while they are read.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::symlink;
use std::time::Instant;

use super::support::guard::{Guard, SECOND, failed_password, open_log};
use super::support::lab::{Lab, sh};
use super::support::{PATIENCE, eventually, processes};
use super::{attack, backend, jail};

/// A storm of them.
const ROTATIONS: u32 = 40;

/// A daemon that drops no packet and watches `logs/*.log`, which is one log, `a.log`, and whatever else a test makes.
fn watching(lab: &Lab) -> Guard {
    let config = "[jail.sshd]\nfilter = \"sshd\"\nsource = { files = [\"DIR/logs/*.log\"] }\n\
                  window = { hitcount = 5, seconds = 600 }\n";
    let mut guard = Guard::new(&(backend("none") + config));
    fs::create_dir(guard.path("logs")).unwrap();
    guard.append("logs/a.log", "");
    guard.start(&lab.server);
    // READY tells of the kernel; what is rotated away before a log is opened for the first time is an older generation.
    eventually("the log is open", || guard.status()["sources"][0]["live"] == true);
    guard
}

/// Four failures and another four: one line that counted twice would ban the first, one that was lost spare the second.
fn four(guard: &Guard, log: &str, address: &str) {
    guard.append(log, &failed_password("root", address).repeat(4));
}

#[test]
fn a_storm_of_rotations_loses_no_line_and_counts_none_twice() {
    let lab = Lab::new();
    let guard = watching(&lab);
    let logs = guard.path("logs");
    for round in 0..ROTATIONS {
        guard.append("logs/a.log", &failed_password("root", &format!("192.0.2.{}", round / 4)));
        for number in (1..=round).rev() {
            let name = |number: u32| logs.join(format!("a.log.{number}"));
            fs::rename(name(number), name(number + 1)).unwrap();
        }
        fs::rename(logs.join("a.log"), logs.join("a.log.1")).unwrap();
        drop(open_log(&logs.join("a.log")));
    }
    guard.await_lines(u64::from(ROTATIONS));
    assert!(guard.bans().is_empty(), "everybody has failed four times: {:?}", guard.bans());
    for last in 0..ROTATIONS / 4 {
        guard.append("logs/a.log", &failed_password("root", &format!("192.0.2.{last}")));
    }
    eventually("everybody has failed five times", || guard.bans().len() == 10);
}

#[test]
fn a_log_that_is_truncated_under_the_reader_is_read_on_from_its_beginning() {
    let lab = Lab::new();
    let guard = watching(&lab);
    let log = guard.path("logs/a.log");
    for round in 1..=10 {
        four(&guard, "logs/a.log", &format!("192.0.2.{round}"));
        guard.await_lines(round * 4);
        OpenOptions::new().write(true).open(&log).unwrap().set_len(0).unwrap();
    }
    assert!(guard.bans().is_empty());
    for round in 1..=10 {
        guard.append("logs/a.log", &failed_password("root", &format!("192.0.2.{round}")));
    }
    eventually("everybody has failed five times", || guard.bans().len() == 10);
}

#[test]
fn a_writer_that_goes_on_where_it_was_after_a_truncation_is_understood() {
    let lab = Lab::new();
    let guard = watching(&lab);
    let mut log = OpenOptions::new().write(true).open(guard.path("logs/a.log")).unwrap();
    log.write_all(failed_password("root", "192.0.2.1").repeat(200).as_bytes()).unwrap();
    guard.await_ban("192.0.2.1/32");
    guard.await_lines(200);
    // Without O_APPEND the file gets a hole of NUL bytes, which its next line is the end of.
    log.set_len(0).unwrap();
    log.write_all(failed_password("root", "192.0.2.2").repeat(6).as_bytes()).unwrap();
    guard.await_ban("192.0.2.2/32");
}

#[test]
fn more_happenings_than_inotify_queues_hide_no_line() {
    let lab = Lab::new();
    let guard = watching(&lab);
    let queue = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let queue: u32 = queue.trim().parse().unwrap();
    guard.signal("STOP");
    let (one, other) = (guard.path("logs/one"), guard.path("logs/other"));
    fs::write(&one, "").unwrap();
    for number in 0..queue / 2 + 100 {
        // Two happenings each, and never the same one twice, which would be queued once.
        let (from, to) = if number % 2 == 0 { (&one, &other) } else { (&other, &one) };
        fs::rename(from, to).unwrap();
    }
    attack(&guard, "logs/a.log", "192.0.2.1");
    attack(&guard, "logs/new.log", "192.0.2.2");
    guard.signal("CONT");
    guard.await_ban("192.0.2.1/32");
    guard.await_ban("192.0.2.2/32");
    guard.await_lines(10);
}

#[test]
fn a_directory_that_vanishes_and_returns_is_watched_again() {
    let lab = Lab::new();
    let guard = watching(&lab);
    four(&guard, "logs/a.log", "192.0.2.1");
    guard.await_lines(4);
    for round in 1..=3 {
        if round % 2 == 0 {
            fs::rename(guard.path("logs"), guard.path(&format!("away{round}"))).unwrap();
        } else {
            fs::remove_dir_all(guard.path("logs")).unwrap();
        }
        eventually("it is said", || guard.troubles().contains("No file matches"));
        fs::create_dir(guard.path("logs")).unwrap();
        attack(&guard, "logs/a.log", &format!("198.51.100.{round}"));
        guard.await_ban(&format!("198.51.100.{round}/32"));
    }
    assert!(!guard.is_banned("192.0.2.1/32"), "nothing was read twice");
    guard.append("logs/a.log", &failed_password("root", "192.0.2.1"));
    guard.await_ban("192.0.2.1/32");
    eventually("all is well", || guard.status()["health"] == "ok");
}

#[test]
fn a_log_that_becomes_a_fifo_or_a_device_is_said_and_holds_nobody_up() {
    let lab = Lab::new();
    let guard = watching(&lab);
    let log = guard.path("logs/a.log");
    for (round, make) in
        ["mkfifo LOG", "mknod LOG c 1 5", "mknod LOG b 7 250", "mkdir LOG", "ln -s /dev/zero LOG"].iter().enumerate()
    {
        four(&guard, "logs/a.log", &format!("192.0.2.{round}"));
        guard.await_lines(10 * round as u64 + 4);
        fs::rename(&log, guard.path("logs/a.log.1")).unwrap();
        sh(&make.replace("LOG", &log.display().to_string()));
        eventually("it is said", || guard.troubles().contains("is not a regular file"));
        attack(&guard, "logs/b.log", &format!("198.51.100.{round}"));
        guard.await_ban(&format!("198.51.100.{round}/32"));
        sh(&format!("rm -r {}", log.display()));
        guard.append("logs/a.log", &failed_password("root", &format!("192.0.2.{round}")));
        guard.await_ban(&format!("192.0.2.{round}/32"));
    }
    guard.await_lines(50);
    eventually("all is well", || guard.status()["health"] == "ok");
}

#[test]
fn a_file_system_that_tells_of_no_change_is_read_all_the_same() {
    let lab = Lab::new();
    let mut guard = Guard::new(&(backend("none") + &jail("logs/sshd")).replace("[jail.logs/sshd]", "[jail.sshd]"));
    let dir = guard.path("").display().to_string();
    for folder in ["lower", "upper", "work", "logs"] {
        fs::create_dir(guard.path(folder)).unwrap();
    }
    fs::write(guard.path("upper/sshd.log"), "").unwrap();
    // What is written below an overlay is seen through it, and inotify says nothing: as on a network file system.
    guard.spawn_behind(
        &lab.server,
        &format!("cd {dir}; mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work none logs"),
    );
    guard.await_ready();
    for round in 1..=3 {
        attack(&guard, "upper/sshd.log", &format!("192.0.2.{round}"));
        guard.await_ban(&format!("192.0.2.{round}/32"));
    }
    guard.await_lines(15);
}

#[test]
fn a_line_of_a_gigabyte_costs_no_memory_and_its_neighbours_count() {
    let lab = Lab::new();
    let guard = watching(&lab);
    four(&guard, "logs/a.log", "192.0.2.1");
    guard.await_lines(4);
    let memory =
        |pid: u32| processes::family(pid).iter().filter_map(|pid| processes::figure(*pid, "VmRSS")).sum::<u64>();
    let before = memory(guard.pid());
    let mut log: File = OpenOptions::new().write(true).open(guard.path("logs/a.log")).unwrap();
    let end = log.seek(SeekFrom::End(1 << 30)).unwrap();
    log.write_all(b"\n").unwrap();
    assert!(end > 1 << 30);
    // Another log of the same reader does not wait for its end for ever.
    attack(&guard, "logs/b.log", "192.0.2.2");
    guard.append("logs/a.log", &failed_password("root", "192.0.2.1"));
    // A gigabyte takes its time on a busy machine.
    let begun = Instant::now();
    while !guard.is_banned("192.0.2.1/32") && begun.elapsed() < 10 * PATIENCE {
        std::thread::sleep(SECOND);
    }
    guard.await_ban("192.0.2.1/32");
    guard.await_ban("192.0.2.2/32");
    let after = memory(guard.pid());
    assert!(after < before + 32 * 1024, "from {before} KiB to {after} KiB");
    guard.await_lines(11);
    assert_eq!(guard.status()["sources"][0]["cut"], 1);
}

#[test]
fn a_log_that_is_replaced_by_a_link_to_a_secret_tells_nobody_the_secret() {
    let lab = Lab::new();
    let guard = watching(&lab);
    four(&guard, "logs/a.log", "192.0.2.1");
    guard.await_lines(4);
    fs::write(guard.path("shadow"), "root:$y$j9T$abcdefgh$SECRET:19000:0:99999:7:::\n".repeat(20)).unwrap();
    fs::rename(guard.path("logs/a.log"), guard.path("logs/a.log.1")).unwrap();
    symlink(guard.path("shadow"), guard.path("logs/a.log")).unwrap();
    symlink("/etc/shadow", guard.path("logs/b.log")).unwrap();
    guard.await_lines(24);
    eventually("the sandbox keeps the daemon from it", || guard.log().contains("logs/b.log cannot be read"));
    let secrets = fs::read_to_string("/etc/shadow").unwrap() + "SECRET";
    let told =
        [guard.log(), guard.ctl(&["status", "--json"]), guard.ctl(&["status"]), guard.ctl(&["history"])].concat();
    let why = guard.banctl(&["why", "192.0.2.1"]);
    let told = told + &String::from_utf8_lossy(&why.stdout);
    for secret in secrets.split([':', '\n']).filter(|word| word.len() > 12 || *word == "SECRET") {
        assert!(!told.contains(secret), "a secret was told");
    }
    fs::remove_file(guard.path("logs/a.log")).unwrap();
    guard.append("logs/a.log", &failed_password("root", "192.0.2.1"));
    guard.await_ban("192.0.2.1/32");
    std::thread::sleep(SECOND);
    assert!(guard.bans().len() == 1);
}
