//! A new configuration for a running daemon.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::support::eventually;
use std::time::Duration;

use super::support::guard::{Guard, failed_password};
use super::support::lab::Lab;
use super::{backend, fail, guarded, iptables, jail, nftables, passes};

#[test]
fn a_reload_loses_no_ban_and_no_count() {
    let lab = Lab::new();
    let guard = guarded(&lab, &(backend("iptables") + &jail("sshd", "")));
    guard.ctl(&["ban", "192.0.2.1", "--for", "1h"]);
    fail(&guard, 4, "192.0.2.2");
    guard.await_lines(4);
    let before = guard.bans();
    guard.configure(&(backend("iptables") + &jail("sshd", "ban = { time = \"33m\" }")));
    guard.ctl(&["reload"]);
    assert_eq!(guard.bans(), before);
    assert_eq!(guard.lines(), 4, "nothing is read again");
    fail(&guard, 1, "192.0.2.2");
    guard.await_ban("192.0.2.2/32");
    let ban = guard.bans().into_iter().find(|ban| ban["prefix"] == "192.0.2.2/32").unwrap();
    let time = |key: &str| ban[key].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert_eq!(time("until").duration_since(time("since")).as_secs(), 33 * 60, "by the new configuration");
}

#[test]
fn reloads_under_load_lose_no_line_and_count_none_twice() {
    let lab = Lab::new();
    let guard = guarded(&lab, &(backend("none") + &jail("sshd", "")));
    let done = AtomicBool::new(false);
    let written = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let line = failed_password("root", &format!("192.0.2.{}", written.load(Ordering::Relaxed) % 200));
                guard.append("sshd.log", &line.repeat(20));
                written.fetch_add(20, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        for _ in 0..5 {
            guard.ctl(&["reload"]);
        }
        done.store(true, Ordering::Relaxed);
    });
    guard.await_lines(written.into_inner() as u64);
}

#[test]
fn a_reload_adds_and_removes_jails() {
    let lab = Lab::new();
    let guard = guarded(&lab, &(backend("iptables") + &jail("sshd", "")));
    fail(&guard, 5, "192.0.2.1");
    guard.await_ban("192.0.2.1/32");
    guard.configure(&(backend("iptables") + &jail("other", "")));
    guard.ctl(&["reload"]);
    let status = guard.status();
    assert_eq!(status["jails"].as_array().unwrap().len(), 1);
    assert_eq!(status["jails"][0]["jail"], "other");
    assert!(guard.is_banned("192.0.2.1/32"), "what a jail banned before it went stays");
    fail(&guard, 5, "192.0.2.2");
    guard.append("other.log", &failed_password("root", "192.0.2.3").repeat(5));
    guard.await_ban("192.0.2.3/32");
    assert!(!guard.is_banned("192.0.2.2/32"), "nobody reads the log of a jail that went");
}

#[test]
fn a_reload_that_allows_a_network_lifts_the_bans_in_it() {
    let lab = Lab::new();
    let config = backend("iptables") + &jail("sshd", "");
    let guard = guarded(&lab, &config);
    fail(&guard, 5, &lab.attacker.v4.to_string());
    eventually("the attacker is shut out", || !passes(&lab.attacker));
    guard.ctl(&["ban", "198.51.100.1"]);
    guard.configure(&format!("{config}[allow]\nnetworks = [\"127.0.0.0/8\", \"{}/32\"]\n", lab.attacker.v4));
    guard.ctl(&["reload"]);
    eventually("the attacker gets through", || passes(&lab.attacker));
    assert_eq!(guard.bans().len(), 1);
    fail(&guard, 5, &lab.attacker.v4.to_string());
    guard.await_log("is allowed by [allow] networks");
    assert!(passes(&lab.attacker));
}

