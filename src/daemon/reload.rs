//! Taking over a new configuration while guarding. A wrong one changes nothing. A right one loses no ban, no count
//! of a jail that counts as before, and no line: sources go on where they stopped.

use super::guard::{Ears, Guard, SourceState};
use super::{processes, startup};
use crate::config::{Config, Mode};
use crate::control::Reply;
use crate::filters::Filters;
use crate::pipeline::event::{Event, Kind};
use crate::pipeline::wiring::Wiring;
use crate::sandbox::trust;
use crate::setup::{self, Depth, Setup};
use crate::time::Timestamp;

impl Guard {
    /// SIGHUP.
    pub(super) fn on_hangup(&mut self, ears: &mut Ears) {
        if let Reply::Refused { message } = self.reload(ears) {
            log::error!("{message}");
        }
    }

    pub(super) fn reload(&mut self, ears: &mut Ears) -> Reply {
        // Of the configuration itself, which could not be read.
        if let Some(closed) = self.closed.to(&self.config, &[]) {
            return Reply::Refused { message: needs_restart(&closed) };
        }
        let (setup, problems) = setup::load(&self.path, Depth::Read);
        super::tell(&problems);
        let shown: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let Some(Setup { config, filters }) = setup else {
            let message = format!("the old configuration stays in force, because:\n{}", shown.join("\n"));
            return Reply::Refused { message };
        };
        let untrusted = trust::untrusted(&config, None);
        if !untrusted.is_empty() {
            let message = format!("the old configuration stays in force, because:\n{}", untrusted.join("\n"));
            return Reply::Refused { message };
        }
        if let Some(message) = self.needs_restart(&config, &filters) {
            return Reply::Refused { message };
        }
        self.stop_sources(ears);
        let wiring = Wiring::new(&config, &filters, startup::place_of);
        self.pipeline.reconfigure(&config, &wiring);
        let old_sources = std::mem::take(&mut self.sources);
        self.forget_troubles(&old_sources);
        let refirewall = config.firewall != self.config.firewall || config.daemon.mode != self.config.daemon.mode;
        let old = std::mem::replace(&mut self.config, config);
        self.chronicle.observing = self.config.daemon.mode == Mode::Observe;
        self.have_reread();
        if refirewall && let Err(failure) = self.replace_firewall(&old, ears) {
            self.trouble("firewall".to_owned(), failure.text);
        }
        self.start_sources(&wiring, &old_sources);
        self.open_files();
        self.open_handshakes();
        self.renew_allowlist();
        let message = format!("reloaded {}: {} jails", self.path.display(), wiring.jails.len());
        self.chronicle.tell(Event::new(Timestamp::now(), Kind::Reloaded, message.as_str()));
        Reply::Done { message, warnings: shown }
    }

    /// Has the enforcer read the configuration too. It may be busy for long, and lines do not wait for it.
    fn have_reread(&self) {
        let (enforcer, rereader) = (self.enforcer.clone(), self.channels.rereader.clone());
        tokio::task::spawn_blocking(move || {
            let reread = enforcer.reread().map_err(|why| why.to_string());
            // The daemon is stopping.
            let _unheard = rereader.blocking_send(reread);
        });
    }

    /// What is still wrong with a log or a file, whoever reads it from now on will say.
    fn forget_troubles(&mut self, sources: &[SourceState]) {
        let files = self.watches.iter().map(|watch| watch.path().display().to_string());
        let files: Vec<String> = files.chain(["blocklist".to_owned()]).collect();
        self.troubles.retain(|key, _| {
            let of_source = sources.iter().any(|source| source.owns(key));
            !of_source && !files.contains(key)
        });
    }

    /// What cannot change under a running daemon.
    fn needs_restart(&self, config: &Config, filters: &Filters) -> Option<String> {
        let (old, new) = (&self.config.daemon, &config.daemon);
        let changed = match () {
            () if old.state_dir != new.state_dir => "state_dir",
            () if old.socket != new.socket => "socket",
            () if self.config.control != config.control => {
                return Some(needs_restart("[control] has changed"));
            }
            () if old.user != new.user => "user",
            () if old.groups != new.groups => "groups",
            () if old.sandbox != new.sandbox => "sandbox",
            () => {
                let places = processes::places(config, filters);
                return self.closed.to(config, &places).as_deref().map(needs_restart);
            }
        };
        Some(needs_restart(&format!("`{changed}` in [daemon] has changed")))
    }
}

fn needs_restart(why: &str) -> String {
    format!("{why}: that needs a restart; the old configuration stays in force")
}
