//! The configuration. In: `banward.toml` and `conf.d/*.toml` beside it. Out: a [`Config`] ready to use, and every
//! problem at once. It never touches the network, the firewall or the ledger.
//!
//! `file.rs` and `jail.rs` read what is written over `defaults.rs`, each value judged by itself; `check.rs` then judges
//! what makes sense only together.

mod check;
mod defaults;
pub(crate) mod document;
mod file;
mod host;
mod jail;
pub(crate) mod problem;
mod text;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

pub(crate) use self::check::{FilterFacts, check};
use self::problem::{Problems, Spot};
use crate::ledger::Scope;
use crate::ledger::limit::Limit;
use crate::policy::protected::Protect;
use crate::policy::widen::Widen;
use crate::policy::{BanSpec, Corroborate, PrefixLengths, breaker};
use crate::rules::Host;
use crate::{filters, firewall, sources, windows};

/// Where the configuration is when nobody says otherwise.
pub(crate) const DEFAULT_PATH: &str = "/etc/banward/banward.toml";

/// Most jails in one configuration.
pub(crate) const MAX_JAILS: usize = 1000;

/// Most ports that one jail may name, ranges counted port by port.
pub(crate) const MAX_PORTS: usize = 64;

/// Everything a user can set.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Config {
    /// The main file.
    pub(crate) path: PathBuf,
    pub(crate) daemon: Daemon,
    pub(crate) control: Control,
    pub(crate) firewall: firewall::Settings,
    pub(crate) blocklist: Blocklist,
    pub(crate) allow: Allow,
    pub(crate) budget: Budget,
    pub(crate) breaker: breaker::Limits,
    /// The rules of the host itself, if they are Banward's to make.
    pub(crate) host: Option<Host>,
    /// In the order of their names; disabled ones too.
    pub(crate) jails: Vec<Jail>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Daemon {
    pub(crate) mode: Mode,
    pub(crate) state_dir: PathBuf,
    pub(crate) socket: PathBuf,
    /// Whom the process that reads logs becomes; empty: it stays who started it.
    pub(crate) user: String,
    /// The groups by which it may read logs, as far as they exist.
    pub(crate) groups: Vec<String>,
    /// Whether files and system calls are closed to it that are none of its business.
    pub(crate) sandbox: bool,
    /// Folders of filters; a filter in a later one replaces its namesake in an earlier one.
    pub(crate) filters: Vec<PathBuf>,
}

/// Who may talk to the daemon besides root: groups, empty for none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Control {
    /// Its members may ask.
    pub(crate) read_group: String,
    /// Its members may also change what is banned and allowed.
    pub(crate) change_group: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Enforce,
    /// Decides and records, touches no firewall.
    Observe,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Blocklist {
    /// Where all bans are written, if anywhere.
    pub(crate) write: Option<PathBuf>,
    /// Whether those for forgeable evidence are written too.
    pub(crate) forgeable: bool,
    /// Lists that are merged.
    pub(crate) read: Vec<PathBuf>,
}

/// What is never banned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Allow {
    pub(crate) networks: Vec<IpNet>,
    pub(crate) protect: BTreeSet<Protect>,
    /// Lengths of the widest prefixes that may be banned, whoever wants it.
    pub(crate) widest: PrefixLengths,
    /// All bans together cover no more than one prefix of this length has; 0 for no bound.
    pub(crate) together: PrefixLengths,
}

/// What forgeable evidence may do at most: whoever forges it chooses whom we ban.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Budget {
    /// No ban from forgeable evidence is longer.
    pub(crate) max: Duration,
    /// Most such bans per minute.
    pub(crate) per_minute: u32,
    /// Most such bans at a time.
    pub(crate) at_a_time: usize,
    /// What makes it as good as proven.
    pub(crate) corroborate: Corroborate,
}

/// A source, a filter, a window, and what a ban is: the unit that a user switches on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Jail {
    pub(crate) name: String,
    pub(crate) enabled: bool,
    /// Name of the filter.
    pub(crate) filter: String,
    /// Which of the filter's patterns count.
    pub(crate) mode: filters::Mode,
    pub(crate) source: sources::Choice,
    /// Of its bans once they drop.
    pub(crate) scope: Scope,
    pub(crate) stages: Stages,
    /// The LOG prefixes that a kernel filter without one of its own goes by.
    pub(crate) log_prefix: Vec<String>,
    pub(crate) window: windows::Spec,
    pub(crate) ban: BanSpec,
    pub(crate) prefix: PrefixLengths,
    /// How bans of neighbours become one of their prefix.
    pub(crate) widen: Widen,
    /// Most prefixes whose hits are counted at a time.
    pub(crate) track: usize,
    pub(crate) spots: JailSpots,
}

/// How bans of a jail become harder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stages {
    /// Whether the first ban only limits its source, until that offends again.
    pub(crate) gentle: bool,
    pub(crate) limit: Limit,
}

impl Stages {
    /// The limit that comes before a drop, if any does.
    pub(crate) fn gentle(&self) -> Option<Limit> {
        self.gentle.then_some(self.limit)
    }
}

/// Where a jail's parts were written last. No part of what the jail is: all are equal, so that a reload after which
/// lines only stand elsewhere finds every jail unchanged.
#[derive(Clone, Debug, Default)]
pub(crate) struct JailSpots {
    /// Every jail that came from a file has this one.
    pub(crate) head: Option<Spot>,
    pub(crate) filter: Option<Spot>,
    pub(crate) source: Option<Spot>,
    pub(crate) log_prefix: Option<Spot>,
    pub(crate) ban: Option<Spot>,
    /// The `ban` of `[defaults]`.
    pub(crate) inherited_ban: Option<Spot>,
}

impl PartialEq for JailSpots {
    fn eq(&self, _other: &JailSpots) -> bool {
        true
    }
}

impl Config {
    /// Reads the main file and those in `conf.d` beside it, and notes all that is wrong.
    ///
    /// `None` when there is nothing to judge further: the main file cannot be read. Else whoever loads goes on to
    /// [`check`], so that a user sees all problems at once, and uses the result only if none of them is an error.
    pub(crate) fn load(path: &Path, problems: &Problems) -> Option<Config> {
        let config = file::read(path, problems)?;
        check::together(&config, problems);
        Some(config)
    }

    /// What holds where there is no file at all: no jail, and the places where `banctl` looks for the daemon.
    pub(crate) fn built_in() -> Config {
        defaults::config(Path::new(DEFAULT_PATH))
    }

    /// The jails that are switched on.
    pub(crate) fn enabled(&self) -> impl Iterator<Item = &Jail> {
        self.jails.iter().filter(|jail| jail.enabled)
    }
}
