//! The jails of fail2ban that are switched on become jails of ours. In: the configuration as read. Out: our jails, the
//! filters that they need, and a report of every key.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use ipnet::IpNet;

use super::actions::{self, Ports};
use super::filter::{self, Source};
use super::ini::{DEFAULT, Ini};
use super::report::{ALL, Report};
use super::rules::{self, Rules};
use super::toml::list;
use super::values::{Call, calls, is_on, words};
use super::{draft::Draft, services};
use crate::ctl::output::counted;
use crate::ctl::target;
use crate::filters::{Filter, Filters};

/// Settings of a jail that have no counterpart.
const WITHOUT: [(&str, &str); 3] = [
    ("ignorecommand", "no program is asked who is allowed: name the addresses in allow.networks"),
    ("logtimezone", "stamps without a zone are of the zone of this machine"),
    ("bantime.seed", "there is nothing random about bans"),
];

/// Settings that are read here, or that say nothing about what is banned.
const KNOWN: [&str; 41] = [
    "enabled",
    "filter",
    "mode",
    "port",
    "protocol",
    "logpath",
    "backend",
    "journalmatch",
    "maxretry",
    "findtime",
    "bantime",
    "bantime.increment",
    "bantime.factor",
    "bantime.maxtime",
    "bantime.rndtime",
    "bantime.multipliers",
    "bantime.formula",
    "bantime.overalljails",
    "ignoreip",
    "ignoreself",
    "ignorecache",
    "banaction",
    "banaction_allports",
    "action",
    "chain",
    "failregex",
    "ignoreregex",
    "datepattern",
    "prefregex",
    "maxlines",
    "usedns",
    "maxmatches",
    "logencoding",
    "destemail",
    "sender",
    "sendername",
    "mta",
    "fail2ban_agent",
    "blocktype",
    "returntype",
    "skip_if_nologs",
];

/// What is reported of a window and a ban.
const RULES: &str = "maxretry, findtime, bantime";

/// A jail of ours.
#[derive(Debug)]
pub(super) struct Jail {
    pub(super) name: String,
    /// Why it is switched off, if it is.
    pub(super) off: Option<String>,
    pub(super) filter: String,
    pub(super) strict: bool,
    /// As our configuration writes it.
    pub(super) source: String,
    pub(super) ports: Option<Vec<String>>,
    pub(super) rules: Rules,
}

/// Everything that was made.
#[derive(Debug, Default)]
pub(super) struct Made {
    pub(super) jails: Vec<Jail>,
    /// The jails that could not be made, as comments.
    pub(super) lost: Vec<(String, String)>,
    /// Filters by name, with the text of their files.
    pub(super) filters: BTreeMap<String, String>,
    /// Filters without a single pattern: files to work on, which are not read.
    pub(super) sketches: BTreeMap<String, String>,
    pub(super) defaults: Option<Rules>,
    pub(super) allowed: Vec<IpNet>,
    pub(super) firewalls: BTreeSet<String>,
    pub(super) chains: BTreeSet<String>,
    pub(super) rejects: bool,
}

/// What the conversion works with.
pub(super) struct Converter<'a> {
    pub(super) dir: &'a Path,
    pub(super) ini: Ini,
    /// How long fail2ban remembers bans.
    pub(super) purge: String,
    pub(super) installed: &'a Filters,
    pub(super) keep_filters: bool,
    /// `/etc/services`.
    pub(super) services: String,
    pub(super) report: Report,
    pub(super) made: Made,
    /// The filters that calls became, with the programs of their lines.
    known: Vec<(Call, String, Vec<String>)>,
}

/// What a jail can go by.
struct Chosen {
    filter: String,
    /// One of ours.
    own: Option<Arc<Filter>>,
    programs: Vec<String>,
    /// What the filter says of the journal.
    journal: (Vec<String>, Vec<String>, bool),
    off: Option<String>,
}

