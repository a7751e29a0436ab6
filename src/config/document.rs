//! A TOML file of which every value knows its place.
//!
//! A reader asks a [`Table`] for the keys it knows; a key that is wrong is noted as a [`Problem`] at its place and
//! reading goes on. [`Table::finish`] then notes every key that nobody asked for. So the reader is the schema.

use std::cell::RefCell;
use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::problem::{Place, Problem, Problems, Spot};
use crate::text::meaning_of;

/// The text of a file, and where it came from.
pub(crate) struct Document {
    path: PathBuf,
    text: String,
}

/// Largest configuration or filter file that is read: 4 MiB.
const MAX_FILE: u64 = 4 << 20;

impl Document {
    /// Reads a file; when that fails, notes why and returns `None`.
    pub(crate) fn open(path: &Path, problems: &Problems) -> Option<Document> {
        match read_bounded(path) {
            Ok(text) => Some(Document::new(path, text)),
            Err(reason) => {
                problems.push(Problem::of_file(path, format!("cannot be read: {reason}")));
                None
            }
        }
    }

    pub(crate) fn new(path: &Path, text: String) -> Document {
        Document { path: path.to_owned(), text }
    }

    /// Parses the text and hands its root table to `read`. Notes all syntax errors; calls `read` only without any.
    pub(crate) fn read<T>(&self, problems: &Problems, read: impl FnOnce(Table<'_>) -> T) -> Option<T> {
        let parsed = self.parse(problems)?;
        Some(read(parsed.root(problems)))
    }

    /// Parses the text, for a reader that goes over it more than once. Notes all syntax errors.
    pub(crate) fn parse(&self, problems: &Problems) -> Option<Parsed<'_>> {
        let (root, errors) = DeTable::parse_recoverable(&self.text);
        for error in &errors {
            let place = error.span().map(|span| Place::of(&self.text, &span));
            let message = error.message().to_owned();
            problems.push(Problem { place, ..Problem::of_file(&self.path, message) });
        }
        errors.is_empty().then_some(Parsed { file: self, root })
    }

    fn problem(&self, span: &Range<usize>, message: String) -> Problem {
        self.spot(span).problem(message)
    }

    fn spot(&self, span: &Range<usize>) -> Spot {
        Spot { path: self.path.clone(), place: Some(Place::of(&self.text, span)) }
    }
}

/// A document without syntax errors.
pub(crate) struct Parsed<'a> {
    file: &'a Document,
    root: Spanned<DeTable<'a>>,
}

impl Parsed<'_> {
    /// The table of the whole file.
    pub(crate) fn root<'p>(&'p self, problems: &'p Problems) -> Table<'p> {
        let (entries, span) = (self.root.get_ref(), self.root.span());
        Table { file: self.file, problems, entries, span, asked: RefCell::default() }
    }
}

fn read_bounded(path: &Path) -> std::io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(path)?.take(MAX_FILE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE {
        return Err(std::io::Error::other("it is larger than 4 MiB"));
    }
    Ok(text)
}

/// A table of a document, and which of its keys were asked for.
pub(crate) struct Table<'a> {
    file: &'a Document,
    problems: &'a Problems,
    entries: &'a DeTable<'a>,
    span: Range<usize>,
    asked: RefCell<Vec<&'static str>>,
}

/// A value of a document with the means to complain about it.
#[derive(Clone, Copy)]
pub(crate) struct Value<'a> {
    file: &'a Document,
    problems: &'a Problems,
    content: &'a Spanned<DeValue<'a>>,
}

