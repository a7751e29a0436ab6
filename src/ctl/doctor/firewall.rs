//! The firewall: tools, our rules and their order, the rules of others. Everything is read, nothing is changed.

use std::path::Path;

use super::tables::{Chain, Origin, accepts_established, listed, saved};
use super::{Findings, neighbours};
use crate::config::{Config, Mode};
use crate::control::Status;
use crate::firewall::{Choice, FirewallError, Settings, command, traces};
use crate::text::plural;

/// Tools of each kind: to list rules, to make them.
const IPTABLES: [&str; 4] = ["iptables-save", "ip6tables-save", "iptables-restore", "ip6tables-restore"];
const NFT: &str = "nft";

pub(super) fn check(config: &Config, status: Option<&Status>, findings: &mut Findings) {
    let settings = &config.firewall;
    if settings.backend == Choice::None || config.daemon.mode == Mode::Observe {
        let remedy = "firewall.backend = \"auto\" and daemon.mode = \"enforce\" block";
        return findings.warn("backend", "none, by the configuration: nobody is blocked", remedy);
    }
    let backend = backend(settings, status);
    tools(backend, status, findings);
    let chains = match chains() {
        Ok(chains) => chains,
        Err(error) => {
            return findings.warn("rules", format!("they cannot be looked at: {error}"), "call banctl doctor as root");
        }
    };
    variants(&chains, settings, findings);
    match backend {
        Some(Choice::Nftables) => our_table(&chains, settings, findings),
        Some(Choice::Iptables | Choice::Plain) => our_jumps(&chains, settings, findings),
        _ => findings.bad("hooks", "this machine has no rules of ours", "start the daemon: systemctl start banward"),
    }
    offload(&chains, findings);
    neighbours::check(Path::new("/"), &chains, settings, findings);
    super::logs::rules(config, &chains, findings);
}

/// The backend in use: as the daemon says, as configured, or by what it has left in the kernel.
fn backend(settings: &Settings, status: Option<&Status>) -> Option<Choice> {
    let told = status.and_then(|status| Choice::named(&status.backend));
    let configured = Some(settings.backend).filter(|backend| *backend != Choice::Auto);
    told.or(configured).or_else(|| traces(settings).first().copied())
}

fn tools(backend: Option<Choice>, status: Option<&Status>, findings: &mut Findings) {
    let path = |tool| command::find(tool).map(|path| path.display().to_string());
    let iptables: Vec<String> = IPTABLES.into_iter().filter_map(path).collect();
    let (whole, nft) = (iptables.len() == IPTABLES.len(), path(NFT));
    let found = match backend {
        Some(Choice::Iptables | Choice::Plain) if !whole => {
            let remedy = "install the package iptables";
            return findings.bad("backend", "iptables is in use, and some of its tools are missing", remedy);
        }
        Some(Choice::Nftables) if nft.is_none() => {
            let remedy = "install the package nftables";
            return findings.bad("backend", "nftables is in use, and nft is missing", remedy);
        }
        Some(Choice::Nftables) => nft.unwrap_or_default(),
        _ if whole => iptables.join(", "),
        _ => {
            let Some(nft) = nft else {
                let remedy = "install the package iptables or nftables";
                return findings.bad("backend", "neither iptables nor nft is installed", remedy);
            };
            nft
        }
    };
    let why = status.map_or("not opened, as no daemon runs", |status| &status.backend_reason);
    let name = backend
        .and_then(|backend| Choice::WORDS.into_iter().find(|(_, choice)| *choice == backend))
        .map_or("auto", |(word, _)| word);
    let message = format!("{name} ({why}); tools: {found}");
    match backend {
        Some(Choice::Plain) => {
            let remedy = "install ipset or nftables, where bans cost packets nothing and there may be a million";
            findings.warn("backend", message, remedy);
        }
        _ => findings.ok("backend", message),
    }
}

