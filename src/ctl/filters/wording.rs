//! How a draft words a pattern: the regex for a shape of message, its name, and TOML strings. The engine itself is
//! asked whether attacker's text could choose the address, and a forged line is tried on every regex.

use std::fmt::Write as _;

use crate::ctl::shapes::{Kind, Shape, Token};
use crate::filters::{Format, Offender, trusts_end, would_find};

/// Words before the address of the offender, where a message has several addresses.
const BEFORE_OFFENDER: [&str; 14] = [
    "from",
    "client",
    "rhost",
    "ip",
    "remote",
    "peer",
    "src",
    "source",
    "host",
    "address",
    "addr",
    "remote_addr",
    "clientip",
    "by",
];

/// The address that an attacker forges in samples.
pub(super) const FORGED: &str = "198.51.100.1";

/// Longer names are cut by the engine, in bytes.
const LONGEST_USER: usize = 64;

/// How much a name or a quoted text may match.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Freedom {
    /// Anything. An attacker cannot escape the pattern by an odd name.
    Full,
    /// Nothing that ends the quotes; a name without quotes is one word.
    Quoted,
    /// One word, in quotes too.
    Word,
}

/// A regex for one shape, and the lines that prove it.
#[derive(Debug)]
pub(super) struct Worded {
    pub(super) regex: String,
    pub(super) message: String,
    pub(super) addr: &'static str,
    /// What the group `user` holds.
    pub(super) user: Option<String>,
    /// What an attacker may try: a name that looks like the end of the line.
    pub(super) forged: Option<String>,
}

/// The pattern for a shape of text; `None` when no regex for it is safe and finds its address.
pub(super) fn worded(tokens: &[Token], format: Format) -> Option<Worded> {
    use Freedom::{Full, Quoted, Word};
    let offender = offender(tokens)?;
    let addr = documentation(tokens.get(offender)?, true);
    let message = message(tokens, offender, addr);
    let forged = forged(tokens, offender, addr);
    let freedoms =
        [(Full, Full), (Full, Quoted), (Full, Word), (Quoted, Quoted), (Quoted, Word), (Word, Quoted), (Word, Word)];
    let mut regexes = freedoms.into_iter().map(|freedom| regex(tokens, offender, format, freedom));
    let after = tokens.get(offender + 1..).unwrap_or_default();
    let end_is_the_programs = !after.iter().any(|token| is_free(token) || token.kind == Kind::Value);
    let regex = regexes.find(|regex| {
        let finds = |text: &str| would_find(regex, text.as_bytes());
        let true_one = addr.parse().ok().map(Offender::Address);
        let forged_one = FORGED.parse().ok().map(Offender::Address);
        // What an attacker writes after the address may look like the whole end of the line.
        let end_is_safe = end_is_the_programs || !trusts_end(regex);
        end_is_safe
            && finds(&message) == true_one
            && forged.as_deref().and_then(finds).is_none_or(|found| Some(found) != forged_one)
    })?;
    // The account of a web server's line is read by a group of its own.
    let user = named(tokens)
        .filter(|_| format != Format::Clf)
        .and_then(|place| tokens.get(place))
        .map(|token| token.text.clone());
    let user = user.filter(|name| regex.contains("(?<user>") && (1..=LONGEST_USER).contains(&name.len()));
    Some(Worded { regex, message, addr, user, forged })
}

/// A condition on a message without an address.
pub(super) fn condition(tokens: &[Token]) -> String {
    let body = pieces(tokens, usize::MAX, (Freedom::Full, Freedom::Full), false);
    format!("^{body}$")
}

/// A name of the first telling words of a shape.
pub(super) fn name(tokens: &[Token]) -> String {
    let words = tokens.iter().filter(|token| token.kind == Kind::Word);
    let words = words.map(|token| token.text.to_ascii_lowercase());
    let plain = |word: &String| {
        word.len() > 1
            && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
            && !LITTLE.contains(&word.as_str())
    };
    let name = words.filter(plain).take(3).collect::<Vec<_>>().join("-");
    let status = || tokens.iter().find(|token| token.kind == Kind::Word && token.text.len() == 3);
    match (name.is_empty(), status()) {
        (false, _) => name,
        (true, Some(status)) => format!("status-{}", status.text),
        (true, None) => "failure".to_owned(),
    }
}

const LITTLE: [&str; 9] = ["for", "from", "the", "user", "by", "to", "of", "at", "http"];

