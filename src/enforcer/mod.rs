//! The process that may change the firewall, and does nothing else. In: a closed set of messages from the brain, the
//! process that reads what attackers write. Out: changes in the kernel. It takes no rule from the brain, bans nobody whom
//! the configuration protects, and keeps to a budget, whatever the brain says.
//!
//! All processes run the same binary. When one ends, so do the others, and the kernel keeps what it has.

mod bell;
mod budget;
mod client;
mod cover;
mod lane;
mod law;
mod message;
pub(crate) mod names;
mod server;
mod sessions;
#[cfg(test)]
mod tests;
mod wire;
mod witness;

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

pub(crate) use bell::Bell;
use bell::Rope;
pub(crate) use client::Enforcer;
use client::{ENFORCER, WITNESS};
use lane::Lane;
use law::Law;
pub(crate) use witness::Witness;

use rustix::thread::{CapabilitySet, set_keep_capabilities};

use crate::firewall::{Choice, Settings};
use crate::memory;
use crate::sandbox::identity::{self, Identity, Wanted};
use crate::sandbox::{Calls, Fence, capabilities};

/// The same for equal rules, whichever backend makes them. Both processes are the same binary, so it may be anything.
fn fingerprint(settings: &Settings) -> u64 {
    let settings = Settings { backend: Choice::Auto, ..settings.clone() };
    let mut hasher = DefaultHasher::new();
    format!("{settings:?}").hash(&mut hasher);
    hasher.finish()
}

/// The process of the enforcer, started and not watched yet: until the brain has become who it stays, it has no thread.
pub(crate) struct Started {
    enforcer: Enforcer,
    witness: Witness,
    bell: UnixStream,
    children: [(&'static str, Child); 2],
}

impl Started {
    /// Watches the processes, each from a thread. The last is what the enforcer's [`Bell`] is made of.
    pub(crate) fn watch(self) -> io::Result<(Enforcer, Witness, UnixStream)> {
        for (name, child) in self.children {
            self.enforcer.watch(name, child)?;
        }
        Ok((self.enforcer, self.witness, self.bell))
    }
}

/// Starts the enforcer, and the witness: this program once more, with the lanes as standard input and output.
pub(crate) fn spawn(config: &Path) -> io::Result<Started> {
    let (bans, their_bans) = Lane::pair()?;
    let (questions, their_questions) = Lane::pair()?;
    let (sessions, their_sessions) = Lane::pair()?;
    // The enforcer asks the witness itself, on a lane of which nothing stays here.
    let (asking, answering) = Lane::ends()?;
    bans.hand_over(&asking)?;
    let (bell, rope) = UnixStream::pair()?;
    bans.hand_over(&rope.into())?;
    let enforcing = again("--enforcer", config, their_bans, Stdio::from(their_questions))?;
    let witnessing = again("--witness", config, their_sessions, Stdio::from(answering))?;
    let (enforcer, witness) = (Enforcer::at(bans, questions)?, Witness::at(sessions)?);
    Ok(Started { enforcer, witness, bell, children: [(ENFORCER, enforcing), (WITNESS, witnessing)] })
}

fn again(argument: &str, config: &Path, input: OwnedFd, output: Stdio) -> io::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(argument).arg("--config").arg(config).stdin(Stdio::from(input)).stdout(output);
    // Of our environment, what says how to log, whose files may be trusted, where the lock of iptables-legacy is, and
    // what memory is kept.
    let kept = ["JOURNAL_STREAM", "SUDO_UID", LOCK_VARIABLE].map(|name| (name, std::env::var_os(name)));
    command.env_clear().envs(kept.into_iter().filter_map(|(name, value)| Some((name, value?)))).envs(memory::wishes());
    // Ctrl-C on a terminal is for the brain: it has the rules taken out first, where that is wanted.
    command.process_group(0).spawn()
}

/// The program of the enforcer; the error is for the log.
pub(crate) fn run(config: &Path) -> Result<(), String> {
    let mut law = Law::read(config)?;
    let lanes = lane(&io::stdin()).and_then(|bans| Ok([bans, lane(&io::stdout())?]));
    let lanes = lanes.map_err(|why| format!("the enforcer has no lanes: {why}"))?;
    let witness = lanes[0].take_over().map(Lane::of).and_then(Witness::at);
    let witness = witness.map_err(|why| format!("the enforcer has no lane to the witness: {why}"))?;
    let rope = lanes[0].take_over().map(Rope::of).map_err(|why| format!("the enforcer has no bell: {why}"))?;
    // iptables asks the kernel about sets through a raw socket (libxt_set), and iptables-legacy about everything.
    let raw = if law.may_need_iptables() { CapabilitySet::NET_RAW } else { CapabilitySet::empty() };
    give_up(CapabilitySet::NET_ADMIN | raw, None)?;
    if law.sandbox {
        let fence = Fence::enforcer(config, &lock_file());
        law.fence = warn(fence.enforce()).then_some(fence);
        warn(Calls::Programs.enforce());
    }
    server::serve(law, lanes, witness, rope).map_err(|why| format!("the enforcer cannot speak to the daemon: {why}"))
}

/// The program of the witness. It is not fenced off: Landlock would close to it the very processes that it looks into.
pub(crate) fn witness(config: &Path) -> Result<(), String> {
    let law = Law::read(config)?;
    let lanes = lane(&io::stdin()).and_then(|brain| Ok([brain, lane(&io::stdout())?]));
    let lanes = lanes.map_err(|why| format!("the witness has no lanes: {why}"))?;
    let identity = match identity::wanted(&law.user, &[]) {
        Wanted::Found(identity) => Some(identity),
        Wanted::Nobody | Wanted::Missing => None,
    };
    give_up(CapabilitySet::SYS_PTRACE | CapabilitySet::DAC_READ_SEARCH, identity.as_ref())?;
    if law.sandbox {
        warn(Calls::NoPrograms.enforce());
    }
    witness::serve(lanes).map_err(|why| format!("the witness cannot speak to the daemon: {why}"))
}

fn lane(end: &impl AsFd) -> io::Result<Lane> {
    end.as_fd().try_clone_to_owned().map(Lane::of)
}

/// Keeps these capabilities and no others, as this user.
fn give_up(kept: CapabilitySet, identity: Option<&Identity>) -> Result<(), String> {
    let become_it = |identity: &Identity| set_keep_capabilities(true).and_then(|()| identity.assume());
    let given_up = capabilities::bound_to(kept).and_then(|()| identity.map_or(Ok(()), become_it));
    let given_up = given_up.and_then(|()| capabilities::keep(kept));
    given_up.map_err(|why| format!("rights cannot be given up: {}", io::Error::from(why)))
}

/// Whether it was done; else it is said.
fn warn(done: Result<(), String>) -> bool {
    done.inspect_err(|why| log::warn!("{why}")).is_ok()
}

/// The lock that all iptables programs share. It is made here, because the fence lets nobody make it later.
fn lock_file() -> PathBuf {
    let path = std::env::var_os(LOCK_VARIABLE).map_or_else(|| PathBuf::from("/run/xtables.lock"), PathBuf::from);
    // Where it cannot be made, the tools say so.
    let _made = File::options().create(true).append(true).mode(0o600).open(&path);
    path
}

/// Names another lock file to iptables-legacy.
const LOCK_VARIABLE: &str = "XTABLES_LOCKFILE";
