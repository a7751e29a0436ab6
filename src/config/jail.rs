//! Reads jails, and `[defaults]`, which is read as if it were part of each.

use std::collections::BTreeMap;
use std::time::Duration;

use super::document::{Parsed, Table, Value};
use super::file::{number, set, span};
use super::problem::Problems;
use super::text::{Ports, Rate};
use super::{Jail, JailSpots, MAX_JAILS, MAX_PORTS, Stages};
use crate::filters;
use crate::ledger::limit::LONGEST_REFILL;
use crate::ledger::{Direction, Extent, Port, Stage, Target};
use crate::policy::PrefixLengths;
use crate::policy::widen::Widen;
use crate::time::Length;
use crate::{sources, windows};

/// Longest window. Hits older than this say nothing about now.
const MAX_WINDOW: u64 = 366 * 86_400;

/// The jails of all files, each key over those of the files before. `template` is what `[defaults]` made of a jail.
pub(super) fn read_jails(template: &Jail, files: &[Parsed<'_>], problems: &Problems) -> Vec<Jail> {
    let mut jails: BTreeMap<String, Jail> = BTreeMap::new();
    for file in files {
        let Some(section) = file.root(problems).table("jail") else { continue };
        for (name, value) in section.entries() {
            if !is_jail_name(name) {
                let problem = value.problem(format!("\"{}\" cannot name a jail", name.escape_debug()));
                let hint = "a name has at most 64 of A-Z a-z 0-9 . _ - and is not 'manual'";
                value.complain(problem.hint(hint));
            } else if let Some(table) = value.table() {
                let jail = jails.entry(name.to_owned());
                read_jail(jail.or_insert_with(|| like(template, name)), table);
            }
        }
        if jails.len() > MAX_JAILS {
            section.complain(section.problem(format!("there are more than {MAX_JAILS} jails")));
        }
    }
    jails.into_values().collect()
}

/// A jail of which nothing but the name is known.
fn like(template: &Jail, name: &str) -> Jail {
    let spots = JailSpots { inherited_ban: template.spots.ban.clone(), ..JailSpots::default() };
    Jail { name: name.to_owned(), spots, ..template.clone() }
}

/// `manual` and `list:NAME` are what bans that come from no jail say instead of one.
fn is_jail_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=64).contains(&name.len()) && name.bytes().all(allowed) && !name.starts_with('-') && name != "manual"
}

fn read_jail(jail: &mut Jail, table: Table<'_>) {
    let strictness = [("normal", filters::Mode::Normal), ("aggressive", filters::Mode::Aggressive)];
    set(&mut jail.enabled, table.bool("enabled"));
    set(&mut jail.filter, table.string("filter").map(str::to_owned));
    set(&mut jail.mode, table.choice("mode", &strictness));
    set(&mut jail.source, table.get("source").and_then(source));
    if let Some(ports) = table.get("ports").and_then(ports) {
        jail.scope = jail.scope.with(|extent| extent.ports = ports);
    }
    set(&mut jail.log_prefix, table.get("log_prefix").and_then(log_prefixes));
    read_rules(jail, &table);
    if let Some(limit) = table.get("limit").filter(|_| !jail.stages.gentle) {
        let problem = limit.problem("this jail drops at once, so nothing is limited");
        limit.complain(problem.hint("write stage = [\"limit\", \"drop\"], or leave 'limit' out").warning());
    }

    let spot = |key| table.get(key).map(Value::spot);
    jail.spots.head = Some(table.spot());
    for (slot, key) in [
        (&mut jail.spots.filter, "filter"),
        (&mut jail.spots.source, "source"),
        (&mut jail.spots.log_prefix, "log_prefix"),
    ] {
        set(slot, spot(key).map(Some));
    }
    table.finish();
}

/// What `[defaults]` sets for all jails and each may set for itself.
pub(super) fn read_rules(jail: &mut Jail, table: &Table<'_>) {
    set(&mut jail.window, table.table("window").and_then(window));
    jail.scope = jail.scope.with(|extent| read_scope(extent, table));
    read_stages(&mut jail.stages, table);
    if let Some(ban) = table.table("ban") {
        set(&mut jail.ban.time, ban.get("time").and_then(length));
        set(&mut jail.ban.factor, number(&ban, "factor", 1, 1000));
        set(&mut jail.ban.max, ban.get("max").and_then(length));
        set(&mut jail.ban.forget, ban.get("forget").and_then(length));
        set(&mut jail.ban.decay, ban.get("decay").and_then(length));
        set(&mut jail.ban.jitter, number(&ban, "jitter", 0, 100));
        set(&mut jail.ban.mercy, ban.bool("mercy"));
        jail.spots.ban = Some(ban.spot());
        ban.finish();
    }
    if let Some(prefix) = table.table("prefix") {
        set(&mut jail.prefix.ipv4, number(&prefix, "ipv4", 8, 32));
        set(&mut jail.prefix.ipv6, number(&prefix, "ipv6", 32, 128));
        prefix.finish();
    }
    if let Some(table) = table.table("widen") {
        read_widen(&mut jail.widen, &table);
        table.finish();
    }
    set(&mut jail.track, number(table, "track", 1, 10_000_000));
}

