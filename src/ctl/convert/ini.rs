//! INI files as Python's configparser reads them, which is what fail2ban does. In: text, and files one over the other.
//! Out: raw values by section and key, and their interpolation.

use std::collections::BTreeMap;

/// The section that stands behind every other one.
pub(super) const DEFAULT: &str = "DEFAULT";

/// Deepest nesting of `%(name)s`; Python's own bound is ten.
const DEEPEST: usize = 20;

/// Longest value after interpolation, in bytes: a chain of doublings must end.
const LONGEST: usize = 256 * 1024;

/// Most references behind one value: those to nothing do not make it longer.
const MOST: usize = 10_000;

const TOO_LONG: &str = "it refers to too much: with everything that it refers to it would be too long";

/// Stands for the syslog header where a filter wrote `%(__prefix_line)s`: our filters never see that header.
pub(super) const HEADER: char = '\u{e000}';

/// Keys of a section with their raw values.
type Section = BTreeMap<String, String>;

/// The sections of one or several files, the later over the earlier.
#[derive(Clone, Debug, Default)]
pub(super) struct Ini {
    sections: BTreeMap<String, Section>,
    /// Names of the sections in the order in which they appeared.
    order: Vec<String>,
}

impl Ini {
    pub(super) fn parse(text: &str) -> Ini {
        let mut parser = Parser::default();
        text.trim_start_matches('\u{feff}').lines().for_each(|line| parser.line(line));
        parser.ini
    }

    /// Puts a file over this one. What it says by `%(known/key)s` is what stood here before.
    pub(super) fn overlay(&mut self, later: Ini) {
        for name in later.order {
            let known = self.sections.get(&name).cloned().unwrap_or_default();
            let defaults = self.sections.get(DEFAULT).cloned().unwrap_or_default();
            let earlier = |key: &str| known.get(key).or_else(|| defaults.get(key)).cloned();
            let section = self.section(&name);
            for (key, value) in later.sections.get(&name).into_iter().flatten() {
                section.insert(key.clone(), with_known(value, &earlier));
            }
        }
    }

    fn section(&mut self, name: &str) -> &mut Section {
        if !self.sections.contains_key(name) {
            self.order.push(name.to_owned());
        }
        self.sections.entry(name.to_owned()).or_default()
    }

    /// The sections, without those that are not meant for themselves.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.order.iter().map(String::as_str).filter(|name| ![DEFAULT, "INCLUDES"].contains(name))
    }

    /// The raw value of a section's own key.
    pub(super) fn own(&self, section: &str, key: &str) -> Option<&str> {
        self.sections.get(section)?.get(key).map(String::as_str)
    }

    /// The keys of a section's own.
    pub(super) fn keys(&self, section: &str) -> impl Iterator<Item = &str> {
        self.sections.get(section).into_iter().flat_map(BTreeMap::keys).map(String::as_str)
    }

    /// Sets a value over what files say.
    pub(super) fn set(&mut self, section: &str, key: &str, value: &str) {
        self.section(section).insert(key.to_lowercase(), value.to_owned());
    }

    /// The raw value of a key, in its section or for all.
    fn raw(&self, section: &str, key: &str) -> Option<&str> {
        self.own(section, key).or_else(|| self.own(DEFAULT, key)).or_else(|| self.own("Init", key))
    }

    /// The value of a key with everything it refers to. `None` where there is no such key.
    pub(super) fn value(&self, section: &str, key: &str) -> Result<Option<String>, String> {
        let mut left = Left { references: MOST, bytes: LONGEST };
        self.raw(section, key).map(|raw| self.interpolate(section, raw, 0, &mut left)).transpose()
    }

    fn interpolate(&self, section: &str, raw: &str, depth: usize, left: &mut Left) -> Result<String, String> {
        left.take(raw.len())?;
        if depth > DEEPEST {
            return Err("it refers to itself".to_owned());
        }
        let mut value = String::with_capacity(raw.len());
        let mut rest = raw;
        while let Some(at) = rest.find('%') {
            let (before, after) = rest.split_at(at);
            value.push_str(before);
            rest = after;
            if let Some(after) = rest.strip_prefix("%%") {
                value.push('%');
                rest = after;
            } else if let Some((name, after)) = reference(rest) {
                value.push_str(&self.referred(section, name, depth, left)?);
                rest = after;
            } else {
                // Python refuses it; what was meant is plain.
                value.push('%');
                rest = &rest[1..];
            }
        }
        value.push_str(rest);
        Ok(value)
    }

    fn referred(&self, section: &str, name: &str, depth: usize, left: &mut Left) -> Result<String, String> {
        let key = name.to_lowercase();
        if key == "__name__" {
            return Ok(section.to_owned());
        }
        if key == "__prefix_line" {
            return Ok(HEADER.to_string());
        }
        if let Some((other, key)) = name.rsplit_once('/')
            && let Some(raw) = self.own(other, &key.to_lowercase())
        {
            return self.interpolate(other, raw, depth + 1, left);
        }
        match self.raw(section, &key) {
            Some(raw) => self.interpolate(section, raw, depth + 1, left),
            None if name.starts_with("known/") && self.raw(section, &key["known/".len()..]).is_some() => {
                Err(TOO_LONG.to_owned())
            }
            None => Err(format!("it refers to %({name})s, which is not set anywhere")),
        }
    }
}