impl<'a> Converter<'a> {
    pub(super) fn new(dir: &'a Path, ini: Ini, purge: String, installed: &'a Filters, keep_filters: bool) -> Self {
        let services = std::fs::read_to_string("/etc/services").unwrap_or_default();
        let (report, made, known) = (Report::default(), Made::default(), Vec::new());
        Converter { dir, ini, purge, installed, keep_filters, services, report, made, known }
    }

    pub(super) fn run(&mut self) {
        let defaults = rules::read(&self.ini, DEFAULT, ALL, &self.purge, &mut self.report);
        self.report.took(ALL, RULES, defaults.to_string());
        self.made.defaults = Some(defaults);
        self.allow(DEFAULT, ALL);
        self.name_unsupported(DEFAULT, ALL);
        let names: Vec<String> = self.ini.names().map(str::to_owned).collect();
        let mut off = Vec::new();
        for name in names {
            if self.text(&name, "enabled").is_some_and(|text| is_on(&text)) {
                self.jail(&name);
            } else {
                off.push(name);
            }
        }
        if !off.is_empty() {
            let count = counted(off.len() as u64, "jail that is", "jails that are");
            self.report.took(ALL, "enabled", format!("{count} switched off left out"));
        }
    }

    /// A value; what is wrong with it is reported.
    fn text(&mut self, section: &str, key: &str) -> Option<String> {
        match self.ini.value(section, key) {
            Ok(value) => value.map(|value| value.trim().to_owned()).filter(|value| !value.is_empty()),
            Err(why) => {
                self.report.needs_you(section, key, why);
                None
            }
        }
    }

    fn jail(&mut self, section: &str) {
        let name = self.free_jail_name(section);
        if name != section {
            self.report.adapted(section, "name", format!("it is called {name} here"));
        }
        self.allow(section, section);
        self.name_unsupported(section, section);
        let wanted = self.text(section, "filter").unwrap_or_else(|| section.to_owned());
        let call = calls(&wanted).into_iter().next().unwrap_or_default();
        let mode = call.options.get("mode").cloned().or_else(|| self.text(section, "mode")).unwrap_or_default();
        let strict = services::is_strict(&call.name, &mode);
        let protocol = self.text(section, "protocol").unwrap_or_else(|| "tcp".to_owned());
        let Some(mut chosen) = self.choose(section, &call, strict, &protocol) else { return };
        let Some(source) = self.source(section, &chosen) else { return };
        let rules = rules::read(&self.ini, section, section, &self.purge, &mut self.report);
        if self.made.defaults.as_ref() != Some(&rules) {
            self.report.took(section, RULES, rules.to_string());
        }
        let ports = self.ports(section, &protocol, &mut chosen.off);
        let shown = ports.as_ref().map_or_else(|| "all packets".to_owned(), |ports| ports.join(" "));
        self.report.took(section, "port", shown);
        let strict = strict && chosen.own.is_some();
        if let Some(why) = &chosen.off {
            self.report.needs_you(section, "enabled", format!("switched off until you have looked at it: {why}"));
        }
        let Chosen { filter, off, .. } = chosen;
        self.made.jails.push(Jail { name, off, filter, strict, source, ports, rules });
    }

    /// A name that no other jail has.
    fn free_jail_name(&self, section: &str) -> String {
        let name = jail_name(section);
        let numbered = (2..).map(|number| format!("{name}-{number}"));
        let is_free = |name: &String| self.made.jails.iter().all(|jail| jail.name != *name);
        std::iter::once(name.clone()).chain(numbered).find(is_free).unwrap_or_default()
    }

    /// A jail that cannot be made.
    fn lose(&mut self, section: &str, key: &str, why: &str) {
        self.made.lost.push((section.to_owned(), why.to_owned()));
        self.report.needs_you(section, key, format!("there is no jail for it: {why}"));
    }

