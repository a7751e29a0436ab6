//! The logs that enabled jails wait for: whether they are there, readable and still written, and whether some rule
//! writes the packets that kernel jails wait for.

use std::collections::BTreeSet;
use std::fs::{File, Metadata};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Findings;
use super::tables::{Chain, log_prefix};
use crate::config::{Config, Jail};
use crate::ctl::input;
use crate::ctl::when::brief;
use crate::filters::{Filter, Rule};
use crate::setup::Setup;
use crate::sources::Place;

/// A log that was not written for so long may have been given up.
const QUIET: Duration = Duration::from_secs(7 * 86_400);

/// Files of one jail that are looked at.
const FILES: usize = 1000;

/// Of the network namespace: how packets are logged. Only the first one of a machine has `nf_log_all_netns` too.
const NF_LOG: &str = "/proc/sys/net/netfilter/nf_log";
const ALL_NETNS: &str = "/proc/sys/net/netfilter/nf_log_all_netns";

pub(super) fn check(setup: &Setup, findings: &mut Findings) {
    let mut kernel = BTreeSet::new();
    for jail in setup.config.enabled() {
        let Some(filter) = setup.filters.get(&jail.filter) else { continue };
        let place = jail.source.resolve(&filter.logs, &filter.units, &filter.identifiers());
        for (log, who) in place.forgeable() {
            let message = format!("{}: {who} may write {}, and so decides whom it bans", jail.name, log.display());
            findings.warn("logs", message, "have only its service write it");
        }
        match place {
            Place::Files(patterns) => files(jail, &patterns, findings),
            Place::Kmsg | Place::Journal { kernel: true, .. } => drop(kernel.insert(jail.name.as_str())),
            Place::Journal { .. } => journal(jail, findings),
            Place::Stdin => findings.ok("logs", format!("{}: reads standard input of the daemon", jail.name)),
        }
    }
    if !kernel.is_empty() {
        kernel_log(&kernel.into_iter().collect::<Vec<_>>().join(", "), findings);
    }
}

fn files(jail: &Jail, patterns: &[String], findings: &mut Findings) {
    let (name, all) = (&jail.name, patterns.join(", "));
    let paths = patterns.iter().filter_map(|pattern| glob::glob(pattern).ok()).flatten().flatten();
    let paths: Vec<PathBuf> = paths.filter(|path| path.is_file()).take(FILES).collect();
    let folders = input::folders(patterns);
    for folder in &folders {
        let folder = folder.display();
        let message = format!("{name}: {folder} is a directory, and nothing in it is read");
        findings.warn("logs", message, format!("name its files in 'source' of jail.{name}: \"{folder}/*.log\""));
    }
    if paths.is_empty() && !folders.is_empty() {
        return;
    }
    if paths.is_empty() {
        let remedy = format!("name the log of the service as 'source' of jail.{name}, or switch the jail off");
        return findings.warn("logs", format!("{name}: there is no {all}; it waits"), remedy);
    }
    let unreadable = paths.iter().find_map(|path| File::open(path).err().map(|error| (path, error)));
    if let Some((path, error)) = unreadable {
        let message = format!("{name}: {} cannot be read: {error}", path.display());
        if rustix::process::geteuid().is_root() {
            return findings.bad("logs", message, "see the rights of the file and of its folders");
        }
        return findings.warn("logs", message, "call banctl doctor as root");
    }
    let age = |metadata: Metadata| metadata.modified().ok()?.elapsed().ok().or(Some(Duration::ZERO));
    let youngest = paths.iter().filter_map(|path| age(path.metadata().ok()?)).min().unwrap_or_default();
    let newest = brief(Duration::from_secs(youngest.as_secs()));
    if youngest > QUIET {
        let remedy =
            format!("is the service's log still there? Else set 'source' of jail.{name}, perhaps to the journal");
        return findings.warn("logs", format!("{name}: {all} was last written {newest} ago"), remedy);
    }
    findings.ok("logs", format!("{name}: {all}, last written {newest} ago"));
}

