//! The small languages inside fail2ban's values: lengths of time, ports, names with options, lists.

use std::collections::BTreeMap;

use crate::time::format_duration;

/// Seconds of `10m`, `1d 3h`, `-1`, `1.5h`, `3600`; `None` for what is none. As fail2ban: the parts add up.
pub(super) fn seconds(text: &str) -> Option<i64> {
    let text = text.trim();
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let mut total = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let is_number = |character: char| character.is_ascii_digit() || character == '.' || character == '-';
        let (number, after) = rest.split_at(rest.find(|character| !is_number(character)).unwrap_or(rest.len()));
        let after = after.trim_start();
        let (unit, after) = after.split_at(after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len()));
        total += number.parse::<f64>().ok()? * unit_seconds(unit)?;
        rest = after.trim_start_matches([' ', '\t', ',', '+']);
    }
    #[expect(clippy::cast_possible_truncation, reason = "such a cast takes the nearest number there is")]
    (!text.is_empty()).then_some(total as i64)
}

fn unit_seconds(unit: &str) -> Option<f64> {
    Some(match unit.to_ascii_lowercase().as_str() {
        "" | "s" | "ss" | "sec" | "secs" | "second" | "seconds" => 1.0,
        "m" | "mi" | "min" | "mins" | "minute" | "minutes" => 60.0,
        "h" | "hh" | "ho" | "hour" | "hours" => 3600.0,
        "d" | "da" | "day" | "days" => 86_400.0,
        "w" | "we" | "week" | "weeks" => 604_800.0,
        "mo" | "mon" | "month" | "months" => 2_629_746.0,
        "y" | "ye" | "year" | "years" => 31_556_952.0,
        _ => return None,
    })
}

/// A length as our configuration writes it: `-1` is for ever.
pub(super) fn length(seconds: i64) -> String {
    match u64::try_from(seconds) {
        Ok(seconds) => format_duration(std::time::Duration::from_secs(seconds.max(1))),
        Err(_) => "forever".to_owned(),
    }
}

/// Whether a switch is on, in all the ways that Python's configparser knows.
pub(super) fn is_on(text: &str) -> bool {
    matches!(text.trim().to_ascii_lowercase().as_str(), "1" | "yes" | "true" | "on")
}

/// Words apart by blanks, commas or line ends.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|character: char| character.is_whitespace() || character == ',').filter(|word| !word.is_empty())
}

/// `name[key="value", …]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) name: String,
    pub(super) options: BTreeMap<String, String>,
}

/// All calls of a value, one behind or below the other.
pub(super) fn calls(text: &str) -> Vec<Call> {
    let mut calls = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let end = rest.find(|c: char| c.is_whitespace() || c == '[').unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        let mut call = Call { name: name.to_owned(), options: BTreeMap::new() };
        rest = after;
        // Several brackets in a row are one list.
        while let Some(inside) = rest.strip_prefix('[') {
            rest = options(inside, &mut call.options);
        }
        calls.push(call);
        rest = rest.trim_start();
    }
    calls
}

/// Reads `key=value, key="value"]`; what follows the bracket.
fn options<'t>(text: &'t str, options: &mut BTreeMap<String, String>) -> &'t str {
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
        if let Some(after) = rest.strip_prefix(']') {
            return after;
        }
        let Some((key, after)) = rest.split_once('=') else { return "" };
        let after = after.trim_start();
        let quote = after.chars().next().filter(|first| matches!(first, '"' | '\''));
        let (value, after) = match quote {
            Some(quote) => after[1..].split_once(quote).unwrap_or((&after[1..], "")),
            None => after.split_at(after.find([',', ']']).unwrap_or(after.len())),
        };
        options.insert(key.trim().to_lowercase(), value.trim().to_owned());
        rest = after;
    }
}

/// Names of ports that administrators write, with their numbers; others are looked up in `/etc/services`.
const PORTS: [(&str, u16); 30] = [
    ("ftp", 21),
    ("ftp-data", 20),
    ("ftps", 990),
    ("ftps-data", 989),
    ("ssh", 22),
    ("telnet", 23),
    ("smtp", 25),
    ("domain", 53),
    ("http", 80),
    ("https", 443),
    ("pop3", 110),
    ("pop3s", 995),
    ("imap", 143),
    ("imap2", 143),
    ("imap3", 220),
    ("imaps", 993),
    ("submission", 587),
    ("465", 465),
    ("smtps", 465),
    ("submissions", 465),
    ("ssmtp", 465),
    ("sieve", 4190),
    ("ldap", 389),
    ("ldaps", 636),
    ("mysql", 3306),
    ("postgresql", 5432),
    ("sip", 5060),
    ("sips", 5061),
    ("socks", 1080),
    ("squid", 3128),
];

/// The number of a port, by number or name.
pub(super) fn port(text: &str, services: &str) -> Option<u16> {
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let known = PORTS.iter().find(|(name, _)| *name == text).map(|(_, number)| *number);
    known.or_else(|| {
        services.lines().find_map(|line| {
            let line = line.split('#').next()?;
            let mut words = line.split_whitespace();
            let (name, number) = (words.next()?, words.next()?.split('/').next()?);
            (name == text || words.any(|alias| alias == text)).then(|| number.parse().ok()).flatten()
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_in_all_forms() {
        let read = ["10m", "1h", "-1", "600", "1d 3h", "1.5h", "1w", "2 weeks", "1mo", "", "soon"].map(seconds);
        let days = 86_400;
        let wanted = [600, 3600, -1, 600, days + 10_800, 5400, 7 * days, 14 * days, 2_629_746].map(Some);
        assert_eq!(read, [wanted.as_slice(), &[None, None]].concat().as_slice());
        assert_eq!([600, -1, 97_200, 0].map(length), ["10m", "forever", "1d3h", "1s"]);
    }

    #[test]
    fn names_with_options_are_taken_apart() {
        let found = calls("a[mode=x, port=\"80,443\"]\n  b\nc[x='y', z=1][w=2]");
        let shown: Vec<String> = found.iter().map(|call| format!("{} {:?}", call.name, call.options)).collect();
        assert_eq!(shown, [r#"a {"mode": "x", "port": "80,443"}"#, "b {}", r#"c {"w": "2", "x": "y", "z": "1"}"#]);
    }

    #[test]
    fn ports_have_names() {
        let services = "gate 4711/tcp door # a gate\n";
        let read = ["ssh", "8080", "gate", "door", "none"].map(|text| port(text, services));
        assert_eq!(read, [Some(22), Some(8080), Some(4711), Some(4711), None]);
    }
}