impl<'a> Table<'a> {
    /// The value of a key, if it is there. Asking makes the key a known one.
    pub(crate) fn get(&self, key: &'static str) -> Option<Value<'a>> {
        let mut asked = self.asked.borrow_mut();
        if !asked.contains(&key) {
            asked.push(key);
        }
        self.entries.get(key).map(|content| Value { file: self.file, problems: self.problems, content })
    }

    /// The text of a key, parsed. `what` completes the sentence "… is not …": `a duration such as "10m"`.
    pub(crate) fn parse<T: FromStr<Err: Display>>(&self, key: &'static str, what: &str) -> Option<T> {
        self.get(key)?.parse(what)
    }

    pub(crate) fn string(&self, key: &'static str) -> Option<&'a str> {
        self.get(key)?.string()
    }

    pub(crate) fn bool(&self, key: &'static str) -> Option<bool> {
        self.get(key)?.bool()
    }

    /// A whole number within bounds.
    pub(crate) fn integer(&self, key: &'static str, bounds: RangeInclusive<u64>) -> Option<u64> {
        self.get(key)?.integer(bounds)
    }

    /// The items of an array; a lone value counts as an array of one.
    pub(crate) fn items(&self, key: &'static str) -> Option<Vec<Value<'a>>> {
        Some(self.get(key)?.items())
    }

    /// An array of strings (or one string).
    pub(crate) fn strings(&self, key: &'static str) -> Option<Vec<String>> {
        Some(self.items(key)?.into_iter().filter_map(|item| item.string().map(str::to_owned)).collect())
    }

    pub(crate) fn table(&self, key: &'static str) -> Option<Table<'a>> {
        self.get(key)?.table()
    }

    /// All keys with their values, for tables whose keys are the user's names; makes all of them known.
    pub(crate) fn entries(&self) -> Vec<(&'a str, Value<'a>)> {
        let (file, problems) = (self.file, self.problems);
        self.entries.iter().map(|(key, content)| (key.get_ref().as_ref(), Value { file, problems, content })).collect()
    }

    /// One of a few words.
    pub(crate) fn choice<T: Copy>(&self, key: &'static str, words: &[(&'static str, T)]) -> Option<T> {
        self.get(key)?.choice(words)
    }

    /// Where the table stands, for problems that are found later.
    pub(crate) fn spot(&self) -> Spot {
        self.file.spot(&self.span)
    }

    /// Notes a problem with the table as a whole, at its head.
    pub(crate) fn problem(&self, message: impl Into<String>) -> Problem {
        self.file.problem(&self.span, message.into())
    }

    pub(crate) fn complain(&self, problem: Problem) {
        self.problems.push(problem);
    }

    /// Notes every key that was not asked for. To be called once all known keys were.
    pub(crate) fn finish(self) {
        let asked = self.asked.borrow();
        for key in self.entries.keys() {
            if asked.contains(&key.get_ref().as_ref()) {
                continue;
            }
            let problem = self.file.problem(&key.span(), format!("unknown key '{}'", key.get_ref().escape_debug()));
            self.problems.push(match nearest(key.get_ref(), &asked) {
                Some(known) => problem.hint(format!("did you mean '{known}'?")),
                None => problem.hint(format!("known here: {}", asked.join(", "))),
            });
        }
    }
}

impl<'a> Value<'a> {
    /// A problem at the place of this value. Hand it to [`Value::complain`], with a hint when there is one.
    pub(crate) fn problem(self, message: impl Into<String>) -> Problem {
        self.file.problem(&self.content.span(), message.into())
    }

    pub(crate) fn complain(self, problem: Problem) {
        self.problems.push(problem);
    }

    /// Where the value stands, for problems that are found later.
    pub(crate) fn spot(self) -> Spot {
        self.file.spot(&self.content.span())
    }

    /// A string that is one of a few words, as what it stands for.
    pub(crate) fn choice<T: Copy>(self, words: &[(&'static str, T)]) -> Option<T> {
        let text = self.string()?;
        let found = meaning_of(words, text);
        if found.is_none() {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let problem = self.problem(format!("\"{}\" is none of {}", text.escape_debug(), known.join(", ")));
            self.complain(match nearest(text, &known) {
                Some(word) => problem.hint(format!("did you mean \"{word}\"?")),
                None => problem,
            });
        }
        found
    }

    fn mismatch<T>(self, wanted: &str) -> Option<T> {
        let found = self.content.get_ref().type_str();
        self.complain(self.problem(format!("expected {wanted}, found {} {found}", article(found))));
        None
    }

    pub(crate) fn string(self) -> Option<&'a str> {
        match self.content.get_ref() {
            DeValue::String(text) => Some(text.as_ref()),
            _ => self.mismatch("a string"),
        }
    }

    pub(crate) fn bool(self) -> Option<bool> {
        match self.content.get_ref() {
            DeValue::Boolean(value) => Some(*value),
            _ => self.mismatch("true or false"),
        }
    }

    pub(crate) fn integer(self, bounds: RangeInclusive<u64>) -> Option<u64> {
        let DeValue::Integer(number) = self.content.get_ref() else { return self.mismatch("a whole number") };
        let number = u64::from_str_radix(number.as_str(), number.radix()).ok().filter(|n| bounds.contains(n));
        if number.is_none() {
            let message = format!("must be from {} to {}", bounds.start(), bounds.end());
            self.complain(self.problem(message));
        }
        number
    }

    pub(crate) fn is_string(self) -> bool {
        self.content.get_ref().is_str()
    }

    pub(crate) fn is_bool(self) -> bool {
        self.content.get_ref().is_bool()
    }

    pub(crate) fn items(self) -> Vec<Value<'a>> {
        match self.content.get_ref() {
            DeValue::Array(items) => self.each(items),
            _ => vec![self],
        }
    }

    fn each(self, items: &'a DeArray<'a>) -> Vec<Value<'a>> {
        items.iter().map(|content| Value { content, ..self }).collect()
    }

    pub(crate) fn table(self) -> Option<Table<'a>> {
        let DeValue::Table(entries) = self.content.get_ref() else { return self.mismatch("a table") };
        let span = self.content.span();
        Some(Table { file: self.file, problems: self.problems, entries, span, asked: RefCell::default() })
    }