    fn choose(&mut self, section: &str, call: &Call, strict: bool, protocol: &str) -> Option<Chosen> {
        let own_fails = self.ini.own(section, "failregex").is_some_and(|text| !text.trim().is_empty());
        let ours = services::ours(&call.name, |name| self.installed.get(name).is_some());
        if let Some(ours) = ours.filter(|_| !self.keep_filters && !own_fails) {
            return Some(self.take_ours(section, call, &ours, strict));
        }
        let source = match Source::read(self.dir, call) {
            Ok(Some(source)) => Some(source),
            Ok(None) if own_fails => Some(Source::of_jail(section)),
            Ok(None) => {
                self.lose(section, "filter", &format!("there is no filter.d/{}.conf", call.name));
                None
            }
            Err(why) => {
                self.lose(section, "filter", &why);
                None
            }
        };
        self.convert(section, call, source?, protocol)
    }

    fn take_ours(&mut self, section: &str, call: &Call, ours: &str, strict: bool) -> Chosen {
        let mode = if strict { ", mode \"aggressive\"" } else { "" };
        let text = format!("filter \"{ours}\" of Banward reads the lines of this service{mode}");
        self.report.took(section, "filter", text);
        if self.dir.join("filter.d").join(format!("{}.local", call.name)).exists() {
            let text = format!("filter.d/{}.local is left out; --keep-filters converts it", call.name);
            self.report.needs_you(section, "filter", text);
        }
        let ignored = self.text(section, "ignoreregex");
        let off = ignored.map(|_| "its ignoreregex has no counterpart".to_owned());
        let own = self.installed.get(ours);
        Chosen { filter: ours.to_owned(), own, programs: Vec::new(), journal: (Vec::new(), Vec::new(), true), off }
    }

    fn convert(&mut self, section: &str, call: &Call, mut source: Source, protocol: &str) -> Option<Chosen> {
        let mut is_changed = false;
        for key in ["failregex", "ignoreregex", "datepattern", "prefregex", "maxlines"] {
            if self.ini.own(section, key).is_none() {
                continue;
            }
            let Some(own) = self.text(section, key) else { continue };
            is_changed = true;
            // A jail adds to the expressions of its filter.
            let adds = matches!(key, "failregex" | "ignoreregex");
            let before = if adds { source.value(key).unwrap_or_default() } else { String::new() };
            source.set(key, &format!("{before}\n{own}"));
        }
        let journal = source.journal().unwrap_or_default();
        if let Some((_, name, programs)) = self.known.iter().find(|(other, ..)| other == call && !is_changed) {
            let (name, programs) = (name.clone(), programs.clone());
            self.report.took(section, "filter", format!("filters/{name}.toml, as for the jail above"));
            return Some(Chosen { filter: name, own: None, programs, journal, off: None });
        }
        let name = self.free_name(section, call);
        let evidence = if protocol == "udp" { "forgeable" } else { "proven" };
        let draft = match source.draft(&name, evidence) {
            Ok(draft) => draft,
            Err(why) => {
                self.lose(section, "filter", &why);
                return None;
            }
        };
        self.tell(section, &draft);
        if evidence == "forgeable" {
            let text = "the sender of a UDP packet may be forged, so bans are short: see [budget] in banward.toml(5)";
            self.report.adapted(section, "protocol", text);
        }
        if draft.patterns() == 0 {
            self.made.sketches.insert(name.clone(), draft.text());
            self.lose(
                section,
                "filter",
                &format!("none of its expressions could be converted; see filters/{name}.toml.sketch"),
            );
            return None;
        }
        self.made.filters.insert(name.clone(), draft.text());
        let off = (!draft.ignored.is_empty()).then(|| "its ignoreregex has no counterpart".to_owned());
        if off.is_none() && !is_changed {
            self.known.push((call.clone(), name.clone(), draft.programs.clone()));
        }
        Some(Chosen { filter: name, own: None, programs: draft.programs, journal, off })
    }

