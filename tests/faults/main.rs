//! Faults of the machine around a daemon, and what they must not cost: the real programs, the real kernel.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../support/mod.rs"]
mod support;

mod clock;
mod control;
mod firewall;
mod kill;
mod ledger;
mod logs;

use support::guard::{Guard, failed_password, jail_of};
use support::lab::{Host, Lab};

/// The port on which the server accepts connections.
const PORT: u16 = 2222;

fn backend(name: &str) -> String {
    format!("[firewall]\nbackend = \"{name}\"\n")
}

/// A jail on the log `NAME.log` that bans at the fifth failure.
fn jail(name: &str) -> String {
    jail_of(name, 5)
}

/// A daemon on the server with the jail `sshd`, its log, and a port to knock at.
fn guarded(lab: &Lab, backend_name: &str) -> Guard {
    let mut guard = Guard::new(&(backend(backend_name) + &jail("sshd")));
    guard.append("sshd.log", "");
    guard.start(&lab.server);
    lab.server.listen(PORT);
    guard
}

/// Fails five times.
fn attack(guard: &Guard, log: &str, address: &str) {
    guard.append(log, &failed_password("root", address).repeat(5));
}

fn passes(host: &Host) -> bool {
    host.connects(host.server(false), PORT)
}
