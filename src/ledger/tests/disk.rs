use std::fs;
use std::path::Path;

use tempfile::TempDir;
use tokio::sync::oneshot;

use super::*;
use crate::ledger::history::Past;
use crate::ledger::home::LedgerError;
use crate::ledger::{How, Ledger, Opened};
use crate::policy::grant::Grant;
use crate::sources::Position;

fn open(folder: &TempDir, now: Timestamp) -> (Ledger, Opened) {
    Ledger::open(folder.path(), now).unwrap()
}

/// Commits and waits for the answer.
pub(super) fn commit(ledger: &mut Ledger) -> Result<(), String> {
    let (ack, answer) = oneshot::channel();
    ledger.commit(Some(ack));
    answer.blocking_recv().unwrap()
}

fn position(sequence: u64) -> Position {
    Position::Kmsg { boot: "b".to_owned(), sequence }
}

/// The prefix of the `number`-th of many bans.
pub(super) fn numbered(number: u32) -> String {
    format!("{}/32", std::net::Ipv4Addr::from(0x0a00_0000 + number))
}

#[test]
fn a_restart_keeps_what_is_left_and_drops_what_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let (mut ledger, opened) = open(&folder, NOW);
    assert_eq!(opened, Opened::Fresh);
    for (prefix, seconds) in [("192.0.2.1/32", 60), ("192.0.2.2/32", 600), ("2001:db8::/64", 6000)] {
        ledger.ban(Ban { scope: web(), ..ban(prefix, "sshd", seconds) });
    }
    ledger.unban(&"2001:db8::/64".parse().unwrap(), after(1));
    let grant = Grant { since: NOW, until: Until::At(after(900)), by: Some(0), comment: "the office".into() };
    ledger.grant("198.51.100.0/24".parse().unwrap(), grant.clone());
    ledger.put_list("a", vec!["203.0.113.0/24".parse().unwrap()], NOW, Until::At(after(900))).unwrap();
    ledger.put_list("b", vec!["203.0.113.0/24".parse().unwrap()], NOW, Until::At(after(90))).unwrap();
    ledger.set_position("kernel", "kmsg", &position(7), NOW);
    commit(&mut ledger).unwrap();
    let standing: Vec<Ban> = ledger.bans().filter(|ban| ban.until > Until::At(after(100))).collect();
    ledger.close().unwrap();

    let (ledger, opened) = open(&folder, after(100));
    assert_eq!(opened, Opened::Restored { bans: 1, lists: 1, ended_meanwhile: 1, skipped: 0 });
    assert_eq!(ledger.bans().collect::<Vec<_>>(), standing);
    let grants: Vec<_> = ledger.grants().map(|(prefix, grant)| (prefix.to_string(), grant.clone())).collect();
    assert_eq!(grants, [("198.51.100.0/24".to_owned(), grant)]);
    assert_eq!(ledger.lists().map(|list| list.until).collect::<Vec<_>>(), [Until::At(after(900))]);
    assert_eq!(ledger.positions("kernel")["kmsg"], position(7));
    let past = ledger.past(&"192.0.2.1/32".parse().unwrap(), after(100));
    assert_eq!(past, Past { bans: 1, last_end: Some(after(60)) }, "it ended when it was to end, not at the restart");
    let ended: Vec<How> = ledger.ended().map(|one| one.how).collect();
    assert_eq!(ended, [How::Expired, How::Unbanned]);
    ledger.close().unwrap();

    let (ledger, opened) = open(&folder, after(200));
    assert_eq!(opened, Opened::Restored { bans: 1, lists: 1, ended_meanwhile: 0, skipped: 0 });
    assert_eq!(ledger.ended().count(), 2, "what ended at the last start was written down");
}

#[test]
fn positions_alone_are_written_without_being_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let (mut ledger, _) = open(&folder, NOW);
    ledger.set_position("kernel", "kmsg", &position(7), NOW);
    ledger.commit(None);
    ledger.set_position("kernel", "kmsg", &position(8), NOW);
    ledger.close().unwrap();
    assert_eq!(open(&folder, NOW).0.positions("kernel")["kmsg"], position(8));
}

#[test]
fn a_second_opener_is_refused_and_told_who_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let (ledger, _) = open(&folder, NOW);
    let refused = Ledger::open(folder.path(), NOW).unwrap_err();
    let LedgerError::Locked { pid, .. } = &refused else { panic!("{refused}") };
    assert_eq!(*pid, Some(std::process::id()));
    assert!(refused.to_string().contains(&format!("process {}", std::process::id())), "{refused}");
    ledger.close().unwrap();
    assert!(matches!(open(&folder, NOW).1, Opened::Restored { .. }), "the lock goes with its holder");
}