    /// A name for a converted filter that no filter has.
    fn free_name(&self, section: &str, call: &Call) -> String {
        let (filter, jail) = (jail_name(&call.name), jail_name(section));
        let candidates = [filter.clone(), format!("{filter}-fail2ban"), format!("{jail}-fail2ban")];
        let is_free = |name: &String| self.installed.get(name).is_none() && !self.made.filters.contains_key(name);
        let numbered = (2..).map(|number| format!("{jail}-fail2ban-{number}"));
        candidates.into_iter().chain(numbered).find(is_free).unwrap_or(jail)
    }

    fn tell(&mut self, section: &str, draft: &Draft) {
        let file = format!("filters/{}.toml", draft.name);
        if draft.patterns() > 0 {
            let text = match draft.patterns() {
                1 => format!("1 pattern in {file}, with a sample"),
                patterns => format!("{patterns} patterns in {file}, each with a sample"),
            };
            self.report.took(section, "failregex", text);
        }
        for note in &draft.notes {
            self.report.adapted(section, "filter", note.as_str());
        }
        if draft.no_failures > 0 {
            let count = counted(draft.no_failures as u64, "expression", "expressions");
            let text = format!("{count} of lines that are no failures left out");
            self.report.adapted(section, "failregex", text);
        }
        for left in &draft.left {
            self.report.needs_you(section, "failregex", format!("{}: {}", left.fail, left.why));
        }
        for ignored in &draft.ignored {
            self.report.needs_you(section, "ignoreregex", format!("{ignored}: lines cannot be taken out of a pattern"));
        }
    }

    /// Where the lines come from; `None` where that cannot be said.
    fn source(&mut self, section: &str, chosen: &Chosen) -> Option<String> {
        let backend = self.text(section, "backend").unwrap_or_default();
        if calls(&backend).first().is_some_and(|call| call.name == "systemd") {
            return self.journal(section, chosen);
        }
        let mut files = Vec::new();
        for line in self.text(section, "logpath").unwrap_or_default().lines() {
            let path = line.trim();
            let path = path.strip_suffix(" tail").or_else(|| path.strip_suffix(" head")).unwrap_or(path).trim();
            if path.is_empty() {
                continue;
            }
            if path.starts_with('/') && glob::Pattern::new(path).is_ok() {
                files.push(path.to_owned());
            } else {
                self.report.needs_you(section, "logpath", format!("{path} is not an absolute path"));
            }
        }
        if !files.is_empty() {
            self.report.took(section, "logpath", files.join(" "));
            return Some(format!("{{ files = {} }}", list(&files)));
        }
        if chosen.own.is_some() {
            self.report.adapted(section, "logpath", "none is named: the usual log of the service, else the journal");
            return Some("\"auto\"".to_owned());
        }
        self.lose(section, "logpath", "no log is named");
        None
    }

    fn journal(&mut self, section: &str, chosen: &Chosen) -> Option<String> {
        let matched = self.text(section, "journalmatch").map(|text| filter::journal(&text));
        let (mut units, mut identifiers, whole) = matched.unwrap_or_else(|| chosen.journal.clone());
        if !whole {
            self.report.adapted(section, "journalmatch", "only units and identifiers count");
        }
        if units.is_empty() && identifiers.is_empty() {
            (units, identifiers) = match &chosen.own {
                Some(own) if own.units.is_empty() => (Vec::new(), own.programs.clone()),
                Some(own) => (own.units.clone(), Vec::new()),
                None => (Vec::new(), chosen.programs.clone()),
            };
        }
        if units.is_empty() && identifiers.is_empty() {
            self.lose(section, "journalmatch", "no unit and no identifier of the journal is named");
            return None;
        }
        let shown = [units.as_slice(), identifiers.as_slice()].concat().join(" ");
        self.report.took(section, "backend", format!("the journal, entries of {shown}"));
        let mut parts = Vec::new();
        for (key, names) in [("units", units), ("identifiers", identifiers)] {
            if !names.is_empty() {
                parts.push(format!("{key} = {}", list(&names)));
            }
        }
        Some(format!("{{ journal = {{ {} }} }}", parts.join(", ")))
    }

