//! The shapes of lines: lines that differ only in addresses, numbers, names and the like are one shape. In: lines of
//! logs. Out: the most frequent shapes with a sample of each, in bounded memory, whatever an attacker writes.

mod tokens;

use std::collections::HashMap;

pub(super) use crate::filters::Tone;
use crate::filters::{Format, layout, opened, tone};
pub(super) use tokens::{Kind, Token, tokens};

/// Most shapes that are kept at a time.
const MOST_SHAPES: usize = 512;

/// Longer lines are not looked at, in bytes.
const LONGEST_LINE: usize = 4096;

/// So many words at one place of otherwise equal shapes are no words of the program.
const MOST_WORDS: usize = 4;

/// Fields of JSON objects that tell what happened.
const TELLING: [&str; 14] = [
    "msg", "message", "error", "err", "event", "status", "code", "level", "action", "reason", "type", "outcome",
    "result", "log",
];

/// Lines that differ only in what differs from line to line.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) format: Format,
    /// Empty where no header names one.
    pub(super) program: String,
    pub(super) tone: Tone,
    /// Of JSON lines, those of the telling fields.
    pub(super) tokens: Vec<Token>,
    /// How many lines have it; fewer than there were when [`Shapes::is_exact`] says no.
    pub(super) count: u64,
    /// One of the lines.
    pub(super) sample: Sample,
}

/// One line of a shape, out of its envelope.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) file: String,
    /// From 1.
    pub(super) number: u64,
    /// What stands before the message.
    pub(super) header: String,
    pub(super) message: String,
}

impl Sample {
    pub(super) fn line(&self) -> String {
        format!("{}{}", self.header, self.message)
    }
}

impl Shape {
    /// The shape of a line; `None` when it is too long, or the rest of a line that its envelope has torn.
    pub(super) fn of(line: &[u8], file: &str, number: u64) -> Option<Shape> {
        let mut scratch = Vec::new();
        let layout = layout(opened(line, &mut scratch).filter(|text| text.len() <= LONGEST_LINE)?);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (header, message) = (text(layout.header), text(layout.message));
        let tokens = match layout.format {
            Format::Json => json_tokens(&message)?,
            Format::Clf => with_account(tokens(&message)),
            _ => tokens(&message),
        };
        Some(Shape {
            format: layout.format,
            program: text(layout.program),
            tone: tone(layout.message),
            tokens,
            count: 1,
            sample: Sample { file: file.to_owned(), number, header, message },
        })
    }

    pub(super) fn has_address(&self) -> bool {
        self.tokens.iter().any(Token::is_address)
    }

    /// Whether one address stands in the message, and it is no part of a longer text.
    pub(super) fn has_one_address(&self) -> bool {
        self.has_address() && self.tokens.iter().filter(|token| token.holds_address()).count() == 1
    }

    /// The shape as people read it.
    pub(super) fn text(&self) -> String {
        let program = if self.program.is_empty() { String::new() } else { format!("{}: ", self.program) };
        program + &self.tokens.iter().map(Token::shown).collect::<String>()
    }

    /// The text with the word at a place left open.
    fn text_without(&self, place: usize) -> String {
        let shown = |(index, token): (usize, &Token)| if index == place { "\0" } else { token.shown() }.to_owned();
        format!("{}\0{}", self.program, self.tokens.iter().enumerate().map(shown).collect::<String>())
    }
}

/// In a web server's line, the account stands right before the stamp.
fn with_account(tokens: Vec<Token>) -> Vec<Token> {
    let stamp = tokens.iter().position(|token| token.kind == Kind::Time).filter(|stamp| *stamp > 2);
    let Some(bracket) = stamp.map(|stamp| stamp - 1) else { return tokens };
    let between = tokens.get(1..bracket).unwrap_or_default().iter();
    let text: String = between.map(|token| token.text.as_str()).collect();
    let Some((before, account)) = text.trim_end().rsplit_once(' ') else { return tokens };
    let blanks = text.get(text.trim_end().len()..).unwrap_or_default();
    let pieces =
        [(Kind::Mark, format!("{before} ")), (Kind::User, account.to_owned()), (Kind::Mark, blanks.to_owned())];
    let (first, rest) = (tokens.first().cloned(), tokens.get(bracket..).unwrap_or_default());
    let pieces = pieces.into_iter().map(|(kind, text)| Token { kind, text });
    first.into_iter().chain(pieces).chain(rest.iter().cloned()).collect()
}

