//! A filter of ours that is being made: patterns that the loader accepts, each with a sample, and as comments those
//! that it does not, so that the file always loads.

use std::fmt::Write;

use super::dates::MOMENT;
use super::pattern::{Kind, Patterns, Role};
use super::toml::{comment, list, quoted};
use super::{place, sample};
use crate::filters;

/// The address in samples, as documents write it.
const ADDRESS: &str = "192.0.2.9";

/// How many samples are tried for a pattern.
const TRIES: u64 = 48;

/// A `failregex` that did not become a pattern.
#[derive(Debug)]
pub(super) struct Left {
    pub(super) fail: String,
    pub(super) why: String,
    /// What could be done about it.
    pub(super) hint: Option<String>,
}

/// Why a pattern is not accepted.
struct Objection {
    why: String,
    hint: Option<String>,
}

impl From<&str> for Objection {
    fn from(why: &str) -> Objection {
        Objection { why: why.to_owned(), hint: None }
    }
}

/// A pattern that the loader accepted.
#[derive(Debug)]
struct Accepted {
    name: String,
    fail: String,
    regex: String,
    /// The join that has the address, in place of the pattern.
    join: Option<String>,
    /// The last one hits.
    lines: Vec<String>,
}

/// A line that names the address of its connection.
#[derive(Debug)]
struct Join {
    name: String,
    regex: String,
}

/// A failure whose address another line names.
#[derive(Debug)]
struct Waiting {
    name: String,
    fail: String,
    regex: String,
}

/// See above.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) name: String,
    /// The name of the filter in fail2ban.
    from: String,
    evidence: &'static str,
    kind: Option<Kind>,
    pub(super) programs: Vec<String>,
    accepted: Vec<Accepted>,
    joins: Vec<Join>,
    waiting: Vec<Waiting>,
    pub(super) left: Vec<Left>,
    /// The expressions of `ignoreregex`.
    pub(super) ignored: Vec<String>,
    /// Expressions of lines that are no failures.
    pub(super) no_failures: usize,
    /// What was adapted.
    pub(super) notes: Vec<String>,
}

impl Draft {
    pub(super) fn new(name: &str, from: &str, evidence: &'static str) -> Draft {
        Draft {
            name: name.to_owned(),
            from: from.to_owned(),
            evidence,
            kind: None,
            programs: Vec::new(),
            accepted: Vec::new(),
            joins: Vec::new(),
            waiting: Vec::new(),
            left: Vec::new(),
            ignored: Vec::new(),
            no_failures: 0,
            notes: Vec::new(),
        }
    }

    pub(super) fn patterns(&self) -> usize {
        self.accepted.len()
    }

    /// Adds what became of a `failregex`, as far as the loader accepts it with a sample.
    pub(super) fn add(&mut self, number: usize, fail: &str, patterns: Patterns, stamp: Option<&str>) {
        match patterns.role {
            Role::Accuses => {}
            Role::Names => {
                self.no_failures += 1;
                for (letter, regex) in ('a'..='z').zip(patterns.regexes) {
                    self.joins.push(Join { name: format!("connection-{number}{letter}"), regex });
                }
                return;
            }
            Role::Joined => {
                for regex in patterns.regexes {
                    let (name, fail) = (format!("failregex-{number}"), fail.to_owned());
                    self.waiting.push(Waiting { name, fail, regex });
                }
                return;
            }
        }
        let many = patterns.regexes.len() > 1;
        let mut kept = false;
        for (letter, regex) in ('a'..='z').cycle().zip(patterns.regexes) {
            let name = if many { format!("failregex-{number}-{letter}") } else { format!("failregex-{number}") };
            let Err(Objection { why, hint }) = self.accept(&name, fail, &regex, patterns.kind, stamp) else {
                kept = true;
                continue;
            };
            if self.unfold(&name, fail, &regex, patterns.kind, stamp) {
                kept = true;
            } else {
                let fail = if many { regex } else { fail.to_owned() };
                self.left.push(Left { fail, why, hint });
            }
        }
        if kept {
            self.notes.extend(patterns.notes.iter().map(|note| format!("failregex {number}: {note}")));
        }
    }

