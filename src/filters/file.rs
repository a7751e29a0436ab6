//! Filter files. In: folders of `NAME.toml`. Out: filters, ready to match; every problem with its place.
//! A folder's filter replaces the one of the same name from the folders before it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use super::json::JsonRule;
use super::literals;
use super::netfilter::PacketRule;
use super::pattern::{JoinedRule, TextRule};
use super::program::{self, Names};
use super::rule::{self, parse_port};
use super::sample::{Miss, Sample};
use super::{Effect, Evidence};
use crate::config::document::{Document, Table, Value};
use crate::config::problem::{Problem, Problems};
use crate::ledger::Port;

/// All filters, by name.
#[derive(Debug, Default)]
pub(crate) struct Filters(BTreeMap<String, Arc<Filter>>);

/// Which lines are evidence, and where in them the offender's address stands.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    pub(crate) name: Arc<str>,
    pub(crate) path: PathBuf,
    pub(crate) description: String,
    pub(crate) format: Format,
    /// The programs whose syslog lines are looked at, with `*` for any text in a name; empty for any.
    pub(crate) programs: Vec<String>,
    /// The same, to compare with.
    pub(super) names: Names,
    /// Log files (globs) in which the lines usually are.
    pub(crate) logs: Vec<String>,
    /// systemd units that usually write them.
    pub(crate) units: Vec<String>,
    /// The ports of the service; empty for all.
    pub(crate) ports: Vec<Port>,
    /// The least of what its patterns have.
    pub(crate) evidence: Evidence,
    /// The strictest mode whose patterns are in use.
    pub(crate) mode: Mode,
    pub(crate) patterns: Vec<Pattern>,
    /// Lines that name the address for patterns which have none.
    pub(crate) joins: Vec<Join>,
    pub(crate) misses: Arc<[Miss]>,
}

/// How lines of a log are built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Format {
    /// Stamp, host, `program[pid]:`, message.
    Syslog,
    /// The kernel's packet log, in a syslog file or bare.
    Kernel,
    /// The common log format of web servers; the pattern is on the whole line.
    Clf,
    /// One object per line, perhaps behind a stamp.
    Json,
    /// An optional stamp, then the message.
    Plain,
}

/// How eagerly lines are taken for evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mode {
    /// Failed attempts.
    Normal,
    /// Also what a broken client or a scanner does, before it tries anything.
    Aggressive,
}

/// One kind of line that is evidence, or forgives.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    pub(crate) name: Arc<str>,
    pub(crate) mode: Mode,
    pub(crate) evidence: Evidence,
    pub(crate) effect: Effect,
    pub(crate) rule: Rule,
    /// The regex as it is written, if the pattern has one.
    pub(crate) regex: Option<Box<str>>,
    pub(crate) hits: Arc<[Sample]>,
    /// Where the pattern stands in its file.
    pub(crate) spot: Spot,
}

/// A line that names an address, for other lines of the same connection, session or queue entry.
#[derive(Clone, Debug)]
pub(crate) struct Join {
    pub(crate) name: Box<str>,
    pub(crate) rule: Arc<TextRule>,
    /// How far apart in log time the lines may be.
    pub(crate) within: Duration,
    /// Whether it may come after the line that accuses.
    pub(crate) late: bool,
}

/// What a pattern asks of a message.
#[derive(Clone, Debug)]
pub(crate) enum Rule {
    Text(Arc<TextRule>),
    Packet(PacketRule),
    Json(Arc<JsonRule>),
    Joined(Arc<JoinedRule>),
}

/// A place in a filter file, for problems found after it was read.
#[derive(Clone, Debug)]
pub(crate) struct Spot(pub(crate) Problem);

impl Spot {
    pub(crate) fn problem(&self, message: impl Into<String>) -> Problem {
        Problem { message: message.into(), ..self.0.clone() }
    }
}

impl Format {
    /// As a filter file has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Format::Syslog => "syslog",
            Format::Kernel => "kernel",
            Format::Clf => "clf",
            Format::Json => "json",
            Format::Plain => "plain",
        }
    }
}

impl FromStr for Format {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Format, Self::Err> {
        match text {
            "syslog" => Ok(Format::Syslog),
            "kernel" => Ok(Format::Kernel),
            "clf" => Ok(Format::Clf),
            "json" => Ok(Format::Json),
            "plain" => Ok(Format::Plain),
            _ => Err("one of: syslog, kernel, clf, json, plain"),
        }
    }
}

