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

/// What to do where rules of ours are amiss and the daemon runs, or does not.
const SOON: &str = "the daemon puts it right within 2 s; if not, banctl status says why";
const START: &str = "start the daemon: systemctl start banward";
/// What to do where `firewall.hooks` leads nowhere.
const HOOKS: &str = "firewall.hooks = [\"INPUT\", \"FORWARD\", \"DOCKER-USER\"], then banctl reload";

pub(super) fn check(config: &Config, status: Option<&Status>, findings: &mut Findings) {
    let settings = &config.firewall;
    if settings.backend == Choice::None || config.daemon.mode == Mode::Observe {
        let remedy = "firewall.backend = \"auto\" and daemon.mode = \"enforce\" block";
        return findings.warn("backend", "none, by the configuration: nobody is blocked", remedy);
    }
    let backend = backend(settings, status);
    tools(backend, status, findings);
    if IPTABLES.into_iter().chain([NFT]).all(|tool| command::find(tool).is_none()) {
        // There is nothing to look with.
        return;
    }
    let chains = match chains() {
        Ok(chains) => chains,
        Err(error) => {
            let error = error.to_string();
            // Each says what to do about it.
            let (why, remedy) = error.rsplit_once("; ").unwrap_or((&error, "see what keeps the tool from working"));
            let is_root = rustix::process::geteuid().is_root();
            let remedy = if is_root { remedy } else { "call banctl doctor as root" };
            return findings.warn("rules", format!("they cannot be looked at: {why}"), remedy);
        }
    };
    variants(&chains, settings, findings);
    let guarded = status.is_some();
    match backend {
        Some(Choice::Nftables) => our_table(&chains, settings, guarded, findings),
        Some(Choice::Iptables | Choice::Plain) => our_jumps(&chains, settings, guarded, findings),
        _ => findings.bad("hooks", "this machine has no rules of ours", START),
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
            let missing: Vec<&str> = IPTABLES.into_iter().filter(|tool| command::find(tool).is_none()).collect();
            let message = match missing.len() {
                all if all == IPTABLES.len() => "the backend is iptables, which is not installed".to_owned(),
                _ => format!("the backend is iptables, of which is missing: {}", missing.join(", ")),
            };
            return findings.bad("backend", message, "install the package iptables");
        }
        Some(Choice::Nftables) if nft.is_none() => {
            let remedy = "install the package nftables";
            return findings.bad("backend", "the backend is nftables, and nft is not installed", remedy);
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
    /// Whether a chain is there in which packets of banned sources are to be met.
    met: bool,
}

/// The chains of `firewall.hooks`, in a sentence.
fn named(settings: &Settings) -> String {
    settings.hooks.join(" or ")
}

fn our_jumps(chains: &[Chain], settings: &Settings, guarded: bool, findings: &mut Findings) {
    let ours = settings.chain.as_str();
    let holders: Vec<&Chain> =
        chains.iter().filter(|chain| chain.origin != Origin::Nft && chain.name == ours).collect();
    let (mut wrong, remedy) = (false, if guarded { SOON } else { START });
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
            late(family, hook, before, guarded, findings);
        }
        if !way.met {
            let hooks = named(settings);
            let message = format!("{family}: no chain is called {hooks}, so no packet of a banned source is looked at");
            findings.bad("hooks", message, HOOKS);
        }
        wrong |= !way.met || !way.missing.is_empty() || !way.late.is_empty();
        first.push(format!("{} ({family})", way.first.join(", ")));
    }
    if !wrong {
        findings.ok("hooks", format!("the jump to {ours} is the first rule of {}", first.join("; ")));
        findings.ok("established", "open connections of a banned source end with its ban: no rule comes before ours");
    }
}

fn way(chains: &[Chain], holder: &Chain, settings: &Settings) -> Way {
    let mut way = Way { first: Vec::new(), missing: Vec::new(), late: Vec::new(), met: false };
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
        way.met |= !jump.ends_with("-OUT");
        match chain.rules.iter().position(|rule| *rule == jump) {
            None => way.missing.push(hook.to_owned()),
            Some(0) => way.first.push(hook.to_owned()),
            Some(place) => way.late.push((hook.to_owned(), chain.rules[..place].to_vec())),
        }
    }
    way
}

fn late(family: &str, hook: &str, before: &[String], guarded: bool, findings: &mut Findings) {
    let front = "the daemon moves its jump to the front within 2 s; who puts rules before it again and again?";
    let remedy = if guarded { front } else { START };
    let (rules, first) = (plural(before.len() as u64, "rule"), before.first().map_or("", String::as_str));
    findings.warn("hooks", format!("{family}: {rules} of {hook} before our jump, the first is '{first}'"), remedy);
    if let Some(rule) = before.iter().find(|rule| accepts_established(rule)) {
        let message = format!("{family}: open connections of a banned source go on, by '{rule}' in {hook}");
        findings.bad("established", message, remedy);
    }
}

/// In nftables no order of tables lets a packet off: one that another table accepts comes to ours all the same.
fn our_table(chains: &[Chain], settings: &Settings, guarded: bool, findings: &mut Findings) {
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
    let [(.., input), (.., forward), _] = wanted;
    if !(input || forward) {
        let message =
            format!("table {table}: {} is no hook, so no packet of a banned source is looked at", named(settings));
        return findings.bad("hooks", message, HOOKS);
    }
    let remedy = if guarded { SOON } else { START };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::doctor::Verdict;

    /// What is found with these hooks where our chain and table stand, as the daemon would have made them.
    fn found(hooks: &[&str], backend: Choice, guarded: bool) -> Vec<(Verdict, String, Option<String>)> {
        let settings =
            Settings { hooks: hooks.iter().map(|hook| (*hook).to_owned()).collect(), ..Config::built_in().firewall };
        let mut findings = Findings::default();
        if backend == Choice::Nftables {
            let text = "table inet banward {\n\tchain output {\n\t\ttype filter hook output priority filter; policy accept;\n\
                        \t\tjump destinations\n\t}\n}\n";
            our_table(&listed(text), &settings, guarded, &mut findings);
        } else {
            let text = "*filter\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:BANWARD - [0:0]\n:BANWARD-OUT - [0:0]\n\
                        -A OUTPUT -j BANWARD-OUT\nCOMMIT\n";
            let both = [false, true].map(|ipv6| saved(text, Origin::Iptables, ipv6));
            our_jumps(&both.into_iter().flatten().collect::<Vec<_>>(), &settings, guarded, &mut findings);
        }
        findings.0.into_iter().map(|finding| (finding.verdict, finding.message, finding.remedy)).collect()
    }

    #[test]
    fn hooks_that_lead_nowhere_are_bad() {
        for (backend, hooks) in [(Choice::Iptables, &["INPTU", "input"][..]), (Choice::Nftables, &["input"])] {
            let found = found(hooks, backend, true);
            assert!(!found.is_empty(), "{backend:?}");
            for (verdict, message, remedy) in found {
                assert!(verdict == Verdict::Bad && message.contains("no packet of a banned source"), "{message}");
                assert_eq!(remedy.as_deref(), Some(HOOKS));
            }
        }
    }

    #[test]
    fn what_is_amiss_is_put_right_by_the_daemon_if_one_runs() {
        for backend in [Choice::Iptables, Choice::Nftables] {
            let remedies = [true, false].map(|guarded| found(&["INPUT"], backend, guarded).remove(0).2);
            assert_eq!(remedies, [SOON, START].map(|remedy| Some(remedy.to_owned())), "{backend:?}");
        }
    }
}
