//! `banctl selftest`: real packets, in the private network that it makes. Needs root.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use serde_json::Value;

use super::{BANCTL, Run, programs};

/// The rules of this machine, without dates and counters.
fn rules() -> String {
    let script = "{ iptables-save; ip6tables-save; nft list tables; ipset list -name; } 2>/dev/null | grep -v '^[#:]'";
    let output = Command::new("sh").args(["-c", script]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn selftest(program: &str, arguments: &[&str]) -> (Run, u32) {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("banward.toml");
    fs::write(&config, "[firewall]\nhooks = [\"INPUT\"]\n").unwrap();
    let mut command = Command::new(program);
    command.args(["selftest", "--config"]).arg(&config).args(arguments);
    let child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    (Run::of(child.wait_with_output().unwrap()), pid)
}

fn nothing_is_left(pid: u32) {
    for folder in ["/run", "/run/netns"] {
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let ours: Vec<String> = names.filter(|name| name.contains(&format!("banward-selftest-{pid}"))).collect();
        assert!(ours.is_empty(), "{ours:?}");
    }
}

#[test]
fn a_selftest_proves_each_step_and_leaves_this_machine_as_it_was() {
    let before = rules();
    for backend in ["iptables", "nftables", "plain"] {
        let (run, pid) = selftest(BANCTL, &["--backend", backend, "--json"]);
        assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{}", run.stdout);
        let rows: Vec<Value> = run.json();
        let steps: Vec<&str> = rows.iter().map(|row| row["step"].as_str().unwrap()).collect();
        assert_eq!(steps, ["open", "start", "blocked", "unblocked", "limited", "expired", "flushed", "restarted"]);
        assert!(rows.iter().all(|row| row["passed"] == true), "{}", run.stdout);
        assert!(rows[1]["message"].as_str().unwrap().contains(backend), "{}", run.stdout);
        assert!(rows[2]["message"].as_str().unwrap().contains("2001:db8::2"), "{}", run.stdout);
        nothing_is_left(pid);
    }
    assert_eq!(rules(), before);
}

/// The daemon beside this `banctl` bans, and never tells the kernel.
#[test]
fn a_daemon_that_blocks_nothing_is_found_out() {
    let folder = tempfile::tempdir().unwrap();
    let (program, daemon) = (folder.path().join("banctl"), folder.path().join("banward"));
    programs::copy(BANCTL, &program);
    let real = env!("CARGO_BIN_EXE_banward");
    let script = format!("sed -i \"s/^backend = .*/backend = 'none'/\" \"$2\"\nexec {real} \"$@\"\n");
    programs::script(&script, &daemon);
    let (run, pid) = selftest(program.to_str().unwrap(), &[]);
    assert_eq!(run.code, Some(1), "{}", run.stdout);
    let last = run.stdout.lines().last().unwrap();
    assert!(last.starts_with("fails  blocked    IPv4: packets of 192.0.2.2 still pass"), "{}", run.stdout);
    nothing_is_left(pid);
}

#[test]
fn a_selftest_that_cannot_be_made_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("banctl");
    programs::copy(BANCTL, &program);
    let (run, _) = selftest(program.to_str().unwrap(), &[]);
    assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""));
    assert!(run.stderr.contains(&format!("there is no {}", folder.path().join("banward").display())), "{}", run.stderr);

    symlink(env!("CARGO_BIN_EXE_banward"), folder.path().join("banward")).unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let config = folder.path().join("banward.toml");
    fs::write(&config, "").unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--clear-groups"]).arg(&program).args(["selftest", "--config"]).arg(&config);
    let run = Run::of(command.output().unwrap());
    assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""));
    assert!(run.stderr.contains("takes root"), "{}", run.stderr);
}
