//! What was given up at the start for good: a configuration that needs it takes a restart, and so does a folder that
//! others have replaced since.

use std::time::{Duration, Instant};

use super::Failure;
use super::guard::Guard;
use crate::config::Config;
use crate::firewall::OnStop;
use crate::sandbox::{Calls, Fence, Lost, journalctl};
use crate::setup::{self, Depth};
use crate::sources::Place;

/// The daemon ends no sooner than this after its start to be started anew: systemd gives up on what ends too often.
const NOT_BEFORE: Duration = Duration::from_secs(10);

/// What this process and the enforcer cannot do any more.
pub(super) struct Closed {
    since: Instant,
    /// Around the files, where the kernel has such a thing.
    fence: Option<Fence>,
    /// Whether programs are started no more.
    programs: bool,
    /// Whether the enforcer kept what only iptables takes.
    iptables: bool,
}

impl Closed {
    /// Closes files and system calls. Where the kernel cannot, the daemon guards all the same.
    pub(super) fn at_start(config: &Config, fence: Fence) -> Closed {
        let (since, iptables) = (Instant::now(), config.firewall.backend.may_be_iptables());
        if !config.daemon.sandbox {
            return Closed { since, fence: None, programs: false, iptables };
        }
        let calls = if fence.runs_programs() { Calls::Programs } else { Calls::NoPrograms };
        let (fenced, filtered) = (fence.enforce(), calls.enforce());
        for why in [&fenced, &filtered].into_iter().filter_map(|done| done.as_ref().err()) {
            log::warn!("{why}; the daemon runs without that");
        }
        let programs = !fence.runs_programs() && (fenced.is_ok() || filtered.is_ok());
        Closed { since, fence: fenced.is_ok().then_some(fence), programs, iptables }
    }

    /// The first of what this configuration needs that was given up, and why it cannot be had.
    pub(super) fn to(&self, config: &Config, places: &[Place]) -> Option<String> {
        const AT_START: &str = "is needed now, and was closed to the daemon at its start";
        if let Some(path) = self.fence.as_ref().and_then(|fence| fence.closes(config, places)) {
            return Some(format!("{} {AT_START}, or was replaced since", path.display()));
        }
        if let Some(program) = journalctl(places).filter(|_| self.programs) {
            return Some(format!("{} {AT_START}", program.display()));
        }
        let iptables = config.firewall.backend.may_be_iptables() && !self.iptables;
        iptables.then(|| format!("the right that iptables takes (CAP_NET_RAW) {AT_START}"))
    }

    fn lost(&self) -> Option<Lost<'_>> {
        self.fence.as_ref()?.lost()
    }
}

impl Guard {
    /// Says which folder of logs or lists was replaced: what is in it now cannot be read before a restart. Where there is
    /// somebody to start the daemon anew, it ends; the kernel keeps the bans.
    pub(super) fn look_at_folders(&mut self) -> Result<(), Failure> {
        let Some(Lost { path, elsewhere }) = self.closed.lost() else {
            self.recovered("fence");
            return Ok(());
        };
        let replaced =
            format!("{} was replaced since the start, and what is there now is closed to the daemon", path.display());
        // A link may be somebody's wish to have another folder opened: that is for people to decide.
        if !elsewhere && self.may_end() {
            self.config.firewall.on_stop = OnStop::Keep;
            return Err(Failure::new(format!("{replaced}: it ends to be started anew; the kernel keeps the bans")));
        }
        self.trouble("fence".to_owned(), format!("{replaced}: restart banward"));
        Ok(())
    }

    /// Whether it would be started anew: by systemd, with a configuration that is right.
    fn may_end(&self) -> bool {
        let serviced = std::env::var_os("INVOCATION_ID").is_some();
        serviced && self.closed.since.elapsed() >= NOT_BEFORE && setup::load(&self.path, Depth::Read).0.is_some()
    }
}