/// All chains that the tools of this machine know of.
fn chains() -> Result<Vec<Chain>, FirewallError> {
    let mut chains = Vec::new();
    let legacy = ["iptables-legacy-save", "ip6tables-legacy-save"];
    let nf_tables = ["iptables-nft-save", "ip6tables-nft-save"];
    let both = [legacy[0], nf_tables[0]].iter().all(|tool| command::find(tool).is_some());
    let variants = if both {
        vec![(nf_tables, Origin::Iptables), (legacy, Origin::Legacy)]
    } else {
        vec![(["iptables-save", "ip6tables-save"], Origin::Iptables)]
    };
    for (tools, origin) in variants {
        for (tool, ipv6) in tools.into_iter().zip([false, true]) {
            if command::find(tool).is_some() && (!ipv6 || has_ipv6()) {
                match command::run(tool, &[], "") {
                    Ok(text) => chains.extend(saved(&text, origin, ipv6)),
                    // A kernel without iptables-legacy has no rules in it.
                    Err(FirewallError::ModuleMissing { .. }) if origin == Origin::Legacy => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }
    if command::find(NFT).is_some() {
        // Without the elements of sets, which may be a million.
        chains.extend(listed(&command::run(NFT, &["-t", "list", "ruleset"], "")?));
    }
    Ok(chains)
}

fn has_ipv6() -> bool {
    Path::new("/proc/thread-self/net/if_inet6").exists()
}

/// Rules in both kinds of iptables: each is listed by one tool only, and packets pass both.
fn variants(chains: &[Chain], settings: &Settings, findings: &mut Findings) {
    let ours = settings.chain.as_str();
    let jump = format!("-j {ours}");
    let foreign = |origin| {
        let of = chains.iter().filter(move |chain| chain.origin == origin && !chain.name.starts_with(ours));
        of.flat_map(|chain| &chain.rules).filter(|rule| !rule.starts_with(&jump)).count()
    };
    match (foreign(Origin::Iptables), foreign(Origin::Legacy)) {
        (0, _) | (_, 0) => findings.ok("variants", "the rules of others are in one kind of iptables at most"),
        (nf_tables, legacy) => findings.warn(
            "variants",
            format!("both kinds of iptables hold rules: {nf_tables} in nf_tables, {legacy} in legacy"),
            "packets pass both; move the rules to one: iptables-legacy-save shows the others",
        ),
    }
}

/// What is wrong with the way of packets to our chain in one family.
struct Way {
    /// Chains whose first rule is our jump.
    first: Vec<String>,
    missing: Vec<String>,
    /// Chain, and what stands before our jump.
    late: Vec<(String, Vec<String>)>,
}

fn our_jumps(chains: &[Chain], settings: &Settings, findings: &mut Findings) {
    let ours = settings.chain.as_str();
    let holders: Vec<&Chain> =
        chains.iter().filter(|chain| chain.origin != Origin::Nft && chain.name == ours).collect();
    let remedy = "the daemon puts it right within 2 s; if not, banctl status says why";
    let mut wrong = false;
    let mut first = Vec::new();
    for (ipv6, family) in [(false, "IPv4"), (true, "IPv6")] {
        if ipv6 && !has_ipv6() {
            continue;
        }
        let Some(holder) = holders.iter().find(|chain| chain.ipv6 == ipv6) else {
            findings.bad("hooks", format!("{family}: there is no chain {ours}, so nobody is blocked"), remedy);
            wrong = true;
            continue;
        };
        let way = way(chains, holder, settings);
        for hook in &way.missing {
            findings.bad("hooks", format!("{family}: nothing leads from {hook} to {ours}"), remedy);
        }
        for (hook, before) in &way.late {
            late(family, hook, before, findings);
        }
        wrong |= !way.missing.is_empty() || !way.late.is_empty();
        first.push(format!("{} ({family})", way.first.join(", ")));
    }
    if !wrong {
        findings.ok("hooks", format!("the jump to {ours} is the first rule of {}", first.join("; ")));
        findings.ok("established", "open connections of a banned source end with its ban: no rule comes before ours");
    }
}

fn way(chains: &[Chain], holder: &Chain, settings: &Settings) -> Way {
    let mut way = Way { first: Vec::new(), missing: Vec::new(), late: Vec::new() };
    let jump = format!("-j {}", holder.name);
    let mut wanted: Vec<(&str, String)> = settings.hooks.iter().map(|hook| (hook.as_str(), jump.clone())).collect();
    // Where it is not for all bans, it is there for those of jails that want it.
    let egress = format!("{}-OUT", holder.name);
    let has_egress = |chain: &Chain| chain.origin == holder.origin && chain.ipv6 == holder.ipv6 && chain.name == egress;
    if settings.egress || chains.iter().any(has_egress) {
        wanted.push(("OUTPUT", format!("{jump}-OUT")));
    }
    for (hook, jump) in wanted {
        let is_hook = |chain: &&Chain| {
            let same = chain.origin == holder.origin && chain.ipv6 == holder.ipv6;
            same && chain.table == "filter" && chain.name == hook
        };
        // One that does not exist, such as Docker's, gets its jump when it appears.
        let Some(chain) = chains.iter().find(is_hook) else { continue };
        match chain.rules.iter().position(|rule| *rule == jump) {
            None => way.missing.push(hook.to_owned()),
            Some(0) => way.first.push(hook.to_owned()),
            Some(place) => way.late.push((hook.to_owned(), chain.rules[..place].to_vec())),
        }
    }
    way
}

fn late(family: &str, hook: &str, before: &[String], findings: &mut Findings) {
    let remedy = "the daemon moves its jump to the front within 2 s; who puts rules before it again and again?";
    let (rules, first) = (plural(before.len() as u64, "rule"), before.first().map_or("", String::as_str));
    findings.warn("hooks", format!("{family}: {rules} of {hook} before our jump, the first is '{first}'"), remedy);
    if let Some(rule) = before.iter().find(|rule| accepts_established(rule)) {
        let message = format!("{family}: open connections of a banned source go on, by '{rule}' in {hook}");
        findings.bad("established", message, remedy);
    }
}

/// In nftables no order of tables lets a packet off: one that another table accepts comes to ours all the same.
fn our_table(chains: &[Chain], settings: &Settings, findings: &mut Findings) {
    let table = format!("inet {}", settings.chain.as_str().to_ascii_lowercase());
    let stops = |rule: &String| rule.contains(" daddr ");
    let egress = chains
        .iter()
        .any(|chain| chain.table == table && chain.name == "destinations" && chain.rules.iter().any(stops));
    let hooked = |names: &[&str]| settings.hooks.iter().any(|hook| names.contains(&hook.as_str()));
    let wanted = [
        ("input", "jump sources", hooked(&["INPUT"])),
        ("forward", "jump sources", hooked(&["FORWARD", "DOCKER-USER"])),
        ("output", "jump destinations", settings.egress || egress),
    ];
    let remedy = "the daemon puts it right within 2 s; if not, banctl status says why";
    let mut priorities = Vec::new();
    for (hook, jump, _) in wanted.iter().filter(|(.., wanted)| *wanted) {
        let chain =
            chains.iter().find(|chain| chain.origin == Origin::Nft && chain.table == table && chain.name == *hook);
        let rules = chain.map(|chain| chain.rules.as_slice()).unwrap_or_default();
        let head = rules.iter().find(|rule| rule.starts_with("type filter hook"));
        let jumps = rules.iter().any(|rule| rule == jump);
        match head.filter(|_| jumps) {
            Some(head) => priorities.push(head.split(';').next().unwrap_or_default().to_owned()),
            None => findings.bad("hooks", format!("table {table}: no packet of {hook} is looked at"), remedy),
        }
    }
    let count = wanted.iter().filter(|(.., wanted)| *wanted).count();
    if priorities.len() == count {
        findings.ok("hooks", format!("table {table}: {}", priorities.join(", ")));
        let message =
            "open connections of a banned source end with its ban: no table that accepts keeps packets from ours";
        findings.ok("established", message);
    }
}

/// Packets of connections that were offloaded pass no rule.
fn offload(chains: &[Chain], findings: &mut Findings) {
    let flow =
        |rule: &String| rule.contains("flow add @") || rule.contains("flow offload @") || rule.contains("FLOWOFFLOAD");
    if let Some(chain) = chains.iter().find(|chain| chain.rules.iter().any(flow)) {
        let message = format!(
            "connections offloaded by {} of table {} pass no rule while they are open",
            chain.name, chain.table
        );
        findings.warn("offload", message, "end those of a banned source: conntrack -D -s ADDRESS");
    }
}
