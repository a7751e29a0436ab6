//! A regular expression of Python becomes one of ours. In: text whose tags are replaced, [`ADDRESS`] where the offender
//! stands. Out: the same language in the syntax of the regex crate, or the name of what has no counterpart.
//!
//! Look-around that only says where a word begins or ends is rewritten; other look-around, back-references and
//! conditions are refused, for our engine takes linear time whatever an attacker writes.

use std::collections::BTreeSet;

/// Stands for the offender in a pattern.
pub(super) const ADDRESS: char = '\u{e001}';

/// Deepest nesting of groups within look-around.
const DEEPEST: usize = 8;

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Translated {
    /// Flags for the whole: `i`, `s`.
    pub(super) flags: BTreeSet<char>,
    pub(super) text: String,
    /// What was changed on the way, each a few words.
    pub(super) notes: BTreeSet<&'static str>,
}

pub(super) fn translate(python: &str) -> Result<Translated, String> {
    translate_at(python, 0)
}

fn translate_at(python: &str, depth: usize) -> Result<Translated, String> {
    if depth > DEEPEST {
        return Err("look-around within look-around".to_owned());
    }
    let mut translator = Translator {
        source: python.chars().collect(),
        at: 0,
        depth,
        verbose: false,
        has_user: false,
        done: Translated::default(),
    };
    while translator.at < translator.source.len() {
        translator.step()?;
    }
    Ok(translator.done)
}

struct Translator {
    source: Vec<char>,
    at: usize,
    depth: usize,
    /// The flag `x`: blanks and comments are no part of the expression.
    verbose: bool,
    has_user: bool,
    done: Translated,
}