/// The place of the offender's address.
fn offender(tokens: &[Token]) -> Option<usize> {
    let mut places = tokens.iter().enumerate().filter(|(_, token)| token.is_address()).map(|(place, _)| place);
    let introduced = |place: &usize| {
        let before = tokens.get(..*place).unwrap_or_default().iter().rev().find(|token| token.kind == Kind::Word);
        before.is_some_and(|word| BEFORE_OFFENDER.contains(&word.text.to_ascii_lowercase().as_str()))
    };
    places.clone().find(introduced).or_else(|| places.next())
}

/// An address that is nobody's, of the same family, as samples have it.
fn documentation(token: &Token, offender: bool) -> &'static str {
    match (token.kind, offender) {
        (Kind::Address(address), true) if address.is_ipv6() => "2001:db8::9",
        (Kind::Address(address), false) if address.is_ipv6() => "2001:db8::7",
        (_, true) => "192.0.2.9",
        (_, false) => "198.51.100.7",
    }
}

/// The address as the message has it: in brackets, if it was.
fn in_place(token: &Token, address: &str) -> String {
    if token.text.starts_with('[') { format!("[{address}]") } else { address.to_owned() }
}

/// The message with addresses that are nobody's.
pub(super) fn anonymous(tokens: &[Token]) -> String {
    message(tokens, usize::MAX, FORGED)
}

/// The same for the text of a JSON object, of which the tokens are the telling fields.
pub(super) fn anonymous_object(text: &str, tokens: &[Token]) -> String {
    let addresses = tokens.iter().filter(|token| token.is_address());
    let plain = |token: &Token| token.text.trim_matches(['[', ']']).to_owned();
    addresses.fold(text.to_owned(), |text, token| text.replace(&plain(token), documentation(token, false)))
}

fn message(tokens: &[Token], offender: usize, addr: &str) -> String {
    let shown = |(place, token): (usize, &Token)| match token.kind {
        Kind::Address(_) if place == offender => in_place(token, addr),
        Kind::Address(_) => in_place(token, documentation(token, false)),
        _ => token.text.clone(),
    };
    tokens.iter().enumerate().map(shown).collect()
}

/// The message of an attacker whose name looks like the rest of the line, with somebody else's address in it.
fn forged(tokens: &[Token], offender: usize, addr: &str) -> Option<String> {
    let name = tokens.get(..offender)?.iter().position(is_free)?;
    let (head, tail) = tokens.split_at_checked(name + 1)?;
    let inner = offender.checked_sub(name + 1)?;
    Some(message(head, usize::MAX, addr) + &message(tail, inner, FORGED) + &message(tail, inner, addr))
}

/// Whether an attacker chooses the text, blanks included.
fn is_free(token: &Token) -> bool {
    matches!(token.kind, Kind::User | Kind::Quoted | Kind::Varied)
}

fn regex(tokens: &[Token], offender: usize, format: Format, freedom: (Freedom, Freedom)) -> String {
    let stamp = tokens.iter().position(|token| token.kind == Kind::Time);
    if let (Format::Clf, 0, Some(stamp)) = (format, offender, stamp) {
        let rest = tokens.get(stamp + 1..).unwrap_or_default();
        return format!("^<ADDR> \\S+ (?<user>.*) \\[[^\\]]*{}$", pieces(rest, usize::MAX, freedom, false));
    }
    format!("^{}$", pieces(tokens, offender, freedom, true))
}

/// The regex of each token; `freedom` is that before and after the offender.
fn pieces(tokens: &[Token], offender: usize, freedom: (Freedom, Freedom), user: bool) -> String {
    let mut user = if user { named(tokens) } else { None };
    let mut regex = String::new();
    for (place, token) in tokens.iter().enumerate() {
        if place == offender {
            regex.push_str("<ADDR>");
            continue;
        }
        let freedom = if place < offender { freedom.0 } else { freedom.1 };
        let close = tokens.get(place + 1).and_then(|next| next.text.chars().next());
        let piece = piece(token, freedom, close);
        if user == Some(place) {
            user = None;
            let _ = write!(regex, "(?<user>{piece})");
        } else {
            regex.push_str(&piece);
        }
    }
    regex
}

/// The token that most likely is the name of an account.
fn named(tokens: &[Token]) -> Option<usize> {
    let quoted = |place: usize| {
        let before = tokens.get(..place).unwrap_or_default().iter().rev().find(|token| token.kind == Kind::Word);
        let words = ["user", "for", "username", "account", "login", "name", "acct"];
        before.is_some_and(|word| words.contains(&word.text.to_ascii_lowercase().as_str()))
    };
    let of = |kind: Kind| tokens.iter().position(|token| token.kind == kind);
    let by_quotes = || {
        (0..tokens.len())
            .find(|place| tokens.get(*place).is_some_and(|token| token.kind == Kind::Quoted) && quoted(*place))
    };
    of(Kind::User).or_else(by_quotes)
}

