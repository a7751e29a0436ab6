//! firewalld, with either of its backends: it flushes what it likes, and ours is back.

use super::*;
use crate::doctor::{LOCAL, doctor, has};

/// Its files are copies, and it talks over a bus of its own.
const SETUP: &str = "
    cp -a /etc/firewalld /run/etc
    mount --bind /run/etc /etc/firewalld
    mount -t tmpfs log /var/log
    mkdir -p /run/dbus
    dbus-daemon --system --fork --nopidfile";

fn firewalld_comes_reloads_and_goes(backend: &str, its_backend: &str) {
    let lab = Lab::new();
    let guard = with_ban(&lab, backend);
    let others = Others::on(&lab.server, SETUP);
    others.sh(&format!("sed -i s/^FirewallBackend=.*/FirewallBackend={its_backend}/ /etc/firewalld/firewalld.conf"));
    others.sh(&format!("firewall-offline-cmd --add-port={PORT}/tcp --add-port={PORT}/udp"));
    let stream = Stream::new(&lab, &lab.attacker);
    let after = |what: &str| {
        let (packets, time) = stream.await_silence(what);
        println!("{backend} beside firewalld over {its_backend}, {what}: {packets} packets passed within {time:?}");
        assert!(backend == "iptables" || packets == 0, "nobody flushes a table of our own");
        holds(&lab, what);
    };
    others.start("firewalld", "firewalld --nofork --nopid");
    others.await_sh("firewall-cmd --state", "firewalld");
    after("start");
    for command in ["firewall-cmd --reload", "firewall-cmd --complete-reload"] {
        others.sh(command);
        after(command);
    }
    let (code, findings) = doctor(&lab.server, &guard, LOCAL);
    assert_eq!(code, Some(0), "{findings:#?}");
    has(&findings, "others", if backend == "iptables" { "warn" } else { "ok" }, "firewalld");
    has(&findings, "hooks", "ok", if backend == "iptables" { "the first rule of INPUT" } else { "hook input" });
    others.sh("kill $(pgrep -x firewalld)");
    after("stop");
}

#[test]
fn firewalld_over_nftables_comes_reloads_and_goes_with_iptables() {
    firewalld_comes_reloads_and_goes("iptables", "nftables");
}

#[test]
fn firewalld_over_iptables_comes_reloads_and_goes_with_iptables() {
    firewalld_comes_reloads_and_goes("iptables", "iptables");
}

#[test]
fn firewalld_over_nftables_comes_reloads_and_goes_with_nftables() {
    firewalld_comes_reloads_and_goes("nftables", "nftables");
}