impl FromStr for Mode {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Mode, Self::Err> {
        match text {
            "normal" => Ok(Mode::Normal),
            "aggressive" => Ok(Mode::Aggressive),
            _ => Err("one of: normal, aggressive"),
        }
    }
}

impl Filters {
    /// Reads every `*.toml` of the folders; later folders win by file name. A folder may be missing, not all of them.
    pub(crate) fn load(dirs: &[PathBuf], problems: &Problems) -> Filters {
        Filters::load_those(dirs, |_| true, problems)
    }

    /// Reads only the filters with these names.
    pub(crate) fn load_those(dirs: &[PathBuf], wanted: impl Fn(&str) -> bool, problems: &Problems) -> Filters {
        let mut files = BTreeMap::new();
        let found = dirs.iter().filter(|dir| list(dir, &mut files, problems)).count();
        if let (0, Some(last)) = (found, dirs.last()) {
            problems.push(Problem::of_file(last, "there is no such folder of filters"));
        }
        let load = |(name, path): (String, PathBuf)| Some((name.clone(), Arc::new(read(&name, &path, problems)?)));
        Filters(files.into_iter().filter(|(name, _)| wanted(name)).filter_map(load).collect())
    }

    pub(crate) fn get(&self, name: &str) -> Option<Arc<Filter>> {
        self.0.get(name).cloned()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Filter>> {
        self.0.values()
    }

    /// Runs every sample of every filter through the matcher.
    pub(crate) fn verify(&self, problems: &Problems) {
        self.iter().for_each(|filter| super::sample::verify(filter, problems));
    }
}

impl Filter {
    /// A filter that is not in a file yet.
    pub(crate) fn parse(name: &str, text: String, problems: &Problems) -> Option<Arc<Filter>> {
        let path = PathBuf::from(format!("{name}.toml"));
        Document::new(&path, text).read(problems, |root| filter(name, &path, root))?.map(Arc::new)
    }

    /// A filter file by itself, wherever it is; `None` when it cannot be used, which has been noted.
    pub(crate) fn open(path: &Path, problems: &Problems) -> Option<Arc<Filter>> {
        let name = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
        read(&name, path, problems).map(Arc::new)
    }

    /// The same filter on packets logged with one of these prefixes, in place of its own.
    pub(crate) fn with_prefixes(&self, prefixes: &[String]) -> Arc<Filter> {
        let mut filter = self.clone();
        for pattern in &mut filter.patterns {
            if let Rule::Packet(packet) = &mut pattern.rule {
                packet.prefixes = prefixes.iter().filter_map(|prefix| PacketRule::stem(prefix)).collect();
            }
        }
        Arc::new(filter)
    }

    /// The same filter with the patterns up to this mode in use.
    pub(crate) fn with_mode(&self, mode: Mode) -> Arc<Filter> {
        Arc::new(Filter { mode, ..self.clone() })
    }

    /// Texts one of which every line contains that a part of the filter with these literals can match: where they tell
    /// little, the name of a program, which no line of another program has in its header.
    pub(super) fn texts(&self, literals: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        if self.format != Format::Syslog || self.programs.is_empty() || literals::score(&literals) >= literals::TELLING
        {
            return literals;
        }
        let programs = self.programs.iter().map(|name| program::fixed_text(name).as_bytes().to_vec()).collect();
        literals::best([useful(programs), literals])
    }

    /// The programs that the journal can be asked for: those with a whole name.
    pub(crate) fn identifiers(&self) -> Vec<String> {
        self.programs.iter().filter(|name| !program::is_open(name)).cloned().collect()
    }

    /// Whether some hit names the account that was tried.
    pub(crate) fn names_users(&self) -> bool {
        self.patterns.iter().any(|pattern| pattern.effect != Effect::Forgive && pattern.rule.names_user())
    }

    /// Whether a jail must say which LOG prefix is meant.
    pub(crate) fn needs_prefix(&self) -> bool {
        let any_prefix =
            |pattern: &Pattern| matches!(&pattern.rule, Rule::Packet(packet) if packet.prefixes.is_empty());
        self.patterns.iter().any(any_prefix)
    }
}

impl Rule {
    fn names_user(&self) -> bool {
        match self {
            Rule::Text(rule) => rule.names_user(),
            Rule::Json(rule) => rule.names_user(),
            Rule::Packet(_) | Rule::Joined(_) => false,
        }
    }