#[test]
fn a_reload_changes_hooks_target_and_egress() {
    let lab = Lab::new();
    let guard = guarded(&lab, &backend("iptables"));
    guard.ctl(&["ban", "192.0.2.1"]);
    let rules = iptables(&lab);
    assert!(rules.contains("-A FORWARD -j BANWARD") && rules.contains("-A OUTPUT") && rules.contains("-j DROP"));
    guard.configure("[firewall]\nbackend = \"iptables\"\nhooks = [\"INPUT\"]\ntarget = \"REJECT\"\negress = false\n");
    guard.ctl(&["reload"]);
    eventually("the rules follow", || {
        let rules = iptables(&lab);
        !rules.contains("-A FORWARD") && !rules.contains("-A OUTPUT") && rules.contains("-j REJECT")
    });
    let rules = iptables(&lab);
    assert!(rules.contains("-A INPUT -j BANWARD") && !rules.contains("-j DROP"), "{rules}");
    assert!(rules.contains("add BANWARD-4-all 192.0.2.1"), "{rules}");
}

/// Knocks all the time while something is done; how often somebody opened.
fn openings_during(lab: &Lab, work: impl FnOnce()) -> usize {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let knocking = scope.spawn(|| {
            let mut openings = 0;
            while !done.load(Ordering::Relaxed) {
                openings += usize::from(lab.attacker.pings(lab.attacker.server(false)));
            }
            openings
        });
        work();
        done.store(true, Ordering::Relaxed);
        knocking.join().unwrap()
    })
}

fn switch(guard: &Guard, config: &str, name: &str) {
    guard.configure(config);
    guard.ctl(&["reload"]);
    eventually(&format!("{name} holds everything"), || {
        let status = guard.status();
        status["health"] == "ok" && status["backend"] == name && status["installed"] == 1
    });
}

#[test]
fn a_banned_source_never_passes_while_the_backend_is_replaced_and_nothing_is_left_behind() {
    let lab = Lab::new();
    let (no_rules, no_tables) = (iptables(&lab), nftables(&lab));
    let guard = guarded(&lab, &backend("auto"));
    guard.ctl(&["ban", &lab.attacker.v4.to_string()]);
    let openings = openings_during(&lab, || {
        switch(&guard, &backend("nftables"), "nftables");
        eventually("nothing is left in iptables", || iptables(&lab) == no_rules);
        switch(&guard, &backend("iptables"), "iptables");
        eventually("nothing is left in nftables", || nftables(&lab) == no_tables);
        switch(&guard, &backend("auto"), "iptables");
        switch(&guard, "[firewall]\nbackend = \"iptables\"\nchain = \"OTHER\"\n", "iptables");
        eventually("nothing is left of the old chain", || !iptables(&lab).contains("BANWARD"));
    });
    assert_eq!(openings, 0);
    assert!(!guard.log().contains("repaired"), "nobody tore down what another had built:\n{}", guard.log());
}

#[test]
fn observing_takes_the_rules_out_and_enforcing_brings_them_back() {
    let lab = Lab::new();
    let enforce = "[daemon]\nstate_dir = \"DIR/state\"\nsocket = \"DIR/control.sock\"\n[blocklist]\n\
                   write = \"DIR/ip.blocked\"\nread = []\n"
        .to_owned();
    let observe = enforce.replace("[daemon]\n", "[daemon]\nmode = \"observe\"\n");
    let before = iptables(&lab);
    let guard = guarded(&lab, &enforce);
    guard.ctl(&["ban", &lab.attacker.v4.to_string()]);
    assert!(!passes(&lab.attacker));
    guard.configure(&observe);
    guard.ctl(&["reload"]);
    eventually("the rules are gone", || iptables(&lab) == before);
    assert!(passes(&lab.attacker));
    assert_eq!(guard.status()["health"], "observing");
    assert_eq!(guard.bans().len(), 1);
    guard.configure(&enforce);
    guard.ctl(&["reload"]);
    eventually("the rules are back", || !passes(&lab.attacker));
}

#[test]
fn what_cannot_change_under_a_running_daemon_is_said_and_changes_nothing() {
    let lab = Lab::new();
    let config = "[daemon]\nstate_dir = \"DIR/state\"\nsocket = \"DIR/control.sock\"\n[blocklist]\n\
                  write = \"DIR/ip.blocked\"\nread = []\n";
    let guard = guarded(&lab, config);
    guard.ctl(&["ban", "192.0.2.1"]);
    guard.configure(&config.replace("DIR/state", "DIR/elsewhere"));
    let refused = guard.banctl(&["reload"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(super::said(&refused).contains("`state_dir` in [daemon] has changed"), "{}", super::said(&refused));
    assert!(guard.is_banned("192.0.2.1/32") && !guard.path("elsewhere").exists());
}