/// `field=value` for the fields that tell what happened, and for those that hold an address; `None` for no object.
fn json_tokens(message: &str) -> Option<Vec<Token>> {
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(message).ok()?;
    let mut found = Vec::new();
    for (path, value) in fields(&object) {
        let pieces = match value {
            serde_json::Value::String(text) => tokens(text),
            serde_json::Value::Number(number) => vec![Token { kind: Kind::Word, text: number.to_string() }],
            serde_json::Value::Bool(flag) => vec![Token { kind: Kind::Word, text: flag.to_string() }],
            _ => continue,
        };
        let telling = path.rsplit('.').next().is_some_and(|key| TELLING.contains(&key.to_ascii_lowercase().as_str()));
        if telling || pieces.first().is_some_and(Token::is_address) {
            let blank = if found.is_empty() { "" } else { " " };
            found.push(Token { kind: Kind::Mark, text: format!("{blank}{path}=") });
            found.extend(pieces);
        }
    }
    Some(found)
}

/// The fields of an object and of the objects in it, by their paths.
pub(super) fn fields(object: &serde_json::Map<String, serde_json::Value>) -> Vec<(String, &serde_json::Value)> {
    let mut fields = Vec::new();
    for (key, value) in object {
        match value {
            serde_json::Value::Object(inner) => {
                fields.extend(inner.iter().map(|(inner, value)| (format!("{key}.{inner}"), value)));
            }
            _ => fields.push((key.clone(), value)),
        }
    }
    fields
}

/// The most frequent shapes of many lines, as Misra and Gries count: a shape that more than one line in
/// [`MOST_SHAPES`] has is never lost, and a count that is not exact is too small.
#[derive(Debug, Default)]
pub(super) struct Shapes {
    by_text: HashMap<String, Shape>,
    /// Lines, of all shapes.
    pub(super) lines: u64,
    /// How often every count was made smaller to make room.
    rounds: u64,
}

impl Shapes {
    pub(super) fn add(&mut self, shape: Shape) {
        self.lines += 1;
        if self.by_text.len() >= MOST_SHAPES && !self.by_text.contains_key(&shape.text()) {
            self.make_room();
        }
        self.put(shape);
    }

    /// Whether the counts are exact.
    pub(super) fn is_exact(&self) -> bool {
        self.rounds == 0
    }

    /// The shapes, failures first, the most frequent first among them.
    pub(super) fn into_sorted(mut self) -> Vec<Shape> {
        self.merge();
        let mut shapes: Vec<Shape> = self.by_text.into_values().collect();
        shapes.sort_by_cached_key(|shape| {
            (shape.tone, !shape.has_address(), std::cmp::Reverse(shape.count), shape.sample.number, shape.text())
        });
        shapes
    }

    fn put(&mut self, shape: Shape) {
        let count = shape.count;
        self.by_text.entry(shape.text()).and_modify(|known| known.count += count).or_insert(shape);
    }

    fn make_room(&mut self) {
        self.merge();
        while self.by_text.len() > MOST_SHAPES * 3 / 4 {
            self.rounds += 1;
            self.by_text.retain(|_, shape| {
                shape.count -= 1;
                shape.count > 0
            });
        }
    }

