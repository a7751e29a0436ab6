//! Text from outside, made fit for a terminal or a log: in it, no byte commands anything.

use std::borrow::Cow;

/// The text with everything that is not a visible character or a plain space written as `\u{…}`, `\n` and so on:
/// control characters, marks that turn the direction of writing, invisible ones, line separators.
pub(crate) fn escape(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_plain(character) {
            escaped.push(character);
        } else {
            escaped.extend(character.escape_debug());
        }
    }
    Cow::Owned(escaped)
}

/// Whether a terminal shows this character where it stands and does nothing else.
pub(crate) fn is_plain(character: char) -> bool {
    matches!(character, ' '..='~') || (!character.is_ascii() && character.escape_debug().len() == 1)
}

/// `1 hit`, `5 hits`, `2 entries`, `2 addresses`.
pub(crate) fn plural(count: u64, noun: &str) -> String {
    match (count, noun.strip_suffix('y')) {
        (1, _) => format!("1 {noun}"),
        (_, Some(stem)) => format!("{count} {stem}ies"),
        (_, None) if noun.ends_with('s') => format!("{count} {noun}es"),
        (_, None) => format!("{count} {noun}s"),
    }
}

/// The word for a value, in a table of words; empty where it has none.
pub(crate) fn word_of<T: PartialEq>(words: &[(&'static str, T)], value: &T) -> &'static str {
    words.iter().find(|(_, known)| known == value).map_or("", |(word, _)| word)
}

/// What a word of such a table stands for.
pub(crate) fn meaning_of<T: Copy>(words: &[(&'static str, T)], text: &str) -> Option<T> {
    words.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_escaped_and_the_rest_is_left_alone() {
        assert_eq!(escape("plain \"text\" c:\\x é 漢"), "plain \"text\" c:\\x é 漢");
        assert_eq!(escape("a\x1b[31mb\nc\u{9b}d\u{7f}"), "a\\u{1b}[31mb\\nc\\u{9b}d\\u{7f}");
        assert_eq!(escape("\u{202e}\u{200b}\u{feff}\u{2028}"), "\\u{202e}\\u{200b}\\u{feff}\\u{2028}");
    }
}
