//! Another backend takes over: the old one's rules stay until the new one holds every ban, and are then taken out, so
//! that packets of banned sources pass at no time and nothing is left in two places.

use std::sync::Arc;

use super::Failure;
use super::guard::{Guard, Kernel};
use super::startup::{Ending, settings, spawn_firewall};
use crate::config::Config;
use crate::enforcer::Enforcer;
use crate::firewall::{Choice, OnStop, Settings};

/// What earlier configurations, of this process or of one before, have left in the kernel.
pub(super) struct Remains {
    left: Vec<Settings>,
    removal: Option<(Settings, Ending)>,
}

impl Remains {
    /// What stands in the kernel at the start. That of the backend which will be used is no remains; it is sorted out
    /// once that is known.
    pub(super) fn find(config: &Config, enforcer: &Enforcer) -> Remains {
        let settings = settings(config);
        let made_by = |backend| Settings { backend, ..settings.clone() };
        // Where that cannot be told, there is worse trouble than remains.
        let traces = enforcer.traces(&settings).unwrap_or_default();
        Remains { left: traces.into_iter().map(made_by).collect(), removal: None }
    }
}

impl Guard {
    /// Replaces the firewall task. Where backend and chain are the same, the new one corrects what the old one made.
    pub(super) fn replace_firewall(&mut self, old: &Config) -> Result<(), Failure> {
        self.remains.left.extend(self.made_by(old));
        let stopped = Ending::default();
        let mut before = vec![Arc::clone(&stopped)];
        before.extend(self.remains.removal.as_ref().map(|(_, removal)| Arc::clone(removal)));
        // With a channel of its own, so that nothing that the old one still says is taken for the new one's.
        let (new, reports) = spawn_firewall(&self.config, &self.enforcer, before)?;
        let old = std::mem::replace(&mut self.firewall, new);
        self.channels.firewall = reports;
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
        self.remains.left.retain(|made| !made.backend.shares_chains(backend) || made.chain != *chain);
        if let Some(made) = self.remains.left.pop() {
            let (settings, enforcer, removal) = (made.clone(), self.enforcer.clone(), Ending::default());
            let remove = move || enforcer.remove(&settings).map_err(|why| why.to_string());
            in_background(Arc::clone(&removal), remove);
            self.remains.removal = Some((made, removal));
        }
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
