//! `banctl filters coverage`: what proves each pattern: its samples, and its hits in real logs.

use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde::Serialize;

use super::{Context, Error};
use crate::ctl::input;
use crate::ctl::output::counted;
use crate::ctl::scan::{clock, fill};
use crate::ctl::table::{self, Column};
use crate::filters::{Filter, Matcher, Memory, Mode, hits_by};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  banctl filters coverage                                 every filter on its samples
  banctl filters coverage sshd --log /var/log/auth.log    one, and its hits in a real log")]
pub(super) struct Options {
    /// Filters, or paths of their files; all when none is given
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Log in which the hits of each pattern are counted; may be given several times; - is standard input
    #[arg(long, value_name = "FILE")]
    log: Vec<PathBuf>,
}

/// A pattern as `--json` prints it.
#[derive(Serialize)]
struct Row<'a> {
    filter: &'a str,
    pattern: &'a str,
    samples: usize,
    /// Samples that hit by this pattern.
    proven: usize,
    /// Patterns that stand before it and take its samples.
    shadowed_by: Vec<&'a str>,
    /// Hits in the logs; null when none was given.
    hits: Option<u64>,
}

pub(super) fn run(options: &Options, context: &mut Context) -> Result<(), Error> {
    let filters: Vec<Arc<Filter>> = if options.names.is_empty() {
        super::all(context)?.iter().cloned().collect()
    } else {
        options.names.iter().map(|name| super::named(name, context)).collect::<Result<_, _>>()?
    };
    let filters: Vec<Arc<Filter>> = filters.iter().map(|filter| filter.with_mode(Mode::Aggressive)).collect();
    let mut counts: Vec<Vec<u64>> = filters.iter().map(|filter| vec![0; filter.patterns.len()]).collect();
    let matcher = Matcher::new(filters.clone());
    for path in &options.log {
        count(&matcher, path, &mut counts).map_err(|why| Error::File(path.clone(), why))?;
    }
    let rows: Vec<Row<'_>> = filters
        .iter()
        .zip(&counts)
        .flat_map(|(filter, counts)| rows(filter, counts, !options.log.is_empty()))
        .collect();
    if context.globals.json {
        return rows.iter().try_for_each(|row| Ok(context.out.json(row)?));
    }
    print(&rows, context)
}

/// Counts the hits of a log by filter and pattern.
fn count(matcher: &Matcher, path: &Path, counts: &mut [Vec<u64>]) -> io::Result<()> {
    let mut log = BufReader::new(input::open(path, "filters coverage … --log")?);
    let (mut block, mut memory, clock) = (Vec::new(), Memory::default(), clock());
    loop {
        block.clear();
        fill(&mut log, &mut block)?;
        if block.is_empty() {
            return Ok(());
        }
        matcher.search(&block, &clock, &mut memory, &mut |_, finding| {
            let patterns = counts.get_mut(usize::from(finding.filter));
            if let Some(count) = patterns.and_then(|patterns| patterns.get_mut(usize::from(finding.pattern))) {
                *count += 1;
            }
        });
    }
}

fn rows<'a>(filter: &'a Filter, counts: &[u64], counted: bool) -> Vec<Row<'a>> {
    let outcomes = hits_by(filter);
    let row = |((index, outcome), count): ((usize, Vec<Option<u16>>), &u64)| {
        let name = |by: usize| filter.patterns.get(by).map_or("", |pattern| &*pattern.name);
        let by: Vec<usize> = outcome.iter().flatten().map(|by| usize::from(*by)).collect();
        let mut shadowed_by: Vec<&str> = by.iter().filter(|by| **by != index).map(|by| name(*by)).collect();
        shadowed_by.dedup();
        Row {
            filter: &filter.name,
            pattern: name(index),
            samples: outcome.len(),
            proven: by.iter().filter(|by| **by == index).count(),
            shadowed_by,
            hits: counted.then_some(*count),
        }
    };
    outcomes.into_iter().enumerate().zip(counts).map(row).collect()
}

impl Row<'_> {
    /// What the author should look at; nothing when the pattern is in order.
    fn remark(&self) -> String {
        match (self.samples, self.shadowed_by.as_slice()) {
            (0, _) => "no sample".to_owned(),
            (_, []) if self.proven < self.samples => "a sample does not hit".to_owned(),
            (_, []) => String::new(),
            (_, others) => format!("its samples hit by {}, which stands before it", others.join(", ")),
        }
    }
}

fn print(rows: &[Row<'_>], context: &mut Context) -> Result<(), Error> {
    let mut columns = vec![
        Column::text("filter").shrinking(),
        Column::text("pattern").shrinking(),
        Column::number("samples"),
        Column::number("proven"),
    ];
    let with_logs = rows.iter().any(|row| row.hits.is_some());
    if with_logs {
        columns.push(Column::number("hits"));
    }
    columns.push(Column::text("remark").shrinking());
    let cells = |row: &Row<'_>| {
        let mut cells =
            vec![row.filter.to_owned(), row.pattern.to_owned(), row.samples.to_string(), row.proven.to_string()];
        cells.extend(row.hits.map(|hits| hits.to_string()));
        cells.push(row.remark());
        cells
    };
    let shown: Vec<Vec<String>> = rows.iter().map(cells).collect();
    table::print(&mut context.out, &columns, &shown)?;
    io::Write::flush(&mut context.out)?;
    let odd = rows.iter().filter(|row| !row.remark().is_empty()).count() as u64;
    let patterns = counted(rows.len() as u64, "pattern", "patterns");
    let quiet = rows.iter().filter(|row| row.hits == Some(0)).count() as u64;
    let logs = if with_logs { format!(", {quiet} without a hit in the logs") } else { String::new() };
    crate::ctl::output::say(&format!("{patterns}, {odd} to look at{logs}"));
    Ok(())
}
