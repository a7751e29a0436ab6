//! Coming from fail2ban: its bans become ours, with their ends and their history.

use rusqlite::Connection;

use super::support::eventually;
use super::support::guard::Guard;
use super::support::lab::Lab;
use super::{backend, fail, guarded, jail, passes, said};

const TABLES: &str = "CREATE TABLE bips(ip TEXT, jail TEXT, timeofban INTEGER, bantime INTEGER, bancount INTEGER, data JSON);\
                      CREATE TABLE bans(jail TEXT, ip TEXT, timeofban INTEGER, bantime INTEGER, bancount INTEGER, data JSON);";

/// A database with these bans that stand and these that were made: address, jail, seconds ago, length, count.
fn database(guard: &Guard, standing: &[(&str, &str, i64, i64, i64)], made: &[(&str, &str, i64, i64, i64)]) -> String {
    let path = guard.path("fail2ban.sqlite3");
    let database = Connection::open(&path).unwrap();
    database.execute_batch(TABLES).unwrap();
    for (table, rows) in [("bips", standing), ("bans", made)] {
        for row in rows {
            let insert = format!(
                "INSERT INTO {table}(ip, jail, timeofban, bantime, bancount, data) \
                 VALUES(?1, ?2, CAST(strftime('%s','now') AS INTEGER) - ?3, ?4, ?5, '{{}}')"
            );
            database.execute(&insert, *row).unwrap();
        }
    }
    path.display().to_string()
}

fn end_of(guard: &Guard, prefix: &str) -> i64 {
    let bans = guard.bans();
    let ban = bans.iter().find(|ban| ban["prefix"] == prefix).unwrap_or_else(|| panic!("{prefix} is not banned"));
    let (until, since) = (ban["until"].as_str().unwrap(), ban["since"].as_str().unwrap());
    let seconds = |time: &str| time.parse::<jiff::Timestamp>().unwrap().as_second();
    seconds(until) - seconds(since)
}

#[test]
fn the_bans_of_fail2ban_go_on_here_and_taking_them_over_twice_is_once() {
    let lab = Lab::new();
    let mut guard = guarded(&lab, &format!("{}{}", backend("auto"), jail("sshd", "ports = [\"2222/tcp\"]")));
    let attacker = lab.attacker.v4.to_string();
    let path = database(
        &guard,
        &[
            (&attacker, "sshd", 60, 7200, 3),
            ("192.0.2.7", "webmail", 60, -1, 1),
            ("127.0.0.1", "sshd", 60, 7200, 1),
            ("host.example.org", "sshd", 60, 7200, 1),
        ],
        &[(&attacker, "sshd", 60, 7200, 3), ("192.0.2.8", "sshd", 7200, 600, 1), ("192.0.2.8", "sshd", 4000, 600, 2)],
    );
    assert!(passes(&lab.attacker));
    let dry = guard.banctl(&["import", "--dry-run", "--from", &path]);
    assert!(said(&dry).contains("would take over 3 bans and the history of 1 address, 1 bad row"), "{}", said(&dry));
    assert!(passes(&lab.attacker) && guard.bans().is_empty());

    let import = guard.banctl(&["import", "--from", &path]);
    let told = said(&import);
    assert!(import.status.success(), "{told}");
    assert!(told.contains("took over 2 bans and the history of 2 addresses"), "{told}");
    assert!(told.contains("bips, row 4: 'host.example.org' is not an address"), "{told}");
    assert!(told.contains("warning: 127.0.0.1 is left out: 127.0.0.0/8 is allowed"), "{told}");
    assert!(!passes(&lab.attacker), "acknowledged is enforced");

    let first = guard.ctl(&["list", "--json"]);
    assert_eq!(end_of(&guard, &format!("{attacker}/32")), 7200);
    let jails: Vec<(String, String, u64)> = guard
        .bans()
        .iter()
        .map(|ban| {
            let text = |key: &str| ban[key].as_str().unwrap().to_owned();
            (text("jail"), text("reason"), ban["count"].as_u64().unwrap())
        })
        .collect();
    assert!(jails.contains(&("sshd".to_owned(), "taken over from jail sshd of fail2ban".to_owned(), 3)), "{jails:?}");
    assert!(
        jails.contains(&("manual".to_owned(), "taken over from jail webmail of fail2ban".to_owned(), 1)),
        "{jails:?}"
    );

    let again = said(&guard.banctl(&["import", "--from", &path]));
    assert!(again.contains("took over 0 bans and the history of 0 addresses; 2 stood already"), "{again}");
    assert_eq!(guard.ctl(&["list", "--json"]), first);

    guard.end("KILL");
    guard.start(&lab.server);
    assert_eq!(guard.ctl(&["list", "--json"]), first, "what was acknowledged survives a crash");
    // The third ban by the count of fail2ban: ten minutes, times four, times four.
    fail(&guard, 5, "192.0.2.8");
    eventually("it is banned", || guard.is_banned("192.0.2.8/32"));
    assert_eq!(end_of(&guard, "192.0.2.8/32"), 9600);
}

#[test]
fn more_bans_than_fit_into_one_request_are_taken_over_at_once() {
    let lab = Lab::new();
    let guard = guarded(&lab, &backend("none"));
    let addresses: Vec<String> = (0..1500).map(|n| format!("2001:db8:{n:x}:1111:2222:3333:4444:5555")).collect();
    let rows: Vec<(&str, &str, i64, i64, i64)> =
        addresses.iter().map(|address| (address.as_str(), "a-jail-with-quite-a-long-name", 60, 7200, 1)).collect();
    let path = database(&guard, &rows, &[]);
    assert!(guard.banctl(&["import", "--from", &path]).status.success());
    assert_eq!(guard.bans().len(), 1500);
}
