//! `banctl filters show`: where a filter reads, and how the engine finds each of its patterns.

use clap::Args;
use serde::Serialize;

use super::{Context, Error};
use crate::ctl::output::{Style, counted};
use crate::filters::{Evidence, Filter, Mode, Pattern, Rule};
use crate::text::escape;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Filter, or the path of its file
    #[arg(value_name = "NAME")]
    filter: String,
}

/// A filter as `--json` prints it.
#[derive(Serialize)]
struct Shown<'a> {
    filter: &'a str,
    description: &'a str,
    file: String,
    format: &'static str,
    programs: &'a [String],
    logs: &'a [String],
    units: &'a [String],
    ports: Vec<String>,
    evidence: Evidence,
    joins: Vec<&'a str>,
    misses: usize,
    patterns: Vec<Part<'a>>,
}

/// A pattern of it.
#[derive(Serialize)]
struct Part<'a> {
    pattern: &'a str,
    mode: &'static str,
    regex: Option<&'a str>,
    /// One of these must stand in a line before the pattern is tried; empty when every line is tried.
    literals: Vec<String>,
    /// How the address is found.
    address: &'static str,
    /// What matches the text around it.
    matched: &'static str,
    samples: usize,
}

pub(super) fn run(options: &Options, context: &mut Context) -> Result<(), Error> {
    let filter = super::named(&options.filter, context)?;
    let shown = Shown::of(&filter);
    if context.globals.json { Ok(context.out.json(&shown)?) } else { shown.print(context) }
}

impl Shown<'_> {
    fn of(filter: &Filter) -> Shown<'_> {
        Shown {
            filter: &filter.name,
            description: &filter.description,
            file: filter.path.display().to_string(),
            format: filter.format.name(),
            programs: &filter.programs,
            logs: &filter.logs,
            units: &filter.units,
            ports: filter.ports.iter().map(ToString::to_string).collect(),
            evidence: filter.evidence,
            joins: filter.joins.iter().map(|join| &*join.name).collect(),
            misses: filter.misses.len(),
            patterns: filter.patterns.iter().map(Part::of).collect(),
        }
    }

    fn print(&self, context: &mut Context) -> Result<(), Error> {
        let evidence = match self.evidence {
            Evidence::Proven => "proven",
            Evidence::Forgeable => "forgeable",
        };
        let misses = counted(self.misses as u64, "line", "lines");
        let head = [
            ("filter", self.filter.to_owned()),
            ("", self.description.to_owned()),
            ("file", self.file.clone()),
            ("format", self.format.to_owned()),
            ("programs", self.programs.join(" ")),
            ("logs", self.logs.join(" ")),
            ("units", self.units.join(" ")),
            ("ports", if self.ports.is_empty() { "all".to_owned() } else { self.ports.join(" ") }),
            ("evidence", evidence.to_owned()),
            ("joins", self.joins.join(" ")),
            ("misses", format!("{misses} that must not hit")),
        ];
        for (label, text) in head.iter().filter(|(_, text)| !text.is_empty()) {
            context.out.line(&format!("{label:<10}{}", escape(text)))?;
        }
        self.patterns.iter().try_for_each(|part| part.print(context))
    }
}

impl Part<'_> {
    fn of(pattern: &Pattern) -> Part<'_> {
        let literals = pattern.rule.literals();
        Part {
            pattern: &pattern.name,
            mode: match pattern.mode {
                Mode::Normal => "normal",
                Mode::Aggressive => "aggressive",
            },
            regex: pattern.regex.as_deref(),
            literals: literals.iter().map(|literal| String::from_utf8_lossy(literal).into_owned()).collect(),
            address: address_of(&pattern.rule),
            matched: matched_by(&pattern.rule),
            samples: pattern.hits.len(),
        }
    }

    fn print(&self, context: &mut Context) -> Result<(), Error> {
        let mode = if self.mode == "normal" { "" } else { ", aggressive" };
        let samples = counted(self.samples as u64, "sample", "samples");
        let name = context.out.styled(Style::Bold, &escape(self.pattern));
        context.out.line("")?;
        context.out.line(&format!("{name}  {samples}{mode}"))?;
        if let Some(regex) = self.regex {
            context.out.line(&format!("  regex    {}", escape(regex)))?;
        }
        let quoted: Vec<String> = self.literals.iter().map(|literal| format!("\"{}\"", escape(literal))).collect();
        let tried = match quoted.as_slice() {
            [] => "on every line: it requires no text of two letters or more".to_owned(),
            [one] => format!("on lines that hold {one}"),
            many => format!("on lines that hold one of {}", many.join(", ")),
        };
        context.out.line(&format!("  tried    {tried}"))?;
        context.out.line(&format!("  address  {}", self.address))?;
        Ok(context.out.line(&format!("  matched  {}", self.matched))?)
    }
}

fn matched_by(rule: &Rule) -> &'static str {
    const BY_HAND: &str = "by hand, byte by byte: the pattern is plain";
    const BY_ENGINE: &str = "by the regex engine: the pattern is too rich to be matched by hand";
    match rule {
        Rule::Text(rule) if rule.is_plain() => BY_HAND,
        Rule::Joined(rule) if rule.is_plain() => BY_HAND,
        Rule::Text(_) | Rule::Joined(_) => BY_ENGINE,
        Rule::Packet(_) => "by hand, field by field",
        Rule::Json(_) => "by the fields of the object, which is read once for all patterns",
    }
}

fn address_of(rule: &Rule) -> &'static str {
    match rule {
        Rule::Text(rule) if rule.needs_end() => {
            "the last one that fits: text before it may hold forged ones, and the pattern fixes the end of the line"
        }
        Rule::Text(_) => "the first one that fits: no text before it can hold a forged one",
        Rule::Packet(_) => "SRC= of the packet",
        Rule::Json(_) => "in a field of the object",
        Rule::Joined(_) => "named by the join",
    }
}