    /// Joins the failures without an address with the lines that name it. To be called when all are added.
    pub(super) fn join(&mut self) {
        for Waiting { name, fail, regex } in std::mem::take(&mut self.waiting) {
            let before = self.accepted.len();
            let joins: Vec<(String, String)> =
                self.joins.iter().map(|join| (join.name.clone(), join.regex.clone())).collect();
            for (join, naming) in joins {
                self.accept_joined(&format!("{name}-{join}"), &fail, &regex, (&join, &naming));
            }
            if self.accepted.len() == before {
                let why = "it names no address, and no line of the same connection was found to do so".to_owned();
                let hint = Some("see [[join]] in banward-filter(5)".to_owned());
                self.left.push(Left { fail, why, hint });
            } else {
                self.notes.push(format!("{name}: a line before it, of the same process, names the address"));
            }
        }
    }

    fn accept_joined(&mut self, name: &str, fail: &str, regex: &str, (join, naming): (&str, &str)) {
        let Some(program) = self.programs.first().cloned() else { return };
        if self.kind.is_some_and(|kind| kind != Kind::Syslog) {
            return;
        }
        let before = self.kind.replace(Kind::Syslog);
        for seed in 0..TRIES {
            let failure = sample::line(&format!("{regex}<ADDR>"), "", seed);
            let Some((named, failure)) = sample::line(naming, ADDRESS, seed).zip(failure) else { continue };
            let lines = [named, failure].map(|text| format!("Nov 21 01:30:00 host {program}[411]: {text}")).to_vec();
            let (name, fail, regex) = (name.to_owned(), fail.to_owned(), regex.to_owned());
            self.accepted.push(Accepted { name, fail, regex, join: Some(join.to_owned()), lines });
            let problems = filters::prove(&self.name, self.text());
            if !problems.iter().any(crate::config::problem::Problem::is_error) {
                return;
            }
            self.accepted.pop();
        }
        self.kind = before;
    }

    /// Tries what stands right before the address one by one, so that it becomes a text that nobody can forge. All or
    /// nothing.
    fn unfold(&mut self, name: &str, fail: &str, regex: &str, kind: Kind, stamp: Option<&str>) -> bool {
        let before = self.accepted.len();
        let parts = place::unfold(regex);
        let accepted = |(number, part): (usize, &String)| {
            self.accept(&format!("{name}-{number}"), fail, part, kind, stamp).is_ok()
        };
        let all = parts.len() > 1 && (1..).zip(&parts).all(accepted);
        if !all {
            self.accepted.truncate(before);
        }
        all
    }

    fn accept(
        &mut self,
        name: &str,
        fail: &str,
        regex: &str,
        kind: Kind,
        stamp: Option<&str>,
    ) -> Result<(), Objection> {
        if self.kind.is_some_and(|own| own != kind) {
            return Err("its lines are of another format than those of the patterns before it".into());
        }
        if kind == Kind::Syslog && self.programs.is_empty() {
            let why = "which programs write these lines is not a list of names (_daemon); name them in 'programs'";
            return Err(why.into());
        }
        let stamp = match kind {
            Kind::Plain => stamp.ok_or("its datepattern is not one that our reader knows")?,
            Kind::Syslog | Kind::AccessLog => "",
        };
        let before = self.kind.replace(kind);
        let mut objection = Objection::from("no line that it matches could be made");
        for seed in 0..TRIES {
            let Some(message) = sample::line(regex, ADDRESS, seed) else { continue };
            let line = match kind {
                Kind::Syslog => {
                    let program = self.programs.first().map_or("", String::as_str);
                    format!("Nov 21 01:30:00 host {program}[411]: {message}")
                }
                Kind::AccessLog => message,
                Kind::Plain => format!("{stamp}{message}"),
            };
            let (name, fail, regex) = (name.to_owned(), fail.to_owned(), regex.to_owned());
            self.accepted.push(Accepted { name, fail, regex, join: None, lines: vec![line] });
            let problems = filters::prove(&self.name, self.text());
            let Some(problem) = problems.into_iter().find(crate::config::problem::Problem::is_error) else {
                return Ok(());
            };
            self.accepted.pop();
            let of_line = problem.message.starts_with("this line");
            objection = Objection { why: problem.message, hint: problem.hint };
            if !of_line {
                break;
            }
        }
        self.kind = before;
        Err(objection)
    }

