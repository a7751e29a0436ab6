//! `banctl rules diff`: what of the rules is missing in the kernel, and what is too much.

use serde::Serialize;

use super::{FormatOptions, Wanted};
use crate::ctl::{Context, Error};
use crate::rules::live::Kernel;

/// A line of the difference, as JSON.
#[derive(Debug, Serialize)]
struct Row<'a> {
    /// `missing` in the kernel, or `extra` there.
    is: &'static str,
    rule: &'a str,
}

pub(super) fn run(options: &FormatOptions, context: &mut Context) -> Result<(), Error> {
    let wanted = Wanted::read(context, options.format)?;
    let kernel = Kernel::open()?;
    let (there, state) = (kernel.state()?.lines(), kernel.worded(&wanted.state())?);
    let wanted = state.lines();
    let changes = changes(&there, &wanted);
    for (is, rule) in &changes {
        if context.globals.json {
            context.out.json(&Row { is, rule })?;
        } else {
            context.out.line(&format!("{} {rule}", if *is == "extra" { '-' } else { '+' }))?;
        }
    }
    if !changes.is_empty() {
        return Err(Error::Said);
    }
    if !kernel.is(&state)? {
        let row = Row { is: "misplaced", rule: "the jumps to our chains" };
        if context.globals.json {
            context.out.json(&row)?;
        } else {
            context.out.line("! the jumps to our chains do not stand where they belong")?;
        }
        return Err(Error::Said);
    }
    Ok(())
}

/// Lines that only one of the two has, in their order: what is too much first within each stretch.
fn changes<'a>(there: &'a [String], wanted: &'a [String]) -> Vec<(&'static str, &'a str)> {
    let mut changes = Vec::new();
    let (mut at, mut to) = (0, 0);
    while at < there.len() || to < wanted.len() {
        if there.get(at).is_some() && there.get(at) == wanted.get(to) {
            (at, to) = (at + 1, to + 1);
            continue;
        }
        // The nearest line that both have again.
        let meets = (0..=(there.len() - at) + (wanted.len() - to)).find_map(|sum| {
            (0..=sum).map(|skip| (skip, sum - skip)).find(|(a, b)| {
                let ends = at + a == there.len() && to + b == wanted.len();
                let same = there.get(at + a).is_some() && there.get(at + a) == wanted.get(to + b);
                at + a <= there.len() && to + b <= wanted.len() && (ends || same)
            })
        });
        let (skip, add) = meets.unwrap_or((there.len() - at, wanted.len() - to));
        changes.extend(there[at..at + skip].iter().map(|line| ("extra", line.as_str())));
        changes.extend(wanted[to..to + add].iter().map(|line| ("missing", line.as_str())));
        (at, to) = (at + skip, to + add);
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_both_have_are_no_difference() {
        let lines = |text: &str| -> Vec<String> { text.split(' ').map(str::to_owned).collect() };
        let (there, wanted) = (lines("a b c d e"), lines("a x c e f"));
        let found = changes(&there, &wanted);
        assert_eq!(found, [("extra", "b"), ("missing", "x"), ("extra", "d"), ("missing", "f")]);
        assert!(changes(&there, &there).is_empty());
        assert_eq!(changes(&[], &wanted).len(), 5);
    }
}