    /// Whether it names a user for certain: no text of an attacker can stand in the place of the name.
    pub(crate) fn settles_user(&self) -> bool {
        match self {
            Rule::Text(rule) => rule.settles_user(),
            Rule::Json(rule) => rule.settles_user(),
            Rule::Packet(_) | Rule::Joined(_) => false,
        }
    }

    /// Texts one of which every matching line contains, in some letter case; empty when nothing is known.
    pub(crate) fn literals(&self) -> Vec<Vec<u8>> {
        let literals: Vec<Vec<u8>> = match self {
            Rule::Text(rule) => rule.literals.clone(),
            Rule::Joined(rule) => rule.literals.clone(),
            Rule::Packet(rule) if rule.prefixes.is_empty() => vec![b" SRC=".to_vec()],
            Rule::Packet(rule) => rule.prefixes.iter().map(|prefix| prefix.to_vec()).collect(),
            Rule::Json(rule) => rule.literals(),
        };
        useful(literals)
    }
}

impl Join {
    /// As [`Rule::literals`].
    pub(crate) fn literals(&self) -> Vec<Vec<u8>> {
        useful(self.rule.literals.clone())
    }
}

fn useful(literals: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    if literals.iter().any(|literal| literal.len() < SHORTEST_LITERAL) { Vec::new() } else { literals }
}

/// Shorter texts stand in nearly every line and single out none.
const SHORTEST_LITERAL: usize = 2;

/// Adds the files of a folder; whether the folder exists.
fn list(dir: &Path, files: &mut BTreeMap<String, PathBuf>, problems: &Problems) -> bool {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return false,
        Err(error) => {
            problems.push(Problem::of_file(dir, format!("cannot be listed: {error}")));
            return true;
        }
    };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let name = path.file_stem().and_then(|stem| stem.to_str()).filter(|stem| !stem.starts_with('.'));
        if let (Some(name), Some("toml")) = (name, path.extension().and_then(|ext| ext.to_str())) {
            files.insert(name.to_owned(), path);
        }
    }
    true
}

fn read(name: &str, path: &Path, problems: &Problems) -> Option<Filter> {
    Document::open(path, problems)?.read(problems, |root| filter(name, path, root))?
}

/// What is wrong with a filter that stands in no file yet, with its samples tried.
pub(crate) fn prove(name: &str, text: String) -> Vec<Problem> {
    let problems = Problems::default();
    if let Some(filter) = Filter::parse(name, text, &problems) {
        super::sample::verify(&filter, &problems);
    }
    problems.into_sorted()
}

/// A whole filter; `None` when something that it cannot do without is wrong, which has been noted.
fn filter(name: &str, path: &Path, root: Table<'_>) -> Option<Filter> {
    let description = required(&root, "description").and_then(Value::string);
    let format: Option<Format> = required(&root, "format").and_then(|value| value.parse("a format"));
    let programs = programs(&root, format);
    let strings = |key| root.strings(key).unwrap_or_default();
    let (logs, units) = (strings("logs"), strings("units"));
    let ports = root.items("ports").unwrap_or_default().into_iter().filter_map(parse_port).collect();
    let evidence = evidence(&root, format, None);
    let shared = if format == Some(Format::Kernel) { rule::packet(&root, &PacketRule::default()) } else { None };
    let joins = joins(&root, format);
    let wanted = root.items("pattern").unwrap_or_default();
    let count = wanted.len();
    let read = |value: Value<'_>| pattern(value.table()?, format?, evidence?, shared.as_ref(), joins.as_ref()?);
    let patterns: Vec<Pattern> = wanted.into_iter().filter_map(read).collect();
    let misses = root.items("miss").unwrap_or_default().into_iter().filter_map(|value| Miss::read(value)).collect();
    if count == 0 || count > usize::from(u16::MAX) {
        root.complain(root.problem("a filter has from 1 to 65535 patterns").hint("add a [[pattern]] table"));
    }
    refuse_duplicates(&root, &patterns);
    let complete = count > 0 && patterns.len() == count;
    root.finish();
    complete.then_some(())?;
    let least = patterns.iter().map(|pattern| pattern.evidence).min();
    let programs = programs?;
    Some(Filter {
        name: name.into(),
        path: path.to_owned(),
        description: description?.to_owned(),
        format: format?,
        names: Names::new(&programs),
        programs,
        logs,
        units,
        ports,
        evidence: least?,
        mode: Mode::Normal,
        patterns,
        joins: joins?,
        misses,
    })
}