/// What one value may still refer to.
struct Left {
    references: usize,
    /// Of raw values: what they come to is no longer.
    bytes: usize,
}

impl Left {
    fn take(&mut self, bytes: usize) -> Result<(), String> {
        let left = self.references.checked_sub(1).zip(self.bytes.checked_sub(bytes));
        (self.references, self.bytes) = left.ok_or_else(|| TOO_LONG.to_owned())?;
        Ok(())
    }
}

/// `%(name)s` at the beginning of a text, and what follows it.
fn reference(text: &str) -> Option<(&str, &str)> {
    let (name, after) = text.strip_prefix("%(")?.split_once(')')?;
    Some((name, after.strip_prefix('s')?))
}

/// Puts what stood there before in place of `%(known/key)s`.
fn with_known(value: &str, earlier: &impl Fn(&str) -> Option<String>) -> String {
    let mut text = String::with_capacity(value.len());
    let mut rest = value;
    while let Some(at) = rest.find("%(known/") {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        let known = reference(rest).and_then(|(name, after)| {
            let key = name.strip_prefix("known/").unwrap_or(name).to_lowercase();
            Some((earlier(&key)?, after))
        });
        // What is too long is left as it is, and refused when it is asked for.
        if let Some((value, after)) = known.filter(|(value, _)| text.len() + value.len() <= LONGEST) {
            text.push_str(&value);
            rest = after;
        } else {
            text.push('%');
            rest = &rest[1..];
        }
    }
    text + rest
}

#[derive(Default)]
struct Parser {
    ini: Ini,
    section: Option<String>,
    key: Option<String>,
    /// Columns before the key whose value may go on.
    indent: usize,
}

impl Parser {
    fn line(&mut self, line: &str) {
        let is_comment = line.trim_start().starts_with(['#', ';']);
        let line = if is_comment { "" } else { without_comment(line) };
        let text = line.trim();
        if text.is_empty() {
            if !is_comment {
                self.go_on("");
            }
            return;
        }
        let indent = line.len() - line.trim_start().len();
        if self.key.is_some() && indent > self.indent {
            self.go_on(text);
        } else {
            self.indent = indent;
            self.begin(text);
        }
    }

    fn begin(&mut self, text: &str) {
        if let Some(name) = text.strip_prefix('[').and_then(|text| text.split(']').next()) {
            self.ini.section(name);
            (self.section, self.key) = (Some(name.to_owned()), None);
            return;
        }
        let Some(section) = self.section.clone() else { return };
        let (key, value) = text.split_once(['=', ':']).unwrap_or((text, ""));
        let key = key.trim().to_lowercase();
        self.ini.section(&section).insert(key.clone(), value.trim().to_owned());
        self.key = Some(key);
    }

