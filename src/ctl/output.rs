//! How `banctl` speaks: data to stdout, messages to stderr, tables that fit the terminal.
//!
//! Text that an outsider may have written reaches neither of them with a character that a terminal would obey, or
//! that would show in another place than it stands: it is escaped here, in tables, messages and JSON alike.

use crate::text::{escape, is_plain};
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

use serde::Serialize;

/// Width of a terminal that does not tell it, in columns.
const USUAL_WIDTH: u16 = 80;

/// Standard output, and what may be done to it.
pub(crate) struct Output {
    writer: BufWriter<StdoutLock<'static>>,
    /// Columns of the terminal.
    width: Option<u16>,
    colour: bool,
}

impl Output {
    pub(crate) fn stdout() -> Output {
        let stdout = io::stdout();
        let width = stdout.is_terminal().then(|| {
            rustix::termios::tcgetwinsize(&stdout).map_or(USUAL_WIDTH, |size| match size.ws_col {
                0 => USUAL_WIDTH,
                columns => columns,
            })
        });
        let colour = width.is_some() && wants_colour();
        Output { writer: BufWriter::with_capacity(64 * 1024, stdout.lock()), width, colour }
    }

    pub(crate) fn is_terminal(&self) -> bool {
        self.width.is_some()
    }

    pub(crate) fn line(&mut self, text: &str) -> io::Result<()> {
        self.writer.write_all(text.as_bytes())?;
        self.writer.write_all(b"\n")
    }

    /// One object on one line.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        json_line(&mut self.writer, value)
    }

    /// Columns of the terminal; `None` when stdout is not one.
    pub(crate) fn width(&self) -> Option<u16> {
        self.width
    }

    pub(crate) fn has_colour(&self) -> bool {
        self.colour
    }

    /// The text in a style, where colour is wanted; else as it is.
    pub(crate) fn styled(&self, style: Style, text: &str) -> String {
        if !self.colour {
            return text.to_owned();
        }
        let code = match style {
            Style::Bold => "1",
            Style::Good => "1;32",
            Style::Warning => "1;33",
            Style::Bad => "1;31",
            Style::Quiet => "2",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// The text in lines that fit the terminal beside an indent of so many columns; one line where there is none.
    pub(crate) fn wrap(&self, text: &str, indent: usize) -> Vec<String> {
        let Some(width) = self.width else { return vec![text.to_owned()] };
        let room = usize::from(width).saturating_sub(indent);
        let mut lines: Vec<String> = Vec::new();
        for word in text.split_whitespace() {
            match lines.last_mut() {
                Some(line) if line.chars().count() + 1 + word.chars().count() <= room => {
                    line.push(' ');
                    line.push_str(word);
                }
                _ => lines.push(word.to_owned()),
            }
        }
        lines
    }
}

/// Bytes as they are, for what is not text from outside.
impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// One object on one line, its text escaped.
pub(crate) fn json_line(writer: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    let mut serializer = serde_json::Serializer::with_formatter(&mut *writer, PlainJson);
    value.serialize(&mut serializer)?;
    writer.write_all(b"\n")
}

#[derive(Clone, Copy)]
pub(crate) enum Style {
    Bold,
    Good,
    Warning,
    Bad,
    Quiet,
}

/// <https://no-color.org>: set and not empty means no colour.
fn wants_colour() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_none_or(|terminal| terminal.is_empty() || terminal == "dumb");
    !refused && !dumb
}

/// A message to the person, on stderr; every line of it escaped. That stderr is closed is no reason to fail.
pub(crate) fn say(message: &str) {
    let mut text = String::with_capacity(message.len() + 1);
    for line in message.lines() {
        text.push_str(&escape(line));
        text.push('\n');
    }
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// What was left out of something that was done.
pub(crate) fn warn(warnings: &[String]) {
    for warning in warnings {
        say(&format!("warning: {warning}"));
    }
}

/// JSON on one line whose strings hold only characters that a terminal shows; the others are `\uXXXX`.
struct PlainJson;

impl serde_json::ser::Formatter for PlainJson {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        if fragment.chars().all(is_plain) {
            return writer.write_all(fragment.as_bytes());
        }
        for character in fragment.chars() {
            if is_plain(character) {
                write!(writer, "{character}")?;
            } else {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            }
        }
        Ok(())
    }
}

/// A number with its thousands apart: `21,012`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 entry`, `21,012 entries`.
pub(crate) fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(number), if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_holds_the_same_text_in_visible_characters() {
        let text = "\u{202e}\u{7f}\u{9b}31m\u{e0041}\"\\\n é";
        let mut bytes = Vec::new();
        text.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, PlainJson)).unwrap();
        let written = String::from_utf8(bytes).unwrap();
        assert!(written.chars().all(is_plain), "{written}");
        assert_eq!(serde_json::from_str::<String>(&written).unwrap(), text);
    }

    #[test]
    fn thousands_stand_apart() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
