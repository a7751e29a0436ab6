//! The daemon under test: the `banward` beside this `banctl`, on the guarded host, with the firewall's settings of the
//! configuration and a state of its own. Stopped and cleared away when dropped.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::time::Duration;

use ipnet::IpNet;
use rustix::process::{Pid, Signal, kill_process};

use super::lab::Lab;
use super::patience::Patience;
use crate::control::client::Connection;
use crate::control::{Command, Health, Reply, Status};
use crate::firewall::{Choice, Settings, Target};
use crate::ledger::Stage;
use crate::text::word_of;

/// Only root writes here, so that nobody else can have made the folder.
const RUN: &str = "/run";

/// Hits that the jail under test takes for an offence.
pub(super) const HITS: usize = 3;

/// What the jail lets through that limits before it drops: packets a second, and at once.
pub(super) const RATE: u32 = 10;
pub(super) const BURST: u32 = 20;

/// How long the daemon may take to start, and to end.
const START: Duration = Duration::from_secs(30);

const FILTER: &str = r#"
description = "What banctl selftest writes"
format = "plain"
logs = ["/run/banward-selftest.log"]
[[pattern]]
name = "refused"
regex = '^refused <ADDR>$'
[[pattern.hit]]
line = "refused 192.0.2.2"
addr = "192.0.2.2"
[[miss]]
line = "accepted 192.0.2.2"
"#;

pub(super) struct Guard {
    program: PathBuf,
    folder: PathBuf,
    child: Option<Child>,
}

impl Guard {
    pub(super) fn new(settings: &Settings) -> Result<Guard, String> {
        let program = program()?;
        let folder = Path::new(RUN).join(format!("banward-selftest-{}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&folder).map_err(failed(&folder))?;
        let guard = Guard { program, folder, child: None };
        let write = |name: &str, text: &str| {
            let path = guard.path(name);
            fs::write(&path, text).map_err(failed(&path))
        };
        fs::create_dir(guard.path("filters")).map_err(failed(&guard.folder))?;
        write("filters/selftest.toml", FILTER)?;
        write("banward.toml", &guard.configuration(settings))?;
        [Stage::Drop, Stage::Limit].into_iter().try_for_each(|stage| write(log_of(stage), ""))?;
        Ok(guard)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The configuration under test: what concerns the firewall is the administrator's.
    fn configuration(&self, settings: &Settings) -> String {
        let folder = self.folder.display();
        let backend = word_of(&Choice::WORDS, &settings.backend);
        let target = word_of(&Target::WORDS, &settings.target);
        // The names of hooks are checked words, without quotes or backslashes.
        let (chain, hooks, egress) = (settings.chain.as_str(), &settings.hooks, settings.egress);
        format!(
            "[daemon]\nstate_dir = '{folder}/state'\nsocket = '{folder}/socket'\nfilters = ['{folder}/filters']\n\
             [firewall]\nbackend = '{backend}'\nchain = '{chain}'\nhooks = {hooks:?}\negress = {egress}\n\
             target = '{target}'\non_stop = 'remove'\n\
             [blocklist]\nwrite = ''\nread = []\n\
             [allow]\nnetworks = []\nprotect = []\n\
             [defaults]\nwindow = {{ hitcount = {HITS}, seconds = 600 }}\nban = {{ time = '1h' }}\n\
             prefix = {{ ipv6 = 128 }}\n\
             [jail.selftest]\nfilter = 'selftest'\nsource = {{ files = ['{folder}/{}'] }}\n\
             [jail.gentle]\nfilter = 'selftest'\nsource = {{ files = ['{folder}/{}'] }}\n\
             stage = ['limit', 'drop']\nlimit = {{ rate = '{RATE}/s', burst = {BURST} }}\n",
            log_of(Stage::Drop),
            log_of(Stage::Limit),
        )
    }

    /// Starts the daemon and waits until it guards.
    pub(super) fn start(&mut self, lab: &Lab, patience: &Patience) -> Result<Status, String> {
        let output = OpenOptions::new().create(true).append(true).open(self.path("said"));
        let output = output.map_err(failed(&self.folder))?;
        let again = output.try_clone().map_err(failed(&self.folder))?;
        let mut process = Process::new(&self.program);
        process.arg("--config").arg(self.path("banward.toml")).stdin(Stdio::null()).stdout(output).stderr(again);
        process.current_dir("/").env_remove("NOTIFY_SOCKET").env_remove("WATCHDOG_USEC");
        let child = lab.guard(move || process.spawn())?.map_err(failed(&self.program))?;
        self.child = Some(child);
        let mut status = None;
        let ready = patience.until(START, || {
            self.is_alive()?;
            status = self.status().ok().filter(|status| status.health != Health::Starting);
            Ok(status.is_some())
        })?;
        let status = status.filter(|_| ready.is_some()).ok_or_else(|| self.complaint("does not get ready"))?;
        if status.health == Health::Failing {
            return Err(format!("the daemon cannot guard: {}", status.troubles.join("; ")));
        }
        Ok(status)
    }

    fn is_alive(&mut self) -> Result<(), String> {
        let ended = self.child.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None)));
        if ended { Err(self.complaint("ended")) } else { Ok(()) }
    }

