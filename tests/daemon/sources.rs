//! Logs that are not as they should be.

use std::fs::OpenOptions;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use super::support::eventually;
use super::support::guard::{Guard, SECOND, failed_password};
use super::support::lab::{Lab, sh};
use super::support::programs;
use super::{backend, fail, guarded, jail, said};

#[test]
fn what_a_user_writes_into_the_kernels_log_bans_nobody() {
    let lab = Lab::new();
    lab.server.sh("iptables -A INPUT -p icmp -m limit --limit 100/s --limit-burst 100 -j LOG --log-prefix PING-DROP:
         iptables -A INPUT -p icmp -j DROP");
    let config =
        "[jail.ping-drop]\nfilter = \"ping-drop\"\nsource = \"kernel\"\nwindow = { hitcount = 3, seconds = 60 }\n";
    let guard = guarded(&lab, &(backend("none") + config));
    let victim = lab.visitor.v4;
    let mut kmsg = OpenOptions::new().write(true).open("/dev/kmsg").unwrap();
    for priority in ["<4>", "<12>", "", "<0>"] {
        for _ in 0..5 {
            let record = format!(
                "{priority}PING-DROP:IN=att OUT= MAC= SRC={victim} DST=10.0.0.1 LEN=84 TTL=64 ID=1 PROTO=ICMP TYPE=8 CODE=0\n"
            );
            kmsg.write_all(record.as_bytes()).unwrap();
        }
    }
    // What the kernel itself says comes later and is counted: so the forgeries were read.
    lab.attacker.try_sh(&format!("ping -n -q -i 0.1 -c 5 -W 1 {}", lab.attacker.server(false)));
    guard.await_ban(&format!("{}/32", lab.attacker.v4));
    assert!(!guard.is_banned(&format!("{victim}/32")));
}

#[test]
fn a_log_that_says_that_lines_were_left_out_makes_its_counts_samples() {
    let lab = Lab::new();
    let guard = guarded(&lab, &(backend("none") + &jail("sshd", "")));
    fail(&guard, 2, "192.0.2.1");
    let limits = "Nov 21 01:30:00 web rsyslogd: imjournal: begin to drop messages due to rate-limiting\n\
                  Nov 21 01:30:09 web systemd-journald[99]: Suppressed 1234 messages from ssh.service\n";
    guard.append("sshd.log", limits);
    guard.await_lines(4);
    guard.await_log("journald left at least 1234 lines out of ");
    let missing = &guard.status()["sources"][0]["suppressed"];
    assert_eq!((&missing["lines"], &missing["by"]), (&1234.into(), &"journald".into()));
    let why = said(&guard.banctl(&["why", "192.0.2.1"]));
    assert!(why.contains("1,234 lines left out by journald"), "{why}");
    assert!(why.starts_with("192.0.2.1 is not banned.\n") && why.matches("Failed password").count() == 2, "{why}");
}

#[test]
fn standard_input_is_a_source_and_a_reload_loses_none_of_its_lines() {
    let lab = Lab::new();
    let config = backend("none")
        + "[jail.sshd]\nfilter = \"sshd\"\nsource = { stdin = true }\nwindow = { hitcount = 5, seconds = 600 }\n";
    let mut guard = Guard::new(&config);
    guard.start(&lab.server);
    let line = failed_password("root", "192.0.2.1");
    let (begun, rest) = line.split_at(40);
    guard.feed(&line.repeat(3));
    guard.feed(begun);
    guard.await_lines(3);
    guard.ctl(&["reload"]);
    guard.feed(rest);
    guard.await_lines(4);
    assert!(guard.bans().is_empty());
    guard.feed(&line);
    guard.await_ban("192.0.2.1/32");
}

#[test]
fn a_log_that_appears_is_read_and_what_is_no_log_is_left_alone() {
    let lab = Lab::new();
    let config = backend("none")
        + "[jail.sshd]\nfilter = \"sshd\"\nsource = { files = [\"DIR/logs/*.log\"] }\n\
           window = { hitcount = 5, seconds = 600 }\n";
    let mut guard = Guard::new(&config);
    guard.start(&lab.server);
    let logs = guard.path("logs").display().to_string();
    sh(&format!(
        "mkdir {logs}; mkfifo {logs}/fifo.log; mkdir {logs}/directory.log; ln -s /dev/zero {logs}/endless.log"
    ));
    guard.append("logs/first.log", &failed_password("root", "192.0.2.1").repeat(5));
    guard.await_ban("192.0.2.1/32");
    guard.append("logs/second.log", &failed_password("root", "192.0.2.2").repeat(5));
    guard.await_ban("192.0.2.2/32");
    for bad in ["fifo.log", "directory.log", "endless.log"] {
        eventually(&format!("{bad} is said to be no log"), || guard.troubles().contains(bad));
    }
    assert_eq!(guard.lines(), 10);
    guard.ctl(&["reload"]);
    guard.append("logs/first.log", &failed_password("root", "192.0.2.3").repeat(5));
    guard.await_ban("192.0.2.3/32");
    guard.end("TERM");
}

#[test]
fn long_lines_are_cut_and_counted_and_bytes_are_just_bytes() {
    let lab = Lab::new();
    let guard = guarded(&lab, &(backend("none") + &jail("sshd", "")));
    let mut log = OpenOptions::new().append(true).open(guard.path("sshd.log")).unwrap();
    let attack = failed_password("root", "192.0.2.1");
    log.write_all(&vec![b'x'; 1 << 20]).unwrap();
    // The rest of a line that is too long is not a line of its own.
    log.write_all(attack.as_bytes()).unwrap();
    for user in [&b"\xff\xfe\x80"[..], b"a\0b", b"\x1b[2J", "ü\u{202e}".as_bytes()] {
        let stamp = super::support::guard::now();
        let mut line = format!("{stamp} web sshd[1]: Failed password for invalid user ").into_bytes();
        line.extend(user);
        line.extend(b" from 192.0.2.1 port 1 ssh2\n");
        log.write_all(&line).unwrap();
    }
    guard.await_lines(5);
    assert!(guard.bans().is_empty(), "four of them are evidence");
    assert_eq!(guard.status()["sources"][0]["cut"], 1);
    log.write_all(attack.as_bytes()).unwrap();
    guard.await_ban("192.0.2.1/32");
    guard.ctl(&["reload"]);
    assert_eq!(guard.status()["sources"][0]["cut"], 1, "a reload forgets no count");
    assert!(!guard.log().contains('\u{1b}') && !guard.log().contains('\0'));
}

#[test]
fn a_log_that_is_rotated_by_rename_while_it_is_written_is_read_once() {
    let lab = Lab::new();
    let guard = guarded(&lab, &(backend("none") + &jail("sshd", "")));
    let done = AtomicBool::new(false);
    let written = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let line = failed_password("root", "192.0.2.1");
            let mut written = 0;
            while !done.load(Ordering::Relaxed) {
                // As syslogd does: the file stays open for a while.
                let path = guard.path("sshd.log");
                let mut log = OpenOptions::new().create(true).append(true).open(path).unwrap();
                for _ in 0..50 {
                    log.write_all(line.as_bytes()).unwrap();
                    written += 1;
                    std::thread::sleep(SECOND / 10_000);
                }
            }
            written
        });
        for _ in 0..15 {
            std::thread::sleep(SECOND / 5);
            let dir = guard.path("").display().to_string();
            sh(&format!("cd {dir}; [ ! -e sshd.log.1 ] || mv sshd.log.1 sshd.log.2; mv sshd.log sshd.log.1"));
            eventually("the writer has a new file", || guard.path("sshd.log").exists());
        }
        done.store(true, Ordering::Relaxed);
        writer.join().unwrap()
    });
    guard.await_lines(written);
    assert_eq!(guard.status()["sources"][0]["lost"], 0);
}

