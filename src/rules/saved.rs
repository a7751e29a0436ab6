//! What stands in the tables of iptables, as `iptables-save` tells it; and the input of `iptables-restore --noflush` that
//! brings a table to what is wanted, in one step. Text in, text out. No chain of others is ever changed but for the one
//! jump to ours.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::iptables::{PREFIX, TABLES, Table, Tables};

/// Targets that end with a verdict, so that a rule with one is no jump to another tool's chain.
const BUILT_IN: [&str; 14] = [
    "ACCEPT",
    "DROP",
    "REJECT",
    "RETURN",
    "LOG",
    "NFLOG",
    "QUEUE",
    "NFQUEUE",
    "MARK",
    "CT",
    "DNAT",
    "SNAT",
    "MASQUERADE",
    "REDIRECT",
];

/// Where a rule leads.
pub(super) fn target(rule: &str) -> Option<&str> {
    let mut words = rule.split(' ');
    words.find(|word| *word == "-j" || *word == "-g")?;
    words.next()
}

fn is_ours(chain: &str) -> bool {
    chain.strip_prefix(PREFIX).is_some_and(|rest| rest.starts_with('-'))
}

/// What stands in a table of the kernel, as `iptables-save` tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) ours: Table,
    /// Every rule of a chain that is not ours: the chain and the rule.
    foreign: Vec<(String, String)>,
}

/// Reads the output of `iptables-save`, all tables of it.
pub(crate) fn views(save: &str) -> BTreeMap<String, View> {
    let mut views: BTreeMap<String, View> = BTreeMap::new();
    let mut table = String::new();
    for line in save.lines() {
        if let Some(name) = line.strip_prefix('*') {
            name.trim().clone_into(&mut table);
            views.entry(table.clone()).or_default();
        }
        let Some(view) = views.get_mut(&table) else { continue };
        if let Some(chain) = line.strip_prefix(':').and_then(|rest| rest.split(' ').next()) {
            if is_ours(chain) {
                view.ours.chains.entry(chain.to_owned()).or_default();
            }
            continue;
        }
        // Saved with counters, a rule begins with them.
        let rule = if line.starts_with('[') { line.split_once("] ").map_or(line, |(_, rule)| rule) } else { line };
        let Some((chain, rule)) = rule.strip_prefix("-A ").and_then(|rest| rest.split_once(' ')) else { continue };
        if is_ours(chain) {
            view.ours.chains.entry(chain.to_owned()).or_default().push(rule.to_owned());
            continue;
        }
        if let Some(to) = target(rule).filter(|to| is_ours(to)) {
            view.ours.jumps.push((chain.to_owned(), to.to_owned()));
        }
        view.foreign.push((chain.to_owned(), rule.to_owned()));
    }
    views
}

impl View {
    /// At which position of a chain our jump belongs: behind the leading jumps to other tools' chains, such as
    /// Banward's own bans and those of others, and before all rules that decide by themselves.
    fn position(&self, hook: &str) -> usize {
        let rules = self.foreign.iter().filter(|(chain, rule)| chain == hook && !leads_to_us(rule));
        let jumps = rules.take_while(|(_, rule)| target(rule).is_some_and(|to| !BUILT_IN.contains(&to)));
        jumps.count() + 1
    }

    /// Whether the jumps are those, each once and in its place.
    fn jumps_are(&self, wanted: &[(String, String)]) -> bool {
        let in_place = |(hook, to): &(String, String)| {
            let rules: Vec<&String> =
                self.foreign.iter().filter(|(chain, _)| chain == hook).map(|(_, rule)| rule).collect();
            rules.get(self.position(hook) - 1).is_some_and(|rule| **rule == format!("-j {to}"))
        };
        self.ours.jumps.len() == wanted.len() && wanted.iter().all(in_place)
    }

    /// The rules of others that lead packets away before ours see them.
    pub(crate) fn before(&self, hook: &str) -> impl Iterator<Item = &str> {
        let rules = self.foreign.iter().filter(move |(chain, rule)| chain == hook && !leads_to_us(rule));
        rules.map(|(_, rule)| rule.as_str()).take(self.position(hook) - 1)
    }

    /// Whether the table is as wanted.
    pub(crate) fn is(&self, wanted: &Table) -> bool {
        self.ours.chains == wanted.chains && self.jumps_are(&wanted.jumps)
    }