impl Translator {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.source.get(self.at + ahead).copied()
    }

    fn rest(&self) -> String {
        self.source[self.at..].iter().collect()
    }

    fn emit(&mut self, text: &str) {
        self.done.text.push_str(text);
    }

    fn step(&mut self) -> Result<(), String> {
        let Some(next) = self.peek(0) else { return Ok(()) };
        match next {
            '\\' => self.escape(),
            '[' => self.class(),
            '(' => self.group(),
            '*' | '+' | '?' => {
                self.at += 1;
                self.done.text.push(next);
                self.after_quantifier();
                Ok(())
            }
            '{' => {
                self.braces();
                Ok(())
            }
            ' ' | '\t' | '\n' if self.verbose => {
                self.at += 1;
                Ok(())
            }
            '#' if self.verbose => {
                while self.peek(0).is_some_and(|character| character != '\n') {
                    self.at += 1;
                }
                Ok(())
            }
            _ => {
                self.at += 1;
                self.literal(next);
                Ok(())
            }
        }
    }

    /// A character that is itself; beyond ASCII as its bytes, for logs are bytes.
    fn literal(&mut self, character: char) {
        if character.is_ascii() || is_placeholder(character) {
            self.done.text.push(character);
        } else {
            self.emit("(?:");
            for byte in character.encode_utf8(&mut [0; 4]).bytes() {
                self.emit(&format!("\\x{byte:02X}"));
            }
            self.emit(")");
        }
    }

    fn escape(&mut self) -> Result<(), String> {
        let Some(next) = self.peek(1) else { return Err("a backslash at the end".to_owned()) };
        self.at += 2;
        match next {
            'Z' | 'z' => self.done.text.push('$'),
            'A' => self.done.text.push('^'),
            '0' => self.emit("\\x00"),
            '1'..='9' => return Err(format!("the back-reference \\{next}")),
            '<' | '>' => self.done.text.push(next),
            'd' | 'D' | 's' | 'S' | 'w' | 'W' | 'b' | 'B' | 'n' | 'r' | 't' | 'f' | 'v' | 'a' | 'x' => {
                self.emit(&format!("\\{next}"));
            }
            'u' | 'U' | 'N' => return Err(format!("the escape \\{next}")),
            _ if next.is_ascii_alphanumeric() || !next.is_ascii() => self.literal(next),
            _ => self.emit(&format!("\\{next}")),
        }
        Ok(())
    }

    /// A set in brackets, whose brackets and doubled signs mean nothing to Python but something to us.
    fn class(&mut self) -> Result<(), String> {
        let start = self.at;
        self.at += 1;
        let mut class = String::from("[");
        if self.peek(0) == Some('^') {
            class.push('^');
            self.at += 1;
        }
        let mut first = true;
        loop {
            let Some(next) = self.peek(0) else { return Err("a bracket that is not closed".to_owned()) };
            self.at += 1;
            match next {
                ']' if !first => break,
                ']' | '[' | '&' | '~' => class.extend(['\\', next]),
                '\\' => {
                    let escaped = self.peek(0).unwrap_or('\\');
                    self.at += 1;
                    match escaped {
                        '<' | '>' => class.push(escaped),
                        _ => class.extend(['\\', escaped]),
                    }
                }
                '-' if first || self.peek(0) == Some(']') => class.push_str("\\-"),
                _ if !next.is_ascii() => {
                    let text: String = self.source[start..self.at].iter().collect();
                    return Err(format!("the set {text}…] with a letter beyond ASCII"));
                }
                _ => class.push(next),
            }
            first = false;
        }
        class.push(']');
        self.emit(&class);
        Ok(())
    }

    /// `{2,3}`, or a brace that is itself.
    fn braces(&mut self) {
        let inside: String = self.source[self.at + 1..].iter().take_while(|character| **character != '}').collect();
        let closed = self.source.get(self.at + 1 + inside.chars().count()) == Some(&'}');
        let is_count = inside.chars().all(|character| character.is_ascii_digit() || character == ',')
            && inside.contains(|character: char| character.is_ascii_digit())
            && inside.matches(',').count() <= 1;
        if !closed || !is_count {
            self.at += 1;
            self.emit("\\{");
            return;
        }
        let from = if inside.starts_with(',') { "0" } else { "" };
        self.emit(&format!("{{{from}{inside}}}"));
        self.at += inside.len() + 2;
        self.after_quantifier();
    }

    fn after_quantifier(&mut self) {
        match self.peek(0) {
            Some('?') => {
                self.done.text.push('?');
                self.at += 1;
            }
            // What a possessive quantifier would not give back, ours may.
            Some('+') => {
                self.done.notes.insert("possessive quantifiers became plain ones");
                self.at += 1;
            }
            _ => {}
        }
    }

    fn group(&mut self) -> Result<(), String> {
        let rest = self.rest();
        for (sign, ahead, positive) in
            [("(?=", true, true), ("(?!", true, false), ("(?<=", false, true), ("(?<!", false, false)]
        {
            if rest.starts_with(sign) {
                return self.look(sign, ahead, positive);
            }
        }
        if rest.starts_with("(?P=") {
            let name: String = rest.chars().take_while(|character| *character != ')').collect();
            return Err(format!("the back-reference {name})"));
        }
        if rest.starts_with("(?(") {
            return Err("a condition (?(…)…)".to_owned());
        }
        if rest.starts_with("(?#") {
            self.at += rest.chars().take_while(|character| *character != ')').count() + 1;
            return Ok(());
        }
        if rest.starts_with("(?>") {
            self.done.notes.insert("atomic groups became plain ones");
            self.open(3, "(?:");
            return Ok(());
        }
        if let Some(named) = rest.strip_prefix("(?P<") {
            return self.named(named);
        }
        if let Some(flags) = rest.strip_prefix("(?") {
            return self.flags(flags);
        }
        self.open(1, "(?:");
        Ok(())
    }

    /// Goes on behind so many characters, which became this text.
    fn open(&mut self, width: usize, text: &str) {
        self.at += width;
        self.emit(text);
    }

    fn named(&mut self, rest: &str) -> Result<(), String> {
        let Some((name, _)) = rest.split_once('>') else { return Err("a group without a name".to_owned()) };
        let width = 5 + name.chars().count();
        match name {
            // How filters named the offender before they had a tag for it.
            "host" | "ip" | "addr" | "ip4" | "ip6" => {
                let (_, close) = self.enclosed(self.at)?;
                self.at = close + 1;
                self.done.text.push(ADDRESS);
                self.done.notes.insert("the group 'host' became <ADDR>");
            }
            "user" if !self.has_user => {
                self.has_user = true;
                self.open(width, "(?<user>");
            }
            _ => self.open(width, "(?:"),
        }
        Ok(())
    }

    fn flags(&mut self, rest: &str) -> Result<(), String> {
        let letters: String = rest.chars().take_while(char::is_ascii_alphabetic).collect();
        let end = rest.chars().nth(letters.len());
        let ours: String = letters.chars().filter(|flag| matches!(flag, 'i' | 's')).collect();
        if !letters.chars().all(|flag| "aiLmsux".contains(flag)) || !matches!(end, Some(')' | ':')) {
            let sign: String = rest.chars().take(letters.len() + 1).collect();
            return Err(format!("the group (?{sign}"));
        }
        self.verbose |= letters.contains('x');
        if end == Some(')') {
            self.done.flags.extend(ours.chars());
            self.open(letters.len() + 3, "");
        } else {
            self.open(letters.len() + 3, &format!("(?{ours}:"));
        }
        Ok(())
    }

    /// The content of the group that begins at `open`, and where its parenthesis closes.
    fn enclosed(&self, open: usize) -> Result<(String, usize), String> {
        let (mut depth, mut at, mut in_class) = (0_usize, open, false);
        while let Some(character) = self.source.get(at) {
            match character {
                '\\' => at += 1,
                '[' if !in_class => {
                    in_class = true;
                    at += usize::from(self.source.get(at + 1) == Some(&'^'));
                    at += usize::from(self.source.get(at + 1) == Some(&']'));
                }
                ']' => in_class = false,
                '(' if !in_class => depth += 1,
                ')' if !in_class => {
                    depth -= 1;
                    if depth == 0 {
                        return Ok((self.source[open..at].iter().collect(), at));
                    }
                }
                _ => {}
            }
            at += 1;
        }
        Err("a parenthesis that is not closed".to_owned())
    }

    fn look(&mut self, sign: &str, ahead: bool, positive: bool) -> Result<(), String> {
        let (whole, close) = self.enclosed(self.at)?;
        let body = whole.strip_prefix(sign).unwrap_or_default();
        let name = if ahead { "look-ahead" } else { "look-behind" };
        let refusal = || format!("the {name} {whole})");
        // What must, or may, stand there: one character, or the end of the text.
        let wanted = if positive {
            translate_at(body, self.depth + 1)?.text
        } else {
            let outside = complement(body).ok_or_else(refusal)?;
            if ahead { format!("{outside}|$") } else { format!("^|{outside}") }
        };
        let after: String = self.source[close + 1..].iter().collect();
        self.at = close + 1;
        if ahead {
            if implied_ahead(&wanted, &after) {
                return Ok(());
            }
            if !matches!(after.as_str(), "" | ".*" | ".*$" | ".*?$") {
                return Err(refusal());
            }
        } else {
            if implied_behind(&wanted, &self.done.text) {
                return Ok(());
            }
            if !(self.done.text.is_empty() || self.done.text.ends_with(".*")) {
                return Err(refusal());
            }
        }
        self.done.notes.insert("look-around became what it stands for");
        self.emit(&format!("(?:{wanted})"));
        Ok(())
    }
}

