//! The patterns of a draft and the lines that prove them. In: shapes of lines. Out: TOML, of which every pattern has
//! been seen to load and to find its own sample.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::wording::{self, FORGED};
use crate::config::problem::Problems;
use crate::ctl::output::counted;
use crate::ctl::scan::clock;
use crate::ctl::shapes::{Kind, Shape, Token, Tone, fields, tokens};
use crate::filters::{Filter, Format, Matcher, Memory};
use crate::text::escape;

/// Most patterns of one draft. Nobody looks through more.
pub(super) const MOST_PATTERNS: usize = 20;

/// Most lines of a log that are taken for lines that must not hit.
const MOST_MISSES: usize = 3;

/// What has been written of a draft so far.
pub(super) struct Draft {
    /// The keys of the file.
    pub(super) head: String,
    pub(super) patterns: String,
    pub(super) misses: String,
    /// The names of the patterns.
    pub(super) names: Vec<String>,
}

/// A pattern that is to be tried.
struct Candidate {
    /// The keys of its table that say what matches.
    rule: String,
    line: String,
    addr: &'static str,
    user: Option<String>,
    /// What an attacker may write.
    forged: Option<String>,
}

impl Draft {
    pub(super) fn below(head: String) -> Draft {
        Draft { head, patterns: String::new(), misses: String::new(), names: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Adds a pattern for each shape; returns those for which there is none.
    pub(super) fn add_all<'s>(&mut self, shapes: Vec<&'s Shape>) -> Vec<&'s Shape> {
        let refused = |shape: &&Shape| self.names.len() == MOST_PATTERNS || !self.add(shape);
        shapes.into_iter().filter(refused).collect()
    }

    /// Adds the pattern of a shape, unless another one finds its lines already; whether its lines are found now.
    fn add(&mut self, shape: &Shape) -> bool {
        let candidate = if shape.format == Format::Json { of_object(shape) } else { of_text(shape) };
        let Some(candidate) = candidate else { return false };
        if self.finds(&candidate.line) {
            return true;
        }
        let before = self.patterns.len();
        let name = self.name(&shape.tokens);
        let _ = write!(self.patterns, "\n{}[[pattern]]\nname  = {}\n", comment(shape), wording::toml(&name));
        self.patterns += &candidate.table();
        if !self.finds(&candidate.line) {
            self.patterns.truncate(before);
            return false;
        }
        self.names.push(name);
        if let Some(forged) = &candidate.forged {
            let _ = write!(self.misses, "[[miss]]\nline = {}\nnot  = \"{FORGED}\"\n", wording::toml(forged));
        }
        true
    }

    /// Adds lines that must not hit: those of successes, else one in which a failure is only told of.
    pub(super) fn refuse(&mut self, shapes: &[Shape]) {
        let line = |shape: &Shape| match shape.format {
            Format::Json => wording::anonymous_object(&shape.sample.line(), &shape.tokens),
            _ => format!("{}{}", shape.sample.header, wording::anonymous(&shape.tokens)),
        };
        let successes = shapes.iter().filter(|shape| shape.tone == Tone::Success).map(line);
        let mut lines: Vec<String> = successes.filter(|line| !self.finds(line)).take(MOST_MISSES).collect();
        if let (true, Some(shape)) = (lines.is_empty(), shapes.first()) {
            let told = match shape.format {
                Format::Json => "{}".to_owned(),
                _ => format!("told: {}", wording::anonymous(&shape.tokens)),
            };
            lines.push(format!("{}{told}", shape.sample.header));
        }
        for line in lines {
            let _ = write!(self.misses, "[[miss]]\nline = {}\n", wording::toml(&line));
        }
    }

    /// Whether the patterns so far load and one of them finds somebody in a line.
    fn finds(&self, line: &str) -> bool {
        let text = format!("{}{}", self.head, self.patterns);
        let Some(filter) = Filter::parse("draft", text, &Problems::default()).filter(|_| !self.patterns.is_empty())
        else {
            return false;
        };
        let mut found = Vec::new();
        Matcher::new(vec![filter]).examine(line.as_bytes(), &clock(), &mut Memory::default(), &mut found);
        !found.is_empty()
    }