fn piece(token: &Token, freedom: Freedom, close: Option<char>) -> String {
    match token.kind {
        Kind::Word | Kind::Mark => escaped(&token.text),
        Kind::Address(_) | Kind::Id => r"\S+".to_owned(),
        Kind::Number if token.text.contains('.') => r"[\d.]+".to_owned(),
        Kind::Number => r"\d+".to_owned(),
        Kind::Time => r"[^\]]*".to_owned(),
        Kind::Quoted | Kind::User | Kind::Varied if freedom == Freedom::Full => ".*".to_owned(),
        Kind::Quoted => {
            let close = close.map(|close| escaped(&close.to_string())).unwrap_or_default();
            let blank = if freedom == Freedom::Word { " " } else { "" };
            format!("[^{close}{blank}]*")
        }
        Kind::User | Kind::Varied | Kind::Value => r"\S*".to_owned(),
    }
}

/// The text as a regex that matches nothing else.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 8);
    for part in text.chars() {
        if "\\.+*?()|[]{}^$".contains(part) {
            escaped.push('\\');
        }
        escaped.push(part);
    }
    escaped
}

/// The text as a TOML string, as plain as it can be.
pub(super) fn toml(text: &str) -> String {
    let tame = text.chars().all(|part| !part.is_control());
    if tame && !text.contains(['"', '\\']) {
        return format!("\"{text}\"");
    }
    if tame && !text.contains('\'') {
        return format!("'{text}'");
    }
    if tame && !text.contains("''") && !text.ends_with('\'') {
        return format!("'''{text}'''");
    }
    let mut quoted = String::from("\"");
    for part in text.chars() {
        match part {
            '"' | '\\' => quoted.extend(['\\', part]),
            part if part.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(part));
            }
            part => quoted.push(part),
        }
    }
    quoted + "\""
}

/// A key of a TOML table.
pub(super) fn key(path: &str) -> String {
    let bare = path.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    if bare && !path.is_empty() { path.to_owned() } else { toml(path) }
}

/// Whether a sample can stand in a file as it stands in the log.
pub(super) fn is_quotable(shape: &Shape) -> bool {
    !shape.sample.line().contains('\u{fffd}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::shapes::tokens;

    fn word(message: &str) -> Worded {
        worded(&tokens(message), Format::Syslog).unwrap()
    }

    #[test]
    fn a_free_name_before_the_address_is_safe_by_the_end_of_the_line() {
        let found = word("login failed for 'bob' from 203.0.113.77 port 4711");
        assert_eq!(found.regex, r"^login failed for '(?<user>.*)' from <ADDR> port \d+$");
        assert_eq!(found.message, "login failed for 'bob' from 192.0.2.9 port 4711");
        let forged = "login failed for 'bob' from 198.51.100.1 port 4711' from 192.0.2.9 port 4711";
        assert_eq!(found.forged.as_deref(), Some(forged));
    }

    #[test]
    fn where_free_text_stands_on_both_sides_none_can_hold_an_address() {
        for message in [
            "login failed for bob from 203.0.113.77 reason 'bad from 1'",
            "user 'bob' at 203.0.113.77 sent 'x'",
            "no user \"x\" client: 203.0.113.77, request: \"GET / HTTP/1.1\", host: \"h\"",
        ] {
            let found = word(message);
            let finds = |text: &str| would_find(&found.regex, text.as_bytes());
            assert_eq!(finds(&found.message), Some(Offender::Address("192.0.2.9".parse().unwrap())), "{message}");
            let forged = found.forged.unwrap();
            assert_ne!(finds(&forged), Some(Offender::Address(FORGED.parse().unwrap())), "{message}: {}", found.regex);
        }
    }

    #[test]
    fn the_offender_of_two_addresses_is_the_one_that_is_introduced() {
        let found = word("server 203.0.113.1 refused a client 2001:db8::1 here");
        assert_eq!(found.regex, r"^server \S+ refused a client <ADDR> here$");
        assert_eq!(found.addr, "2001:db8::9");
    }

    #[test]
    fn any_text_becomes_a_toml_string_that_means_it() {
        for text in ["plain", "a\"b", "it's", "a'\"b", "''\"", "x\\d", "\u{1b}'\"'''", "ends'\""] {
            let parsed: toml::Table = toml::from_str(&format!("x = {}", toml(text))).unwrap();
            assert_eq!(parsed["x"].as_str(), Some(text));
        }
    }
}
