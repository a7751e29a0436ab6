use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::*;
use crate::sources::Place;
use crate::sources::tests::{Harness, Recorder, spec};

/// A journalctl that is a shell script. It stands for the process only: how it is started, dies and is killed.
struct Fake {
    directory: TempDir,
}

impl Fake {
    /// `script` runs with `$DIR` as the directory and `follow` or `read` as `$MODE`.
    fn new(script: &str) -> Fake {
        let fake = Fake { directory: tempfile::tempdir().unwrap() };
        fake.set(script);
        fake
    }

    fn set(&self, script: &str) {
        let directory = self.directory.path().display();
        let text = format!(
            "DIR={directory}\necho \"$@\" >>$DIR/arguments\nenv >$DIR/environment\n\
             case \"$*\" in *--follow*) MODE=follow;; *) MODE=read;; esac\n{script}\n"
        );
        // By a process of its own: what another test starts meanwhile would inherit a script that is open for writing, and it
        // could not be run.
        let write = "{ echo '#!/bin/sh'; cat; } >\"$0.new\" && chmod 755 \"$0.new\" && mv \"$0.new\" \"$0\"";
        let mut writer =
            Command::new("sh").args(["-c", write]).arg(self.program()).stdin(Stdio::piped()).spawn().unwrap();
        writer.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(writer.wait().unwrap().success());
    }

    fn program(&self) -> PathBuf {
        self.directory.path().join("journalctl")
    }

