//! Our patterns name their offender once and outside of groups. In: an expression with [`ADDRESS`] anywhere. Out: the
//! expressions that together mean the same, each with one address at its top level.

use regex_syntax::ast::parse::Parser;
use regex_syntax::ast::{Ast, Group, GroupKind, RepetitionKind, RepetitionRange};

use super::python::ADDRESS;

/// Most expressions that one may become.
const MOST: usize = 32;

/// The expressions with an address, and how many there were without.
pub(super) fn lift(text: &str) -> Result<(Vec<String>, usize), String> {
    let text = plain(text);
    let parsed = Parser::new().parse(&text).map_err(|reason| format!("{}", reason.kind()))?;
    let all = expand(&parsed, &text)?;
    let count = |text: &String| text.matches(ADDRESS).count();
    if all.iter().any(|text| count(text) > 1) {
        return Err("more than one address in a line".to_owned());
    }
    let (mut with, without): (Vec<String>, Vec<String>) = all.into_iter().partition(|text| count(text) == 1);
    with.sort();
    with.dedup();
    Ok((with, without.len()))
}

/// The same as several, where what stands right before the address is optional or one of several texts: then each
/// ends with a text of its own. One where that is not so.
pub(super) fn unfold(regex: &str) -> Vec<String> {
    let text = regex.replace("<ADDR>", &ADDRESS.to_string());
    let Ok(parsed) = Parser::new().parse(&text) else { return Vec::new() };
    let Ast::Concat(parts) = &parsed else { return Vec::new() };
    let own = |ast: &Ast| &text[ast.span().start.offset..ast.span().end.offset];
    let Some(place) = parts.asts.iter().position(|part| own(part).starts_with(ADDRESS)) else { return Vec::new() };
    let Some(before) = place.checked_sub(1).and_then(|place| parts.asts.get(place)) else { return Vec::new() };
    let choices = match before {
        Ast::Repetition(optional) if matches!(optional.op.kind, RepetitionKind::ZeroOrOne) => {
            vec![own(&optional.ast), ""]
        }
        Ast::Group(group) => match (&group.kind, &*group.ast) {
            (GroupKind::NonCapturing(flags), Ast::Alternation(branches)) if flags.items.is_empty() => {
                branches.asts.iter().map(own).collect()
            }
            _ => return Vec::new(),
        },
        _ => return Vec::new(),
    };
    let (start, end) = (&text[..before.span().start.offset], &text[before.span().end.offset..]);
    choices.into_iter().map(|choice| format!("{start}{choice}{end}").replace(ADDRESS, "<ADDR>")).collect()
}

/// Our `<ADDR>` takes `::ffff:` itself, and brackets that may be missing. Those that must be there tell the address from
/// what stands before it.
fn plain(text: &str) -> String {
    let address = ADDRESS.to_string();
    let mut text = text.to_owned();
    for form in ["(?:::f{4,6}:)?@", "(?:::ffff:)?@", "\\[?@\\]?"] {
        text = text.replace(&form.replace('@', &address), &address);
    }
    text
}

/// The alternatives of a piece, written out as far as an address stands in them.
fn expand(ast: &Ast, text: &str) -> Result<Vec<String>, String> {
    let span = ast.span();
    let own = &text[span.start.offset..span.end.offset];
    if !own.contains(ADDRESS) {
        return Ok(vec![own.to_owned()]);
    }
    let all = match ast {
        Ast::Alternation(parts) => {
            let branches: Result<Vec<_>, String> = parts.asts.iter().map(|part| expand(part, text)).collect();
            branches?.concat()
        }
        Ast::Concat(parts) => {
            let mut all = vec![String::new()];
            for part in &parts.asts {
                let next = expand(part, text)?;
                all = all.iter().flat_map(|so_far| next.iter().map(move |more| format!("{so_far}{more}"))).collect();
                if all.len() > MOST {
                    return Err(format!("more than {MOST} places for the address"));
                }
            }
            all
        }
        Ast::Group(group) => expand_group(group, text)?,
        Ast::Repetition(repetition) => {
            let optional = matches!(
                repetition.op.kind,
                RepetitionKind::ZeroOrOne | RepetitionKind::Range(RepetitionRange::Bounded(0, 1))
            );
            if !optional {
                return Err("an address that is repeated".to_owned());
            }
            let mut all = expand(&repetition.ast, text)?;
            all.push(String::new());
            all
        }
        _ => vec![own.to_owned()],
    };
    Ok(all)
}

fn expand_group(group: &Group, text: &str) -> Result<Vec<String>, String> {
    if matches!(&group.kind, GroupKind::NonCapturing(flags) if !flags.items.is_empty()) {
        return Err("an address within a group with flags".to_owned());
    }
    let inside = expand(&group.ast, text)?;
    Ok(inside.into_iter().map(|text| if text.contains(ADDRESS) { text } else { format!("(?:{text})") }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lifted(text: &str) -> (Vec<String>, usize) {
        let (with, without) = lift(&text.replace('@', &ADDRESS.to_string())).unwrap();
        (with.into_iter().map(|text| text.replace(ADDRESS, "@")).collect(), without)
    }

    #[test]
    fn groups_and_alternatives_around_the_address_are_written_out() {
        for (text, with, without) in [
            ("^a @ b$", vec!["^a @ b$"], 0),
            ("^a (?:x )?(?:by @|from @:\\d+) b$", vec!["^a (?:x )?by @ b$", "^a (?:x )?from @:\\d+ b$"], 0),
            ("^a @$|^b @$|^c$", vec!["^a @$", "^b @$"], 1),
            ("^a(?: from @)?$", vec!["^a from @$"], 1),
            ("^a \\[?@\\]? b$", vec!["^a @ b$"], 0),
            ("^a \\S+\\[@\\]$", vec!["^a \\S+\\[@\\]$"], 0),
            ("^a (?:(?:u=x|y) @|z)$", vec!["^a (?:u=x|y) @$"], 1),
        ] {
            let with: Vec<String> = with.into_iter().map(str::to_owned).collect();
            assert_eq!(lifted(text), (with, without), "{text}");
        }
    }

    #[test]
    fn what_stands_before_the_address_is_written_out() {
        assert_eq!(unfold("(?i)^a (?:b )?<ADDR> c"), ["(?i)^a (?:b )<ADDR> c", "(?i)^a <ADDR> c"]);
        assert_eq!(unfold("^a (?:b|c=)<ADDR>$"), ["^a b<ADDR>$", "^a c=<ADDR>$"]);
        assert!(unfold("^a <ADDR>$").is_empty());
    }

    #[test]
    fn an_address_that_has_no_one_place_is_refused() {
        for text in ["^(?:@ )+$", "^@ @$", "^(?i:x @)$"] {
            assert!(lift(&text.replace('@', &ADDRESS.to_string())).is_err(), "{text}");
        }
    }
}
