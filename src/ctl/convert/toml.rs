//! Pieces of TOML, written.

use std::fmt::Write;

use crate::text::escape;

/// A string: literal where it can be, for expressions are full of backslashes.
pub(super) fn quoted(text: &str) -> String {
    if text.contains(char::is_control) || text.contains("'''") || text.ends_with('\'') {
        return basic(text);
    }
    if text.contains('\'') {
        format!("'''{text}'''")
    } else if text.contains(['\\', '"']) {
        format!("'{text}'")
    } else {
        basic(text)
    }
}

fn basic(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            _ if character.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(character));
            }
            _ => quoted.push(character),
        }
    }
    quoted + "\""
}

pub(super) fn list<T: AsRef<str>>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(|item| quoted(item.as_ref())).collect();
    format!("[{}]", items.join(", "))
}

/// A comment of one line.
pub(super) fn comment(text: &str) -> String {
    format!("# {}", escape(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_come_back_as_they_were() {
        for text in ["plain", r"^a\d", "it's \\ so", "ends with '", "'''", "tab\tand \u{7f} \" \\", "é", "'begins"] {
            let file = format!("x = {}", quoted(text));
            let read: toml::Table = toml::from_str(&file).unwrap();
            assert_eq!(read["x"].as_str(), Some(text), "{file}");
        }
    }
}