    /// The input of `iptables-restore --noflush` that makes the table so; `None` when it is so.
    pub(crate) fn script(&self, name: &str, wanted: &Table) -> Option<String> {
        if self.is(wanted) {
            return None;
        }
        let mut script = format!("*{name}\n");
        for chain in wanted.chains.keys() {
            // Naming a chain empties it, within the same step that fills it.
            let _ = writeln!(script, ":{chain} - [0:0]");
        }
        for (chain, rule) in self.foreign.iter().filter(|(_, rule)| leads_to_us(rule)) {
            let _ = writeln!(script, "-D {chain} {rule}");
        }
        for (chain, rules) in &wanted.chains {
            for rule in rules {
                let _ = writeln!(script, "-A {chain} {rule}");
            }
        }
        for (hook, to) in &wanted.jumps {
            let _ = writeln!(script, "-I {hook} {} -j {to}", self.position(hook));
        }
        let gone: Vec<&String> = self.ours.chains.keys().filter(|chain| !wanted.chains.contains_key(*chain)).collect();
        for command in ["-F", "-X"] {
            for chain in &gone {
                let _ = writeln!(script, "{command} {chain}");
            }
        }
        script.push_str("COMMIT\n");
        Some(script)
    }
}

fn leads_to_us(rule: &str) -> bool {
    target(rule).is_some_and(is_ours)
}

/// The input of `iptables-restore --noflush` for a machine of which nothing is known but that our chains are not there.
pub(crate) fn fresh(tables: &Tables) -> String {
    let scripts = TABLES.iter().filter_map(|name| View::default().script(name, tables.get(*name)?));
    scripts.collect()
}

/// Our chains in a saved text.
pub(crate) fn ours(save: &str) -> Tables {
    let tables = views(save).into_iter().map(|(name, view)| (name, view.ours));
    tables.filter(|(_, table)| !table.chains.is_empty()).collect()
}

/// A saved text without the chains of the bans: those match sets that are not there yet when it is loaded at boot, and
/// then nothing of it would be. The daemon makes them itself.
pub(crate) fn without_bans(save: &str, chain: &str) -> String {
    let bans = [chain.to_owned(), format!("{chain}-OUT")];
    let is_theirs = |name: &str| bans.iter().any(|ban| ban == name);
    let mut text = String::with_capacity(save.len());
    for line in save.lines() {
        let declared = line.strip_prefix(':').and_then(|rest| rest.split(' ').next());
        let rule = if line.starts_with('[') { line.split_once("] ").map_or(line, |(_, rule)| rule) } else { line };
        let added = rule.strip_prefix("-A ").and_then(|rest| rest.split(' ').next());
        let leads = added.and_then(|_| target(rule));
        if ![declared, added, leads].into_iter().flatten().any(is_theirs) {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

/// How the names of drafts begin: rules that nothing leads to.
const DRAFT: &str = "BANWARD-DRAFT";

/// The input of `iptables-restore --noflush` that makes our chains as drafts.
pub(crate) fn draft(tables: &Tables) -> String {
    let mut loose = tables.clone();
    for table in loose.values_mut() {
        table.jumps.clear();
    }
    fresh(&loose).replace(PREFIX, DRAFT)
}

/// And the one that takes them away.
pub(crate) fn draft_removal(tables: &Tables) -> String {
    let mut script = String::new();
    for (name, table) in tables {
        let _ = writeln!(script, "*{name}");
        for chain in table.chains.keys() {
            let _ = writeln!(script, ":{chain} - [0:0]");
        }
        for chain in table.chains.keys() {
            let _ = writeln!(script, "-X {chain}");
        }
        script.push_str("COMMIT\n");
    }
    script.replace(PREFIX, DRAFT)
}

/// Our chains as their drafts were saved, with the jumps that are wanted.
pub(crate) fn undrafted(save: &str, wanted: &Tables) -> Tables {
    let lines: Vec<&str> = save.lines().filter(|line| line.starts_with('*') || line.contains(DRAFT)).collect();
    let mut tables = ours(&lines.join("\n").replace(DRAFT, PREFIX));
    for (name, table) in &mut tables {
        table.jumps = wanted.get(name).map(|wanted| wanted.jumps.clone()).unwrap_or_default();
    }
    tables
}