fn read_scope(extent: &mut Extent, table: &Table<'_>) {
    set(&mut extent.interface, table.parse("interface", "the name of a network interface").map(Some));
    set(&mut extent.direction, table.choice("direction", &Direction::WORDS).map(Some));
    set(&mut extent.target, table.choice("target", &Target::WORDS).map(Some));
}

fn read_stages(stages: &mut Stages, table: &Table<'_>) {
    if let Some(value) = table.get("stage") {
        let words: Option<Vec<Stage>> = value.items().into_iter().map(|item| item.choice(&Stage::WORDS)).collect();
        match words.as_deref() {
            Some([Stage::Limit, Stage::Drop]) => stages.gentle = true,
            Some([Stage::Drop]) => stages.gentle = false,
            Some(_) => {
                let problem = value.problem("a ban drops in the end, and may limit its source before that");
                value.complain(problem.hint("write [\"drop\"] or [\"limit\", \"drop\"]"));
            }
            None => {}
        }
    }
    if let Some(limit) = table.table("limit") {
        if let Some(Rate { count, per }) = limit.parse("rate", "a rate such as \"10/s\"") {
            (stages.limit.packets, stages.limit.per) = (count, per);
        }
        set(&mut stages.limit.burst, number(&limit, "burst", 1, 10_000));
        if stages.limit.refill() > LONGEST_REFILL {
            let problem = limit.problem(format!("{} takes more than a day to fill its burst again", stages.limit));
            limit.complain(problem.hint("write a smaller burst, or a higher rate"));
        }
        limit.finish();
    }
}

/// The widest prefixes that logs alone may ban: a small provider's.
const WIDEST: PrefixLengths = PrefixLengths { ipv4: 16, ipv6: 32 };

fn read_widen(widen: &mut Widen, table: &Table<'_>) {
    set(&mut widen.neighbours, number(table, "neighbours", 0, 10_000));
    set(&mut widen.seconds, table.get("seconds").and_then(seconds));
    set(&mut widen.ipv4, rungs(table, "ipv4", WIDEST.ipv4, 31));
    set(&mut widen.ipv6, rungs(table, "ipv6", WIDEST.ipv6, 127));
    set(&mut widen.threshold, number(table, "threshold", 1, 100));
    if widen.neighbours == 1 {
        let problem = table.problem("one offender is no neighbourhood: its whole prefix would be banned at once");
        table.complain(problem.hint("set 'neighbours' to 2 or more, to 0 for never; or see 'prefix'"));
    }
}

/// Lengths of prefixes, the longest first.
fn rungs(table: &Table<'_>, key: &'static str, least: u8, most: u8) -> Option<Vec<u8>> {
    let bounds = u64::from(least)..=u64::from(most);
    let lengths = table.items(key)?.into_iter().filter_map(|item| item.integer(bounds.clone()));
    let mut lengths: Vec<u8> = lengths.filter_map(|length| u8::try_from(length).ok()).collect();
    lengths.sort_unstable_by(|a, b| b.cmp(a));
    lengths.dedup();
    Some(lengths)
}

/// A length of at least a second, or `"forever"`.
fn length(value: Value<'_>) -> Option<Length> {
    let forever = value.is_string() && value.string()? == "forever";
    if forever { Some(Length::Forever) } else { span(value).map(Length::For) }
}

fn window(table: Table<'_>) -> Option<windows::Spec> {
    let spec = if table.get("limit").is_some() { limit(&table) } else { recent(&table) };
    table.finish();
    spec
}

fn limit(table: &Table<'_>) -> Option<windows::Spec> {
    let rate: Option<Rate> = table.parse("limit", "a rate such as \"1/s\"");
    // iptables' own default and bound.
    let burst = if table.get("burst").is_some() { number(table, "burst", 1, 10_000) } else { Some(5) };
    Some(windows::Spec::Limit { interval: rate?.interval(), burst: burst? })
}

fn recent(table: &Table<'_>) -> Option<windows::Spec> {
    use windows::Check::{Rcheck, Update};
    use windows::Distinct;
    let hitcount = number(table, "hitcount", 1, 65_535);
    let seconds = table.get("seconds").and_then(seconds);
    let check = match table.get("check") {
        Some(value) => value.choice(&[("rcheck", Rcheck), ("update", Update)]),
        None => Some(Rcheck),
    };
    let things = [("users", Distinct::Users), ("ports", Distinct::Ports), ("sources", Distinct::Sources)];
    let distinct = match table.get("distinct") {
        Some(value) => Some(value.choice(&things)?),
        None => None,
    };
    if table.get("hitcount").is_none() || table.get("seconds").is_none() {
        let problem = table.problem("a window needs 'hitcount' and 'seconds', or 'limit'");
        table.complain(problem.hint("write { hitcount = 5, seconds = 600 } or { limit = \"1/s\", burst = 30 }"));
    }
    if let (Some(_), Some(Update), Some(value)) = (distinct, check, table.get("check")) {
        let problem = value.problem("what was seen already is not seen again: 'distinct' knows no \"update\"");
        value.complain(problem.hint("leave 'check' out"));
        return None;
    }
    let (hitcount, seconds) = (hitcount?, seconds?);
    match distinct {
        Some(of) => Some(windows::Spec::Distinct { hitcount, seconds, of }),
        None => Some(windows::Spec::Recent { hitcount, seconds, check: check? }),
    }
}

