//! The tags of fail2ban's expressions. In: a value of a filter. Out: with `<key>` replaced by what the filter or the jail
//! says, and with the tags that mean something replaced by what stands for it here.

use super::python::ADDRESS;

/// Most replacements within one value: tags may refer to tags, and to themselves.
const MOST: usize = 1000;

/// Longest value, in bytes.
const LONGEST: usize = 256 * 1024;

/// Puts values in place of `<key>`, from the inside out: `<mode-<kind>>`.
pub(super) fn substitute(text: &str, value_of: &impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut text = text.to_owned();
    for _ in 0..MOST {
        let Some((start, end, value)) = first_known(&text, value_of) else { return Ok(text) };
        text.replace_range(start..end, &value);
        if text.len() > LONGEST {
            break;
        }
    }
    Err("its tags refer to themselves".to_owned())
}

/// The first innermost tag that has a value.
fn first_known(text: &str, value_of: &impl Fn(&str) -> Option<String>) -> Option<(usize, usize, String)> {
    let mut start = None;
    for (at, character) in text.char_indices() {
        match character {
            // A group's name is no tag.
            '<' if !text[..at].ends_with("(?P") && !text[..at].ends_with("(?") => start = Some(at),
            ' ' | '\n' => start = None,
            '>' => {
                if let Some(start) = start.take()
                    && let Some(value) = value_of(&text[start + 1..at])
                {
                    return Some((start, at + 1, value));
                }
            }
            _ => {}
        }
    }
    None
}

/// An expression whose tags are replaced.
#[derive(Debug, Default)]
pub(super) struct Tagged {
    pub(super) text: String,
    /// The line tells something about an offender but is no failure itself.
    pub(super) no_failure: bool,
    pub(super) notes: Vec<&'static str>,
}

/// Replaces the tags that stand for addresses, users and connections.
pub(super) fn resolve(text: &str) -> Result<Tagged, String> {
    let mut tagged = Tagged::default();
    let mut has_user = false;
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        let (before, from) = rest.split_at(at);
        tagged.text.push_str(before);
        let name = from[1..].split('>').next().unwrap_or_default();
        let is_tag = !name.is_empty()
            && from.len() > name.len() + 1
            && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || b"-_/".contains(&byte));
        if !is_tag || before.ends_with("(?P") || before.ends_with("(?") {
            tagged.text.push('<');
            rest = &from[1..];
            continue;
        }
        rest = &from[name.len() + 2..];
        match name {
            "HOST" | "ADDR" => tagged.text.push(ADDRESS),
            "IP4" | "IP6" => {
                tagged.text.push(ADDRESS);
                tagged.notes.push("<ADDR> takes addresses of both families");
            }
            "SUBNET" => {
                tagged.text.push(ADDRESS);
                tagged.text.push_str("(?:/\\d{1,3})?");
                tagged.notes.push("of a network in the log, the address is banned");
            }
            "CIDR" => tagged.text.push_str("\\d{1,3}"),
            "DNS" => return Err("its offender is a host name, and names are never resolved".to_owned()),
            "SKIPLINES" => return Err("it matches over several lines".to_owned()),
            "F-USER" if !has_user => {
                has_user = true;
                tagged.text.push_str("(?P<user>");
            }
            // The prefix of a message and the identity of its connection hold nothing that we need.
            "F-ID" | "/F-ID" | "F-MLFID" | "/F-MLFID" | "F-CONTENT" | "/F-CONTENT" => {}
            "F-NOFAIL" => {
                tagged.no_failure = true;
                tagged.text.push_str("(?:");
            }
            _ if name.starts_with("/F-") => tagged.text.push(')'),
            _ if name.starts_with("F-") && name.ends_with('/') => {
                tagged.no_failure |= name == "F-NOFAIL/";
                if name != "F-NOFAIL/" && !name.starts_with("F-MLF") {
                    tagged.text.push_str("(?:\\S+)");
                }
            }
            _ if name.starts_with("F-") => tagged.text.push_str("(?:"),
            _ => return Err(format!("the tag <{name}>")),
        }
    }
    tagged.text.push_str(rest);
    Ok(tagged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_go_in_place_of_tags_from_the_inside_out() {
        let value_of = |key: &str| match key {
            "mode" => Some("hard".to_owned()),
            "re-hard" => Some("no <HOST> (?P<user>x)".to_owned()),
            "user" => Some("wrong".to_owned()),
            "loop" => Some("<loop>".to_owned()),
            _ => None,
        };
        assert_eq!(substitute("^<re-<mode>> <x>$", &value_of).unwrap(), "^no <HOST> (?P<user>x) <x>$");
        assert!(substitute("<loop>", &value_of).is_err());
    }

    #[test]
    fn tags_that_mean_something_become_groups_and_places() {
        let text = "^<F-NOFAIL>a</F-NOFAIL> <F-USER>.*</F-USER> <F-ALT_USER>b</F-ALT_USER> <F-PORT/> <HOST> <b>";
        let tagged = resolve(text).unwrap();
        assert_eq!(tagged.text.replace(ADDRESS, "@"), "^(?:a) (?P<user>.*) (?:b) (?:\\S+) @ <b>");
        assert!(tagged.no_failure);
        assert_eq!(resolve("^<DNS>").unwrap_err(), "its offender is a host name, and names are never resolved");
    }
}
