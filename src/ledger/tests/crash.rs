//! A process that is killed at any moment has kept what it acknowledged.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::disk::{commit, numbered};
use super::*;
use crate::ledger::Ledger;
use crate::sources::Position;

const STATE_DIR: &str = "BANWARD_TEST_CRASH_STATE_DIR";
const FIRST: &str = "BANWARD_TEST_CRASH_FIRST";

/// What the killed process had acknowledged.
#[derive(Default)]
struct Acknowledged {
    banned: BTreeSet<u32>,
    unbanned: BTreeSet<u32>,
    /// The last of each round: its unban may have been written without the answer getting out.
    cut_short: BTreeSet<u32>,
    last: u32,
}

/// Bans one address after the other and unbans every third; says so on standard output once it is acknowledged.
fn work_until_killed(state_dir: &str, first: u32) -> ! {
    let (mut ledger, _) = Ledger::open(Path::new(state_dir), NOW).unwrap();
    let mut output = std::io::stdout();
    for number in first.. {
        ledger.ban(ban(&numbered(number), "sshd", 600));
        let position = Position::Kmsg { boot: "b".to_owned(), sequence: number.into() };

        ledger.set_position("kernel", "kmsg", &position, NOW);
        commit(&mut ledger).unwrap();
        writeln!(output, "\n#banned {number}").unwrap();
        if number % 3 == 0 {
            ledger.unban(&numbered(number).parse().unwrap(), NOW);
            commit(&mut ledger).unwrap();
            writeln!(output, "\n#unbanned {number}").unwrap();
        }
    }
    unreachable!("it is killed long before the numbers end")
}

/// Starts a process that works from `first` on.
fn worker(state_dir: &Path, first: u32) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "ledger::tests::crash::what_was_acknowledged_survives_any_kill"])
        .env(STATE_DIR, state_dir)
        .env(FIRST, first.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Kills a process as soon as it has locked the state directory: while it opens the ledger.
fn kill_while_opening(state_dir: &Path) {
    let mut child = worker(state_dir, 1_000_000);
    let pid = child.id().to_string();
    while std::fs::read_to_string(state_dir.join("lock")).map_or(true, |text| text.trim() != pid) {
        assert!(child.try_wait().unwrap().is_none(), "the child ended by itself");
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Kills a process after `lines` acknowledgements, and notes all that it made.
fn kill_after(state_dir: &Path, first: u32, lines: u32, acknowledged: &mut Acknowledged) {
    let mut child = worker(state_dir, first);
    let mut seen = 0;
    for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
        let Some((what, number)) = line.split_once(' ') else { continue };
        let set = match what {
            "#banned" => &mut acknowledged.banned,
            "#unbanned" => &mut acknowledged.unbanned,
            _ => continue,
        };
        set.insert(number.parse().unwrap());
        acknowledged.last = number.parse().unwrap();
        seen += 1;
        if seen == lines {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    acknowledged.cut_short.insert(acknowledged.last);
    assert!(seen >= lines, "the child ended by itself");
}

fn check(state_dir: &Path, acknowledged: &Acknowledged) {
    let (ledger, opened) = Ledger::open(state_dir, NOW).unwrap();
    let held: BTreeSet<String> = ledger.bans().map(|ban| ban.prefix.to_string()).collect();
    for number in &acknowledged.banned {
        let unbanned = acknowledged.unbanned.contains(number);
        let either = number % 3 == 0 && acknowledged.cut_short.contains(number) && !unbanned;
        assert!(either || held.contains(&numbered(*number)) != unbanned, "{number} after {opened:?}");
    }
    if let Some(Position::Kmsg { sequence, .. }) = ledger.positions("kernel").get("kmsg").cloned() {
        assert!(sequence >= u64::from(acknowledged.last), "the position went back");
        let last = u32::try_from(sequence).unwrap();
        assert!(last % 3 == 0 || held.contains(&numbered(last)), "the position came before its ban");
    }
}

#[test]
fn what_was_acknowledged_survives_any_kill() {
    if let (Ok(state_dir), Ok(first)) = (std::env::var(STATE_DIR), std::env::var(FIRST)) {
        work_until_killed(&state_dir, first.parse().unwrap());
    }
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = Acknowledged::default();
    for kill in 0..25_u32 {
        let first = kill * 1000;
        kill_after(folder.path(), first, 1 + kill * 7 % 40, &mut acknowledged);
        check(folder.path(), &acknowledged);
        if kill % 3 == 0 {
            kill_while_opening(folder.path());
            check(folder.path(), &acknowledged);
        }
    }
    assert!(acknowledged.banned.len() > 100);
}
