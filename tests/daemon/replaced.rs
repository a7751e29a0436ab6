//! What others replace while a daemon runs that is fenced off: an upgrade its tools, a DHCP client the resolvers, `useradd`
//! the users, a deployment the folder of a log. The kernel's fence goes by what stood there at the start.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::support::eventually;
use super::support::guard::{Guard, SECOND, failed_password};
use super::support::lab::{Lab, sh};
use super::support::programs;
use super::{backend, fail, guarded, iptables, jail, nftables, passes, said};

/// Lays a copy over a folder of the system, so that nothing in it is changed for others.
fn copied(guard: &Guard, folder: &str) -> String {
    let [upper, work] = ["upper", "work"].map(|name| {
        let path = guard.path(name).join(folder.trim_start_matches('/'));
        fs::create_dir_all(&path).expect("a folder");
        path.display().to_string()
    });
    format!(
        "mount --make-rprivate /; mount -t overlay -o lowerdir={folder},upperdir={upper},workdir={work} none {folder}"
    )
}

/// As `dpkg`, `useradd` and others do it.
fn renew(guard: &Guard, file: &str) {
    guard.sh_inside(&format!("cp -a {file} {file}.new; mv {file}.new {file}"));
}

fn holds(lab: &Lab, guard: &Guard, name: &str) {
    lab.server.sh("nft flush ruleset");
    eventually("the rules are back", || !passes(&lab.attacker));
    eventually("all is well", || guard.status()["health"] == "ok");
    assert_eq!(guard.status()["backend"], name);
}

#[test]
fn tools_and_loaders_that_are_upgraded_are_run_without_a_restart() {
    for (name, tool) in [("nftables", "/usr/sbin/nft"), ("iptables", "/usr/sbin/xtables-nft-multi")] {
        let lab = Lab::new();
        let mut guard = Guard::new(&(backend(name) + &jail("sshd", "")));
        guard.append("sshd.log", "");
        guard.spawn_behind(&lab.server, &copied(&guard, "/usr/sbin"));
        guard.await_ready();
        lab.server.listen(super::PORT);
        guard.ctl(&["ban", &lab.attacker.v4.to_string()]);
        holds(&lab, &guard, name);
        renew(&guard, tool);
        holds(&lab, &guard, name);
        let loader = sh("realpath /lib64/ld-*.so* /lib/ld-*.so* 2>/dev/null | head -n 1 || true");
        let (loader, copy) = (loader.trim().to_owned(), guard.path("loader").display().to_string());
        programs::copy(&loader, Path::new(&copy));
        guard.sh_inside(&format!("mount --bind {copy} {loader}"));
        holds(&lab, &guard, name);
    }
}

#[test]
fn where_all_tools_are_in_another_folder_now_it_ends_to_be_started_anew() {
    let lab = Lab::new();
    let mut guard = Guard::new(&(backend("nftables") + &jail("sshd", "")));
    guard.append("sshd.log", "");
    guard.spawn_behind(&lab.server, "mount --make-rprivate /");
    guard.await_ready();
    lab.server.listen(super::PORT);
    guard.ctl(&["ban", &lab.attacker.v4.to_string()]);
    guard.sh_inside(&copied(&guard, "/usr/sbin"));
    lab.server.sh("nft flush ruleset");
    assert_eq!(guard.exit_code(), Some(1));
    assert!(guard.log().contains("/usr/sbin was replaced since the start"), "{}", guard.log());
    guard.start(&lab.server);
    assert!(!passes(&lab.attacker));
}

/// What this user is told about the daemon.
fn status_as(guard: &Guard, user: &str) -> String {
    let output = Command::new("setpriv")
        .args([&format!("--reuid={user}"), "--regid=65534", "--clear-groups"])
        .arg(guard.path("banctl"))
        .arg("--socket")
        .arg(guard.path("control.sock"))
        .arg("status")
        .output();
    said(&output.expect("setpriv runs"))
}

