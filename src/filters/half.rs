//! One side of a pattern, or a whole one, ready to match. In: a regex. Out: whether a text matches, and its groups.
//! By hand where it can be, by the regex engine where it must.

use std::sync::OnceLock;

use regex::bytes::Regex;
use regex_syntax::hir::{Hir, HirKind};

use super::pattern::{PatternError, compile};
use super::steps::{Group, Spans, Spent, Steps};

#[derive(Debug)]
pub(super) struct Half {
    /// `None` where only the engine can match.
    steps: Option<Steps>,
    written: Box<str>,
    /// Made when it is needed; `None` never happens there: what has few steps is small.
    regex: OnceLock<Option<Regex>>,
    groups: Vec<Group>,
}

impl Half {
    /// `written` begins with an anchor, or begins a text that is looked at from its beginning only; `hir` is the same
    /// without the end of the text, which it has with `whole`.
    pub(super) fn new(written: String, hir: &Hir, whole: bool) -> Result<Half, PatternError> {
        let steps = Steps::new(hir, whole);
        let regex = if steps.is_none() { Some(compile(&written)?).into() } else { OnceLock::new() };
        let mut groups = Vec::new();
        collect(hir, &mut groups);
        Ok(Half { steps, written: written.into(), regex, groups })
    }

    pub(super) fn has(&self, group: Group) -> bool {
        self.groups.contains(&group)
    }

    /// Whether texts are matched without the regex engine, but for a few odd ones.
    pub(super) fn is_plain(&self) -> bool {
        self.steps.is_some()
    }

    /// Where the groups stand, if the text matches.
    pub(super) fn find(&self, text: &[u8]) -> Option<Spans> {
        match self.steps.as_ref().map(|steps| steps.find(text)) {
            Some(Ok(found)) => found,
            Some(Err(Spent)) | None => self.by_engine(text),
        }
    }

    fn by_engine(&self, text: &[u8]) -> Option<Spans> {
        let regex = self.regex.get_or_init(|| compile(&self.written).ok()).as_ref()?;
        let mut spans = Spans::default();
        if self.groups.is_empty() {
            return regex.is_match(text).then_some(spans);
        }
        // Most texts do not match, which is known sooner without the groups.
        let groups = regex.is_match(text).then(|| regex.captures(text)).flatten()?;
        for group in &self.groups {
            if let Some(found) = groups.name(group.name()) {
                spans.set(*group, found.start(), found.end());
            }
        }
        Some(spans)
    }
}

fn collect(hir: &Hir, groups: &mut Vec<Group>) {
    match hir.kind() {
        HirKind::Capture(capture) => {
            groups.extend(Group::ALL.into_iter().find(|group| capture.name.as_deref() == Some(group.name())));
            collect(&capture.sub, groups);
        }
        HirKind::Concat(parts) | HirKind::Alternation(parts) => parts.iter().for_each(|part| collect(part, groups)),
        HirKind::Repetition(repetition) => collect(&repetition.sub, groups),
        HirKind::Empty | HirKind::Literal(_) | HirKind::Class(_) | HirKind::Look(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filters::pattern::parse;

    #[test]
    fn a_text_that_takes_too_many_steps_is_matched_by_the_engine() {
        let pattern = "^(?:a|aa)*(?<user>(?:a|aa)*)b$";
        let half = Half::new(pattern.to_owned(), &parse(pattern).unwrap(), false).unwrap();
        assert!(half.is_plain());
        let text = [&[b'a'; 400][..], b"b"].concat();
        let spans = half.find(&text).unwrap();
        assert_eq!(spans.get(Group::User, &text), Some(&b""[..]));
        assert_eq!(half.find(&text[..400]), None);
        assert!(half.regex.get().is_some());
    }
}
