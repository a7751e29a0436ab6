//! One `failregex` becomes patterns of ours, or a reason why not.

use super::ini::HEADER;
use super::place;
use super::python::{self, ADDRESS};
use super::tags;

/// How the lines of a converted filter are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Behind a syslog header, which the expression wrote as `%(__prefix_line)s`.
    Syslog,
    /// The whole line of a web server's access log, with the stamp in brackets.
    AccessLog,
    /// Behind a stamp or none.
    Plain,
}

/// What a line that matches says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// A failure, and whose.
    Accuses,
    /// A failure; another line of its connection says whose.
    Joined,
    /// Whose a connection is, and no failure.
    Names,
}

/// What a `failregex` became.
#[derive(Debug)]
pub(super) struct Patterns {
    pub(super) kind: Kind,
    pub(super) role: Role,
    pub(super) regexes: Vec<String>,
    pub(super) notes: Vec<&'static str>,
}

/// What a `failregex` could not become.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The line is no failure: nothing is lost.
    NoFailure,
    Because(String),
}

/// Contents of `<F-CONTENT>` that say nothing about it.
const ANYTHING: [&str; 6] = [".+", ".*", ".+?", ".*?", "\\S.+", "\\S.*"];

/// The `failregex` where the `prefregex` expects its content, as one expression.
pub(super) fn within(prefix: &str, fail: &str) -> Result<String, String> {
    let (before, rest) = prefix.split_once("<F-CONTENT>").ok_or("the prefregex has no <F-CONTENT>")?;
    let (content, after) = rest.split_once("</F-CONTENT>").ok_or("the prefregex has no </F-CONTENT>")?;
    if !ANYTHING.contains(&content.trim()) {
        return Err(format!("the prefregex asks for more of the content than its failregex: {content}"));
    }
    // Only the beginning and the end of the whole expression: within an alternation they would mean other things.
    let body =
        if has_alternatives(fail) { return Err("it has alternatives at its top level".to_owned()) } else { fail };
    let (flags, body) = leading_flags(body);
    let start = body.strip_prefix('^').map_or_else(|| format!(".*?{body}"), str::to_owned);
    let ends = start.ends_with('$') && !start.ends_with("\\$");
    let start = if ends { &start[..start.len() - 1] } else { &start };
    let between = match (ends, after.trim_end_matches('$').is_empty()) {
        (true, _) => after.to_owned(),
        (false, true) => String::new(),
        (false, false) => format!(".*{after}"),
    };
    Ok(format!("{flags}{before}{start}{between}"))
}

fn has_alternatives(python: &str) -> bool {
    let (mut depth, mut in_class, mut escaped) = (0_i32, false, false);
    for character in python.chars() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '[' => in_class = true,
            ']' => in_class = false,
            '(' if !in_class => depth += 1,
            ')' if !in_class => depth -= 1,
            '|' if !in_class && depth == 0 => return true,
            _ => {}
        }
    }
    false
}

/// `(?i)` and the like at the beginning, and the rest.
fn leading_flags(python: &str) -> (&str, &str) {
    let end = python.find(')').map_or(0, |at| at + 1);
    let (flags, rest) = python.split_at(end);
    let inside = flags.strip_prefix("(?").and_then(|flags| flags.strip_suffix(')'));
    if inside.is_some_and(|flags| flags.bytes().all(|byte| byte.is_ascii_alphabetic())) {
        (flags, rest)
    } else {
        ("", python)
    }
}

/// The patterns of a `failregex`, which has its `prefregex` around it.
pub(super) fn convert(fail: &str) -> Result<Patterns, Refusal> {
    let tagged = tags::resolve(fail).map_err(Refusal::Because)?;
    let names = tagged.no_failure;
    if names && !is_joinable(fail) {
        return Err(Refusal::NoFailure);
    }
    let translated = python::translate(&tagged.text).map_err(|what| Refusal::Because(unsupported(&what)))?;
    let (mut regexes, without) = place::lift(&translated.text).map_err(|what| Refusal::Because(unsupported(&what)))?;
    let mut notes: Vec<&'static str> = tagged.notes;
    notes.extend(translated.notes);
    let role = match (regexes.is_empty(), names) {
        (true, true) => return Err(Refusal::NoFailure),
        (true, false) => Role::Joined,
        (false, true) => Role::Names,
        (false, false) => Role::Accuses,
    };
    if role == Role::Joined && is_joinable(fail) {
        regexes.push(translated.text);
    }
    if regexes.is_empty() {
        let why = "it names no address; a line of the same connection would have to, see [[join]] in banward-filter(5)";
        return Err(Refusal::Because(why.to_owned()));
    }
    if without > 0 && role != Role::Joined {
        notes.push("only lines that name an address count");
    }
    let flags: String = translated.flags.iter().collect();
    let flags = if flags.is_empty() { flags } else { format!("(?{flags})") };
    let mut patterns = Patterns { kind: Kind::Plain, role, regexes: Vec::new(), notes };
    for regex in regexes {
        let (kind, regex) = anchored(&regex, &mut patterns.notes).map_err(Refusal::Because)?;
        patterns.kind = kind;
        patterns.regexes.push(format!("{flags}{}", regex.replace(ADDRESS, "<ADDR>")));
    }
    Ok(patterns)
}

