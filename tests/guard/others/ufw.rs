//! ufw: its rules come and go behind our jump, and no packet of a banned source passes meanwhile.

use super::*;
use crate::doctor::{LOCAL, doctor, has};

/// The files that ufw writes are copies.
const COPIES: &str = "
    mkdir /run/copies
    for folder in /etc/ufw /etc/default /lib/ufw /var/lib/ufw; do
        [ -d $folder ] || continue
        copy=/run/copies/$(echo $folder | tr / -)
        cp -a $folder $copy
        mount --bind $copy $folder
    done";

fn ufw_comes_reloads_and_goes(backend: &str) {
    let lab = Lab::new();
    let guard = with_ban(&lab, backend);
    let others = Others::on(&lab.server, COPIES);
    let stream = Stream::new(&lab, &lab.attacker);
    others.sh(&format!("ufw allow {PORT}"));
    for command in ["ufw --force enable", "ufw reload", "ufw deny from 192.0.2.1", "ufw disable", "ufw --force enable"]
    {
        others.sh(command);
        holds(&lab, command);
        assert_eq!(stream.passed().0, 0, "'{command}' lets packets of a banned source pass");
    }
    let (code, findings) = doctor(&lab.server, &guard, LOCAL);
    assert_eq!(code, Some(0), "{findings:#?}");
    has(&findings, "others", "ok", "ufw makes rules; bans stand before them");
    has(&findings, "hooks", "ok", if backend == "iptables" { "the first rule of INPUT" } else { "hook input" });
}

#[test]
fn ufw_comes_reloads_and_goes_with_iptables() {
    ufw_comes_reloads_and_goes("iptables");
}

#[test]
fn ufw_comes_reloads_and_goes_with_nftables() {
    ufw_comes_reloads_and_goes("nftables");
}
