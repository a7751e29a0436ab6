//! Another backend takes over, or a chain gets another name: the old rules stay until the new ones hold every ban, and are
//! then taken out, so that packets of banned sources pass at no time and nothing is left in two places.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Failure;
use super::guard::{Ears, Guard, Kernel};
use super::startup::{Ending, settings, spawn_firewall};
use crate::config::Config;
use crate::enforcer::{Enforcer, names};
use crate::firewall::{Chain, Choice, OnStop, Settings};
use crate::ledger::files::replace;

/// What earlier configurations, of this process or of one before, have left in the kernel.
pub(super) struct Remains {
    left: Vec<Settings>,
    removal: Option<(Settings, Ending)>,
    names: Names,
}

/// The names under which there may be rules of ours, as they were last written.
struct Names {
    file: PathBuf,
    written: BTreeSet<String>,
    /// Whether the last attempt to write others failed.
    failed: bool,
    /// Those of which the enforcer could not tell.
    unknown: BTreeSet<String>,
}

impl Remains {
    /// What stands in the kernel at the start. That of the backend which will be used is no remains; it is sorted out
    /// once that is known.
    pub(super) fn find(config: &Config, enforcer: &Enforcer) -> Remains {
        let settings = settings(config);
        let mut names = Names::read(&config.daemon.state_dir);
        // Where that cannot be told, there is worse trouble than remains.
        let mut left = made_by(&settings, enforcer.traces(&settings).unwrap_or_default());
        for name in names.written.iter().filter(|name| *name != settings.chain.as_str()) {
            let Ok(chain) = name.parse() else { continue };
            let earlier = Settings { chain, ..settings.clone() };
            match enforcer.recall(&earlier) {
                Ok(traces) => left.extend(made_by(&earlier, traces)),
                Err(why) => {
                    log::warn!("whether rules named {name} are left cannot be told: {why}");
                    names.unknown.insert(name.clone());
                }
            }
        }
        let mut remains = Remains { left, removal: None, names };
        remains.note(&settings.chain);
        remains
    }

    /// Writes down under which names there are rules, or are about to be.
    fn note(&mut self, chain: &Chain) {
        let left = self.left.iter().chain(self.removal.iter().map(|(made, _)| made));
        let names = left.map(|made| &made.chain).chain([chain]).map(|chain| chain.as_str().to_owned());
        self.names.write(names.collect());
    }
}

impl Names {
    fn read(state: &Path) -> Names {
        let written = names::read(state).into_iter().collect();
        Names { file: names::file(state), written, failed: false, unknown: BTreeSet::new() }
    }

    fn write(&mut self, mut names: BTreeSet<String>) {
        names.extend(self.unknown.iter().cloned());
        if names == self.written {
            return;
        }
        let write =
            |out: &mut dyn Write| -> io::Result<()> { names.iter().try_for_each(|name| writeln!(out, "{name}")) };
        let failed = replace(&self.file, 0o600, |fresh| write(fresh));
        let told = std::mem::replace(&mut self.failed, failed.is_err());
        match failed {
            Ok(()) => self.written = names,
            Err(why) if !told => {
                let file = self.file.display();
                log::warn!("{file} cannot be written: {why}; rules under another firewall.chain may be left behind");
            }
            // It is tried again, and said once.
            Err(_) => {}
        }
    }
}

/// What these backends have made by these rules.
fn made_by(settings: &Settings, traces: Vec<Choice>) -> Vec<Settings> {
    traces.into_iter().map(|backend| Settings { backend, ..settings.clone() }).collect()
}

/// Whether both names are the same to this backend: tables of nftables are called so in lower case.
fn is_same(one: &Chain, other: &Chain, backend: Choice) -> bool {
    let (one, other) = (one.as_str(), other.as_str());
    if backend == Choice::Nftables { one.eq_ignore_ascii_case(other) } else { one == other }
}

impl Guard {
    /// Replaces the firewall task. Where backend and chain are the same, the new one corrects what the old one made.
    pub(super) fn replace_firewall(&mut self, old: &Config, ears: &mut Ears) -> Result<(), Failure> {
        self.remains.left.extend(self.made_by(old));
        self.remains.note(&self.config.firewall.chain);
        let stopped = Ending::default();
        let mut before = vec![Arc::clone(&stopped)];
        before.extend(self.remains.removal.as_ref().map(|(_, removal)| Arc::clone(removal)));
        // With a channel of its own, so that nothing that the old one still says is taken for the new one's.
        let (new, reports) = spawn_firewall(&self.config, &self.enforcer, before)?;
        let old = std::mem::replace(&mut self.firewall, new);
        ears.firewall = reports;
        in_background(stopped, move || old.stop(OnStop::Keep));
        self.kernel = Kernel::default();
        self.troubles.remove("firewall");
        Ok(())
    }

    /// What the task of this configuration has put into the kernel, by the backend that it settled on.
    pub(super) fn made_by(&self, config: &Config) -> Option<Settings> {
        let backend = Choice::named(&self.kernel.backend).filter(|backend| *backend != Choice::None)?;
        Some(Settings { backend, ..settings(config) })
    }

    /// Once the backend of now holds everything, takes out what earlier ones have left: one after the other, and again
    /// where it failed.
    pub(super) fn remove_remains(&mut self) {
        if self.remains.removal.as_ref().is_some_and(|(_, removal)| removal.get().is_some()) {
            self.end_removal();
        }
        let Some(backend) = Choice::named(&self.kernel.backend) else { return };
        if !self.kernel.synced || self.remains.removal.is_some() {
            return;
        }
        let chain = &self.config.firewall.chain;
        let stays = |made: &Settings| made.backend.shares_chains(backend) && is_same(&made.chain, chain, backend);
        self.remains.left.retain(|made| !stays(made));
        if let Some(made) = self.remains.left.pop() {
            let (settings, enforcer, removal) = (made.clone(), self.enforcer.clone(), Ending::default());
            let remove = move || enforcer.remove(&settings).map_err(|why| why.to_string());
            in_background(Arc::clone(&removal), remove);
            self.remains.removal = Some((made, removal));
        }
        self.remains.note(&self.config.firewall.chain);
    }

    fn end_removal(&mut self) {
        let Some((made, removal)) = self.remains.removal.take() else { return };
        if let Some(Err(why)) = removal.get() {
            let text = format!("the rules of the backend that was used before could not be removed: {why}");
            self.trouble("remains".to_owned(), text);
            self.remains.left.push(made);
        } else {
            self.recovered("remains");
        }
    }
}

/// Does what may take long beside the loop: lines and systemd's watchdog do not wait for it.
fn in_background(ending: Ending, work: impl FnOnce() -> Result<(), String> + Send + 'static) {
    tokio::task::spawn_blocking(move || {
        let _once = ending.set(work());
    });
}