    /// A name that no other pattern has.
    fn name(&self, tokens: &[Token]) -> String {
        let name = wording::name(tokens);
        let numbered = (2..).map(|number| format!("{name}-{number}"));
        let mut names = std::iter::once(name.clone()).chain(numbered);
        names.find(|name| !self.names.contains(name)).unwrap_or(name)
    }
}

impl Candidate {
    /// The keys of the pattern below its name, and its sample.
    fn table(&self) -> String {
        let user = self.user.as_ref().map(|user| format!("user = {}\n", wording::toml(user))).unwrap_or_default();
        let (rule, line, addr) = (&self.rule, wording::toml(&self.line), self.addr);
        format!("{rule}[[pattern.hit]]\nline = {line}\naddr = \"{addr}\"\n{user}")
    }
}

/// The shape, for the reader of the draft.
pub(super) fn comment(shape: &Shape) -> String {
    let lines = counted(shape.count, "line", "lines");
    let (file, number) = (escape(&shape.sample.file).into_owned(), shape.sample.number);
    format!("# {lines}, such as {file}:{number}\n#   {}\n", escape(&shape.text()))
}

/// The pattern of a text; `None` when no regex for it is safe.
fn of_text(shape: &Shape) -> Option<Candidate> {
    let worded = wording::worded(&shape.tokens, shape.format)?;
    let header = &shape.sample.header;
    Some(Candidate {
        rule: format!("regex = {}\n", wording::toml(&worded.regex)),
        line: format!("{header}{}", worded.message),
        addr: worded.addr,
        user: worded.user,
        forged: worded.forged.map(|forged| format!("{header}{forged}")),
    })
}

/// The pattern of a JSON object: its telling fields, and the one with the address.
fn of_object(shape: &Shape) -> Option<Candidate> {
    let object: Map<String, Value> = serde_json::from_str(&shape.sample.message).ok()?;
    let telling = |path: &str| shape.tokens.iter().any(|token| is_label(token, path));
    let fields: Vec<(String, &Value)> = fields(&object).into_iter().filter(|(path, _)| telling(path)).collect();
    let is_address =
        |value: &Value| value.as_str().is_some_and(|text| tokens(text).first().is_some_and(Token::is_address));
    let addr = fields.iter().find(|(_, value)| is_address(value)).map(|(path, _)| path.as_str());
    let mut rule = addr.map(|path| format!("addr  = {}\n", wording::toml(path))).unwrap_or_default();
    let mut when = Vec::new();
    let mut has_regex = false;
    for (path, value) in fields.iter().filter(|(path, _)| Some(path.as_str()) != addr) {
        let tokens = value.as_str().map(tokens).unwrap_or_default();
        if tokens.iter().all(|token| matches!(token.kind, Kind::Word | Kind::Mark)) {
            when.extend(equals(path, value));
        } else if !has_regex {
            has_regex = true;
            let regex = match addr {
                Some(_) => wording::condition(&tokens),
                None => wording::worded(&tokens, Format::Json)?.regex,
            };
            let _ = write!(rule, "field = {}\nregex = {}\n", wording::toml(path), wording::toml(&regex));
        }
    }
    if !when.is_empty() {
        let _ = writeln!(rule, "when  = {{ {} }}", when.join(", "));
    }
    let address = shape.tokens.iter().find(|token| token.is_address())?;
    let documented = if address.text.contains(':') { "2001:db8::9" } else { "192.0.2.9" };
    let line = shape.sample.line().replace(address.text.trim_matches(['[', ']']), documented);
    Some(Candidate { rule, line, addr: documented, user: None, forged: None })
}

/// Whether the token of an object's shape announces the field.
fn is_label(token: &Token, path: &str) -> bool {
    token.kind == Kind::Mark && token.text.trim_start().strip_suffix('=') == Some(path)
}

/// The condition that a field has a value, if filters know such a one.
fn equals(path: &str, value: &Value) -> Option<String> {
    let value = match value {
        Value::String(text) => wording::toml(text),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => u32::try_from(number.as_u64()?).ok()?.to_string(),
        _ => return None,
    };
    Some(format!("{} = {value}", wording::key(path)))
}
