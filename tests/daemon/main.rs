//! What can go wrong around a running daemon, and what it must not cost: the real programs, the real kernel.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../support/mod.rs"]
mod support;

mod allow;
mod blocklist;
mod control;
mod kernel;
mod mistakes;
mod privilege;
mod reload;
mod replaced;
mod sources;
mod state;
mod takeover;

use std::process::Output;

use support::guard::{Guard, failed_password};
use support::lab::{Host, Lab};

/// The port on which the server accepts connections.
const PORT: u16 = 2222;

fn backend(name: &str) -> String {
    format!("[firewall]\nbackend = \"{name}\"\n")
}

/// A jail on the log `NAME.log` that bans at the fifth failure.
fn jail(name: &str, more: &str) -> String {
    format!(
        "[jail.{name}]\nfilter = \"sshd\"\nsource = {{ files = [\"DIR/{name}.log\"] }}\n\
         window = {{ hitcount = 5, seconds = 600 }}\n{more}\n"
    )
}

/// A daemon on the server with the jail `sshd`, its log, and a port to knock at.
fn guarded(lab: &Lab, config: &str) -> Guard {
    let mut guard = Guard::new(config);
    guard.append("sshd.log", "");
    guard.start(&lab.server);
    lab.server.listen(PORT);
    guard
}

fn fail(guard: &Guard, times: usize, address: &str) {
    for _ in 0..times {
        guard.append("sshd.log", &failed_password("root", address));
    }
}

fn passes(host: &Host) -> bool {
    host.connects(host.server(false), PORT)
}

/// What a program said on both streams.
fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The rules and sets of iptables.
fn iptables(lab: &Lab) -> String {
    let mut text = String::new();
    // A set that vanishes while its rules are read makes the tool fail.
    support::eventually("iptables can be read", || {
        let output =
            lab.server.try_sh("iptables -S; ip6tables -S; ipset save | sed 's/ initval .*//; s/ packets .*//'");
        text = String::from_utf8_lossy(&output.stdout).into_owned();
        output.status.success()
    });
    text
}

/// The tables of nftables that are not iptables' own.
fn nftables(lab: &Lab) -> String {
    lab.server.sh("nft list tables | grep -v 'ip6* filter' || true")
}
