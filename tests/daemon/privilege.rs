//! What each of the daemon's processes may do, and what happens when one of them ends.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::support::eventually;
use super::support::guard::Guard;
use super::support::lab::{Lab, sh};
use super::{backend, fail, jail, passes};

/// Somebody without rights who exists on every machine.
const NOBODY: &str = "65534";

/// A daemon that becomes `nobody`, with its own files in a folder of their own.
fn configured(more: &str) -> Guard {
    let head = format!(
        "[daemon]\nuser = \"nobody\"\nstate_dir = \"DIR/state\"\nsocket = \"DIR/banward/control.sock\"\n\
         filters = [\"{}/filters\"]\n[blocklist]\nwrite = \"DIR/state/ip.blocked\"\nread = []\n",
        env!("CARGO_MANIFEST_DIR")
    );
    let guard = Guard::new(&(head + &backend("iptables") + more));
    let folder = guard.path("banward.toml").parent().expect("a folder").to_owned();
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).expect("a folder");
    guard.append("sshd.log", "");
    fs::set_permissions(guard.path("sshd.log"), fs::Permissions::from_mode(0o644)).expect("a log");
    fs::set_permissions(guard.path("notify"), fs::Permissions::from_mode(0o777)).expect("a socket");
    guard
}

fn guarded(lab: &Lab) -> Guard {
    let mut guard = configured(&jail("sshd", ""));
    guard.start(&lab.server);
    lab.server.listen(super::PORT);
    guard
}