    /// Parses a string value; `what` completes the sentence "… is not …".
    pub(crate) fn parse<T: FromStr<Err: Display>>(self, what: &str) -> Option<T> {
        let text = self.string()?;
        match text.parse() {
            Ok(value) => Some(value),
            Err(reason) => {
                let problem = self.problem(format!("\"{}\" is not {what}", text.escape_debug()));
                self.complain(problem.hint(format!("{reason}")));
                None
            }
        }
    }
}

fn article(noun: &str) -> &'static str {
    if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" }
}

/// The known key that a mistyped one most likely stands for: at most two edits away, or a third of its length.
pub(crate) fn nearest<'k>(typed: &str, known: &[&'k str]) -> Option<&'k str> {
    let allowed = (typed.chars().count() / 3).clamp(1, 2);
    let scored = known.iter().map(|key| (distance(typed, key), *key));
    scored.filter(|(edits, _)| *edits <= allowed).min_by_key(|(edits, _)| *edits).map(|(_, key)| key)
}

/// Edits (insert, delete, replace, swap of neighbours) between two short words.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut rows = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = match (i, j) {
                (0, n) | (n, 0) => n,
                _ => {
                    let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                    let mut least = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                    if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                        least = least.min(rows[i - 2][j - 2] + 1);
                    }
                    least
                }
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems_of(text: &str, read: impl FnOnce(Table<'_>)) -> Vec<String> {
        let problems = Problems::default();
        Document::new(Path::new("t.toml"), text.to_owned()).read(&problems, read);
        problems.into_sorted().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn all_problems_are_noted_at_once_with_their_places() {
        let found = problems_of("hooks = 3\negres = true\nfar = 1\n", |root| {
            assert_eq!(root.bool("egress"), None);
            assert_eq!(root.strings("hooks"), Some(vec![]));
            root.finish();
        });
        assert_eq!(found.len(), 3);
        assert!(found[0].starts_with("t.toml:1:9: expected a string, found an integer"), "{}", found[0]);
        assert!(found[1].ends_with("hint: did you mean 'egress'?"), "{}", found[1]);
        assert!(found[2].ends_with("hint: known here: egress, hooks"), "{}", found[2]);
    }

    #[test]
    fn numbers_out_of_bounds_and_unparsable_texts_are_refused() {
        let found = problems_of("a = -1\nb = \"soon\"\n", |root| {
            assert_eq!(root.integer("a", 1..=9), None);
            assert_eq!(root.parse::<crate::time::Length>("b", "a duration"), None);
            root.finish();
        });
        assert!(found[0].contains("must be from 1 to 9"), "{}", found[0]);
        assert!(found[1].contains("\"soon\" is not a duration"), "{}", found[1]);
    }

    #[test]
    fn broken_toml_is_a_problem_with_a_place() {
        let found = problems_of("a = \n[b\n", |_| ());
        assert!(found[0].starts_with("t.toml:1:"), "{found:?}");
    }
}
