//! Runs the firewall's own tools: a path from a fixed list, arguments as they are, an environment of our own, input
//! and output without a pipe that could fill, an end that comes. Never a shell.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::MemfdFlags;

use super::FirewallError;

/// Where tools are looked for; `PATH` is somebody else's.
pub(crate) const FOLDERS: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
/// Names of the tools that are run.
const TOOLS: [&str; 4] = ["iptables*", "ip6tables*", "xtables-*", "nft"];
/// Longest run. The tools wait 5 s for the xtables lock; ten thousand foreign rules take a quarter of a second.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longest text of a tool's complaint that is passed on, in characters.
const COMPLAINT: usize = 300;

/// The tool's path, if it is installed.
pub(crate) fn find(tool: &'static str) -> Option<PathBuf> {
    FOLDERS.iter().map(|folder| PathBuf::from(folder).join(tool)).find(|path| path.is_file())
}

/// All tools that there are.
pub(crate) fn installed() -> impl Iterator<Item = PathBuf> {
    let patterns = FOLDERS.iter().flat_map(|folder| TOOLS.map(|tool| format!("{folder}/{tool}")));
    patterns.filter_map(|pattern| glob::glob(&pattern).ok()).flatten().flatten()
}

/// Runs a tool and gives what it wrote to its standard output. `Err` when it is missing, fails, or does not end.
pub(crate) fn run(tool: &'static str, arguments: &[&str], input: &str) -> Result<String, FirewallError> {
    let path = find(tool).ok_or(FirewallError::NotInstalled { tool })?;
    let failed = |error: std::io::Error| FirewallError::ToolFailed { tool, complaint: error.to_string() };
    let mut stdin = memory(tool).map_err(failed)?;
    let (mut stdout, mut stderr) = (memory(tool).map_err(failed)?, memory(tool).map_err(failed)?);
    stdin.write_all(input.as_bytes()).and_then(|()| stdin.rewind()).map_err(failed)?;

    let mut command = Command::new(path);
    command.args(arguments).env_clear().env("PATH", FOLDERS.join(":")).env("LC_ALL", "C");
    if let Some(lock) = std::env::var_os("XTABLES_LOCKFILE") {
        // A service without the right to write /run names another place for the lock of iptables-legacy.
        command.env("XTABLES_LOCKFILE", lock);
    }
    command.stdin(Stdio::from(stdin)).current_dir("/");
    command.stdout(Stdio::from(stdout.try_clone().map_err(failed)?));
    command.stderr(Stdio::from(stderr.try_clone().map_err(failed)?));
    let mut child = command.spawn().map_err(failed)?;
    let status = wait(&mut child).map_err(failed)?.ok_or(FirewallError::ToolHung { tool })?;
    if !status.success() {
        return Err(complaint(tool, status, &written(&mut stderr).map_err(failed)?));
    }
    written(&mut stdout).map_err(failed)
}

/// A file in memory: a tool that writes much never waits for us, and we never wait for one that writes nothing.
fn memory(name: &str) -> std::io::Result<File> {
    Ok(File::from(rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC)?))
}

fn written(file: &mut File) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Waits for the end of a child; `None` when it had to be killed.
fn wait(child: &mut Child) -> std::io::Result<Option<ExitStatus>> {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        // Most end within some milliseconds, and many stand one behind the other at a start.
        std::thread::sleep((start.elapsed() / 8).clamp(Duration::from_micros(100), Duration::from_millis(10)));
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}

/// Turns what a tool said into the error with the right remedy.
fn complaint(tool: &'static str, status: ExitStatus, stderr: &str) -> FirewallError {
    let has = |words: &[&str]| words.iter().any(|word| stderr.contains(word));
    if has(&["xtables lock"]) && has(&["holding", "currently held"]) {
        return FirewallError::LockHeld { tool };
    }
    if has(&["Permission denied", "Operation not permitted", "must be root"]) {
        return FirewallError::NoPermission;
    }
    let lines = stderr.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("# Warning"));
    let text = lines.collect::<Vec<_>>().join("; ");
    let text = if text.is_empty() { format!("it ended with {status}") } else { text };
    let complaint = text.chars().take(COMPLAINT).collect();
    if has(&[
        "insmod",
        "can't initialize",
        "Protocol not supported",
        "not supported",
        "Couldn't load",
        "missing kernel",
    ]) {
        return FirewallError::ModuleMissing { complaint };
    }
    FirewallError::ToolFailed { tool, complaint }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt as _;

    #[test]
    fn a_complaint_becomes_the_error_with_its_remedy() {
        let of = |text: &str| complaint("iptables-restore", ExitStatus::from_raw(4 << 8), text);
        let held = "Another app is currently holding the xtables lock. Stopped waiting after 5s.\n";
        assert_eq!(of(held), FirewallError::LockHeld { tool: "iptables-restore" });
        let denied = "iptables-nft-restore v1.8.9 (nf_tables): Could not fetch rule set generation id: Permission denied (you must be root)";
        assert_eq!(of(denied), FirewallError::NoPermission);
        assert_eq!(of("Fatal: can't open lock file /run/xtables.lock: Permission denied"), FirewallError::NoPermission);
        let missing =
            "iptables-restore: can't initialize iptables table `filter': Table does not exist (do you need to insmod?)";
        assert!(matches!(of(missing), FirewallError::ModuleMissing { .. }));
        assert!(of("# Warning: tables present\n").to_string().contains("exit status: 4"));
    }

    #[test]
    fn a_tool_that_is_not_there_is_named_with_its_package() {
        let error = run("banward-no-such-tool", &[], "").unwrap_err();
        assert_eq!(error, FirewallError::NotInstalled { tool: "banward-no-such-tool" });
        assert!(FirewallError::NotInstalled { tool: "nft" }.to_string().contains("package nftables"));
    }
}
