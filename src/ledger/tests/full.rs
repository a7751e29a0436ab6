//! A full disk: said once, nothing lost, and everything written when there is room again.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::disk::{commit, numbered};
use super::*;
use crate::ledger::{Ledger, Opened};

const STATE_DIR: &str = "BANWARD_TEST_FULL_STATE_DIR";

/// Mounts a small file system in a mount namespace of its own, and runs this test there.
const SCRIPT: &str = r#"mount -t tmpfs -o size=4m tmpfs "$0" && exec "$@""#;

fn fill_the_disk(folder: &Path) {
    let ballast = folder.join("ballast");
    fs::write(&ballast, vec![0; 2 << 20]).unwrap();
    let state = folder.join("state");
    let (mut ledger, _) = Ledger::open(&state, NOW).unwrap();
    let mut number = 0;
    let why = loop {
        for _ in 0..50 {
            ledger.ban(ban(&numbered(number), "sshd", 600));
            number += 1;
        }
        assert!(number < 1_000_000, "the disk never got full");
        if let Err(why) = commit(&mut ledger) {
            break why;
        }
    };
    println!("full after {number} bans: {why}");
    assert!(why.contains("cannot be written") && why.contains("Free space"), "{why}");
    ledger.ban(ban(&numbered(number), "sshd", 600));
    commit(&mut ledger).unwrap_err();
    fs::remove_file(ballast).unwrap();
    let start = Instant::now();
    while let Err(why) = commit(&mut ledger) {
        assert!(start.elapsed() < Duration::from_secs(30), "{why}");
    }
    ledger.close().unwrap();
    let (ledger, opened) = Ledger::open(&state, NOW).unwrap();
    let bans = number as usize + 1;
    assert_eq!(opened, Opened::Restored { bans, lists: 0, ended_meanwhile: 0, skipped: 0 });
    assert_eq!(ledger.ban_count(), bans);
}

#[test]
fn a_full_disk_loses_nothing() {
    if let Ok(state_dir) = std::env::var(STATE_DIR) {
        return fill_the_disk(Path::new(&state_dir));
    }
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", SCRIPT])
        .arg(folder.path())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "ledger::tests::full::a_full_disk_loses_nothing"])
        .env(STATE_DIR, folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("full after"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
