//! The account that a line names: the group `user` of a pattern. In: a side of the pattern, or the group's text. Out:
//! whether it is always the true one, and the name as it is kept.

use std::fmt;
use std::ops::Deref;

use regex_syntax::ast::{self, Ast, GroupKind};

use super::ambiguity::{ends_at_one_place, may_hold_start};
use super::pattern::{ends_with_anchor, parse};

/// Longest user name kept, in bytes.
const LONGEST_USER: usize = 64;

/// A user name as it is kept: valid text, at most [`LONGEST_USER`] bytes. It lies in the hit itself: nearly every hit has
/// one, and an allocation would be made by the thread that reads and freed by the one that judges.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct User {
    length: u8,
    bytes: [u8; LONGEST_USER],
}

/// One side of a pattern that has the group `user` at its top level.
struct Parts<'p> {
    lead: &'p str,
    /// What is inside the group.
    name: &'p str,
    tail: &'p str,
}

impl<'p> Parts<'p> {
    fn of(side: &'p str) -> Option<Parts<'p>> {
        let parsed = ast::parse::Parser::new().parse(side).ok()?;
        let parts = match &parsed {
            Ast::Concat(parts) => &parts.asts[..],
            single => std::slice::from_ref(single),
        };
        let is_user = |group: &ast::Group| match &group.kind {
            GroupKind::CaptureName { name, .. } => name.name == "user",
            _ => false,
        };
        let group = parts.iter().find_map(|part| match part {
            Ast::Group(group) if is_user(group) => Some(group),
            _ => None,
        })?;
        let (start, end, inside) = (group.span.start.offset, group.span.end.offset, group.ast.span());
        let piece = |from: usize, to: usize| side.get(from..to);
        Some(Parts {
            lead: piece(0, start)?,
            name: piece(inside.start.offset, inside.end.offset)?,
            tail: piece(end, side.len())?,
        })
    }
}

/// Whether this side of a pattern settles the user: the name is all that stands at its place, and no text of an
/// attacker, in the name or elsewhere, moves the place. It begins at one place only; and it ends a fixed length before
/// the address (or the end of the message, for the side behind the address), or at the first byte that no name holds.
pub(super) fn settles(side: &str, flags: &str, behind: bool) -> bool {
    let settled = || {
        let Parts { lead, name, tail } = Parts::of(side)?;
        let read = |piece: &str| parse(&format!("{flags}{piece}")).ok();
        let (lead, name, tail) = (read(lead)?, read(name)?, read(tail)?);
        let fixed = tail.properties().minimum_len() == tail.properties().maximum_len();
        let held = fixed && (!behind || ends_with_anchor(&tail));
        Some(ends_at_one_place(&lead) && (held || !may_hold_start(&name, &tail)))
    };
    settled().unwrap_or(false)
}

impl User {
    /// `None` when the name is empty.
    pub(crate) fn new(name: &[u8]) -> Option<User> {
        if name.len() <= LONGEST_USER && name.is_ascii() { User::of(name) } else { User::mended(name) }
    }

    /// Of a name that may be no valid text, or too long.
    fn mended(name: &[u8]) -> Option<User> {
        let beginning = name.get(..LONGEST_USER * 4).unwrap_or(name);
        let text = String::from_utf8_lossy(beginning);
        let mut end = text.len().min(LONGEST_USER);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        User::of(text.as_bytes().get(..end)?)
    }

    /// Of valid text that is short enough.
    fn of(text: &[u8]) -> Option<User> {
        let mut bytes = [0; LONGEST_USER];
        bytes.get_mut(..text.len())?.copy_from_slice(text);
        (!text.is_empty()).then_some(User { length: u8::try_from(text.len()).ok()?, bytes })
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }

    /// Whether this is surely all of the name, so that no other one is kept in the same way.
    pub(super) fn is_whole(&self) -> bool {
        usize::from(self.length) <= LONGEST_USER - 4 && (self.is_ascii() || !self.contains(char::REPLACEMENT_CHARACTER))
    }
}

impl Deref for User {
    type Target = str;

    fn deref(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use crate::filters::pattern::TextRule;

    #[test]
    fn a_user_is_settled_only_where_no_text_can_move_the_name() {
        for (pattern, settled) in [
            (r"^Accepted (?:password|publickey) for (?<user>.*) from <ADDR> port \d+$", true),
            (r"^Accepted by [a-z]+: (?<user>\S+) from <ADDR>.*$", true),
            (r"^Login: user=<(?<user>[^<>]*)>, (?:method=[^,=]*, )?rip=<ADDR>$", true),
            (r"^<ADDR> \S+ logged in: '(?<user>[^']*)'.*$", true),
            (r"^<ADDR> logged in: (?<user>.*)$", true),
            // What stands before can hold the text in front of the name.
            (r"^Accepted .* for (?<user>\S+) from <ADDR> port \d+$", false),
            (r"^<ADDR> by .* logged in: '(?<user>[^']*)'$", false),
            // The name can hold the text behind it, and may end at several places.
            (r"^Login: user=<(?<user>.*)>, (?:method=[^,]*, )?rip=<ADDR> port \d+$", false),
            (r"^<ADDR> logged in: (?<user>.*) at .*$", false),
            (r"^<ADDR> logged in: (?<user>.*)", false),
            (r"^Accepted (?:for (?<user>\S+) )?from <ADDR>$", false),
            (r"^Accepted from <ADDR>$", false),
        ] {
            assert_eq!(TextRule::new(pattern).unwrap().settles_user(), settled, "{pattern}");
        }
    }

    #[test]
    fn a_name_that_was_cut_or_mended_is_not_whole() {
        let is_whole = |name: &[u8]| super::User::new(name).unwrap().is_whole();
        assert!(is_whole(b"bob") && is_whole("ü".repeat(30).as_bytes()));
        assert!(!is_whole(&[b'a'; 65]) && !is_whole("ü".repeat(33).as_bytes()));
        assert!(!is_whole(b"bob\xff"));
    }
}
