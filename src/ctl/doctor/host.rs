//! The machine: who asks, the clock, and the files that the daemon writes and trusts.

use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{Access, access, statvfs};

use super::Findings;
use crate::config::Config;
use crate::control::Status;
use crate::time::Timestamp;

/// No clock that is right shows an earlier time, in seconds: this program was not written then.
const EARLIEST: i64 = 1_767_225_600; // 2026-01-01

/// Files by which those who keep the clock show that they do.
const SYNCHRONISED: &str = "/run/systemd/timesync/synchronized";
const KEEPERS: [(&str, &str); 5] = [
    ("/run/chrony/chronyd.pid", "chronyd"),
    ("/run/chronyd.pid", "chronyd"),
    ("/run/ntpd.pid", "ntpd"),
    ("/var/run/ntpd.pid", "ntpd"),
    ("/run/systemd/timesync", "systemd-timesyncd"),
];

/// Less than this is soon nothing, in bytes.
const LEAST_SPACE: u64 = 32 << 20;

/// Others may write.
const WORLD: u32 = 0o002;
const GROUP: u32 = 0o020;
/// Who may write in a folder may not take away the files of others.
const STICKY: u32 = 0o1000;

pub(super) fn caller(findings: &mut Findings) {
    if rustix::process::geteuid().is_root() {
        findings.ok("caller", "root, who sees all that is checked below");
    } else {
        findings.warn("caller", "not root, who alone sees all that is checked below", "sudo banctl doctor");
    }
}

pub(super) fn check(config: &Config, status: Option<&Status>, findings: &mut Findings) {
    clock(findings);
    let daemon = status.and_then(|status| fs::metadata(format!("/proc/{}", status.pid)).ok()).map_or(0, |of| of.uid());
    folder("state", &config.daemon.state_dir, daemon, findings);
    if let Some(path) = &config.blocklist.write {
        if let Some(parent) = path.parent().filter(|parent| *parent != config.daemon.state_dir) {
            folder("blocklist", parent, daemon, findings);
        }
        trusted("files", path, daemon, findings);
    }
    for path in &config.blocklist.read {
        trusted("files", path, daemon, findings);
    }
    trusted("files", &config.path, daemon, findings);
}

/// Stamps of lines are measured by this clock: with a wrong one, lines are too old to count.
fn clock(findings: &mut Findings) {
    let now = Timestamp::now();
    let remedy = "timedatectl set-ntp true, or another keeper of the clock";
    if now < Timestamp::from_secs(EARLIEST) {
        return findings.bad("clock", format!("it shows {now}, which cannot be"), remedy);
    }
    let keeper = KEEPERS.iter().find(|(path, _)| Path::new(path).exists());
    match (Path::new(SYNCHRONISED).exists(), keeper) {
        (true, _) => findings.ok("clock", "systemd-timesyncd has set it"),
        (false, Some((_, "systemd-timesyncd"))) => {
            findings.warn("clock", "systemd-timesyncd has not set it since the start", "timedatectl timesync-status");
        }
        (false, Some((_, keeper))) => findings.ok("clock", format!("{keeper} keeps it")),
        (false, None) if is_container() => findings.ok("clock", "the host of this container keeps it, if anybody"),
        (false, None) => findings.warn("clock", "nobody is seen who keeps it", remedy),
    }
}

fn is_container() -> bool {
    ["/run/systemd/container", "/run/.containerenv", "/.dockerenv"].iter().any(|path| Path::new(path).exists())
}

/// A folder that the daemon writes in.
fn folder(check: &'static str, path: &Path, daemon: u32, findings: &mut Findings) {
    let shown = path.display();
    match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return findings.warn(check, format!("there is no {shown}"), "the daemon makes it when it starts");
        }
        Err(error) => return findings.warn(check, format!("{shown}: {error}"), "call banctl doctor as root"),
        Ok(metadata) if !metadata.is_dir() => {
            return findings.bad(check, format!("{shown} is no folder"), "name a folder in the configuration");
        }
        Ok(_) => {}
    }
    if let Some(message) = unsafe_way(path, daemon) {
        return findings.bad(check, message, "chown root and chmod go-w what is named");
    }
    let root = rustix::process::geteuid().is_root();
    if root && let Err(error) = access(path, Access::WRITE_OK) {
        return findings.bad(check, format!("{shown} cannot be written: {error}"), "mount its file system writable");
    }
    let free = statvfs(path).map_or(u64::MAX, |space| space.f_bavail.saturating_mul(space.f_frsize));
    if free < LEAST_SPACE {
        let message = format!("{shown}: {} MiB are free", free >> 20);
        return findings.warn(check, message, "free space, or bans are not remembered");
    }
    findings.ok(check, format!("{shown} can be written by the daemon alone, and has room"));
}

/// A file that the daemon believes: whoever writes it can ban anybody.
fn trusted(check: &'static str, path: &Path, daemon: u32, findings: &mut Findings) {
    // One that is not there says nothing.
    if path.exists() {
        let shown = path.display();
        match unsafe_way(path, daemon) {
            Some(message) => findings.bad(check, message, "chown root and chmod go-w what is named"),
            None => findings.ok(check, format!("{shown} can be changed by root or the daemon alone")),
        }
    }
}

/// What on the way to a file lets another user than root and the daemon's put something else in its place.
fn unsafe_way(path: &Path, daemon: u32) -> Option<String> {
    let real = path.canonicalize().ok()?;
    real.ancestors().find_map(|step| {
        let metadata = fs::symlink_metadata(step).ok()?;
        let why = weakness(&metadata, daemon, step == real)?;
        Some(format!("{} {why}", step.display()))
    })
}

fn weakness(metadata: &Metadata, daemon: u32, is_last: bool) -> Option<String> {
    let (mode, user) = (metadata.mode(), metadata.uid());
    if user != 0 && user != daemon {
        return Some(format!("belongs to user {user}"));
    }
    // On the way there, it is enough that nobody can put another thing in the place of the next step.
    let shielded = !is_last && mode & STICKY != 0;
    if mode & WORLD != 0 && !shielded {
        return Some("can be written by everybody".to_owned());
    }
    (mode & GROUP != 0 && metadata.gid() != 0 && !shielded)
        .then(|| format!("can be written by group {}", metadata.gid()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, chown};

    use super::*;

    #[test]
    fn what_another_user_may_change_on_the_way_to_a_file_is_found() {
        let root = tempfile::tempdir().unwrap();
        let (folder, file) = (root.path().join("state"), root.path().join("state/list"));
        fs::create_dir(&folder).unwrap();
        fs::write(&file, "").unwrap();
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        mode(&file, 0o644);
        assert_eq!(unsafe_way(&file, 0), None, "the sticky folder above is no danger");
        mode(&file, 0o666);
        assert!(unsafe_way(&file, 0).unwrap().ends_with("list can be written by everybody"));
        mode(&file, 0o644);
        mode(&folder, 0o777);
        assert!(unsafe_way(&file, 0).unwrap().ends_with("state can be written by everybody"));
        mode(&folder, 0o755);
        chown(&file, Some(4711), None).unwrap();
        assert!(unsafe_way(&file, 0).unwrap().ends_with("belongs to user 4711"));
        assert_eq!(unsafe_way(&file, 4711), None, "the daemon's own user is no other");
    }
}
