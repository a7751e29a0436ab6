//! A message, cut into what its program always writes and what differs from line to line. A guess, by the look of
//! words and of what stands before them.

use std::net::IpAddr;

use crate::filters::{Tone, address_at, tone};

/// What a piece of a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// A word that the program writes.
    Word,
    /// Blanks and punctuation.
    Mark,
    Address(IpAddr),
    /// Digits, perhaps with full stops among them.
    Number,
    /// A mixture of digits and letters that hardly is a word.
    Id,
    /// Between quotes or angle brackets, which are marks.
    Quoted,
    /// A name of an account, by the word before it.
    User,
    /// What stands behind `key=`, a path, a mail address.
    Value,
    /// Between square brackets.
    Time,
    /// A word that other lines of the same shape have another one for.
    Varied,
}

/// A piece of a message. All pieces together are the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) text: String,
}

impl Token {
    fn new(kind: Kind, text: &str) -> Token {
        Token { kind, text: text.to_owned() }
    }

    /// How a shape shows it.
    pub(crate) fn shown(&self) -> &str {
        match self.kind {
            Kind::Word | Kind::Mark => &self.text,
            Kind::Address(_) => "<ADDR>",
            Kind::Number => "<N>",
            Kind::Id => "<ID>",
            Kind::Quoted => "<TEXT>",
            Kind::User => "<USER>",
            Kind::Value => "<VALUE>",
            Kind::Time => "<TIME>",
            Kind::Varied => "<WORD>",
        }
    }

    pub(crate) fn is_address(&self) -> bool {
        matches!(self.kind, Kind::Address(_))
    }

    /// Whether an address stands in it, as in the quoted text of somebody who forges one.
    pub(crate) fn holds_address(&self) -> bool {
        let is_inside = |before: &u8| before.is_ascii_alphanumeric() || matches!(before, b'.' | b'_' | b'-' | b':');
        let bytes = self.text.as_bytes();
        let starts =
            (0..bytes.len()).filter(|at| at.checked_sub(1).is_none_or(|at| !bytes.get(at).is_some_and(is_inside)));
        self.is_address() || starts.into_iter().any(|at| address_at(bytes, at).is_some())
    }
}

/// Words before the name of an account.
const BEFORE_USER: [&str; 10] =
    ["user", "for", "username", "account", "acct", "ruser", "logname", "userid", "usr", "uname"];

/// Words that are, too, if more than a blank stands between.
const BEFORE_VALUE: [&str; 2] = ["login", "name"];

/// Words behind those that are no names.
const NO_NAMES: [&str; 52] = [
    "invalid",
    "illegal",
    "unknown",
    "user",
    "from",
    "failed",
    "failure",
    "the",
    "a",
    "an",
    "by",
    "with",
    "and",
    "or",
    "is",
    "not",
    "attempt",
    "attempts",
    "authentication",
    "password",
    "login",
    "denied",
    "refused",
    "rejected",
    "on",
    "to",
    "at",
    "in",
    "name",
    "account",
    "request",
    "method",
    "reason",
    "ip",
    "host",
    "client",
    "address",
    "remote",
    "has",
    "was",
    "does",
    "did",
    "via",
    "using",
    "this",
    "no",
    "non-existent",
    "nonexistent",
    "service",
    "domain",
    "session",
    "unavailable",
];

/// Longest text between quotes, in bytes.
const LONGEST_QUOTED: usize = 256;

/// A word with digits in it that is at least this long is hardly one that the program always writes.
const SHORTEST_ID: usize = 8;

/// Cuts a message into tokens.
pub(crate) fn tokens(message: &str) -> Vec<Token> {
    let mut cutter = Cutter { message, at: 0, tokens: Vec::new() };
    while cutter.at < message.len() {
        cutter.step();
    }
    cutter.tokens
}

struct Cutter<'m> {
    message: &'m str,
    /// Where the next token begins; always between two characters.
    at: usize,
    tokens: Vec<Token>,
}