    /// Makes one of shapes that differ in one word, when those words are many.
    fn merge(&mut self) {
        let mut alike: HashMap<String, Vec<(String, usize)>> = HashMap::new();
        for (text, shape) in &self.by_text {
            let words = shape.tokens.iter().enumerate().filter(|(_, token)| token.kind == Kind::Word);
            for (place, _) in words.filter(|(_, token)| tone(token.text.as_bytes()) == Tone::Unclear) {
                alike.entry(shape.text_without(place)).or_default().push((text.clone(), place));
            }
        }
        let mut groups: Vec<_> = alike.into_values().filter(|group| group.len() >= MOST_WORDS).collect();
        groups.sort_by_key(|group| std::cmp::Reverse(group.len()));
        for group in groups {
            let mut members: Vec<(Shape, usize)> =
                group.into_iter().filter_map(|(text, place)| Some((self.by_text.remove(&text)?, place))).collect();
            if members.len() >= MOST_WORDS {
                for (shape, place) in &mut members {
                    if let Some(word) = shape.tokens.get_mut(*place) {
                        word.kind = Kind::Varied;
                    }
                }
            }
            // The sample of the earliest line stays, whatever the order of the table.
            members.sort_by_key(|(shape, _)| shape.sample.number);
            for (shape, _) in members {
                self.put(shape);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shapes(lines: impl IntoIterator<Item = String>) -> Shapes {
        let mut shapes = Shapes::default();
        (1..)
            .zip(lines)
            .filter_map(|(number, line)| Shape::of(line.as_bytes(), "log", number))
            .for_each(|shape| shapes.add(shape));
        shapes
    }

    fn shown(shapes: Shapes) -> Vec<(String, u64)> {
        shapes.into_sorted().into_iter().map(|shape| (shape.text(), shape.count)).collect()
    }

    #[test]
    fn lines_of_one_shape_are_counted_together() {
        let line =
            |user: &str, last: u8| format!("Nov 21 01:30:00 web d[7]: login failed for {user} from 192.0.2.{last}");
        let found = shown(shapes([line("bob", 1), line("eve", 2), "Nov 21 01:30:00 web d[7]: started".to_owned()]));
        let failed = "d: login failed for <USER> from <ADDR>".to_owned();
        assert_eq!(found, [(failed, 2), ("d: started".to_owned(), 1)]);
    }

    #[test]
    fn a_word_that_is_many_words_is_none_of_the_program() {
        let names = ["ann", "bob", "cid", "dan", "eve"];
        let found = shown(shapes(names.map(|name| format!("{name} failed to log in from 192.0.2.1"))));
        assert_eq!(found, [("<WORD> failed to log in from <ADDR>".to_owned(), 5)]);
    }

    #[test]
    fn a_frequent_shape_survives_any_number_of_others() {
        let odd = |number: usize| format!("{number:b}").replace('0', "!").replace('1', "?");
        let lines = (0..20_000).map(|number| match number % 10 {
            0 => "bad login from 192.0.2.1".to_owned(),
            _ => format!("failed {} 192.0.2.1", odd(number)),
        });
        let shapes = shapes(lines);
        assert!(shapes.by_text.len() <= MOST_SHAPES);
        assert!(!shapes.is_exact());
        assert_eq!(shapes.lines, 20_000);
        assert_eq!(shown(shapes)[0].0, "bad login from <ADDR>");
    }

    #[test]
    fn requests_are_alike_whoever_sends_them() {
        let line =
            |user: &str| format!("192.0.2.9 - {user} [20/Nov/2026:01:30:00 +0000] \"GET /{user} HTTP/1.1\" 401 12");
        let found = shown(shapes([line("-"), line("bob")]));
        assert_eq!(found, [("<ADDR> - <USER> [<TIME>] \"<TEXT>\" 401 <N>".to_owned(), 2)]);
    }

    #[test]
    fn objects_are_alike_when_their_telling_fields_are() {
        let line =
            |port: u16| format!(r#"{{"level":"warn","msg":"bad login","port":{port},"req":{{"ip":"192.0.2.9"}}}}"#);
        let found = shown(shapes([line(1), line(2)]));
        assert_eq!(found, [("level=warn msg=bad login req.ip=<ADDR>".to_owned(), 2)]);
    }
}