    fn ports(&mut self, section: &str, protocol: &str, off: &mut Option<String>) -> Option<Vec<String>> {
        let wanted = self.text(section, "action").or_else(|| self.text(section, "banaction")).unwrap_or_default();
        let actions = actions::read(&calls(&wanted));
        for other in &actions.others {
            let text = format!(
                "{other} is left out: Banward tells nobody itself; 'banctl events' can feed a program of yours"
            );
            self.report.needs_you(section, "action", text);
        }
        if actions.firewalls.is_empty() && !wanted.is_empty() && off.is_none() {
            *off = Some("none of its actions bans".to_owned());
        }
        self.made.firewalls.extend(actions.firewalls);
        self.made.chains.extend(actions.chains);
        self.made.rejects |= actions.rejects;
        if actions.all_ports {
            return None;
        }
        let text = self.text(section, "port").unwrap_or_default();
        match actions::ports(&text, protocol, &self.services) {
            Ports::All => None,
            Ports::Some(ports) => Some(ports),
            Ports::TooMany => {
                self.report.adapted(
                    section,
                    "port",
                    "these are too many ports: all packets of a banned address are dropped",
                );
                None
            }
            Ports::Unknown(name) => {
                let text = format!("nobody knows the port '{name}': all packets of a banned address are dropped");
                self.report.needs_you(section, "port", text);
                None
            }
        }
    }

    /// Who is never banned. There is one allowlist for all jails.
    fn allow(&mut self, section: &str, shown: &str) {
        if section != DEFAULT && self.ini.own(section, "ignoreip").is_none() {
            return;
        }
        for word in words(&self.text(section, "ignoreip").unwrap_or_default()) {
            let Some(net) = network(word) else {
                let text = format!("'{word}' is not an address; names are never resolved, and files are not read");
                self.report.needs_you(shown, "ignoreip", text);
                continue;
            };
            if self.made.allowed.contains(&net) {
                continue;
            }
            self.made.allowed.push(net);
            if section == DEFAULT {
                self.report.took(shown, "ignoreip", target::show(&net));
            } else {
                self.report.adapted(shown, "ignoreip", format!("{} is allowed for all jails", target::show(&net)));
            }
        }
        if self.text(section, "ignoreself").is_some_and(|text| !is_on(&text)) {
            self.report.adapted(shown, "ignoreself", "the addresses of this machine are never banned");
        }
    }

    fn name_unsupported(&mut self, section: &str, shown: &str) {
        for (key, why) in WITHOUT {
            if self.ini.own(section, key).is_some_and(|text| !text.trim().is_empty()) {
                self.report.needs_you(shown, key, why);
            }
        }
        if section == DEFAULT {
            return;
        }
        let is_used = |key: &str| {
            self.ini.keys(section).any(|other| {
                self.ini.own(section, other).is_some_and(|text| text.to_lowercase().contains(&format!("%({key})s")))
            })
        };
        let is_known = |key: &str| {
            KNOWN.contains(&key) || WITHOUT.iter().any(|(other, _)| *other == key) || key.starts_with("action_")
        };
        let unknown: Vec<String> =
            self.ini.keys(section).filter(|key| !is_known(key) && !is_used(key)).map(str::to_owned).collect();
        for key in unknown {
            self.report.needs_you(shown, &key, "Banward knows no such setting");
        }
    }
}

/// An address, or a network with or without host bits.
fn network(word: &str) -> Option<IpNet> {
    target::parse(word).ok().or_else(|| word.parse::<IpNet>().ok().map(|net| net.trunc()))
}

/// A name that a jail, and a file, may have here.
fn jail_name(name: &str) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let name: String = name.chars().take(60).map(allowed).collect();
    let name = name.trim_start_matches(['-', '.']).to_owned();
    if name.is_empty() || name == "manual" { format!("jail-{name}") } else { name }
}