pub(super) fn is_placeholder(character: char) -> bool {
    matches!(character, ADDRESS | super::ini::HEADER)
}

/// Everything but one character: of `\S` it is `\s`, of `[abc]` it is `[^abc]`.
fn complement(body: &str) -> Option<String> {
    let mut characters = body.chars();
    match (characters.next()?, characters.next(), characters.next()) {
        ('\\', Some(kind @ ('s' | 'S' | 'w' | 'W' | 'd' | 'D')), None) => {
            let other = if kind.is_ascii_lowercase() { kind.to_ascii_uppercase() } else { kind.to_ascii_lowercase() };
            Some(format!("\\{other}"))
        }
        ('\\', Some(sign), None) if !sign.is_ascii_alphanumeric() => Some(format!("[^\\{sign}]")),
        ('[', Some(_), Some(_)) => {
            let set = translate_at(body, DEEPEST).ok()?.text;
            let inside = set.strip_prefix('[')?.strip_suffix(']')?;
            // One set, and nothing behind it.
            if inside.replace("\\]", "").contains(']') {
                return None;
            }
            Some(match inside.strip_prefix('^') {
                Some(rest) => format!("[{rest}]"),
                None => format!("[^{inside}]"),
            })
        }
        (sign, None, None) if sign.is_ascii_alphanumeric() || " ,:;'\"-_/=@".contains(sign) => {
            Some(format!("[^{sign}]"))
        }
        _ => None,
    }
}