    /// What the daemon said last, behind what became of it.
    fn complaint(&self, what: &str) -> String {
        let said = fs::read_to_string(self.path("said")).unwrap_or_default();
        let last = said.lines().last().unwrap_or("it said nothing");
        format!("the daemon {what}: {last}")
    }

    fn status(&self) -> Result<Status, String> {
        match self.ask(Command::Status)? {
            Reply::Status(status) => Ok(*status),
            _ => Err("the daemon's answer is not its status".to_owned()),
        }
    }

    fn ask(&self, command: Command) -> Result<Reply, String> {
        let mut connection = Connection::open(&self.path("socket")).map_err(|error| error.to_string())?;
        let answer = connection.ask(command).map_err(|error| error.to_string())?.only();
        match answer.map_err(|error| error.to_string())? {
            Reply::Refused { message } => Err(message),
            reply => Ok(reply),
        }
    }

    /// Writes as many lines about an address as make an offence, into the log of the jail whose bans begin like this.
    pub(super) fn accuse(&self, address: IpAddr, stage: Stage) -> Result<(), String> {
        let path = self.path(log_of(stage));
        let mut log: File = OpenOptions::new().append(true).open(&path).map_err(failed(&path))?;
        log.write_all(format!("refused {address}\n").repeat(HITS).as_bytes()).map_err(failed(&path))
    }

    pub(super) fn ban(&self, address: IpAddr, length: Duration) -> Result<(), String> {
        let (prefix, reason) = (IpNet::from(address), "banctl selftest".to_owned());
        self.ask(Command::Ban { prefix, seconds: Some(length.as_secs()), reason }).map(drop)
    }

    pub(super) fn unban(&self, address: IpAddr) -> Result<(), String> {
        let prefixes = vec![IpNet::from(address)];
        self.ask(Command::Unban { prefixes, all: false, allow: None }).map(drop)
    }

    /// Asks the daemon to end, and waits for it.
    pub(super) fn stop(&mut self, patience: &Patience) -> Result<(), String> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
            // It may have ended by itself.
            let _ended = kill_process(pid, Signal::TERM);
        }
        let ended = patience.until(START, || Ok(!matches!(child.try_wait(), Ok(None))));
        if !matches!(ended, Ok(Some(_))) {
            let _killed = child.kill();
            let _reaped = child.wait();
            return Err(ended.err().unwrap_or_else(|| "the daemon does not end".to_owned()));
        }
        Ok(())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ended = child.kill();
            let _reaped = child.wait();
        }
        let _absent = fs::remove_dir_all(&self.folder);
    }
}

fn log_of(stage: Stage) -> &'static str {
    match stage {
        Stage::Drop => "log",
        Stage::Limit => "gentle",
    }
}

/// The daemon that was installed with this program.
fn program() -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|error| format!("this program does not find itself: {error}"))?;
    let program = own.with_file_name("banward");
    if program.is_file() { Ok(program) } else { Err(format!("there is no {}", program.display())) }
}

fn failed(path: &Path) -> impl Fn(std::io::Error) -> String {
    move |error| format!("{}: {error}", path.display())
}
