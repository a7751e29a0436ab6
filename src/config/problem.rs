//! What is wrong with a file that a person wrote: where, what, and what to do about it.
//!
//! Problems are collected, never returned one by one: a reader goes on after each, so that all are shown at once.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::text::{escape, is_plain};

/// Whether a problem keeps the file from being used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Severity {
    Warning,
    Error,
}

/// One thing that is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) severity: Severity,
    pub(crate) path: PathBuf,
    /// `None` when the problem is the file itself: it cannot be read, say.
    pub(crate) place: Option<Place>,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

/// A stretch of one line of a file. Line and column count characters from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) line: usize,
    pub(crate) column: usize,
    /// How many characters the carets underline, at least 1.
    pub(crate) width: usize,
    pub(crate) text: String,
}

/// Where something was written, for problems that only show when everything has been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spot {
    pub(crate) path: PathBuf,
    pub(crate) place: Option<Place>,
}

impl Spot {
    /// A problem with what stands here.
    pub(crate) fn problem(&self, message: impl Into<String>) -> Problem {
        Problem { place: self.place.clone(), ..Problem::of_file(&self.path, message) }
    }
}

impl Problem {
    /// A problem with a file as a whole.
    pub(crate) fn of_file(path: &Path, message: impl Into<String>) -> Problem {
        let message = message.into();
        Problem { severity: Severity::Error, path: path.to_owned(), place: None, message, hint: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Problem {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn warning(mut self) -> Problem {
        self.severity = Severity::Warning;
        self
    }

    pub(crate) fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// `path:line:col: message`, the line, carets under the place, and the hint. No newline at the end.
/// Names and text from outside are shown with what a terminal would obey escaped. `{:#}` leaves out the word for a
/// warning.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", escape(&self.path.to_string_lossy()))?;
        if let Some(place) = &self.place {
            write!(f, "{}:{}:", place.line, place.column)?;
        }
        let kind = if self.is_error() || f.alternate() { "" } else { " warning:" };
        write!(f, "{kind} {}", escape(&self.message))?;
        if let Some(place) = &self.place {
            place.cite(f)?;
        }
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {}", escape(hint)),
            None => Ok(()),
        }
    }
}

impl Place {
    /// Turns a byte range of `text` into a line and columns; a range over several lines is cut at its first.
    pub(crate) fn of(text: &str, span: &Range<usize>) -> Place {
        let start = floor_boundary(text, span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
        let end = floor_boundary(text, span.end).clamp(start, line_end);
        Place {
            line: text[..start].matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            width: text[start..end].chars().count().max(1),
            text: text[line_start..line_end].trim_end_matches('\r').to_owned(),
        }
    }

    /// Longest citation, in characters; a longer line is shown around the place.
    const SHOWN: usize = 100;

    fn cite(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let skip = if self.column > Self::SHOWN { self.column - Self::SHOWN / 2 } else { 0 };
        let shown: String =
            self.text.chars().skip(skip).take(Self::SHOWN).map(|c| if is_plain(c) { c } else { ' ' }).collect();
        let gutter = self.line.to_string().len();
        let indent = self.column - 1 - skip;
        let carets = "^".repeat(self.width.min(Self::SHOWN.saturating_sub(indent).max(1)));
        write!(f, "\n{} | {shown}\n{:gutter$} | {:indent$}{carets}", self.line, "", "")
    }
}

fn floor_boundary(text: &str, index: usize) -> usize {
    let mut index = index.min(text.len());
    while !text.is_char_boundary(index) {
        index -= 1;
    }
    index
}

/// A place to put problems while reading goes on.
#[derive(Debug, Default)]
pub(crate) struct Problems(RefCell<Vec<Problem>>);

impl Problems {
    pub(crate) fn push(&self, problem: Problem) {
        self.0.borrow_mut().push(problem);
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.0.borrow().iter().any(Problem::is_error)
    }

    /// All problems, in the order of their files and places; what several jails inherited is said once.
    pub(crate) fn into_sorted(self) -> Vec<Problem> {
        let mut problems = self.0.into_inner();
        let place = |p: &Problem| p.place.as_ref().map(|place| (place.line, place.column));
        problems.sort_by_cached_key(|p| (p.path.clone(), place(p), p.message.clone()));
        problems.dedup();
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_shows_its_line_with_a_caret_and_a_hint() {
        let text = "[daemon]\nmod = \"x\"\n";
        let problem = Problem {
            severity: Severity::Error,
            path: "b.toml".into(),
            place: Some(Place::of(text, &(9..12))),
            message: "unknown key 'mod'".to_owned(),
            hint: Some("did you mean 'mode'?".to_owned()),
        };
        let shown = "b.toml:2:1: unknown key 'mod'\n2 | mod = \"x\"\n  | ^^^\n  hint: did you mean 'mode'?";
        assert_eq!(problem.to_string(), shown);
    }

    #[test]
    fn control_characters_of_a_cited_line_do_not_reach_the_terminal() {
        let place = Place::of("a = \u{1b}[31m\u{202e}b", &(0..1));
        let problem = Problem::of_file(Path::new("na\u{1b}[31mme"), "m\u{9b}").hint("h\u{7f}");
        let shown = Problem { place: Some(place), ..problem }.to_string();
        let expected = "na\\u{1b}[31mme:1:1: m\\u{9b}\n1 | a =  [31m b\n  | ^\n  hint: h\\u{7f}";
        assert_eq!(shown, expected);
    }
}
