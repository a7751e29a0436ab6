//! `banctl filters list`: the filters there are, and what each is for.

use serde::Serialize;

use super::{Context, Error};
use crate::ctl::table::{self, Column};
use crate::filters::{Evidence, Filter};

/// A filter as `--json` prints it.
#[derive(Serialize)]
struct JsonFilter<'a> {
    filter: &'a str,
    description: &'a str,
    patterns: usize,
    ports: Vec<String>,
    evidence: Evidence,
    file: String,
}

pub(super) fn run(context: &mut Context) -> Result<(), Error> {
    let filters = super::all(context)?;
    if context.globals.json {
        return filters.iter().try_for_each(|filter| Ok(context.out.json(&json_of(filter))?));
    }
    let columns = [
        Column::text("filter"),
        Column::number("patterns").optional(),
        Column::text("evidence").optional(),
        Column::text("ports").optional().shrinking(),
        Column::text("description").shrinking(),
    ];
    let rows: Vec<Vec<String>> = filters.iter().map(|filter| cells(filter)).collect();
    Ok(table::print(&mut context.out, &columns, &rows)?)
}

fn json_of(filter: &Filter) -> JsonFilter<'_> {
    JsonFilter {
        filter: &filter.name,
        description: &filter.description,
        patterns: filter.patterns.len(),
        ports: filter.ports.iter().map(ToString::to_string).collect(),
        evidence: filter.evidence,
        file: filter.path.display().to_string(),
    }
}

fn cells(filter: &Filter) -> Vec<String> {
    let evidence = match filter.evidence {
        Evidence::Proven => "proven",
        Evidence::Forgeable => "forgeable",
    };
    let ports: Vec<String> = filter.ports.iter().map(ToString::to_string).collect();
    let patterns = filter.patterns.len().to_string();
    vec![filter.name.to_string(), patterns, evidence.to_owned(), ports.join(" "), filter.description.clone()]
}
