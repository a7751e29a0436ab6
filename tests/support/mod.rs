//! What the tests of the real programs share: hosts in network namespaces, and a daemon on one of them.
//!
//! Needs root and a Linux kernel with iptables, ipset and nftables. Without them a test fails; it never passes quietly.

#![allow(dead_code, reason = "each test binary uses its own part of this")]

pub(crate) mod attack;
pub(crate) mod guard;
pub(crate) mod inject;
pub(crate) mod lab;
pub(crate) mod processes;
pub(crate) mod programs;
pub(crate) mod random;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long anything is waited for before the test fails. Generous: machines are shared.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until something holds, and fails with `what` if it never does.
#[track_caller]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Says when dropped, also by a failure, that others need not go on.
pub(crate) struct Over<'a>(pub(crate) &'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
