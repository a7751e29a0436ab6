//! The same log through other programs that do this work, where they are installed: `make bench-rivals` installs them.
//! What they read and how they are made is not looked at; they are run as their manuals say.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::report::{Report, rate};
use crate::scan;
use crate::workloads::{self, LINES};

/// Lines for those who take long.
const FEW: usize = 50_000;

pub(crate) fn measure(report: &mut Report) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for (what, per_mille, count) in [("1 % evidence", 10, 1000), ("70 % evidence", 700, 50_000)] {
        let log = dir.path().join("auth.log");
        workloads::ssh(&log, per_mille, count);
        let few = dir.path().join("few.log");
        shorten(&log, &few);
        let ours = scan::seconds(&["sshd".to_owned()], &log);
        report.row(&format!("sshd log, {what}: banctl replay"), &rate(LINES.into(), ours), "");
        let mut beside = |name: &str, lines: u64, took: Option<f64>| {
            let label = format!("sshd log, {what}: {name}");
            match took {
                Some(seconds) => {
                    let factor = seconds / ours * f64::from(LINES) / lines as f64;
                    report.row(&label, &rate(lines, seconds), &format!("banctl is {factor:.0} times as fast"));
                }
                None => report.row(&label, "-", "not installed here"),
            }
        };
        beside("fail2ban-regex", FEW as u64, fail2ban(&few));
        beside("sshguard's parser", LINES.into(), sshguard(&log));
        beside("fail2ban-rs", LINES.into(), fail2ban_rs(&log));
    }
}

fn shorten(log: &Path, few: &Path) {
    let text = std::fs::read_to_string(log).expect("it was written");
    let lines: String = text.split_inclusive('\n').take(FEW).collect();
    std::fs::write(few, lines).expect("there is room");
}

/// Seconds of a program that is there.
fn time(mut command: Command) -> Option<f64> {
    let start = Instant::now();
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().ok()?;
    status.code().is_some_and(|code| code < 126).then(|| start.elapsed().as_secs_f64())
}

fn fail2ban(log: &Path) -> Option<f64> {
    let mut command = Command::new("fail2ban-regex");
    command.arg(log).arg("sshd");
    time(command)
}

fn sshguard(log: &Path) -> Option<f64> {
    let places = [
        "/usr/libexec/sshguard",
        "/usr/libexec",
        "/usr/lib/sshguard",
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
    ];
    let parser = places.iter().map(|place| PathBuf::from(place).join("sshg-parser")).find(|path| path.exists())?;
    let mut command = Command::new(parser);
    command.stdin(File::open(log).expect("it was written"));
    time(command)
}

fn fail2ban_rs(log: &Path) -> Option<f64> {
    let mut command = Command::new("fail2ban-rs");
    command.args(["regex", "sshd"]).arg(log);
    time(command)
}