    fn go_on(&mut self, text: &str) {
        let (Some(section), Some(key)) = (&self.section, &self.key) else { return };
        if let Some(value) = self.ini.sections.get_mut(section).and_then(|section| section.get_mut(key)) {
            value.push('\n');
            value.push_str(text);
        }
    }
}

/// A comment within a line begins with a semicolon behind a blank.
fn without_comment(line: &str) -> &str {
    let begins = |at: &usize| line[..*at].ends_with([' ', '\t']);
    line.match_indices(';').map(|(at, _)| at).find(begins).map_or(line, |at| &line[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str, section: &str, key: &str) -> String {
        Ini::parse(text).value(section, key).unwrap().unwrap().trim().to_owned()
    }

    #[test]
    fn values_go_on_in_deeper_lines_and_comments_are_no_part_of_them() {
        let text = "[a]\nx = one ; a comment\n    two\n# a comment\n    three;four\n\n    five\ny: 6\n";
        assert_eq!(value(text, "a", "x"), "one\ntwo\nthree;four\n\nfive");
        assert_eq!(value(text, "a", "y"), "6");
    }

    #[test]
    fn references_are_looked_up_in_the_section_then_for_all() {
        let text = "[DEFAULT]\nt = 5\nu = %(t)sm\nn = %(__name__)s\n[web]\nT = 7\np = 100%%\n[other]\nq = %(web/t)s\n";
        assert_eq!(value(text, "web", "u"), "7m");
        assert_eq!(value(text, "ssh", "u"), "5m");
        assert_eq!(value(text, "web", "n"), "web");
        assert_eq!(value(text, "web", "p"), "100%");
        assert_eq!(value(text, "other", "q"), "7");
    }

    #[test]
    fn a_later_file_goes_over_an_earlier_one_and_knows_what_stood_there() {
        let mut ini = Ini::parse("[DEFAULT]\nip = 192.0.2.1\n[a]\nx = 1\ny = 1\n");
        ini.overlay(Ini::parse("[DEFAULT]\nip = %(known/ip)s 192.0.2.2\n[a]\nx = 2\n"));
        ini.overlay(Ini::parse("[DEFAULT]\nip = %(known/ip)s 192.0.2.3\n"));
        let values = ["x", "y", "ip"].map(|key| ini.value("a", key).unwrap().unwrap());
        assert_eq!(values, ["2", "1", "192.0.2.1 192.0.2.2 192.0.2.3"]);
    }

    #[test]
    fn what_refers_to_nothing_or_to_itself_is_an_error() {
        let ini = Ini::parse("[a]\nx = %(y)s\nz = %(z)s\nb = %(c)s%(c)s\nc = %(b)s%(b)s\n");
        assert_eq!(ini.value("a", "x").unwrap_err(), "it refers to %(y)s, which is not set anywhere");
        assert_eq!(ini.value("a", "z").unwrap_err(), "it refers to itself");
        assert!(ini.value("a", "b").is_err());
        assert_eq!(ini.value("a", "none"), Ok(None));
    }

    #[test]
    fn what_refers_to_too_much_is_an_error_at_once() {
        let chain = |end: &str| {
            let link = |link| format!("x{link} = {}", format!("%(x{})s", link + 1).repeat(9));
            let links: Vec<String> = (0..19).map(link).collect();
            Ini::parse(&format!("[a]\n{}\nx19 = {end}\n", links.join("\n")))
        };
        for end in ["", "long"] {
            assert_eq!(chain(end).value("a", "x0").unwrap_err(), TOO_LONG);
        }
        let mut ini = Ini::parse("[a]\nx = 12345678\n");
        for _ in 0..200 {
            ini.overlay(Ini::parse("[a]\nx = %(known/x)s%(known/x)s\n"));
        }
        assert_eq!(ini.value("a", "x").unwrap_err(), TOO_LONG);
    }
}