    fn arguments(&self) -> Vec<String> {
        let text = fs::read_to_string(self.directory.path().join("arguments")).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    fn start(&self, change: impl FnOnce(&mut Spec)) -> Harness {
        let place = Place::Journal { units: Vec::new(), identifiers: Vec::new(), kernel: false };
        let mut spec = spec(place, &Arc::new(Recorder::default()));
        change(&mut spec);
        let program = self.program();
        let matches = matches(&["ssh.service".to_owned()], &[], false);
        Harness::start(move |outlet| {
            run_with(spec, &matches, outlet, || Some(program.clone()).filter(|it| it.exists()))
        })
    }
}

/// Prints the entry with this number as its cursor, message and second.
fn entry(number: u64) -> String {
    format!(
        r#"echo '{{"__CURSOR":"c{number}","__REALTIME_TIMESTAMP":"{number}000000","SYSLOG_IDENTIFIER":"sshd","MESSAGE":"m{number}"}}'"#
    )
}

fn position(number: u64) -> Position {
    Position::Journal { cursor: format!("c{number}"), time: Timestamp::from_secs(i64::try_from(number).unwrap()) }
}

#[test]
fn units_are_matched_by_what_journald_vouches_for() {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    assert_eq!(
        matches(&words(&["a.service", "b.service"]), &words(&["sshd"]), true).join(" "),
        "_TRANSPORT=kernel SYSLOG_FACILITY=0 + _SYSTEMD_UNIT=a.service _SYSTEMD_UNIT=b.service + SYSLOG_IDENTIFIER=sshd \
         + _TRANSPORT=driver MESSAGE_ID=a596d6fe7bfa4994828e72309e95d61e \
         OBJECT_SYSTEMD_UNIT=a.service OBJECT_SYSTEMD_UNIT=b.service"
    );
    assert_eq!(matches(&[], &[], false), Vec::<String>::new());
}

#[test]
fn what_is_there_is_read_first_and_then_followed_behind_the_last_cursor() {
    let fake = Fake::new(&format!("if [ $MODE = read ]; then {}; else {}; sleep 60; fi", entry(1), entry(2)));
    let mut harness = fake.start(|spec| spec.since = Timestamp::from_secs(1));
    harness.await_caught_up();
    assert_eq!(harness.seen, ["sshd: m1"]);
    harness.await_until("the new entry", |harness| harness.seen.len() == 2);
    harness.stop();
    let arguments = fake.arguments();
    assert!(arguments[0].contains(" --since=@1 _SYSTEMD_UNIT=ssh.service + "), "{arguments:?}");
    assert!(arguments[1].contains("--follow --no-tail --after-cursor=c1 "), "{arguments:?}");
    let environment = fs::read_to_string(fake.directory.path().join("environment")).unwrap();
    assert!(!environment.contains("HOME="), "{environment}");
}

#[test]
fn entries_that_windows_still_look_at_are_warm_up_to_where_the_journal_was_left() {
    let entries: Vec<String> = (2..=5).map(entry).collect();
    let fake = Fake::new(&format!("if [ $MODE = read ]; then {}; else sleep 60; fi", entries.join("; ")));
    let mut harness = fake.start(|spec| {
        spec.resume = [(Arc::from("journal"), position(3))].into();
        spec.since = Timestamp::from_secs(2);
        spec.refill = true;
    });
    harness.await_caught_up();
    assert_eq!((harness.warm_lines, harness.seen.as_slice()), (2, &["sshd: m4".to_owned(), "sshd: m5".to_owned()][..]));
    assert!(fake.arguments()[0].contains("--since=@2 "), "{:?}", fake.arguments());
    harness.stop();
}

#[test]
fn a_journal_that_was_left_long_ago_is_read_from_there() {
    let fake = Fake::new(&format!("if [ $MODE = read ]; then {}; else sleep 60; fi", entry(4)));
    let mut harness = fake.start(|spec| {
        spec.resume = [(Arc::from("journal"), position(3))].into();
        spec.since = Timestamp::from_secs(1000);
        spec.refill = true;
    });
    harness.await_caught_up();
    assert_eq!((harness.warm_lines, harness.seen.as_slice()), (0, &["sshd: m4".to_owned()][..]));
    assert!(fake.arguments()[0].contains("--since=@3 "), "{:?}", fake.arguments());
    harness.stop();
}

#[test]
fn what_comes_after_the_clock_was_set_back_counts() {
    let entries = [990, 991].map(entry).join("; ");
    let fake = Fake::new(&format!("if [ $MODE = read ]; then {}; else {entries}; sleep 60; fi", entry(900)));
    let mut harness = fake.start(|spec| {
        spec.resume = [(Arc::from("journal"), position(2000))].into();
        spec.since = Timestamp::from_secs(1000);
        spec.refill = true;
    });
    harness.await_until("the new entries", |harness| harness.seen.len() == 2);
    assert_eq!(harness.seen, ["sshd: m990", "sshd: m991"]);
    harness.stop();
}

#[test]
fn a_journalctl_that_dies_is_a_trouble_with_its_last_words_and_is_started_again() {
    let script = format!(
        "if [ $MODE = read ]; then {}; elif [ -e $DIR/again ]; then {}; sleep 60; \
         else touch $DIR/again; echo first >&2; echo 'No journal\x1b files' >&2; exit 1; fi",
        entry(1),
        entry(2)
    );
    let fake = Fake::new(&script);
    let mut harness = fake.start(|_| {});
    harness.await_until("the entry after the restart", |harness| harness.seen.len() == 2);
    assert_eq!((harness.troubles.len(), harness.recovered), (1, 1));
    assert!(harness.troubles[0].contains("(No journal\\u{1b} files)"), "{:?}", harness.troubles);
    harness.stop();
}

#[test]
fn a_missing_journalctl_is_a_trouble_and_is_tried_again() {
    let fake = Fake::new("");
    fs::rename(fake.program(), fake.directory.path().join("hidden")).unwrap();
    let mut harness = fake.start(|_| {});
    harness.await_until("the trouble", |harness| harness.troubles.len() == 1);
    fs::rename(fake.directory.path().join("hidden"), fake.program()).unwrap();
    harness.await_caught_up();
    harness.stop();
}

#[test]
fn a_cursor_that_journalctl_does_not_know_is_replaced_by_its_time() {
    let script = format!(
        "case \"$*\" in *--after-cursor=c7*) echo 'Failed to seek to cursor: Invalid argument' >&2; exit 1;; esac; \
         if [ $MODE = read ]; then {}; else sleep 60; fi",
        entry(9)
    );
    let fake = Fake::new(&script);
    let mut harness = fake.start(|spec| spec.resume = [(Arc::from("journal"), position(7))].into());
    harness.await_caught_up();
    assert_eq!(harness.seen, ["sshd: m9"]);
    assert!(fake.arguments()[1].contains("--since=@7 "), "{:?}", fake.arguments());
    harness.stop();
}

#[test]
fn stopping_kills_and_reaps_the_child() {
    let fake = Fake::new(&format!("if [ $MODE = follow ]; then echo $$ >$DIR/pid; {}; exec sleep 60; fi", entry(1)));
    let mut harness = fake.start(|_| {});
    harness.await_until("the entry", |harness| harness.seen.len() == 1);
    harness.stop();
    let pid = fs::read_to_string(fake.directory.path().join("pid")).unwrap();
    assert!(!Path::new("/proc").join(pid.trim()).exists());
}

#[test]
fn a_message_that_is_too_long_is_cut_and_an_entry_that_is_too_long_is_passed_over() {
    let long = |length: usize| format!("head -c {length} /dev/zero | tr '\\0' x");
    let before = r#"printf '{"__CURSOR":"c1","__REALTIME_TIMESTAMP":"1","MESSAGE":"'"#;
    let script = format!(
        "if [ $MODE = read ]; then {before}; {}; echo '\"}}'; {before}; {}; echo '\"}}'; {}; else sleep 60; fi",
        long(MAX_LINE + 1),
        long(MAX_ENTRY),
        entry(2)
    );
    let fake = Fake::new(&script);
    let mut harness = fake.start(|_| {});
    harness.await_caught_up();
    let lengths: Vec<usize> = harness.seen.iter().map(String::len).collect();
    assert_eq!((lengths, harness.cut), (vec![": ".len() + MAX_LINE, "sshd: m2".len()], 2));
    harness.stop();
}