#[test]
fn resolvers_users_and_groups_are_known_that_were_not_at_the_start() {
    let lab = Lab::new();
    let mut guard = Guard::new(&(backend("nftables") + &jail("sshd", "") + "[control]\nread_group = \"readers\"\n"));
    guard.append("sshd.log", "");
    sh(&format!("chmod 755 {}", guard.path("").display()));
    programs::copy(env!("CARGO_BIN_EXE_banctl"), &guard.path("banctl"));
    let before = "echo readers:x:47110:ann >>/etc/group; echo ann:x:47111:65534::/:/bin/sh >>/etc/passwd";
    guard.spawn_behind(&lab.server, &format!("{}; {before}", copied(&guard, "/etc")));
    guard.await_ready();
    assert!(status_as(&guard, "47111").contains("backend"), "{}", status_as(&guard, "47111"));
    assert!(status_as(&guard, "47112").contains("only root and members of readers"));

    guard.sh_inside("echo bob:x:47112:65534::/:/bin/sh >>/etc/passwd; sed -i s/:ann$/:ann,bob/ /etc/group");
    for file in ["/etc/passwd", "/etc/group"] {
        renew(&guard, file);
    }
    for user in ["47111", "47112"] {
        assert!(status_as(&guard, user).contains("backend"), "{user}: {}", status_as(&guard, user));
    }

    guard.ctl(&["ban", "203.0.113.53"]);
    guard.sh_inside("echo nameserver 203.0.113.53 >/etc/resolv.new; mv /etc/resolv.new /etc/resolv.conf");
    // After a ban it is looked at once whom that could hit.
    fail(&guard, 5, "192.0.2.78");
    eventually("its ban is lifted", || !guard.is_banned("203.0.113.53/32"));
    let refused = guard.banctl(&["ban", "203.0.113.53"]);
    assert!(said(&refused).contains("a resolver of this machine"), "{}", said(&refused));
    assert_eq!(guard.status()["health"], "ok", "{}", guard.troubles());
}

/// A daemon with a jail on a log in a folder apart from its own, and that folder.
fn elsewhere(more: &str) -> (Guard, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join("logs")).expect("a folder");
    fs::write(folder.path().join("logs/auth.log"), "").expect("a log");
    let log = folder.path().join("logs/auth.log").display().to_string();
    let jail = jail("sshd", "").replace("DIR/sshd.log", &log);
    (Guard::new(&("[firewall]\nbackend = \"nftables\"\n".to_owned() + more + &jail)), folder)
}

fn replace(folder: &Path, address: &str) {
    fs::rename(folder.join("logs"), folder.join("old")).expect("moved");
    fs::create_dir(folder.join("logs")).expect("a folder");
    fs::write(folder.join("logs/auth.log"), failed_password("root", address).repeat(5)).expect("a log");
}

