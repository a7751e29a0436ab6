//! How the daemon is, for `banctl status`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::guard::{Guard, LogState, SourceState};
use crate::config::Mode;
use crate::control::{BreakerStatus, Gap, Health, JailStatus, ListStatus, Missing, SourceStatus, Status};
use crate::filters::Suppressed;
use crate::pipeline::event::{Event, Kind};
use crate::policy::breaker::Turn;
use crate::sources::writers::forgers;
use crate::text::plural;
use crate::time::Timestamp;

impl Guard {
    pub(super) fn status(&self) -> Status {
        let (ledger, breaker) = (&self.pipeline.ledger, &self.pipeline.bounds.breaker);
        let tripped = breaker.open().map(|overrun| Turn::Opened(overrun).to_string());
        Status {
            health: self.health(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started: self.started,
            config: self.path.display().to_string(),
            backend: self.kernel.backend.clone(),
            backend_reason: self.kernel.reason.clone(),
            bans: ledger.ban_count() as u64,
            listed: ledger.listed_count() as u64,
            installed: self.firewall.installed() as u64,
            jails: self.jails(),
            sources: self.sources.iter().flat_map(|source| self.logs_of(source)).collect(),
            lists: ledger
                .lists()
                .map(|list| ListStatus {
                    list: list.name.to_string(),
                    entries: list.prefixes.len() as u64,
                    until: list.until,
                })
                .collect(),
            breaker: BreakerStatus {
                open: breaker.open().is_some(),
                opened: breaker.opened(),
                waiting: breaker.waiting(),
                addresses: ledger.standing().addresses,
            },
            troubles: self.troubles.values().cloned().chain(tripped).collect(),
        }
    }

    /// The counts of this log are too low: said at most once in ten minutes, and always in the status.
    pub(super) fn on_suppressed(&mut self, source: usize, log: &Arc<str>, suppressed: Suppressed, now: Timestamp) {
        const AGAIN: Duration = Duration::from_secs(600);
        let Some(state) = self.log_state(source, log) else { return };
        Suppressed::add(&mut state.suppressed, suppressed);
        let fresh = state.told_suppressed.is_none_or(|told| now.since(told) >= AGAIN);
        let Some(all) = state.suppressed.filter(|_| fresh) else { return };
        state.told_suppressed = Some(now);
        let (lines, by, remedy) = (all.lines.max(1), all.by, all.by.remedy());
        let lines = plural(lines, "line");
        let text = format!("{by} left at least {lines} out of {log}, so what is counted there is too low; {remedy}");
        self.chronicle.tell(Event::new(now, Kind::Lost, text));
    }

    /// Where lines are missing, for those who ask why somebody is not banned.
    pub(super) fn gaps(&self) -> Vec<Gap> {
        let logs = self.sources.iter().flat_map(|source| self.logs_of(source));
        let gaps = logs.filter(|log| log.lost > 0 || log.suppressed.is_some());
        gaps.map(|SourceStatus { log, lost, suppressed, .. }| Gap { log, lost, suppressed }).collect()
    }

    fn health(&self) -> Health {
        if self.config.daemon.mode == Mode::Observe {
            Health::Observing
        } else if self.troubles.contains_key("firewall") {
            Health::Failing
        } else if !self.kernel.synced {
            Health::Starting
        } else if self.troubles.is_empty() && self.pipeline.bounds.breaker.open().is_none() {
            Health::Ok
        } else {
            Health::Degraded
        }
    }

    fn jails(&self) -> Vec<JailStatus> {
        let banned = self.pipeline.ledger.ban_counts();
        let now = |jail: &str| banned.get(jail).copied().unwrap_or_default();
        let status = |state: &crate::pipeline::JailState| JailStatus {
            jail: state.jail.name.clone(),
            filter: state.jail.filter.clone(),
            hits: state.counts.hits,
            offences: state.counts.offences,
            bans: state.counts.bans,
            banned_now: now(&state.jail.name).all,
            limited_now: now(&state.jail.name).limited,
            ignored: state.counts.ignored,
            tracked: state.tracked() as u64,
            evicted: state.evicted(),
            dropped: None,
        };
        self.pipeline.jails().iter().map(status).collect()
    }

    /// One row per log; a source that has read nothing yet is a row too.
    fn logs_of(&self, source: &SourceState) -> Vec<SourceStatus> {
        let prefix = format!("{}: ", source.name);
        let trouble = |log: &str| self.troubles.get(&format!("{prefix}{log}")).cloned();
        let row = |log: &str, state: &LogState| SourceStatus {
            // Within its source, a log that is no file is only called `kmsg` or `journal`.
            log: if log.starts_with('/') { log } else { &source.name }.to_owned(),
            lines: state.lines,
            bytes: state.bytes,
            hits: state.hits,
            lost: state.lost,
            suppressed: state.suppressed.map(Missing::of),
            cut: source.cut,
            latest: state.latest,
            live: source.live,
            trouble: trouble(log),
            forgers: forgers(Path::new(log)).filter(|_| log.starts_with('/')),
        };
        if source.logs.is_empty() {
            let any = self.troubles.range(prefix.clone()..).next().filter(|(key, _)| key.starts_with(&prefix));
            let trouble = any.map(|(_, text)| text.clone());
            return vec![SourceStatus { trouble, ..row(&source.name, &LogState::default()) }];
        }
        source.logs.iter().map(|(log, state): (&Arc<str>, &LogState)| row(log, state)).collect()
    }
}
