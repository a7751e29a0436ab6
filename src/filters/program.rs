//! The names of programs. In: a name as a filter has it, `*` in it for any text. Out: whether a program has that name.

/// Whether a program, as the syslog header names it, is the one that a filter means. A program that writes its path
/// before its name means its name.
pub(super) fn is(wanted: &str, program: &[u8]) -> bool {
    fits(wanted, program)
        || program.starts_with(b"/")
            && program.rsplit(|byte| *byte == b'/').next().is_some_and(|name| fits(wanted, name))
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