#[test]
fn the_state_directory_is_made_for_its_owner_only() {
    use std::os::unix::fs::MetadataExt;
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("var/lib/banward");
    Ledger::open(&state, NOW).unwrap().0.close().unwrap();
    assert_eq!(fs::metadata(&state).unwrap().mode() & 0o777, 0o700);
}

#[test]
fn a_place_that_cannot_be_used_is_named_with_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let error = Ledger::open(&folder.path().join("file/state"), NOW).unwrap_err().to_string();
    assert!(error.contains("file/state") && error.contains("daemon.state_dir"), "{error}");
}

#[test]
fn a_ledger_of_a_newer_version_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    open(&folder, NOW).0.close().unwrap();
    let db = sled::open(folder.path().join("ledger")).unwrap();
    db.insert("=format", &99_u64.to_be_bytes()).unwrap();
    db.flush().unwrap();
    drop(db);
    let error = Ledger::open(folder.path(), NOW).unwrap_err();
    assert!(matches!(error, LedgerError::Newer { found: 99, .. }), "{error}");
    assert!(folder.path().join("ledger/db").exists());
}

#[test]
fn what_cannot_be_written_is_said_and_written_when_it_can() {
    let folder = tempfile::tempdir().unwrap();
    let (mut ledger, _) = open(&folder, NOW);
    let in_the_way = folder.path().join("lists");
    fs::write(&in_the_way, "").unwrap();
    ledger.put_list("a", vec!["203.0.113.0/24".parse().unwrap()], NOW, Until::Forever).unwrap();
    ledger.ban(ban("192.0.2.1/32", "sshd", 600));
    let why = commit(&mut ledger).unwrap_err();
    assert!(why.contains("the list a") && why.contains("tried again"), "{why}");
    assert_eq!(ledger.trouble(), Some(why));
    fs::remove_file(&in_the_way).unwrap();
    commit(&mut ledger).unwrap();
    assert_eq!(ledger.trouble(), None);
    ledger.close().unwrap();
    assert_eq!(open(&folder, NOW).1, Opened::Restored { bans: 1, lists: 1, ended_meanwhile: 0, skipped: 0 });
}

#[test]
fn the_largest_values_stay_within_the_file_that_is_made_durable() {
    let folder = tempfile::tempdir().unwrap();
    let (mut ledger, _) = open(&folder, NOW);
    for number in 0..2000 {
        ledger.ban(Ban { reason: "\u{1}".repeat(5000).into(), ..ban(&numbered(number), "sshd", 600) });
        if number % 50 == 0 {
            commit(&mut ledger).unwrap();
        }
    }
    ledger.close().unwrap();
    // Values that sled thinks large become files of their own, which no `fdatasync` of `db` reaches.
    assert_eq!(fs::read_dir(folder.path().join("ledger/blobs")).unwrap().count(), 0);
}

#[test]
fn a_snapshot_that_a_crash_left_half_written_costs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (mut ledger, _) = open(&folder, NOW);
    ledger.ban(ban("192.0.2.1/32", "sshd", 600));
    ledger.close().unwrap();
    fs::write(folder.path().join("ledger/snap.FFFFFFFFFFFFFFFF.generating"), "half").unwrap();
    assert_eq!(open(&folder, NOW).1, Opened::Restored { bans: 1, lists: 0, ended_meanwhile: 0, skipped: 0 });
}

#[test]
fn an_unreadable_record_costs_only_itself() {
    let folder = tempfile::tempdir().unwrap();
    let (mut ledger, _) = open(&folder, NOW);
    ledger.ban(ban("192.0.2.1/32", "sshd", 600));
    ledger.close().unwrap();
    let db = sled::open(folder.path().join("ledger")).unwrap();
    db.insert(b"b\x04\xc0\x00\x02\x02\x20sshd", b"{\"scope\"").unwrap();
    db.flush().unwrap();
    drop(db);
    assert_eq!(open(&folder, NOW).1, Opened::Restored { bans: 1, lists: 0, ended_meanwhile: 0, skipped: 1 });
}