fn journal(jail: &Jail, findings: &mut Findings) {
    if Path::new("/run/systemd/journal/socket").exists() {
        return findings.ok("logs", format!("{}: reads the journal", jail.name));
    }
    let remedy = format!("name a log file as 'source' of jail.{}, or start systemd-journald", jail.name);
    findings.bad("logs", format!("{}: reads the journal, and no journald runs", jail.name), remedy);
}

fn kernel_log(jails: &str, findings: &mut Findings) {
    let kmsg = crate::sources::KMSG;
    match File::open(kmsg) {
        Ok(_) => findings.ok("kernel log", format!("{kmsg} can be read, for {jails}")),
        Err(error) => {
            let message = format!("{kmsg} cannot be read ({error}); {jails} read the journal of the kernel instead");
            findings.warn("kernel log", message, "call banctl doctor as root; in a container, pass the device in");
        }
    }
    if Path::new(NF_LOG).exists() && !Path::new(ALL_NETNS).exists() {
        let message = "this is a container's network: its LOG rules write nothing unless the host lets them";
        findings.warn("kernel log", message, "on the host: sysctl -w net.netfilter.nf_log_all_netns=1");
    }
}

/// Whether a rule writes what the jails on packets wait for.
pub(super) fn rules(config: &Config, chains: &[Chain], findings: &mut Findings) {
    let problems = crate::config::problem::Problems::default();
    let used = |name: &str| config.enabled().any(|jail| jail.filter == name);
    let filters = crate::filters::Filters::load_those(&config.daemon.filters, used, &problems);
    let written: BTreeSet<&str> =
        chains.iter().flat_map(|chain| &chain.rules).filter_map(|rule| log_prefix(rule)).collect();
    for jail in config.enabled() {
        let Some(filter) = filters.get(&jail.filter) else { continue };
        let wanted = prefixes(jail, &filter);
        if wanted.is_empty() {
            continue;
        }
        let all = wanted.iter().cloned().collect::<Vec<_>>().join(", ");
        if wanted.iter().any(|prefix| written.contains(prefix.as_str())) {
            findings.ok("log rules", format!("{}: a rule logs packets with {all}", jail.name));
        } else {
            let message = format!("{}: it waits for packets logged with {all}, and no rule logs any", jail.name);
            findings.warn("log rules", message, log_rule(&filter, wanted.first().map_or("", String::as_str)));
        }
    }
}

/// The prefixes that a jail's filter goes by; none where it reads no packets.
fn prefixes(jail: &Jail, filter: &Filter) -> BTreeSet<String> {
    let own = if filter.needs_prefix() { Some(filter.with_prefixes(&jail.log_prefix)) } else { None };
    let patterns = &own.as_deref().unwrap_or(filter).patterns;
    let packets = patterns.iter().filter_map(|pattern| match &pattern.rule {
        Rule::Packet(packet) => Some(&packet.prefixes),
        Rule::Text(_) | Rule::Json(_) | Rule::Joined(_) => None,
    });
    packets.flatten().map(|prefix| String::from_utf8_lossy(prefix).into_owned()).collect()
}

/// A rule that would write them, as far as the filter says which packets those are.
fn log_rule(filter: &Filter, prefix: &str) -> String {
    let pings =
        |rule: &Rule| matches!(rule, Rule::Packet(packet) if packet.protocols.iter().any(|name| name == "ICMP"));
    let log = format!("-j LOG --log-prefix \"{prefix}:\"");
    let above = "-m hashlimit --hashlimit-mode srcip --hashlimit-above 1/s --hashlimit-burst 5 --hashlimit-name pings";
    if filter.patterns.iter().any(|pattern| pings(&pattern.rule)) {
        format!("iptables -A INPUT -p icmp --icmp-type echo-request {above} {log}; or [host] and 'banctl rules apply'")
    } else {
        format!("put a rule with '{log}' before the rule that drops these packets; or [host] and 'banctl rules apply'")
    }
}