    /// The file.
    pub(super) fn text(&self) -> String {
        let mut text = format!("{}\n", comment(&format!("Converted from filter.d/{}.conf of fail2ban.", self.from)));
        let _ = writeln!(text, "description = {}", quoted(&format!("{}: converted from fail2ban", self.from)));
        let format = match self.kind {
            Some(Kind::Syslog) => "syslog",
            Some(Kind::AccessLog) => "clf",
            Some(Kind::Plain) | None => "plain",
        };
        let _ = writeln!(text, "format = \"{format}\"");
        if !self.programs.is_empty() {
            let _ = writeln!(text, "programs = {}", list(&self.programs));
        }
        let _ = writeln!(text, "evidence = \"{}\"", self.evidence);
        let is_used = |join: &&Join| self.accepted.iter().any(|accepted| accepted.join.as_ref() == Some(&join.name));
        for Join { name, regex } in self.joins.iter().filter(is_used) {
            let _ = writeln!(text, "\n[[join]]\nname = {}\nregex = {}", quoted(name), quoted(regex));
        }
        self.accepted.iter().for_each(|accepted| self.add_pattern(&mut text, accepted));
        for Left { fail, why, hint } in &self.left {
            let _ = writeln!(text, "\n{}", comment(&format!("Needs you: {why}.")));
            if let Some(hint) = hint {
                let _ = writeln!(text, "{}", comment(&format!("Hint: {hint}.")));
            }
            let _ = writeln!(text, "{}", comment(&format!("failregex: {fail}")));
        }
        for ignored in &self.ignored {
            let _ = writeln!(text, "\n{}", comment(&format!("Needs you: ignoreregex has no counterpart: {ignored}")));
        }
        let _ = writeln!(text, "\n[[miss]]\nline = \"{}\"", self.miss());
        text
    }

    fn add_pattern(&self, text: &mut String, accepted: &Accepted) {
        let Accepted { name, fail, regex, join, lines } = accepted;
        let _ = writeln!(text, "\n{}\n[[pattern]]", comment(&format!("failregex: {fail}")));
        let _ = writeln!(text, "name = {}", quoted(name));
        if let Some(join) = join {
            let _ = writeln!(text, "join = {}", quoted(join));
        }
        let _ = writeln!(text, "regex = {}\n[[pattern.hit]]", quoted(regex));
        let _ = match lines.as_slice() {
            [line] => writeln!(text, "line = {}", quoted(line)),
            lines => writeln!(text, "lines = {}", list(lines)),
        };
        let _ = writeln!(text, "addr = \"{ADDRESS}\"");
        let stamped = lines.iter().all(|line| line.contains("01:30") || line.starts_with("1795224600"));
        if self.kind != Some(Kind::AccessLog) && stamped {
            let _ = writeln!(text, "time = \"{MOMENT}\"");
        }
    }

    /// A line with the address that must not hit.
    fn miss(&self) -> String {
        match self.programs.first() {
            Some(program) if self.kind == Some(Kind::Syslog) => {
                format!("Nov 21 01:30:00 host {program}[411]: {ADDRESS} is welcome")
            }
            _ => format!("welcome, {ADDRESS} !"),
        }
    }
}