/// A ledger of 3,000 bans, written in groups of one, and its database changed by `damage`.
fn damaged(damage: impl Fn(&Path)) -> (TempDir, Ledger, Opened) {
    let folder = tempfile::tempdir().unwrap();
    let (mut ledger, _) = open(&folder, NOW);
    ledger.put_list("a", vec!["203.0.113.0/24".parse().unwrap()], NOW, Until::Forever).unwrap();
    for number in 0..3000 {
        ledger.ban(ban(&numbered(number), "sshd", 600));
        if number % 100 == 0 {
            commit(&mut ledger).unwrap();
        }
    }
    ledger.close().unwrap();
    damage(&folder.path().join("ledger"));
    let (ledger, opened) = open(&folder, NOW);
    (folder, ledger, opened)
}

/// The damage is seen, the damaged store kept, and the ledger goes on.
fn is_set_aside(damage: impl Fn(&Path)) {
    let (folder, mut ledger, opened) = damaged(damage);
    let Opened::SetAside { path, .. } = &opened else { panic!("{opened:?}") };
    assert_eq!(*path, folder.path().join("ledger.damaged-2026-11-21T01-30-00Z"));
    assert!(path.join("db").exists());
    assert_eq!((ledger.ban_count(), ledger.lists().count()), (0, 1), "lists stand apart from the database");
    ledger.ban(ban("192.0.2.1/32", "sshd", 600));
    commit(&mut ledger).unwrap();
    ledger.close().unwrap();
    assert_eq!(open(&folder, NOW).0.ban_count(), 1);
}

fn overwrite(file: &Path, at: impl Fn(usize) -> usize, length: usize) {
    let mut bytes = fs::read(file).unwrap();
    let start = at(bytes.len());
    bytes[start..start + length].fill(0xa5);
    fs::write(file, bytes).unwrap();
}

#[test]
fn a_database_cut_short_is_set_aside() {
    is_set_aside(|store| {
        let file = fs::OpenOptions::new().write(true).open(store.join("db")).unwrap();
        file.set_len(file.metadata().unwrap().len() / 3).unwrap();
    });
}

#[test]
fn a_database_of_nothing_is_set_aside() {
    is_set_aside(|store| fs::write(store.join("db"), "").unwrap());
}

#[test]
fn a_database_overwritten_at_its_beginning_is_set_aside() {
    is_set_aside(|store| overwrite(&store.join("db"), |_| 0, 4096));
}

#[test]
fn a_database_without_its_snapshots_and_with_a_broken_log_is_set_aside() {
    is_set_aside(|store| {
        for file in fs::read_dir(store).unwrap() {
            let path = file.unwrap().path();
            if path.file_name().unwrap().to_string_lossy().starts_with("snap.") {
                fs::remove_file(path).unwrap();
            }
        }
        overwrite(&store.join("db"), |length| length / 4, 4096);
    });
}

#[test]
fn wherever_the_database_is_overwritten_no_ban_is_lost_without_a_word() {
    for part in 0..16 {
        let (_folder, ledger, opened) = damaged(|store| overwrite(&store.join("db"), |length| length * part / 16, 512));
        match opened {
            Opened::SetAside { .. } => {}
            Opened::Restored { bans, .. } => assert_eq!((bans, ledger.ban_count()), (3000, 3000), "part {part}"),
            Opened::Fresh => panic!("part {part}: a damaged ledger is not a fresh one"),
        }
    }
}

#[test]
fn a_hundred_thousand_bans_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let (mut ledger, _) = open(&folder, NOW);
    let start = std::time::Instant::now();
    for number in 0..100_000 {
        ledger.ban(ban(&numbered(number), "sshd", 600));
    }
    commit(&mut ledger).unwrap();
    println!("100,000 bans were written in {:?}", start.elapsed());
    ledger.close().unwrap();
    let start = std::time::Instant::now();
    let (ledger, opened) = open(&folder, NOW);
    println!("100,000 bans were opened in {:?}", start.elapsed());
    assert_eq!(opened, Opened::Restored { bans: 100_000, lists: 0, ended_meanwhile: 0, skipped: 0 });
    assert_eq!(ledger.entries(NOW).len(), 100_000);
}

#[test]
fn a_list_of_a_million_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let (mut ledger, _) = open(&folder, NOW);
    let nets = (0..1_000_000).map(|number: u32| std::net::IpAddr::from(std::net::Ipv4Addr::from(number << 8)).into());
    let start = std::time::Instant::now();
    let changes = ledger.put_list("million", nets.collect(), NOW, Until::Forever).unwrap();
    println!("a list of 1,000,000 was put in {:?}", start.elapsed());
    assert_eq!(changes.len(), 1_000_000);
    commit(&mut ledger).unwrap();
    println!("and written after {:?}", start.elapsed());
    ledger.close().unwrap();
    let start = std::time::Instant::now();
    let (ledger, opened) = open(&folder, NOW);
    println!("a list of 1,000,000 was opened in {:?}", start.elapsed());
    assert_eq!(opened, Opened::Restored { bans: 0, lists: 1, ended_meanwhile: 0, skipped: 0 });
    assert_eq!(ledger.entries(NOW).len(), 1_000_000);
}