impl Cutter<'_> {
    fn step(&mut self) {
        if let Some((address, end)) = self.address() {
            return self.take(Kind::Address(address), end - self.at);
        }
        let Some(first) = self.rest().chars().next() else { return };
        if let Some(length) = self.quoted(first) {
            self.take(Kind::Mark, first.len_utf8());
            self.take(Kind::Quoted, length);
            let close = self.rest().chars().next().map_or(0, char::len_utf8);
            return self.take(Kind::Mark, close);
        }
        if let Some(length) = self.dated(first) {
            self.take(Kind::Mark, 1);
            return self.take(Kind::Time, length);
        }
        if first == '/' && self.before().is_none_or(|before| !is_word(before) && before != '/') {
            let length = self.rest().find([' ', ',', ';', ')', '"']).unwrap_or(self.rest().len());
            return self.take(Kind::Value, length);
        }
        if is_word(first) {
            return self.word();
        }
        self.take(Kind::Mark, first.len_utf8());
        // `ruser= rhost=…`: a value that is empty here.
        if first == '=' && self.tokens.iter().rev().nth(1).is_some_and(|key| key.kind == Kind::Word) {
            let empty = self.rest().chars().next().is_none_or(|next| next == ' ' || next == ',');
            if empty {
                self.tokens.push(Token::new(Kind::Value, ""));
            }
        }
    }

    fn rest(&self) -> &str {
        self.message.get(self.at..).unwrap_or_default()
    }

    fn before(&self) -> Option<char> {
        self.message.get(..self.at)?.chars().next_back()
    }

    fn take(&mut self, kind: Kind, length: usize) {
        let text = self.rest().get(..length).unwrap_or_default();
        self.tokens.push(Token::new(kind, text));
        self.at += length.max(usize::from(kind == Kind::Mark));
    }

    /// An address here that may be somebody's: not the machine itself, nor all of its addresses.
    fn address(&self) -> Option<(IpAddr, usize)> {
        let inside = |before: char| before.is_alphanumeric() || matches!(before, '.' | '_' | '-');
        if self.before().is_some_and(inside) {
            return None;
        }
        let found = address_at(self.message.as_bytes(), self.at)?;
        (!found.0.is_unspecified() && !found.0.is_loopback()).then_some(found)
    }

    /// The length of the text behind an opening quote.
    fn quoted(&self, first: char) -> Option<usize> {
        let close = match first {
            '"' => '"',
            '\'' | '`' => '\'',
            '<' => '>',
            '\u{201c}' => '\u{201d}',
            '\u{2018}' => '\u{2019}',
            _ => return None,
        };
        if first == '\'' && self.before().is_some_and(char::is_alphanumeric) {
            return None;
        }
        let inside = self.rest().get(first.len_utf8()..)?;
        let length = inside.find(close).filter(|length| *length <= LONGEST_QUOTED)?;
        let after = address_at(inside.as_bytes(), 0).and_then(|(_, end)| inside.get(end..length));
        let is_port = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
        let is_address = after.is_some_and(|after| after.is_empty() || after.strip_prefix(':').is_some_and(is_port));
        (!is_address).then_some(length)
    }

    /// The length of a web server's stamp behind `[`.
    fn dated(&self, first: char) -> Option<usize> {
        let inside = self.rest().strip_prefix('[').filter(|_| first == '[')?;
        let length = inside.find(']')?;
        let text = inside.get(..length)?;
        (text.matches('/').count() == 2 && text.matches(':').count() >= 3).then_some(length)
    }

    fn word(&mut self) {
        let rest = self.rest();
        let length = rest.find(|part: char| !is_word(part)).unwrap_or(rest.len());
        // A full stop at the end belongs to the sentence.
        let word = rest.get(..length).unwrap_or_default();
        let word = word.trim_end_matches(['.', '-']);
        let word = if word.is_empty() { rest.get(..length).unwrap_or_default() } else { word };
        let (kind, length) = (self.kind_of(word), word.len());
        self.take(kind, length);
    }

    fn kind_of(&self, word: &str) -> Kind {
        let mut before = self.tokens.iter().rev();
        let marks: String =
            before.by_ref().take_while(|token| token.kind == Kind::Mark).map(|t| t.text.as_str()).collect();
        let key =
            self.tokens.iter().rev().find(|token| token.kind != Kind::Mark).filter(|token| token.kind == Kind::Word);
        let key = key.map(|key| key.text.to_ascii_lowercase()).unwrap_or_default();
        let lower = word.to_ascii_lowercase();
        let digits = word.bytes().filter(u8::is_ascii_digit).count();
        if digits == word.len() && marks == " \"" && digits == 3 {
            return Kind::Word;
        }
        let names = match marks.as_str() {
            " " => BEFORE_USER.contains(&key.as_str()),
            "=" | " :" | ":" | " = " | "[" | "(" => {
                BEFORE_USER.contains(&key.as_str()) || BEFORE_VALUE.contains(&key.as_str())
            }
            _ => false,
        };
        let is_key = self.rest().get(word.len()..).is_some_and(|rest| rest.starts_with('='));
        if names && !is_key && !NO_NAMES.contains(&lower.as_str()) && tone(word.as_bytes()) == Tone::Unclear {
            return Kind::User;
        }
        if digits > 0 && word.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
            return Kind::Number;
        }
        if word.contains('@') || (marks == "=" && !key.is_empty()) {
            return Kind::Value;
        }
        if digits > 0 && word.len() >= SHORTEST_ID { Kind::Id } else { Kind::Word }
    }
}