/// Whether lines of a connection are known by what the syslog header says of it, which is its process.
fn is_joinable(fail: &str) -> bool {
    fail.contains(&format!("<F-MLFID>{HEADER}</F-MLFID>"))
}

fn unsupported(what: &str) -> String {
    format!("our expressions have no counterpart of {what}")
}

/// Begins with `^` what may stand anywhere, and takes the syslog header away.
fn anchored(regex: &str, notes: &mut Vec<&'static str>) -> Result<(Kind, String), String> {
    let bare = regex.strip_prefix('^').unwrap_or(regex);
    let behind = ["", "\\s*", "\\s+", " "].iter().find_map(|blanks| bare.strip_prefix(blanks)?.strip_prefix(HEADER));
    if let Some(message) = behind {
        let blanks = ["\\s*", "\\s+"].iter().find_map(|blanks| message.strip_prefix(blanks));
        let message = blanks.unwrap_or(message);
        if message.contains(HEADER) {
            return Err("the syslog header stands in it twice".to_owned());
        }
        return Ok((Kind::Syslog, format!("^{message}")));
    }
    if regex.contains(HEADER) {
        return Err("the syslog header does not stand at its beginning".to_owned());
    }
    let begins = regex.starts_with('^');
    // fail2ban cuts the stamp out of the line and leaves its brackets.
    if begins && bare.contains("\\[\\]") {
        notes.push("the stamp stands in its brackets");
        return Ok((Kind::AccessLog, regex.replacen("\\[\\]", "\\[[^\\]]*\\]", 1)));
    }
    let access = begins && (bare.starts_with(ADDRESS) || bare.starts_with("\\S+ ")) && bare.contains('"');
    let kind = if access { Kind::AccessLog } else { Kind::Plain };
    if begins {
        return Ok((kind, regex.to_owned()));
    }
    notes.push("what may stand anywhere in a line begins with ^.*");
    Ok((kind, format!("^.*{regex}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(fail: &str) -> (Kind, Vec<String>) {
        let patterns = convert(&fail.replace("%H", &HEADER.to_string())).unwrap();
        (patterns.kind, patterns.regexes)
    }

    #[test]
    fn the_syslog_header_is_taken_away() {
        for text in ["^%Hno entry for <HOST>$", "^\\s*%H\\s*no entry for <HOST>$", "%Hno entry for <HOST>$"] {
            assert_eq!(converted(text), (Kind::Syslog, vec!["^no entry for <ADDR>$".to_owned()]), "{text}");
        }
    }

    #[test]
    fn the_stamp_of_an_access_log_goes_back_into_its_brackets() {
        let (kind, regexes) = converted("^<HOST> - \\S+ \\[\\] \"POST /gate\" 403");
        assert_eq!((kind, regexes[0].as_str()), (Kind::AccessLog, "^<ADDR> - \\S+ \\[[^\\]]*\\] \"POST /gate\" 403"));
    }

    #[test]
    fn what_may_stand_anywhere_is_anchored() {
        assert_eq!(converted("(?i)entry denied to <HOST>$").1, ["(?i)^.*entry denied to <ADDR>$"]);
    }

    #[test]
    fn an_expression_goes_where_its_prefix_wants_it() {
        let prefix = "^%H(?:error: )?<F-CONTENT>.+</F-CONTENT>$";
        assert_eq!(within(prefix, "^no <HOST>$").unwrap(), "^%H(?:error: )?no <HOST>$");
        assert_eq!(within(prefix, "^no <HOST>\\b").unwrap(), "^%H(?:error: )?no <HOST>\\b");
        assert_eq!(within(prefix, "(?i)no <HOST>").unwrap(), "(?i)^%H(?:error: )?.*?no <HOST>");
        assert!(within("^<F-CONTENT>bad .+</F-CONTENT>$", "^no <HOST>$").is_err());
        assert!(within(prefix, "^a <HOST>|^b <HOST>").is_err());
    }

    #[test]
    fn what_is_no_failure_is_told_apart_from_what_is_lost() {
        assert!(matches!(convert("^<F-NOFAIL>hello</F-NOFAIL> <HOST>"), Err(Refusal::NoFailure)));
        assert!(matches!(convert("^goodbye$"), Err(Refusal::Because(_))));
    }
}