#[test]
fn a_journalctl_that_dies_is_said_and_started_again() {
    let lab = Lab::new();
    let config = backend("none")
        + "[jail.sshd]\nfilter = \"sshd\"\nsource = { journal = { units = [\"ssh.service\"] } }\n[jail.other]\n\
           filter = \"sshd\"\nsource = { files = [\"DIR/sshd.log\"] }\nwindow = { hitcount = 5, seconds = 60 }\n";
    let mut guard = Guard::new(&config);
    guard.append("sshd.log", "");
    // One that follows until it is killed, as the real one does where there is a journal.
    let fake = "case \"$*\" in *--follow*) exec sleep 1000;; esac\n";
    programs::script(fake, &guard.path("journalctl"));
    programs::copy(&guard.path("journalctl").display().to_string(), &guard.path("upgraded"));
    let path = |name: &str| guard.path(name).display().to_string();
    let (path, upgraded) = (path("journalctl"), path("upgraded"));
    guard.spawn_behind(&lab.server, &format!("mount --make-rprivate /; mount --bind {path} /usr/bin/journalctl"));
    guard.await_ready();
    let child = || {
        let found = sh(&format!("pgrep -P {} sleep || true", guard.pid()));
        found.trim().parse::<u32>().ok()
    };
    eventually("it runs", || child().is_some());
    let first = child().unwrap();
    guard.sh_inside(&format!("mount --bind {upgraded} /usr/bin/journalctl"));
    sh(&format!("kill -KILL {first}"));
    eventually("it is said", || guard.troubles().contains("journalctl ended"));
    eventually("it runs again", || child().is_some_and(|next| next != first));
    fail(&guard, 5, "192.0.2.1");
    guard.await_ban("192.0.2.1/32");
    guard.end("TERM");
    assert!(!std::path::Path::new(&format!("/proc/{first}")).exists());
}