fn required<'a>(table: &Table<'a>, key: &'static str) -> Option<Value<'a>> {
    let value = table.get(key);
    if value.is_none() {
        table.complain(table.problem(format!("the key '{key}' is missing")));
    }
    value
}

fn programs(root: &Table<'_>, format: Option<Format>) -> Option<Vec<String>> {
    let programs = root.strings("programs");
    match format? {
        Format::Syslog if programs.as_ref().is_none_or(Vec::is_empty) => {
            let problem = root.problem("a syslog filter names the programs that write its lines");
            root.complain(problem.hint("programs = [\"NAME\"], as it stands before the process id in the log"));
            None
        }
        Format::Kernel => Some(programs.unwrap_or_else(|| vec!["kernel".to_owned()])),
        _ => Some(programs.unwrap_or_default()),
    }
}

/// Of a filter, or of a pattern that does not share that of its filter. Anybody can make the kernel log a packet with
/// any sender.
fn evidence(table: &Table<'_>, format: Option<Format>, shared: Option<Evidence>) -> Option<Evidence> {
    let kernel = format? == Format::Kernel;
    let Some(value) = table.get("evidence") else {
        return shared.or(Some(if kernel { Evidence::Forgeable } else { Evidence::Proven }));
    };
    match value.string()? {
        "forgeable" => Some(Evidence::Forgeable),
        "proven" if !kernel => Some(Evidence::Proven),
        "proven" => {
            let problem = value.problem("the senders of logged packets are never proven");
            value.complain(problem.hint("leave the key out, or write \"forgeable\""));
            None
        }
        _ => {
            value.complain(value.problem("evidence is \"proven\" or \"forgeable\""));
            None
        }
    }
}

/// `None` when one of them cannot be used.
fn joins(root: &Table<'_>, format: Option<Format>) -> Option<Vec<Join>> {
    let wanted = root.items("join").unwrap_or_default();
    let count = wanted.len();
    if count > 0 && matches!(format, Some(Format::Kernel | Format::Json)) {
        root.complain(root.problem("only filters on text join lines").hint("leave the [[join]] tables out"));
        return None;
    }
    let joins: Vec<Join> = wanted.into_iter().filter_map(rule::join).collect();
    (joins.len() == count).then_some(joins)
}

fn pattern(
    table: Table<'_>,
    format: Format,
    shared_evidence: Evidence,
    shared: Option<&PacketRule>,
    joins: &[Join],
) -> Option<Pattern> {
    let name = required(&table, "name").and_then(Value::string);
    let mode = table.get("mode").map_or(Some(Mode::Normal), |value| value.parse("a mode"));
    let evidence = evidence(&table, Some(format), Some(shared_evidence));
    let rule = match format {
        Format::Kernel => rule::packet(&table, shared.unwrap_or(&PacketRule::default())).map(Rule::Packet),
        Format::Json => rule::json(&table).map(|rule| Rule::Json(Arc::new(rule))),
        Format::Syslog | Format::Clf | Format::Plain if table.get("join").is_some() => {
            rule::joined(&table, joins).map(|rule| Rule::Joined(Arc::new(rule)))
        }
        Format::Syslog | Format::Clf | Format::Plain => {
            required(&table, "regex").and_then(rule::text).map(|rule| Rule::Text(Arc::new(rule)))
        }
    };
    let regex = table.get("regex").filter(|value| value.is_string()).and_then(Value::string).map(Box::from);
    let samples = table.items("hit").unwrap_or_default();
    let hits = samples.into_iter().filter_map(|value| Sample::read(value)).collect();
    let spot = Spot(table.problem(""));
    let effect = rule::effect(&table, evidence, rule.as_ref());
    table.finish();
    let (name, mode, evidence, effect, rule) = (name?.into(), mode?, evidence?, effect?, rule?);
    Some(Pattern { name, mode, evidence, effect, rule, regex, hits, spot })
}

fn refuse_duplicates(root: &Table<'_>, patterns: &[Pattern]) {
    for (index, pattern) in patterns.iter().enumerate() {
        if patterns.iter().take(index).any(|earlier| earlier.name == pattern.name) {
            root.complain(
                pattern.spot.problem(format!("a second pattern is called '{}'", pattern.name.escape_debug())),
            );
        }
    }
}

#[cfg(test)]
mod tests;