/// Seconds as iptables writes them, or a duration.
fn seconds(value: Value<'_>) -> Option<Duration> {
    let seconds = if value.is_string() { span(value)?.as_secs() } else { value.integer(1..=MAX_WINDOW)? };
    if seconds > MAX_WINDOW {
        value.complain(value.problem("a window may be 366 days at most"));
        return None;
    }
    Some(Duration::from_secs(seconds))
}

fn source(value: Value<'_>) -> Option<sources::Choice> {
    use sources::Choice;
    if value.is_string() {
        return match value.string()? {
            "auto" => Some(Choice::Auto),
            "kernel" => Some(Choice::Kernel),
            "stdin" | "journal" | "files" => refuse(value, "this source is a table"),
            text if text.starts_with('/') => refuse(value, "a path is not a source by itself"),
            _ => refuse(value, "no such source"),
        };
    }
    let table = value.table()?;
    let (files, journal, stdin) = (table.strings("files"), table.table("journal"), table.bool("stdin"));
    table.finish();
    match (files, journal, stdin) {
        (Some(files), None, None) => globs(value, files),
        (None, Some(journal), None) => journal_of(value, journal),
        (None, None, Some(true)) => Some(Choice::Stdin),
        _ => refuse(value, "a source is one of files, journal or stdin = true"),
    }
}

fn refuse<T>(value: Value<'_>, message: &str) -> Option<T> {
    let hint = "sources: \"auto\", \"kernel\", { files = [\"/var/log/*.log\"] }, \
                { journal = { units = [\"ssh.service\"] } }, { stdin = true }";
    value.complain(value.problem(message).hint(hint));
    None
}

fn globs(value: Value<'_>, files: Vec<String>) -> Option<sources::Choice> {
    if files.is_empty() {
        return refuse(value, "a source of no file has no lines");
    }
    for text in &files {
        let fault = match glob::Pattern::new(text) {
            Err(error) => error.msg.to_owned(),
            Ok(_) if text.starts_with('/') => continue,
            Ok(_) => "a path must begin with '/'".to_owned(),
        };
        value.complain(value.problem(format!("\"{}\" names no log files: {fault}", text.escape_debug())));
        return None;
    }
    Some(sources::Choice::Files(files))
}

fn journal_of(value: Value<'_>, journal: Table<'_>) -> Option<sources::Choice> {
    let units = journal.strings("units").unwrap_or_default();
    let identifiers = journal.strings("identifiers").unwrap_or_default();
    journal.finish();
    if units.is_empty() && identifiers.is_empty() {
        return refuse(value, "a journal source names at least one unit or identifier");
    }
    Some(sources::Choice::Journal { units, identifiers })
}

fn ports(value: Value<'_>) -> Option<Vec<Port>> {
    let items = value.items();
    if items.is_empty() {
        let problem = value.problem("no port at all would drop nothing");
        value.complain(problem.hint("leave 'ports' out to drop every packet of a banned address"));
        return None;
    }
    let mut all: Vec<Port> = Vec::new();
    for item in items {
        let Some(ports) = port(item) else { continue };
        let new: Vec<Port> = ports.each().filter(|port| !all.contains(port)).collect();
        if new.len() < ports.each().count() {
            item.complain(item.problem("some of this is named already").warning());
        }
        all.extend(new);
        if all.len() > MAX_PORTS {
            let problem =
                item.problem(format!("with this there are {} ports, at most {MAX_PORTS} may be named", all.len()));
            item.complain(problem.hint("leave 'ports' out to drop every packet of a banned address"));
            return None;
        }
    }
    Some(all)
}

fn port(item: Value<'_>) -> Option<Ports> {
    if !item.is_string() {
        let problem = item.problem("a port is written with its protocol");
        item.complain(problem.hint("\"443/tcp\", \"1000-1010/udp\", or \"53\" for both"));
        return None;
    }
    item.parse("a port such as \"443/tcp\"")
}

/// Longest prefix that the LOG target takes, without the trailing zero.
const MAX_LOG_PREFIX: usize = 127;

fn log_prefixes(value: Value<'_>) -> Option<Vec<String>> {
    let items = value.items();
    if items.is_empty() {
        value.complain(value.problem("no LOG prefix at all matches no line"));
        return None;
    }
    items.into_iter().map(log_prefix).collect()
}

fn log_prefix(value: Value<'_>) -> Option<String> {
    let text = value.string()?;
    if text.trim().is_empty() || text.len() > MAX_LOG_PREFIX || text.contains(char::is_control) {
        let problem = value.problem(format!("a LOG prefix has from 1 to {MAX_LOG_PREFIX} printable bytes"));
        value.complain(problem.hint("write what stands after --log-prefix in the rule"));
        return None;
    }
    Some(text.to_owned())
}