/// The bans of a folder after one more start, by prefix and owner.
fn restarted(folder: &TempDir) -> Vec<(String, String)> {
    let (ledger, opened) = open(folder, NOW);
    assert!(matches!(opened, Opened::Restored { skipped: 0, .. }), "{opened:?}");
    let bans = ledger.bans().map(|ban| (ban.prefix.to_string(), ban.jail.to_string())).collect();
    ledger.close().unwrap();
    bans
}

#[test]
fn pages_are_divided_emptied_and_filled_again_and_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut expected = std::collections::BTreeSet::new();
    for round in 0..6_u32 {
        let (mut ledger, _) = open(&folder, NOW);
        for number in 0..400 {
            // Between those of earlier rounds, before and behind them; some prefixes have two owners.
            let number = number * 7 + round * 1000;
            for jail in if number % 5 == 0 { vec!["sshd", "web"] } else { vec!["sshd"] } {
                ledger.ban(ban(&numbered(number), jail, 600));
                expected.insert((numbered(number), jail.to_owned()));
            }
            if number % 3 == 0 {
                commit(&mut ledger).unwrap();
            }
        }
        if round % 2 == 1 {
            for number in (round - 1) * 1000..(round - 1) * 1000 + 2000 {
                ledger.unban(&numbered(number).parse().unwrap(), NOW);
                expected.retain(|(prefix, _)| *prefix != numbered(number));
            }
        }
        ledger.close().unwrap();
        let mut found = restarted(&folder);
        found.sort();
        assert_eq!(found, expected.iter().cloned().collect::<Vec<_>>(), "round {round}");
    }
}

#[test]
fn a_ledger_of_the_first_format_is_read_and_kept_as_pages() {
    use crate::ledger::records::Record;
    use crate::ledger::store::{Records, Store};
    let folder = tempfile::tempdir().unwrap();
    let bans = [ban("192.0.2.1/32", "sshd", 600), ban("192.0.2.1/32", "web", 900), ban("2001:db8::/64", "sshd", 60)];
    let record = |ban: &Ban| {
        let record = Record::Ban(ban.clone());
        (record.key().bytes(), Some(record.value()))
    };
    let records: Records = bans.iter().map(record).collect();
    let mut store = Store::open(&folder.path().join("ledger")).unwrap();
    store.write(&records, true).unwrap();
    drop(store);
    for _ in 0..2 {
        let (ledger, opened) = open(&folder, NOW);
        assert_eq!(opened, Opened::Restored { bans: 3, lists: 0, ended_meanwhile: 0, skipped: 0 });
        assert_eq!(ledger.bans().collect::<Vec<_>>(), bans);
        ledger.close().unwrap();
    }
    let store = Store::open(&folder.path().join("ledger")).unwrap();
    let mut tags = Vec::new();
    store.scan(|key, _| tags.push(key[0])).unwrap();
    assert_eq!(tags, [b'a'], "the single records are gone");
}

#[test]
fn a_crash_between_the_parts_of_a_divided_page_loses_no_ban_and_doubles_none() {
    use crate::ledger::bans::Bans;
    use crate::ledger::pages::Pages;
    use crate::ledger::store::{Records, Store};
    let folder = tempfile::tempdir().unwrap();
    let (mut bans, mut pages) = (Bans::default(), Pages::default());
    let mut store = Store::open(&folder.path().join("ledger")).unwrap();
    let mut ban_more = |numbers: std::ops::Range<u32>| {
        for number in numbers {
            let ban = ban(&numbered(number), "sshd", 600);
            pages.touch(&ban.prefix);
            bans.put(ban);
        }
        pages.changed(&bans).into_iter().collect::<Records>()
    };
    store.write(&ban_more(0..60), true).unwrap();
    let mut divided = ban_more(60..200);
    assert!(divided.len() > 3);
    // What comes last is the page that was there before: it is not written any more.
    divided.pop_last();
    store.write(&divided, true).unwrap();
    drop(store);
    let expected: Vec<(String, String)> = (0..200).map(|number| (numbered(number), "sshd".to_owned())).collect();
    assert_eq!(restarted(&folder), expected);
}