#[test]
fn a_folder_of_logs_that_was_replaced_is_named_and_a_reload_does_not_say_that_it_helped() {
    let lab = Lab::new();
    let (mut guard, folder) = elsewhere("");
    guard.start(&lab.server);
    replace(folder.path(), "192.0.2.9");
    eventually("it is said", || guard.troubles().contains("was replaced since the start"));
    assert!(guard.troubles().contains("restart banward"), "{}", guard.troubles());
    let refused = guard.banctl(&["reload"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("was replaced since: that needs a restart"), "{}", said(&refused));
    guard.end("TERM");
    guard.start(&lab.server);
    guard.await_ban("192.0.2.9/32");
}

#[test]
fn a_service_whose_folder_of_logs_was_replaced_ends_to_be_started_anew_and_the_kernel_keeps_the_bans() {
    let lab = Lab::new();
    let (mut guard, folder) = elsewhere("on_stop = \"remove\"\n");
    fs::create_dir(guard.path("conf.d")).expect("a folder");
    fs::write(guard.path("conf.d/user.toml"), "[daemon]\nuser = \"\"\n").expect("written");
    lab.server.listen(super::PORT);
    let service = "export INVOCATION_ID=1";
    guard.spawn_behind(&lab.server, service);
    guard.await_ready();
    guard.ctl(&["ban", &lab.attacker.v4.to_string()]);
    let configured = fs::read_to_string(guard.path("banward.toml")).expect("a configuration");
    fs::write(guard.path("banward.toml"), "[nonsense").expect("written");
    replace(folder.path(), "192.0.2.9");
    std::thread::sleep(12 * SECOND);
    assert!(guard.log().contains("restart banward"), "it would not start with that configuration: {}", guard.log());
    fs::write(guard.path("banward.toml"), configured).expect("written");
    assert_eq!(guard.exit_code(), Some(1));
    assert!(guard.log().contains("it ends to be started anew"), "{}", guard.log());
    assert!(!passes(&lab.attacker), "whatever on_stop says");
    guard.spawn_behind(&lab.server, service);
    guard.await_ready();
    guard.await_ban("192.0.2.9/32");
}

/// Starts a program that cannot be fenced off: the kernel says that it has no Landlock.
fn without_landlock() -> String {
    let (prctl, landlock) = (libc::SYS_prctl, libc::SYS_landlock_create_ruleset);
    format!(
        "exec perl -e 'my $filter = pack(\"SCCL\" x 4, 0x20, 0, 0, 0, 0x15, 0, 1, {landlock}, 6, 0, 0, 0x50000 | 95, \
         6, 0, 0, 0x7fff0000); my $program = pack(\"Sx![P]P\", 4, $filter); \
         syscall({prctl}, 22, 2, $program, 0, 0) == 0 or die \"no filter: $!\"; exec @ARGV' -- \"$@\""
    )
}

#[test]
fn a_journal_that_comes_with_a_reload_needs_a_restart_also_without_landlock() {
    let lab = Lab::new();
    let config = backend("none") + &jail("sshd", "");
    let mut guard = Guard::new(&config);
    guard.append("sshd.log", "");
    guard.spawn_behind(&lab.server, &without_landlock());
    guard.await_ready();
    guard.await_log("this kernel has no Landlock");
    let journal = "[jail.other]\nfilter = \"sshd\"\nsource = { journal = { units = [\"ssh.service\"] } }\n";
    guard.configure(&(config + journal));
    let refused = guard.banctl(&["reload"]);
    assert!(said(&refused).contains("journalctl is needed now, and was closed"), "{}", said(&refused));
    assert!(said(&refused).contains("that needs a restart"), "{}", said(&refused));
}

#[test]
fn iptables_after_a_start_without_its_rights_needs_a_restart() {
    let lab = Lab::new();
    let mut guard = guarded(&lab, &(backend("nftables") + &jail("sshd", "")));
    guard.ctl(&["ban", &lab.attacker.v4.to_string()]);
    for name in ["iptables", "auto"] {
        guard.configure(&(backend(name) + &jail("sshd", "")));
        let refused = guard.banctl(&["reload"]);
        assert_eq!(refused.status.code(), Some(1), "{name}");
        assert!(said(&refused).contains("CAP_NET_RAW") && said(&refused).contains("needs a restart"), "{name}");
    }
    assert!(!passes(&lab.attacker));
    guard.end("TERM");
    guard.start(&lab.server);
    assert_eq!(guard.status()["backend"], "iptables");
    assert!(!passes(&lab.attacker));
}

fn named(name: &str, chain: &str) -> String {
    format!("[firewall]\nbackend = \"{name}\"\nchain = \"{chain}\"\n{}", jail("sshd", ""))
}

#[test]
fn a_chain_that_gets_another_name_between_two_starts_leaves_nothing_behind() {
    for (before, name) in [("nftables", "nftables"), ("iptables", "iptables"), ("iptables", "nftables")] {
        let lab = Lab::new();
        let rules = || iptables(&lab) + &nftables(&lab);
        lab.server.sh("iptables -N FOREIGN; iptables -A INPUT -j FOREIGN; nft add table inet foreign");
        let mut guard = guarded(&lab, &named(before, "FIRST"));
        guard.ctl(&["ban", &lab.attacker.v4.to_string()]);
        guard.ctl(&["ban", "192.0.2.1"]);
        guard.end("KILL");
        // Somebody has written into the state that the rules of others are ours.
        fs::write(guard.path("state/chains"), "FIRST\nFOREIGN\nno name\n").expect("written");
        guard.configure(&named(name, "SECOND"));
        guard.start(&lab.server);
        eventually("nothing is left", || !rules().to_lowercase().contains("first"));
        assert!(rules().contains("FOREIGN") && rules().contains("foreign"), "{}", rules());
        assert!(!passes(&lab.attacker));
        guard.ctl(&["unban", &lab.attacker.v4.to_string()]);
        assert!(passes(&lab.attacker));
        eventually("it is written down", || {
            fs::read_to_string(guard.path("state/chains")).expect("names") == "SECOND\n"
        });

        // The same table of nftables, another chain of iptables.
        guard.ctl(&["ban", &lab.attacker.v4.to_string()]);
        guard.end("TERM");
        guard.configure(&named(name, "Second"));
        guard.start(&lab.server);
        eventually("nothing is left", || !rules().contains("SECOND"));
        std::thread::sleep(2 * SECOND);
        assert!(!passes(&lab.attacker) && rules().to_lowercase().contains("second"), "{}", rules());
        assert!(!guard.log().contains("repaired"), "{}", guard.log());
    }
}
