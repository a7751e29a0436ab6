//! What does not make sense together, though each value by itself does: within a jail, between jails, with the filters.

use std::collections::BTreeMap;

use super::document::nearest;
use super::problem::{Problem, Problems, Spot};
use super::{Config, Jail};
use crate::filters::Evidence;
use crate::sources::Choice;
use crate::time::{Length, format_duration};
use crate::windows::{Distinct, Spec};

/// What a configuration needs to know about a filter.
#[expect(clippy::struct_excessive_bools, reason = "they are facts, each for itself")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FilterFacts {
    /// It reads the kernel's packet log.
    pub(crate) kernel: bool,
    /// It goes by the LOG prefixes that its jail names.
    pub(crate) needs_prefix: bool,
    /// It says where its lines usually are: log files, units or identifiers of the journal.
    pub(crate) has_source: bool,
    /// Some of its patterns name the account that was tried.
    pub(crate) names_users: bool,
    /// The evidence of its patterns; the least of it, should they differ.
    pub(crate) evidence: Evidence,
}

/// Judges the settings among themselves.
pub(super) fn together(config: &Config, problems: &Problems) {
    if config.enabled().next().is_none() {
        let problem = Problem::of_file(&config.path, "no jail is switched on, so no log is watched");
        problems.push(problem.warning().hint("add one: [jail.sshd] with filter = \"sshd\""));
    }
    for jail in &config.jails {
        lengths(jail, problems);
    }
    if !problems.has_errors() {
        twins(config, problems);
    }
}

fn lengths(jail: &Jail, problems: &Problems) {
    if jail.ban.time > jail.ban.max {
        let message = format!("ban.time {} is longer than ban.max {}", jail.ban.time, jail.ban.max);
        let spot = jail.spots.ban.as_ref().or(jail.spots.inherited_ban.as_ref());
        complain(problems, jail, spot, message, "raise 'max' too");
    }
}

/// Two jails that do the same: most likely one was copied and not finished.
fn twins(config: &Config, problems: &Problems) {
    let same = |a: &Jail, b: &Jail| {
        (&a.filter, a.mode, &a.source, &a.log_prefix) == (&b.filter, b.mode, &b.source, &b.log_prefix)
            && (&a.window, &a.scope, a.prefix) == (&b.window, &b.scope, b.prefix)
    };
    let jails: Vec<&Jail> = config.enabled().collect();
    for (index, jail) in jails.iter().enumerate() {
        if let Some(twin) = jails.iter().take(index).find(|earlier| same(earlier, jail)) {
            let message = format!("jail {} counts the same lines in the same way as jail {}", jail.name, twin.name);
            let head = spot(jail, None);
            problems.push(head.problem(message).warning().hint("give it another filter, source or window"));
        }
    }
}

/// Judges the jails that are switched on against the filters that exist.
pub(crate) fn check(config: &Config, known: &BTreeMap<String, FilterFacts>, problems: &Problems) {
    for jail in config.enabled() {
        match known.get(&jail.filter) {
            Some(facts) => suits(config, jail, *facts, problems),
            None => unknown(jail, known, problems),
        }
    }
}

/// Names that a hint may list.
const FEW: usize = 12;

fn unknown(jail: &Jail, known: &BTreeMap<String, FilterFacts>, problems: &Problems) {
    let names: Vec<&str> = known.keys().map(String::as_str).collect();
    let typed = if jail.filter.is_empty() { &jail.name } else { &jail.filter };
    let hint = match nearest(typed, &names) {
        Some(name) if jail.filter.is_empty() => format!("filter = \"{name}\", perhaps"),
        Some(name) => format!("did you mean \"{name}\"?"),
        None if names.is_empty() => "no filter was found in the folders of daemon.filters".to_owned(),
        None if names.len() <= FEW => format!("filters found: {}", names.join(", ")),
        None => "'banctl filters' lists those that there are".to_owned(),
    };
    if jail.filter.is_empty() {
        return complain(problems, jail, None, format!("jail {} names no filter", jail.name), &hint);
    }
    let message = format!("there is no filter \"{}\"", jail.filter.escape_debug());
    complain(problems, jail, jail.spots.filter.as_ref(), message, &hint);
}

fn suits(config: &Config, jail: &Jail, facts: FilterFacts, problems: &Problems) {
    let (name, filter) = (&jail.name, &jail.filter);
    if facts.needs_prefix && jail.spots.log_prefix.is_none() {
        let message = format!("jail {name}: filter \"{filter}\" goes by a LOG prefix, and none is named");
        let hint = "add log_prefix = \"MY-DROP:\", as in the rule's --log-prefix";
        complain(problems, jail, jail.spots.filter.as_ref(), message, hint);
    }
    if !facts.needs_prefix && !jail.log_prefix.is_empty() {
        let message = format!("jail {name}: filter \"{filter}\" takes no log_prefix");
        complain(problems, jail, jail.spots.log_prefix.as_ref(), message, "use filter = \"netfilter\"");
    }
    if jail.source == Choice::Kernel && !facts.kernel {
        let message = format!("jail {name}: filter \"{filter}\" does not read the kernel's log");
        complain(problems, jail, jail.spots.source.as_ref(), message, "use source = \"auto\"");
    }
    if jail.source == Choice::Auto && !facts.has_source {
        let message = format!("jail {name}: filter \"{filter}\" does not say where its lines are");
        let spot = jail.spots.source.as_ref().or(jail.spots.filter.as_ref());
        let hint = if facts.kernel { "\"kernel\"" } else { "{ files = [\"/var/log/NAME.log\"] }" };
        complain(problems, jail, spot, message, &format!("set source = {hint}"));
    }
    distinct(jail, facts, problems);
    forgeable(config, jail, facts, problems);
}

/// Says when a window waits for what its filter never tells.
fn distinct(jail: &Jail, facts: FilterFacts, problems: &Problems) {
    let Spec::Distinct { of, .. } = &jail.window else { return };
    let (told, what, hint) = match of {
        Distinct::Ports => (facts.kernel, "ports", "only kernel filters do"),
        Distinct::Sources if facts.names_users && facts.evidence == Evidence::Forgeable => {
            (false, "proven sources of what users were tried", "leave 'distinct' out: its evidence can be forged")
        }
        Distinct::Users | Distinct::Sources => (facts.names_users, "users", "leave 'distinct' out"),
    };
    if !told {
        let message =
            format!("jail {}: filter \"{}\" names no {what}, so the window never overflows", jail.name, jail.filter);
        complain(problems, jail, None, message, hint);
    }
}

/// Says when a jail asks for longer bans than its evidence can make.
fn forgeable(config: &Config, jail: &Jail, facts: FilterFacts, problems: &Problems) {
    let Some(spot) = &jail.spots.ban else { return };
    if facts.evidence == Evidence::Forgeable && jail.ban.time > Length::For(config.budget.max) {
        let (name, time, max) = (&jail.name, jail.ban.time, format_duration(config.budget.max));
        let message = format!("jail {name}: its evidence can be forged, so it bans for {max} at most, not {time}");
        problems.push(spot.problem(message).warning().hint("budget.max says how long"));
    }
}

fn complain(problems: &Problems, jail: &Jail, place: Option<&Spot>, message: String, hint: &str) {
    problems.push(spot(jail, place).problem(message).hint(hint));
}

/// A place in the jail, or its head.
fn spot(jail: &Jail, place: Option<&Spot>) -> Spot {
    place.or(jail.spots.head.as_ref()).cloned().expect("a jail comes from a file, which set its head")
}