/// A line of `/proc/PID/status`, of each of the threads, which must agree.
fn field(pid: &str, name: &str) -> String {
    let lines = sh(&format!("cat /proc/{pid}/task/*/status | grep '^{name}:' | sort -u"));
    assert_eq!(lines.lines().count(), 1, "all threads agree: {lines}");
    lines.split_once(':').expect("a field").1.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn child(guard: &Guard, argument: &str) -> String {
    let pid = sh(&format!("pgrep --parent {} --full -- {argument}", guard.pid()));
    pid.trim().to_owned()
}

#[test]
fn the_brain_has_no_right_left_and_the_enforcer_one() {
    let lab = Lab::new();
    let guard = guarded(&lab);
    let brain = guard.pid().to_string();
    let (enforcer, witness) = (child(&guard, "--enforcer"), child(&guard, "--witness"));
    let rights = |pid: &str| ["CapPrm", "CapEff", "CapBnd"].map(|set| field(pid, set));
    assert_eq!(rights(&brain), ["0000000000000000"; 3]);
    assert_eq!(rights(&enforcer), ["0000000000003000"; 3], "CAP_NET_ADMIN, and CAP_NET_RAW for iptables");
    assert_eq!(rights(&witness), ["0000000000080004"; 3], "CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH");
    assert_eq!(field(&brain, "Uid"), [NOBODY; 4].join(" "));
    assert_eq!(field(&witness, "Uid"), [NOBODY; 4].join(" "));
    assert!(!field(&brain, "Groups").split(' ').any(|group| group == "0"));
    for pid in [&brain, &enforcer, &witness] {
        assert_eq!((field(pid, "NoNewPrivs"), field(pid, "Seccomp")), ("1".to_owned(), "2".to_owned()));
    }
    let owned = |name: &str| fs::metadata(guard.path(name)).expect("it is there").uid().to_string();
    assert_eq!(["state", "state/ledger", "banward/control.sock"].map(owned), [NOBODY; 3]);

    fail(&guard, 5, &lab.attacker.v4.to_string());
    eventually("it bans", || !passes(&lab.attacker));
    assert!(guard.ctl(&["list", "--counters"]).contains(&lab.attacker.v4.to_string()));
}

#[test]
fn when_one_process_ends_the_others_do_too_and_the_bans_stay() {
    let lab = Lab::new();
    let mut guard = guarded(&lab);
    guard.ctl(&["ban", &lab.attacker.v4.to_string()]);
    let enforcer = child(&guard, "--enforcer");
    sh(&format!("kill -KILL {enforcer}"));
    assert_eq!(guard.exit_code(), Some(1), "{}", guard.log());
    assert!(guard.log().contains("the enforcer process has ended"), "{}", guard.log());
    assert!(!passes(&lab.attacker), "the kernel keeps the ban");

    guard.start(&lab.server);
    let said = guard.log().len();
    sh(&format!("kill -KILL {}", child(&guard, "--witness")));
    assert_eq!(guard.exit_code(), Some(1), "{}", guard.log());
    let log = guard.log().split_off(said);
    assert!(log.contains("the witness process has ended"), "{log}");

    guard.start(&lab.server);
    let others = [child(&guard, "--enforcer"), child(&guard, "--witness")];
    guard.end("KILL");
    eventually("the others have ended", || {
        others.iter().all(|pid| !std::path::Path::new("/proc").join(pid).join("exe").exists())
    });
    assert!(!passes(&lab.attacker) && passes(&lab.visitor));
    guard.start(&lab.server);
    assert_eq!(guard.bans().len(), 1);
}

#[test]
fn a_log_that_is_closed_to_the_daemon_is_said_with_the_remedy() {
    let lab = Lab::new();
    let mut guard = configured(&jail("sshd", ""));
    fs::set_permissions(guard.path("sshd.log"), fs::Permissions::from_mode(0o600)).expect("a log");
    guard.start(&lab.server);
    eventually("it is said", || guard.troubles().contains("daemon.groups"));
    assert!(guard.log().contains("setfacl"), "{}", guard.log());
    fs::set_permissions(guard.path("sshd.log"), fs::Permissions::from_mode(0o644)).expect("a log");
    fail(&guard, 5, "192.0.2.9");
    guard.await_ban("192.0.2.9/32");
}

#[test]
fn a_state_of_root_is_taken_over_and_rotated_logs_are_read_on() {
    let lab = Lab::new();
    let mut guard = configured(&jail("sshd", ""));
    let config = fs::read_to_string(guard.path("banward.toml")).expect("a configuration");
    fs::write(guard.path("banward.toml"), config.replace("\"nobody\"", "\"\"")).expect("written");
    guard.start(&lab.server);
    guard.ctl(&["ban", "192.0.2.1"]);
    assert_eq!(fs::metadata(guard.path("state/ledger")).expect("a ledger").uid(), 0);
    guard.end("TERM");
    fs::write(guard.path("banward.toml"), config).expect("written");
    guard.start(&lab.server);
    assert_eq!(guard.bans().len(), 1);
    fs::rename(guard.path("sshd.log"), guard.path("sshd.log.1")).expect("rotated");
    guard.append("sshd.log", "");
    fs::set_permissions(guard.path("sshd.log"), fs::Permissions::from_mode(0o644)).expect("a log");
    fail(&guard, 5, "192.0.2.9");
    guard.await_ban("192.0.2.9/32");
}

#[test]
fn what_others_may_write_is_not_gone_by() {
    let lab = Lab::new();
    let mut guard = configured("");
    fs::set_permissions(guard.path("banward.toml"), fs::Permissions::from_mode(0o666)).expect("a configuration");
    guard.spawn(&lab.server);
    assert_eq!(guard.exit_code(), Some(78));
    assert!(guard.log().contains("may be written by everybody: chmod go-w"), "{}", guard.log());
}

#[test]
fn a_log_in_a_place_that_was_closed_at_the_start_needs_a_restart() {
    let lab = Lab::new();
    let mut guard = guarded(&lab);
    let elsewhere = tempfile::tempdir().expect("a folder");
    let path = elsewhere.path().display();
    let config = fs::read_to_string(guard.path("banward.toml")).expect("a configuration");
    let more = format!("[jail.other]\nfilter = \"sshd\"\nsource = {{ files = [\"{path}/auth.log\"] }}\n");
    fs::write(guard.path("banward.toml"), config + &more).expect("written");
    let answer = guard.banctl(&["reload"]);
    assert!(super::said(&answer).contains("closed to the daemon at its start"), "{}", super::said(&answer));
    fs::set_permissions(elsewhere.path(), fs::Permissions::from_mode(0o755)).expect("a folder");
    guard.end("TERM");
    guard.start(&lab.server);
    fs::write(elsewhere.path().join("auth.log"), "").expect("a log");
    for _ in 0..5 {
        let line = super::support::guard::failed_password("root", "192.0.2.9");
        sh(&format!("printf '%s\\n' '{}' >> {path}/auth.log", line.trim()));
    }
    guard.await_ban("192.0.2.9/32");
}

#[test]
fn nothing_waits_for_an_enforcer_that_is_busy() {
    let lab = Lab::new();
    let guard = guarded(&lab);
    let enforcer = child(&guard, "--enforcer");
    sh(&format!("kill -STOP {enforcer}"));
    let config = fs::read_to_string(guard.path("banward.toml")).expect("a configuration");
    // Once with the same rules, once with others, for which the old ones have to be given up.
    for rules in ["egress = true\n", "egress = false\n"] {
        let changed = config.replace("[firewall]\n", &format!("[firewall]\n{rules}"));
        fs::write(guard.path("banward.toml"), changed).expect("written");
        guard.ctl(&["reload"]);
        fail(&guard, 5, if rules.contains("true") { "192.0.2.8" } else { "192.0.2.9" });
        guard.await_ban(if rules.contains("true") { "192.0.2.8/32" } else { "192.0.2.9/32" });
    }
    fail(&guard, 5, &lab.attacker.v4.to_string());
    sh(&format!("kill -CONT {enforcer}"));
    eventually("it is in force", || !passes(&lab.attacker));
    eventually("all is well", || guard.status()["health"] == "ok");
}

#[test]
fn a_log_and_a_list_that_people_may_write_are_named() {
    let lab = Lab::new();
    let mut guard = configured(&jail("sshd", ""));
    let config = fs::read_to_string(guard.path("banward.toml")).expect("a configuration");
    fs::write(guard.path("banward.toml"), config.replace("read = []", &format!("read = [{:?}]", guard.path("list"))))
        .expect("written");
    fs::write(guard.path("list"), "192.0.2.1\n").expect("a list");
    std::os::unix::fs::chown(guard.path("sshd.log"), Some(1000), None).expect("root");
    guard.start(&lab.server);
    assert!(guard.status()["sources"][0]["forgers"] == "user 1000", "{}", guard.status());
    assert!(guard.ctl(&["status"]).contains("user 1000 may write it"), "{}", guard.ctl(&["status"]));
    guard.await_ban("192.0.2.1/32");

    std::os::unix::fs::chown(guard.path("list"), Some(1000), None).expect("root");
    fs::write(guard.path("list"), "192.0.2.1\n192.0.2.2\n").expect("a list");
    eventually("it is said", || guard.troubles().contains("belongs to user 1000"));
    assert!(!guard.is_banned("192.0.2.2/32") && guard.is_banned("192.0.2.1/32"), "as it was read before");
    std::os::unix::fs::chown(guard.path("list"), Some(0), None).expect("root");
    guard.await_ban("192.0.2.2/32");
}
