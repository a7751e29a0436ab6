//! `datepattern`: a stamp that it means is made, so that a sample can show whether our reader understands it.

use super::sample;

/// The fields of a date pattern with what they are at [`MOMENT`]; those of fail2ban's own begin with `%Ex`.
const FIELDS: [(&str, &str); 20] = [
    ("%Y", "2026"),
    ("%y", "26"),
    ("%m", "11"),
    ("%d", "21"),
    ("%e", "21"),
    ("%H", "01"),
    ("%I", "01"),
    ("%k", "1"),
    ("%M", "30"),
    ("%S", "00"),
    ("%b", "Nov"),
    ("%B", "November"),
    ("%a", "Sat"),
    ("%A", "Saturday"),
    ("%j", "325"),
    ("%p", "AM"),
    ("%f", "000000"),
    ("%z", "+0000"),
    ("%Z", "UTC"),
    ("%s", "1795224600"),
];

/// The moment at which samples are stamped.
pub(super) const MOMENT: &str = "2026-11-21T01:30:00Z";

/// What a line begins with under this pattern: a stamp and a blank. Where nothing is said of it, the usual stamp;
/// `None` where the pattern cannot be made sense of.
pub(super) fn stamp(pattern: &str) -> Option<String> {
    let pattern = pattern.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let pattern =
        ["{^LN-BEG}", "{UNB}", "{DEFAULT}", "^"].iter().fold(pattern, |text, mark| text.trim_start_matches(mark));
    match pattern {
        "" => return Some("2026-11-21 01:30:00 ".to_owned()),
        "{NONE}" => return Some(String::new()),
        "{EPOCH}" | "{^EPOCH}" | "EPOCH" | "Epoch" | "{Epoch}" => return Some("1795224600 ".to_owned()),
        "TAI64N" | "{TAI64N}" => return None,
        _ => {}
    }
    let mut text = pattern.replace("%Ex", "%").replace("{DATE}", "2026-11-21 01:30:00");
    for (field, value) in FIELDS {
        text = text.replace(field, &value.replace('+', "\\+"));
    }
    if text.contains('%') {
        return None;
    }
    let regex = super::python::translate(text.trim_end_matches('$')).ok()?.text;
    let made = sample::line(&format!("^{regex}<ADDR>"), " ", 1)?;
    Some(format!("{} ", made.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_made_from_its_pattern() {
        for (pattern, made) in [
            ("", "2026-11-21 01:30:00 "),
            ("%Y-%m-%dT%H:%M:%S", "2026-11-21T01:30:00 "),
            ("{^LN-BEG}%ExY/%Exm/%Exd %H:%M:%S", "2026/11/21 01:30:00 "),
            ("^\\[%d/%b/%Y:%H:%M:%S %z\\]", "[21/Nov/2026:01:30:00 +0000] "),
            ("{NONE}", ""),
            ("EPOCH", "1795224600 "),
        ] {
            assert_eq!(stamp(pattern).as_deref(), Some(made), "{pattern}");
        }
        assert_eq!(stamp("%Q"), None);
    }
}
