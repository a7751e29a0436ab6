//! A running `banward` on a host of the lab, with its own configuration, state and socket.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::lab::Host;
use super::{eventually, processes};

/// The daemon and the directory of all it writes. Killed when dropped.
pub(crate) struct Guard {
    dir: TempDir,
    child: Option<Child>,
    ready: UnixDatagram,
}

impl Guard {
    /// Prepares a directory with a configuration: the daemon's paths, then `config`. `DIR` in it is the directory.
    pub(crate) fn new(config: &str) -> Guard {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let ready = UnixDatagram::bind(dir.path().join("notify")).expect("a socket");
        ready.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
        let guard = Guard { dir, child: None, ready };
        guard.configure(config);
        guard
    }

    /// Writes the configuration anew.
    pub(crate) fn configure(&self, config: &str) {
        let dir = self.dir.path().display();
        let filters = Path::new(env!("CARGO_MANIFEST_DIR")).join("filters");
        let head = format!(
            "[daemon]\nstate_dir = \"{dir}/state\"\nsocket = \"{dir}/control.sock\"\nfilters = [\"{}\"]\n\
             [blocklist]\nwrite = \"{dir}/ip.blocked\"\nread = [\"{dir}/read.blocked\"]\n",
            filters.display()
        );
        let text = if config.contains("[daemon]") { config.to_owned() } else { head + config };
        fs::write(self.path("banward.toml"), text.replace("DIR", &dir.to_string())).expect("written");
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts the daemon and waits until it says READY: the kernel holds every ban.
    pub(crate) fn start(&mut self, host: &Host) {
        self.spawn(host);
        self.await_ready();
    }

    pub(crate) fn spawn(&mut self, host: &Host) {
        self.spawn_behind(host, "");
    }

    /// Starts the daemon after these lines of shell, as the same process. Mounts made there are the daemon's alone.
    pub(crate) fn spawn_behind(&mut self, host: &Host, shell: &str) {
        let log = OpenOptions::new().create(true).append(true).open(self.path("daemon.log")).expect("a log");
        // A word of an earlier daemon must not be taken for this one's.
        self.ready.set_nonblocking(true).expect("a socket");
        while self.ready.recv(&mut [0; 512]).is_ok() {}
        self.ready.set_nonblocking(false).expect("a socket");
        let shell = if shell.contains("exec ") { shell.to_owned() } else { format!("{shell}\nexec \"$@\"") };
        let child = host
            .command("sh")
            .args(["-euc", &shell, "sh", env!("CARGO_BIN_EXE_banward"), "--config"])
            .arg(self.path("banward.toml"))
            .env("NOTIFY_SOCKET", self.path("notify"))
            .stdin(Stdio::piped())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("banward runs");
        self.child = Some(child);
    }

    /// Runs a line of shell among the mounts of the daemon.
    #[track_caller]
    pub(crate) fn sh_inside(&self, line: &str) -> String {
        super::lab::sh(&format!("nsenter --target {} --mount sh -euc '{line}'", self.pid()))
    }

    /// Writes to the daemon's standard input.
    pub(crate) fn feed(&mut self, text: &str) {
        let stdin = self.child.as_mut().and_then(|child| child.stdin.as_mut()).expect("the daemon runs");
        stdin.write_all(text.as_bytes()).expect("it reads");
    }

    pub(crate) fn await_ready(&mut self) {
        let mut word = [0; 512];
        let deadline = Instant::now() + super::PATIENCE;
        loop {
            let length = self.ready.recv(&mut word).unwrap_or(0);
            if String::from_utf8_lossy(&word[..length]).contains("READY=1") {
                return;
            }
            let ended = self.child.as_mut().expect("the daemon runs").try_wait().expect("it can be asked").is_some();
            assert!(!ended && Instant::now() < deadline, "never READY:\n{}", self.log());
        }
    }

    /// What the daemon said.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("daemon.log")).unwrap_or_default()
    }

    pub(crate) fn pid(&self) -> u32 {
        // `ip netns exec` replaces itself by the program.
        self.child.as_ref().expect("the daemon runs").id()
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status();
        assert!(sent.expect("kill runs").success());
    }

    /// Kills every process of the daemon. To be followed by [`Guard::end`].
    pub(crate) fn kill(&self) {
        processes::kill_family(self.pid());
    }

    /// Ends the daemon with a signal and waits for its end. `KILL` is for all of its processes.
    pub(crate) fn end(&mut self, signal: &str) {
        if signal == "KILL" {
            self.kill();
        } else {
            self.signal(signal);
        }
        let mut child = self.child.take().expect("the daemon runs");
        child.wait().expect("it ends");
    }

