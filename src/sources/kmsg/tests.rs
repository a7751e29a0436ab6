use std::fs::OpenOptions;
use std::io::Write;
use std::process::Command;

use super::*;
use crate::sources::Place;
use crate::sources::tests::{Harness, Recorder, spec};

#[test]
fn a_record_is_read_with_its_escapes_and_without_its_fields() {
    let record = b"4,348,2839429004,-,caller=T1;PING-DROP:IN=vb OUT=\\x5cx\\x0a \n SUBSYSTEM=net\n DEVICE=n1\n";
    let entry = parse(record).unwrap();
    assert_eq!((entry.facility, entry.sequence, entry.micros), (0, 348, 2_839_429_004));
    let mut message = Vec::new();
    unescape(entry.message, &mut message);
    assert_eq!(message, b"PING-DROP:IN=vb OUT=\\x\n ");
}

#[test]
fn what_is_not_an_escape_stays_as_it_is() {
    for text in [&b"\\"[..], b"\\x", b"\\x4", b"\\xzz", b"a\\nb"] {
        let mut message = Vec::new();
        unescape(text, &mut message);
        assert_eq!(message, text);
    }
}

#[test]
fn what_is_not_a_record_is_none() {
    for record in [&b""[..], b";", b"4,5;x", b"x,1,2,-;y", b"4,1,2,-", b"4,1,99999999999999999999,-;x"] {
        assert_eq!(parse(record), None);
    }
}

#[test]
fn a_record_has_the_wall_time_of_its_moment_and_never_a_later_one() {
    let clocks = Clocks { now: Timestamp::from_secs(1000), monotonic: Duration::from_secs(50) };
    assert_eq!(clocks.wall(40_000_000), Timestamp::from_secs(990));
    assert_eq!(clocks.wall(60_000_000), Timestamp::from_secs(1000));
}

#[test]
fn positions_count_in_their_own_boot_only() {
    let at = |boot: &str, sequence| Position::Kmsg { boot: boot.to_owned(), sequence };
    assert_eq!(left_in_boot(&at("this", 9), "this"), Some(9));
    assert_eq!(left_in_boot(&at("this", 9), "other"), None);
}

/// A source without a device, to feed records to.
fn fed(left: Option<Position>, records: &'static [(u64, u32)]) -> Harness {
    let mut spec = spec(Place::Kmsg, &Arc::new(Recorder::default()));
    spec.resume = left.into_iter().map(|position| (Arc::from("kmsg"), position)).collect();
    spec.refill = true;
    Harness::start(move |outlet| {
        let mut kmsg = Kmsg::new(spec, outlet, "boot".to_owned());
        let mut gathered = Gathered::default();
        for (sequence, priority) in records {
            let record = format!("{priority},{sequence},1,-;record {sequence}\n");
            kmsg.take(record.as_bytes(), Clocks::read(), &mut gathered)?;
        }
        kmsg.report(gathered)?;
        kmsg.outlet.ended()
    })
}

fn ended(mut harness: Harness) -> Harness {
    harness.await_report("the end", |report| matches!(report, crate::sources::Report::Ended { .. }));
    harness
}

#[test]
fn a_gap_in_the_sequence_is_a_loss_of_that_many_records() {
    let harness = ended(fed(None, &[(5, 4), (6, 4), (10, 4), (11, 4)]));
    assert_eq!((harness.lines, harness.lost), (4, 3));
}

#[test]
fn records_before_where_it_was_left_are_warm_and_what_was_overwritten_meanwhile_is_lost() {
    let at = |sequence| Position::Kmsg { boot: "boot".to_owned(), sequence };
    let harness = ended(fed(Some(at(8)), &[(6, 4), (7, 4), (8, 4), (9, 4)]));
    assert_eq!((harness.lines, harness.warm_lines, harness.lost), (4, 2, 0));
    assert_eq!(harness.seen, ["kernel: record 8", "kernel: record 9"]);
    assert_eq!(harness.positions["kmsg"], at(10));
    let harness = ended(fed(Some(at(8)), &[(12, 4)]));
    assert_eq!(harness.lost, 4);
}

#[test]
fn what_a_user_wrote_into_the_device_does_not_count() {
    let harness = ended(fed(None, &[(5, 12), (6, 4), (7, 8 * 3)]));
    assert_eq!(harness.seen, ["kernel: record 6"]);
}

/// Reads the real device from now on.
fn live() -> Harness {
    let mut spec = spec(Place::Kmsg, &Arc::new(Recorder::default()));
    spec.since = Timestamp::now();
    let mut harness = Harness::start(move |outlet| run(spec, outlet));
    harness.await_caught_up();
    harness
}

fn run_command(line: &str) {
    let mut words = line.split(' ');
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A network namespace that is removed at the end.
struct Namespace(String);

impl Namespace {
    fn new() -> Namespace {
        let namespace = Namespace(format!("banward-kmsg-{}", std::process::id()));
        run_command(&format!("ip netns add {}", namespace.0));
        namespace.run("ip link set lo up");
        namespace
    }

    fn run(&self, line: &str) {
        run_command(&format!("ip netns exec {} {line}", self.0));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        run_command(&format!("ip netns delete {}", self.0));
    }
}

#[test]
fn the_kernels_own_log_line_arrives_at_once_and_a_forged_one_never() {
    std::fs::write("/proc/sys/net/netfilter/nf_log_all_netns", "1").expect("kernel tests run as root");
    let mut harness = live();
    let namespace = Namespace::new();
    let prefix = format!("banward{}:", std::process::id());
    namespace.run(&format!("iptables -A INPUT -p icmp --icmp-type 8 -j LOG --log-prefix {prefix}"));
    let mut kmsg = OpenOptions::new().write(true).open(KMSG).unwrap();
    kmsg.write_all(format!("<4>{prefix}IN=lo SRC=192.0.2.1 forged\n").as_bytes()).unwrap();
    namespace.run("ping -c 1 -W 1 127.0.0.1");
    let ours =
        |harness: &Harness| harness.seen.iter().filter(|line| line.contains(&prefix)).cloned().collect::<Vec<_>>();
    harness.await_until("the kernel's line", |harness| !ours(harness).is_empty());
    let lines = ours(&harness);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with(&format!("kernel: {prefix}IN=lo ")) && lines[0].contains("PROTO=ICMP"), "{lines:?}");
    harness.stop();
}
