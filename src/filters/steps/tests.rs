use proptest::prelude::*;

use super::*;
use crate::filters::pattern::{compile, parse};

/// Any of them, one behind the other, are a pattern.
const PIECES: [&str; 34] = [
    "a",
    "b",
    "ab",
    "ba",
    "[ab]",
    ".",
    "a*",
    "b+",
    ".*",
    "[^a]*",
    ".*?",
    "[ab]+?",
    "a?",
    "a{2}",
    "b{1,3}",
    "(?:ab|a)",
    "(?:a|ab|)",
    "(?:ab)?",
    "(?:ba)*",
    "(?:a|b)+",
    "(?:ab){1,2}",
    "(?:[ab]b)*?",
    "(?:a|b[^a])*",
    "(?<user>(?:[^b]|b[^c])*)",
    "(?:[ab]|c[ab]|ca)*",
    "(?:c|ab|b)+",
    "(?<user>a*)",
    "(?<user>.+?)",
    "(?:(?<id>b)|ab)",
    "(?:(?<id>a)b)?",
    "(?:(?<time>ab)|b)*",
    "(?:b|$)",
    "(?i:aB)",
    "c{0,2}",
];

fn steps(pattern: &str, whole: bool) -> Steps {
    Steps::new(&parse(pattern).unwrap(), whole).unwrap()
}

/// What the regex engine finds.
fn expected(pattern: &str, text: &[u8]) -> Option<Spans> {
    let regex = compile(pattern).unwrap();
    let groups = regex.captures(text)?;
    let mut spans = Spans::default();
    for group in Group::ALL {
        if let Some(found) = groups.name(group.name()) {
            spans.set(group, found.start(), found.end());
        }
    }
    Some(spans)
}

fn texts(spans: Option<Spans>, text: &[u8]) -> Option<Vec<Option<&[u8]>>> {
    spans.map(|spans| Group::ALL.iter().map(|group| spans.get(*group, text)).collect())
}

proptest! {
    #[test]
    fn steps_find_what_the_regex_engine_finds(
        pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 1..6),
        text in "[abc]{0,9}",
        whole in any::<bool>(),
    ) {
        // A name stands in a pattern once.
        let mut seen = Vec::new();
        let once = |piece: &&str| {
            let named = Group::ALL.into_iter().find(|group| piece.contains(&format!("<{}>", group.name())));
            named.is_none_or(|group| !seen.contains(&group) && { seen.push(group); true })
        };
        let pattern = pieces.into_iter().filter(once).collect::<String>();
        let engine = if whole { format!("^(?:{pattern})$") } else { format!("^(?:{pattern})") };
        let found = steps(&pattern, whole).find(text.as_bytes()).unwrap();
        prop_assert_eq!(
            texts(found, text.as_bytes()), texts(expected(&engine, text.as_bytes()), text.as_bytes()), "{}", pattern
        );
    }
}

#[test]
fn what_only_an_engine_can_do_is_left_to_it() {
    let many = format!("^(?:{})$", (0..MOST_NODES).map(|n| format!("x{n}")).collect::<Vec<_>>().join("|"));
    for pattern in ["^a\\b", "^(?:a*)*$", "^(?:ab){50}", "(?m)^a", &many] {
        assert!(Steps::new(&parse(pattern).unwrap(), true).is_none(), "{pattern}");
    }
}

#[test]
fn a_text_that_takes_too_many_steps_is_left_to_the_engine() {
    let steps = steps("^(?:a|aa)*(?:a|aa)*b", true);
    assert_eq!(steps.find(&[b'a'; 400]), Err(Spent));
    assert!(steps.find(b"aaab").unwrap().is_some());
    let steps = self::steps("^.*ab", false);
    assert_eq!(steps.find(&[b'a'; 2 * FUEL]), Err(Spent), "each length of a run is a try");
}
