//! Clocks that jump both ways and years, a machine that starts in 1970, and one that slept.

use std::fs;

use super::support::guard::{Guard, SECOND, failed_password_at};
use super::support::lab::{Host, Lab, sh};
use super::support::{eventually, guard};
use super::{PORT, attack, backend, guarded, jail, passes};

const DAY: i64 = 86_400;

/// A daemon whose wall clock is the test's; the time since boot stays the machine's.
struct Clocked {
    guard: Guard,
    /// Seconds that its clock is ahead of ours.
    ahead: i64,
}

impl Clocked {
    fn new(backend_name: &str) -> Clocked {
        let guard = Guard::new(&(backend(backend_name) + &jail("sshd")));
        guard.append("sshd.log", "");
        let clocked = Clocked { guard, ahead: 0 };
        clocked.write();
        clocked
    }

    fn start(&mut self, host: &Host) {
        let library = sh("find /usr/lib* -name libfaketimeMT.so.1 | head -n 1");
        assert!(!library.is_empty(), "this test needs libfaketime, of the package faketime");
        let file = self.guard.path("clock").display().to_string();
        self.guard.spawn_behind(
            host,
            &format!(
                "export LD_PRELOAD={} FAKETIME_TIMESTAMP_FILE={file} FAKETIME_NO_CACHE=1 \
                 FAKETIME_DONT_FAKE_MONOTONIC=1 DONT_FAKE_MONOTONIC=1\nexec \"$@\"",
                library.trim()
            ),
        );
        self.guard.await_ready();
    }

    fn set(&mut self, ahead: i64) {
        self.ahead = ahead;
        self.write();
    }

    fn write(&self) {
        // At once, because it is read at every look at the clock.
        fs::write(self.guard.path("clock.new"), format!("{:+}\n", self.ahead)).unwrap();
        fs::rename(self.guard.path("clock.new"), self.guard.path("clock")).unwrap();
    }

    /// Five failures now, by the daemon's clock.
    fn attack(&self, address: &str) {
        let now = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(self.ahead);
        let line = failed_password_at(&now.strftime("%Y-%m-%dT%H:%M:%S.%6f+00:00").to_string(), "root", address);
        self.guard.append("sshd.log", &line.repeat(5));
    }

    /// Seconds that are left of a ban, by the daemon's clock; `None` where there is no such ban.
    fn left(&self, prefix: &str) -> Option<i64> {
        let ban = self.guard.bans().into_iter().find(|ban| ban["prefix"] == prefix)?;
        let until: jiff::Timestamp = ban["until"].as_str()?.parse().unwrap();
        Some(until.as_second() - jiff::Timestamp::now().as_second() - self.ahead)
    }

    #[track_caller]
    fn has_an_hour(&self, prefix: &str) {
        eventually("about an hour is left", || self.left(prefix).is_some_and(|left| (3000..=3605).contains(&left)));
    }
}

fn bans_last_as_long_as_they_were_given_for(backend: &str) {
    let lab = Lab::new();
    let mut clocked = Clocked::new(backend);
    clocked.start(&lab.server);
    lab.server.listen(PORT);
    let address = lab.attacker.v4.to_string();
    let prefix = format!("{address}/32");
    clocked.guard.ctl(&["ban", &address, "--for", "1h"]);
    clocked.guard.ctl(&["ban", "192.0.2.1", "--for", "forever"]);
    for (round, ahead) in [400 * DAY, 3650 * DAY, 0, -1000 * DAY, 3600, 0].into_iter().enumerate() {
        clocked.set(ahead);
        clocked.has_an_hour(&prefix);
        clocked.guard.ctl(&["ban", &format!("198.51.100.{round}"), "--for", "3s"]);
        clocked.attack(&format!("203.0.113.{round}"));
        clocked.guard.await_ban(&format!("203.0.113.{round}/32"));
        assert!(!passes(&lab.attacker), "{ahead} seconds ahead");
        eventually("what was short is over", || clocked.left(&format!("198.51.100.{round}/32")).is_none());
        clocked.has_an_hour(&prefix);
    }
    assert!(clocked.guard.log().contains("the clock was set"), "{}", clocked.guard.log());
    clocked.guard.end("KILL");
    clocked.start(&lab.server);
    clocked.has_an_hour(&prefix);
    assert!(!passes(&lab.attacker));
    assert_eq!(clocked.guard.bans().len(), 2 + 6);
    clocked.guard.ctl(&["unban", "--all"]);
    assert!(passes(&lab.attacker));
}

#[test]
fn bans_of_iptables_last_as_long_as_they_were_given_for_whatever_the_clock_says() {
    bans_last_as_long_as_they_were_given_for("iptables");
}

#[test]
fn bans_of_nftables_last_as_long_as_they_were_given_for_whatever_the_clock_says() {
    bans_last_as_long_as_they_were_given_for("nftables");
}

#[test]
fn a_machine_that_starts_in_1970_keeps_its_bans_until_it_knows_the_time_and_after() {
    let lab = Lab::new();
    let mut clocked = Clocked::new("iptables");
    clocked.start(&lab.server);
    lab.server.listen(PORT);
    let address = lab.attacker.v4.to_string();
    let prefix = format!("{address}/32");
    clocked.guard.ctl(&["ban", &address, "--for", "1h"]);
    clocked.guard.end("KILL");
    lab.server.sh("iptables -F; iptables -X; ip6tables -F; ip6tables -X; ipset destroy");
    clocked.set(100 - jiff::Timestamp::now().as_second());
    for _ in 0..2 {
        clocked.start(&lab.server);
        clocked.has_an_hour(&prefix);
        assert!(!passes(&lab.attacker));
        clocked.guard.end("KILL");
    }
    clocked.start(&lab.server);
    clocked.guard.ctl(&["ban", "192.0.2.1", "--for", "1h"]);
    clocked.attack("192.0.2.2");
    clocked.guard.await_ban("192.0.2.2/32");
    clocked.set(0);
    for prefix in [&*prefix, "192.0.2.1/32"] {
        clocked.has_an_hour(prefix);
    }
    assert!(clocked.guard.is_banned("192.0.2.2/32") && !passes(&lab.attacker));
    clocked.guard.ctl(&["ban", "192.0.2.3", "--for", "2s"]);
    eventually("what was short is over", || clocked.left("192.0.2.3/32").is_none());
}

#[test]
fn a_daemon_that_was_stopped_for_a_while_makes_up_for_it() {
    let lab = Lab::new();
    let guard = guarded(&lab, "nftables");
    guard.ctl(&["ban", "192.0.2.1", "--for", "2s"]);
    guard.ctl(&["ban", "192.0.2.2", "--for", "1h"]);
    guard.signal("STOP");
    attack(&guard, "sshd.log", &lab.attacker.v4.to_string());
    std::thread::sleep(4 * SECOND);
    guard.append("sshd.log", &guard::failed_password("root", "192.0.2.3"));
    guard.signal("CONT");
    eventually("the attacker is shut out", || !passes(&lab.attacker));
    eventually("what was short is over", || !guard.is_banned("192.0.2.1/32"));
    assert!(guard.is_banned("192.0.2.2/32"));
    guard.await_lines(6);
    assert!(!guard.log().contains("the clock was set"), "{}", guard.log());
}
