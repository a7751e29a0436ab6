//! A filter of fail2ban becomes a filter of ours. In: `filter.d/NAME.conf` and `.local` with what a jail says of them.
//! Out: a draft, each of whose patterns the loader accepts with a sample that hits; and those that are left out.

use std::path::Path;

use regex_syntax::hir::literal::{ExtractKind, Extractor};

use super::ini::{HEADER, Ini};
use super::pattern::{self, Refusal};
use super::values::{Call, words};
use super::{dates, draft::Draft, draft::Left, tags, tree};

/// Most programs that a pattern of names may stand for.
const MOST_PROGRAMS: usize = 16;

/// What a filter says, with the jail's own settings over it.
pub(super) struct Source {
    ini: Ini,
    call: Call,
}

impl Source {
    /// `None` where there is no such filter.
    pub(super) fn read(dir: &Path, call: &Call) -> Result<Option<Source>, String> {
        let Some(mut ini) = tree::read_filter(dir, &call.name)? else { return Ok(None) };
        for (key, value) in &call.options {
            ini.set("Definition", key, &value.replace('%', "%%"));
        }
        Ok(Some(Source { ini, call: call.clone() }))
    }

    /// A filter that is only what a jail says.
    pub(super) fn of_jail(name: &str) -> Source {
        Source { ini: Ini::default(), call: Call { name: name.to_owned(), ..Call::default() } }
    }

    pub(super) fn set(&mut self, key: &str, value: &str) {
        self.ini.set("Definition", key, &value.replace('%', "%%"));
    }

    /// The value of a key with its tags replaced; empty where there is none.
    pub(super) fn value(&self, key: &str) -> Result<String, String> {
        let raw = self.ini.value("Definition", key)?.unwrap_or_default();
        let value_of = |key: &str| match key {
            "__prefix_line" => Some(HEADER.to_string()),
            _ if key.contains('/') => {
                let (section, key) = key.rsplit_once('/')?;
                self.ini.own(section, key).map(str::to_owned)
            }
            _ => self.ini.value("Definition", &key.to_lowercase()).ok().flatten().filter(|_| key == key.to_lowercase()),
        };
        tags::substitute(&raw, &value_of)
    }

    /// The lines of a value that hold something.
    fn lines(&self, key: &str) -> Result<Vec<String>, String> {
        let value = self.value(key)?;
        Ok(value.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
    }

    /// The draft that this filter becomes, and what it cannot have as a whole.
    pub(super) fn draft(&self, name: &str, evidence: &'static str) -> Result<Draft, String> {
        let mut draft = Draft::new(name, &self.call.name, evidence);
        let prefix = self.value("prefregex")?;
        let fails = self.lines("failregex")?;
        if fails.is_empty() {
            return Err("it has no failregex".to_owned());
        }
        if self.value("maxlines")?.trim().parse().is_ok_and(|lines: u32| lines > 1) {
            draft.notes.push("each line is looked at by itself (maxlines)".to_owned());
        }
        draft.ignored = self.lines("ignoreregex")?;
        let stamp = dates::stamp(&self.value("datepattern")?);
        draft.programs = self.programs()?;
        for (number, fail) in (1..).zip(fails) {
            let whole = if prefix.trim().is_empty() { Ok(fail.clone()) } else { pattern::within(prefix.trim(), &fail) };
            let converted = whole.map_err(Refusal::Because).and_then(|whole| pattern::convert(&whole));
            match converted {
                Ok(patterns) => draft.add(number, &shown(&fail), patterns, stamp.as_deref()),
                Err(Refusal::NoFailure) => draft.no_failures += 1,
                Err(Refusal::Because(why)) => draft.left.push(Left { fail: shown(&fail), why, hint: None }),
            }
        }
        draft.join();
        Ok(draft)
    }

    /// The programs that the syslog header names, where their number is known.
    fn programs(&self) -> Result<Vec<String>, String> {
        let daemon = self.value("_daemon")?;
        let daemon = daemon.trim();
        if daemon.is_empty() {
            return Ok(Vec::new());
        }
        let translated = super::python::translate(daemon)?;
        let Ok(hir) = regex_syntax::Parser::new().parse(&translated.text) else { return Ok(Vec::new()) };
        let all = Extractor::new().kind(ExtractKind::Prefix).limit_total(MOST_PROGRAMS).extract(&hir);
        let Some(literals) = all.literals().filter(|_| all.is_exact()) else { return Ok(Vec::new()) };
        let name = |literal: &regex_syntax::hir::literal::Literal| String::from_utf8(literal.as_bytes().to_vec()).ok();
        Ok(literals.iter().filter_map(name).filter(|name| !name.is_empty()).collect())
    }

    /// The units and identifiers of `journalmatch`, and whether that is all it asks for.
    pub(super) fn journal(&self) -> Result<(Vec<String>, Vec<String>, bool), String> {
        Ok(journal(&self.value("journalmatch")?))
    }
}

/// An expression as a person wrote it.
fn shown(fail: &str) -> String {
    fail.replace(HEADER, "%(__prefix_line)s")
}

/// `_SYSTEMD_UNIT=x.service + _COMM=y`: terms beside each other must all hold, `+` begins others.
pub(super) fn journal(text: &str) -> (Vec<String>, Vec<String>, bool) {
    let (mut units, mut identifiers, mut whole) = (Vec::new(), Vec::new(), true);
    for group in text.split('+') {
        let terms: Vec<(&str, &str)> =
            words(group).filter_map(|term| term.trim_matches(['\'', '"']).split_once('=')).collect();
        let of =
            |names: &[&str]| terms.iter().find(|(key, _)| names.contains(key)).map(|(_, value)| (*value).to_owned());
        // What systemd says of a process is better than what it says itself.
        match (of(&["_SYSTEMD_UNIT", "UNIT"]), of(&["SYSLOG_IDENTIFIER", "_COMM"])) {
            (Some(unit), _) => units.push(unit),
            (None, Some(identifier)) => identifiers.push(identifier),
            (None, None) => whole &= terms.is_empty(),
        }
        whole &= terms.len() <= 1;
    }
    (units, identifiers, whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_of_the_journal_become_units_and_identifiers() {
        let strings = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let read = journal("_SYSTEMD_UNIT=gate.service + SYSLOG_IDENTIFIER=door");
        assert_eq!(read, (strings(&["gate.service"]), strings(&["door"]), true));
        let read = journal("_SYSTEMD_UNIT=gate.service _COMM=gated + PRIORITY=3");
        assert_eq!(read, (strings(&["gate.service"]), Vec::new(), false));
    }
}