fn is_word(part: char) -> bool {
    part.is_alphanumeric() || matches!(part, '_' | '-' | '.' | '@' | '+' | '\\' | '\u{fffd}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(message: &str) -> String {
        let tokens = tokens(message);
        assert_eq!(tokens.iter().map(|token| token.text.as_str()).collect::<String>(), message);
        tokens.iter().map(Token::shown).collect()
    }

    #[test]
    fn what_differs_from_line_to_line_is_told_from_what_does_not() {
        for (message, shown) in [
            (
                "Failed password for invalid user bob from 192.0.2.9 port 4711 ssh2",
                "Failed password for invalid user <USER> from <ADDR> port <N> ssh2",
            ),
            ("login failed for 'bob' from 2001:db8::9", "login failed for '<TEXT>' from <ADDR>"),
            ("don't log in: rhost=192.0.2.9  user=root", "don't log in: rhost=<ADDR>  user=<USER>"),
            ("logname= uid=0 tty=ssh rhost=192.0.2.9", "logname=<VALUE> uid=<N> tty=<VALUE> rhost=<ADDR>"),
            ("4c8F2kzQ1: reject: RCPT from x[192.0.2.9]: 554", "<ID>: reject: RCPT from x[<ADDR>]: <N>"),
            ("192.0.2.9 - - [21/Nov/2026:01:30:00 +0100] \"GET /a\" 401 12", "<ADDR> - - [<TIME>] \"<TEXT>\" 401 <N>"),
            (
                "listening on 127.0.0.1:80, \"192.0.2.9\" /etc/x refused.",
                "listening on <N>:<N>, \"<ADDR>\" <VALUE> refused.",
            ),
            ("tail ''", "tail '<TEXT>'"),
        ] {
            assert_eq!(shape(message), shown);
        }
    }

    #[test]
    fn hostile_text_is_cut_at_characters_and_comes_back_whole() {
        for message in
            ["é'ü", "\u{202e}=\u{201c}", "'", "<", "[//:::", "=", "a= ", "..", "- -", "/", "\u{fffd}\u{fffd}"]
        {
            shape(message);
        }
    }
}