/// Whether what follows begins with something that fulfils the condition anyhow.
fn implied_ahead(wanted: &str, after: &str) -> bool {
    let may_lack = |at: usize| after.chars().nth(at).is_some_and(|next| "*?{".contains(next));
    let blank = (after.starts_with(' ') && !may_lack(1)) || (after.starts_with("\\s") && !may_lack(2));
    let sign = after.starts_with([',', ';', ':', '"', '\'']) && !may_lack(1);
    let end = after == "$" || after == "\\Z";
    match wanted {
        "\\s|$" | "$|\\s" => blank || end,
        "\\W|$" | "\\D|$" => blank || sign || end,
        "\\s" => blank,
        "$" => end,
        _ => false,
    }
}

/// Whether what stands before ends with something that fulfils the condition anyhow.
fn implied_behind(wanted: &str, before: &str) -> bool {
    let blank = before.ends_with(' ') || before.ends_with("\\s") || before.ends_with("\\s+");
    match wanted {
        "^|\\s" | "^|\\W" | "^|\\D" => blank || before == "^",
        "\\s" => blank,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(python: &str) -> String {
        translate(python).unwrap_or_else(|why| panic!("{python}: {why}")).text
    }

    #[test]
    fn what_both_write_alike_stays() {
        for same in [r"^a\s+\d{1,3}[^\]]* \[x\] (?:b|c)?$", r"\S+@[\w.\-]+", r"^.*?x$"] {
            assert_eq!(text(same), same);
        }
    }

    #[test]
    fn what_python_writes_otherwise_is_rewritten() {
        for (python, ours) in [
            (r"(a)(?P<user>b)(?P<other>c)\Z", r"(?:a)(?<user>b)(?:c)$"),
            (r"x++ y*+ z{2,}+ a{,3}", r"x+ y* z{2,} a{0,3}"),
            (r"{a} {} x{2}", r"\{a} \{} x{2}"),
            (r"[]a] [^]a] [[a&&b~~c-]", r"[\]a] [^\]a] [\[a\&\&b\~\~c\-]"),
            (r"\<a\> \' \/ \-", r"<a> \' \/ \-"),
            (r"(?#why)a(?>b)", r"a(?:b)"),
            (r"(?x) a  b # why", r"ab"),
            (r"(?i:a) é", r"(?i:a) (?:\xC3\xA9)"),
        ] {
            assert_eq!(text(python), ours, "{python}");
            assert!(regex_syntax::ast::parse::Parser::new().parse(&text(python)).is_ok(), "{python}");
        }
        assert_eq!(translate("(?i)a").unwrap().flags.into_iter().collect::<String>(), "i");
    }

    #[test]
    fn look_around_that_only_bounds_a_word_is_rewritten() {
        for (python, ours) in [
            (r"a(?=\s|$)", r"a(?:\s|$)"),
            (r"a(?!\S)", r"a(?:\s|$)"),
            (r"a(?=\s|$) b", r"a b"),
            (r"a(?!\w)\s+b", r"a\s+b"),
            (r"a(?=:)", r"a(?::)"),
            (r"(?<!\S)a", r"(?:^|\s)a"),
            (r"^(?<!\w)a", r"^a"),
            (r"x (?<!\S)a", r"x a"),
            (r"a(?![\d.])", r"a(?:[^\d.]|$)"),
        ] {
            assert_eq!(text(python), ours, "{python}");
        }
    }

    #[test]
    fn what_has_no_counterpart_is_refused_by_name() {
        for (python, why) in [
            (r"(a)\1", "the back-reference \\1"),
            (r"(?P<q>['\x22])a(?P=q)", "the back-reference (?P=q)"),
            (r"(?=.*x)a", "the look-ahead (?=.*x)"),
            (r"^(?!known)a", "the look-ahead (?!known)"),
            (r"a(?<!b)c", "the look-behind (?<!b)"),
            (r"(a)?(?(1)b|c)", "a condition (?(…)…)"),
            (r"[a", "a bracket that is not closed"),
        ] {
            assert_eq!(translate(python).unwrap_err(), why, "{python}");
        }
    }
}