    /// Whether the daemon ends by itself, and with which code.
    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        let mut child = self.child.take().expect("the daemon runs");
        child.wait().expect("it ends").code()
    }

    pub(crate) fn banctl(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_banctl"))
            .arg("--config")
            .arg(self.path("banward.toml"))
            .args(args)
            .output()
            .expect("banctl runs")
    }

    /// Runs `banctl` and fails unless it succeeds; its standard output.
    #[track_caller]
    pub(crate) fn ctl(&self, args: &[&str]) -> String {
        let output = self.banctl(args);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "banctl {args:?}: {errors}\n{}", self.log());
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The same; its process number.
    #[track_caller]
    pub(crate) fn ctl_pid(&self, args: &[&str]) -> u32 {
        let mut banctl = Command::new(env!("CARGO_BIN_EXE_banctl"));
        banctl.arg("--config").arg(self.path("banward.toml")).args(args).stdout(Stdio::null());
        let mut child = banctl.spawn().expect("banctl runs");
        assert!(child.wait().expect("it ends").success(), "banctl {args:?}\n{}", self.log());
        child.id()
    }

    /// The rows of `banctl list --json`.
    pub(crate) fn bans(&self) -> Vec<serde_json::Value> {
        let rows = self.ctl(&["list", "--json"]);
        rows.lines().map(|row| serde_json::from_str(row).expect("a JSON object")).collect()
    }

    pub(crate) fn is_banned(&self, prefix: &str) -> bool {
        self.bans().iter().any(|ban| ban["prefix"] == prefix)
    }

    #[track_caller]
    pub(crate) fn await_ban(&self, prefix: &str) {
        eventually(&format!("{prefix} is banned"), || self.is_banned(prefix));
    }

    pub(crate) fn status(&self) -> serde_json::Value {
        serde_json::from_str(&self.ctl(&["status", "--json"])).expect("a JSON object")
    }

    /// What `banctl status` says is wrong.
    pub(crate) fn troubles(&self) -> String {
        self.status()["troubles"].to_string()
    }

    #[track_caller]
    pub(crate) fn await_log(&self, text: &str) {
        eventually(&format!("it says '{text}'"), || self.log().contains(text));
    }

    /// Waits until somebody answers at the socket, which is before READY.
    #[track_caller]
    pub(crate) fn await_socket(&self) {
        eventually("the daemon answers", || self.banctl(&["status"]).status.success());
    }

    /// Appends lines to a log file of the directory.
    pub(crate) fn append(&self, name: &str, lines: &str) {
        open_log(&self.path(name)).write_all(lines.as_bytes()).expect("written");
    }

    /// Waits for the daemon to have read this many lines in all.
    #[track_caller]
    pub(crate) fn await_lines(&self, count: u64) {
        eventually(&format!("{count} lines are read"), || self.lines() >= count);
        assert_eq!(self.lines(), count);
    }

    pub(crate) fn lines(&self) -> u64 {
        let status = self.status();
        let sources = status["sources"].as_array().expect("an array");
        sources.iter().filter_map(|source| source["lines"].as_u64()).sum()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            processes::kill_family(child.id());
            let _reaped = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- what the daemon said:\n{}", self.log());
        }
    }
}

/// A jail on the log `NAME.log` of the directory that bans at this many failures.
pub(crate) fn jail_of(name: &str, hitcount: u64) -> String {
    format!(
        "[jail.{name}]\nfilter = \"sshd\"\nsource = {{ files = [\"DIR/{name}.log\"] }}\n\
         window = {{ hitcount = {hitcount}, seconds = 600 }}\n"
    )
}

/// Opens a log as its writer does.
pub(crate) fn open_log(path: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(path).expect("a log")
}

/// A line as sshd writes it through rsyslog, stamped now.
pub(crate) fn failed_password(user: &str, address: &str) -> String {
    failed_password_at(&now(), user, address)
}

pub(crate) fn failed_password_at(stamp: &str, user: &str, address: &str) -> String {
    format!("{stamp} web sshd[4711]: Failed password for {user} from {address} port 40022 ssh2\n")
}

/// The time now as rsyslog writes it.
pub(crate) fn now() -> String {
    let output = Command::new("date").arg("+%Y-%m-%dT%H:%M:%S.%6N%:z").output().expect("date runs");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

pub(crate) const SECOND: Duration = Duration::from_secs(1);
