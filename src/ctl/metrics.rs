//! `banctl metrics`: the daemon's state as text that Prometheus reads (`OpenMetrics` 1.0), for the textfile collector of
//! its node exporter or whatever runs a command and reads what it prints.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{Context, Error, status_by};
use crate::control::{Health, JailStatus, SourceStatus, Status};

type Labels = Vec<(&'static str, String)>;
type Gauges = Family<Labels, Gauge<u64, AtomicU64>>;
type Counters = Family<Labels, Counter>;

pub(super) fn run(context: &mut Context) -> Result<(), Error> {
    let status = status_by(&mut context.connect()?)?;
    let out = &mut context.out;
    let said = if context.globals.json { out.json(&status) } else { out.line(text(&status).trim_end()) };
    Ok(said?)
}

fn text(status: &Status) -> String {
    let mut sheet = Sheet::default();
    for (health, word) in HEALTH {
        sheet.gauge(
            "health",
            "How it is; 1 for the state that holds",
            &[("state", word)],
            (status.health == health).into(),
        );
    }
    let started = u64::try_from(status.started.as_secs()).unwrap_or(0);
    sheet.gauge("start_time_seconds", "When the daemon started, in seconds since 1970", &[], started);
    sheet.gauge("bans", "Bans that stand", &[], status.bans);
    sheet.gauge("listed", "Entries of lists and blocklist files", &[], status.listed);
    sheet.gauge("kernel_entries", "Entries that the kernel has confirmed", &[], status.installed);
    sheet.gauge("troubles", "What is wrong right now", &[], status.troubles.len() as u64);
    sheet.gauge("breaker_open", "1 while what can be forged bans nobody", &[], status.breaker.open.into());
    sheet.counter("breaker_openings", "How often the breaker has opened", &[], status.breaker.opened);
    sheet.counter("breaker_ignored", "Offences ignored because it was open", &[], status.breaker.waiting);
    sheet.gauge("banned_addresses", "Addresses that bans cover", &[], status.breaker.addresses);
    status.jails.iter().for_each(|jail| sheet.jail(jail));
    status.sources.iter().for_each(|source| sheet.source(source));
    sheet.encoded()
}

const HEALTH: [(Health, &str); 5] = [
    (Health::Starting, "starting"),
    (Health::Ok, "ok"),
    (Health::Degraded, "degraded"),
    (Health::Failing, "failing"),
    (Health::Observing, "observing"),
];

/// Metrics by name, each with what it is and its values by labels.
#[derive(Default)]
struct Sheet {
    gauges: BTreeMap<&'static str, (&'static str, Gauges)>,
    counters: BTreeMap<&'static str, (&'static str, Counters)>,
}

impl Sheet {
    fn jail(&mut self, jail: &JailStatus) {
        let labels = [("jail", jail.jail.as_str())];
        self.counter("hits", "Hits of a jail", &labels, jail.hits);
        self.counter("offences", "Offences of a jail", &labels, jail.offences);
        self.counter("ignored", "Offences that no ban followed", &labels, jail.ignored);
        self.counter("bans_made", "Bans that a jail has made", &labels, jail.bans);
        self.gauge("jail_bans", "Bans of a jail that stand", &labels, jail.banned_now);
        self.gauge("jail_limited", "Those of them that only limit so far", &labels, jail.limited_now);
        self.gauge("tracked", "Sources in a jail's window", &labels, jail.tracked);
        self.counter("evicted", "Sources that had to make room in it", &labels, jail.evicted);
        if let Some(dropped) = jail.dropped {
            self.gauge(
                "dropped_packets",
                "Packets that the bans that stand have dropped",
                &labels,
                dropped.count.packets,
            );
            self.gauge("dropped_bytes", "Their bytes", &labels, dropped.count.bytes);
            self.gauge("never_hit", "Bans that stand and have dropped nothing", &labels, dropped.never_hit);
        }
    }

    fn source(&mut self, source: &SourceStatus) {
        let labels = [("log", source.log.as_str())];
        self.counter("lines", "Lines read of a log", &labels, source.lines);
        self.counter("bytes", "Bytes read of a log", &labels, source.bytes);
        self.counter("source_hits", "Hits in a log", &labels, source.hits);
        self.counter("lost", "Lines that were gone before they could be read", &labels, source.lost);
        self.counter("cut", "Lines too long to be read whole", &labels, source.cut);
        let suppressed = source.suppressed.map_or(0, |missing| missing.lines);
        self.counter("suppressed", "Lines that the log says were left out of it", &labels, suppressed);
        if let Some(latest) = source.latest {
            let latest = u64::try_from(latest.as_secs()).unwrap_or(0);
            self.gauge("last_line_time_seconds", "Time of the last line, in seconds since 1970", &labels, latest);
        }
    }

    fn gauge(&mut self, name: &'static str, help: &'static str, labels: &[(&'static str, &str)], value: u64) {
        let (_, family) = self.gauges.entry(name).or_insert_with(|| (help, Gauges::default()));
        family.get_or_create(&owned(labels)).set(value);
    }

    /// Counts since the start of the daemon.
    fn counter(&mut self, name: &'static str, help: &'static str, labels: &[(&'static str, &str)], value: u64) {
        let (_, family) = self.counters.entry(name).or_insert_with(|| (help, Counters::default()));
        family.get_or_create(&owned(labels)).inc_by(value);
    }

    fn encoded(self) -> String {
        let mut registry = Registry::with_prefix("banward");
        for (name, (help, family)) in self.gauges {
            registry.register(name, help, family);
        }
        for (name, (help, family)) in self.counters {
            registry.register(name, help, family);
        }
        let mut text = String::new();
        // A String takes everything.
        let _ = encode(&mut text, &registry);
        text
    }
}

fn owned(labels: &[(&'static str, &str)]) -> Labels {
    labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_quotes_and_line_breaks_is_escaped() {
        let mut sheet = Sheet::default();
        sheet.gauge("tracked", "Sources", &[("jail", "a\"b\\c\nd")], 3);
        sheet.counter("hits", "Hits", &[("jail", "x")], 2);
        let text = sheet.encoded();
        assert!(text.contains("banward_tracked{jail=\"a\\\"b\\\\c\\nd\"} 3\n"), "{text}");
        assert!(text.contains("banward_hits_total{jail=\"x\"} 2\n") && text.ends_with("# EOF\n"), "{text}");
    }
}
