//! The names of programs. In: names as a filter has them, `*` in them for any text. Out: whether a program has one of
//! these names.

/// The programs that a filter means.
#[derive(Clone, Debug)]
pub(super) struct Names {
    whole: Vec<Box<[u8]>>,
    open: Vec<Box<str>>,
}

impl Names {
    pub(super) fn new(wanted: &[String]) -> Names {
        let (open, whole): (Vec<_>, Vec<_>) = wanted.iter().partition(|name| is_open(name));
        let open = open.into_iter().map(|name| name.as_str().into()).collect();
        Names { whole: whole.into_iter().map(|name| name.as_bytes().into()).collect(), open }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.whole.is_empty() && self.open.is_empty()
    }

    /// Whether a program, as the syslog header names it, is one of them. A program that writes its path before its
    /// name means its name.
    pub(super) fn have(&self, program: &[u8]) -> bool {
        let is = |program: &[u8]| {
            self.whole.iter().any(|name| &**name == program) || self.open.iter().any(|name| fits(name, program))
        };
        is(program) || program.starts_with(b"/") && program.rsplit(|byte| *byte == b'/').next().is_some_and(is)
    }
}

/// Whether a name means more than one program.
pub(super) fn is_open(wanted: &str) -> bool {
    wanted.contains('*')
}

/// The longest text that is part of every name which is meant.
pub(super) fn fixed_text(wanted: &str) -> &str {
    wanted.split('*').max_by_key(|piece| piece.len()).unwrap_or_default()
}

fn fits(wanted: &str, program: &[u8]) -> bool {
    let Some((first, rest)) = wanted.split_once('*') else { return wanted.as_bytes() == program };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    let text = program.strip_prefix(first.as_bytes()).and_then(|text| text.strip_suffix(last.as_bytes()));
    let behind = |text: &'_ [u8], part: &str| memchr::memmem::find(text, part.as_bytes()).map(|at| at + part.len());
    let mut parts = middle.split('*');
    text.is_some_and(|text| {
        let mut at = 0;
        parts.all(|part| text.get(at..).and_then(|text| behind(text, part)).map(|length| at += length).is_some())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_in_a_name_stands_for_any_text() {
        let is = |wanted: &str, program: &[u8]| Names::new(&[wanted.to_owned()]).have(program);
        for (wanted, program) in [
            ("sshd", "sshd"),
            ("sshd", "/usr/sbin/sshd"),
            ("postfix*/smtpd", "postfix/smtpd"),
            ("postfix*/smtpd", "postfix-out/smtpd"),
            ("postfix*/smtpd", "postfix/submission/smtpd"),
            ("*", "anything"),
            ("*", ""),
            ("a*b*c", "axbxc"),
            ("a*b*c", "abc"),
            ("*ab*", "xxab"),
        ] {
            assert!(is(wanted, program.as_bytes()), "{wanted} {program}");
        }
        for (wanted, program) in [
            ("sshd", "sshd2"),
            ("sshd", "x/sshd"),
            ("sshd", "/usr/sbin/sshd/x"),
            ("postfix*/smtpd", "postfix/smtp"),
            ("postfix*/smtpd", "xpostfix/smtpd"),
            ("ab*ba", "aba"),
            ("a*b*c", "axc"),
            ("a*b*c", "acb"),
        ] {
            assert!(!is(wanted, program.as_bytes()), "{wanted} {program}");
        }
    }
}
