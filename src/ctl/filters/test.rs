//! `banctl filters test`: what a filter makes of a line, and where the patterns that do not match leave it.

use std::cmp::Reverse;
use std::io::{self, BufRead, Read};
use std::net::IpAddr;
use std::sync::Arc;

use clap::Args;
use serde::Serialize;

use super::{Context, Error};
use crate::config::problem::Problems;
use crate::ctl::output::{counted, say};
use crate::ctl::scan::clock;
use crate::filters::{self, Evidence, Filter, Finding, Matcher, Memory, Mode, Offender, Progress, Reach};
use crate::text::escape;
use crate::time::Timestamp;

/// Patterns that are explained to people for a line that does not hit.
const SHOWN: usize = 3;

/// Longest text of a line that is repeated, in characters.
const LONGEST_REST: usize = 80;

/// Longer lines are cut, as a source cuts them.
const LONGEST_LINE: u64 = 16 << 10;

#[derive(Debug, Args)]
#[command(after_help = "\
The lines are read in order, as if they were one log. All patterns are in use, also those of mode \"aggressive\".
Without a line, the filter proves itself on its own samples.

Examples:
  banctl filters test ./gate.toml
  banctl filters test sshd 'Nov 21 01:30:00 web sshd[4]: Failed password for root from 192.0.2.9 port 4711 ssh2'
  tail /var/log/auth.log | banctl filters test sshd -")]
pub(super) struct Options {
    /// Filter, or the path of its file
    #[arg(value_name = "NAME")]
    filter: String,
    /// Lines, whole as they stand in the log; - reads them from standard input
    #[arg(value_name = "LINE")]
    lines: Vec<String>,
}

/// A line that was tried, as `--json` prints it.
#[derive(Serialize)]
struct Row<'a> {
    line: &'a str,
    hit: bool,
    pattern: Option<&'a str>,
    addr: Option<IpAddr>,
    name: Option<&'a str>,
    time: Option<Timestamp>,
    user: Option<&'a str>,
    evidence: Option<Evidence>,
    /// Of a line that does not hit, why not: a sentence, when it is none of the filter's.
    reason: Option<String>,
    /// How far each pattern came, the nearest first.
    near: Vec<NearRow<'a>>,
}

#[derive(Serialize)]
struct NearRow<'a> {
    pattern: &'a str,
    /// What of the regex fits.
    fits: &'a str,
    /// What comes in the line there.
    rest: &'a str,
    reason: Option<&'a str>,
}

/// How the samples went, as `--json` prints it.
#[derive(Serialize)]
struct Proof<'a> {
    filter: &'a str,
    patterns: usize,
    samples: usize,
    misses: usize,
    problems: Vec<String>,
}

pub(super) fn run(options: &Options, context: &mut Context) -> Result<(), Error> {
    let filter = super::named(&options.filter, context)?.with_mode(Mode::Aggressive);
    if options.lines.is_empty() {
        return prove(&filter, context);
    }
    let matcher = Matcher::new(vec![filter.clone()]);
    let (mut memory, clock) = (Memory::default(), clock());
    let mut examine = |line: &[u8]| {
        let mut findings = Vec::new();
        matcher.examine(line, &clock, &mut memory, &mut findings);
        show(&filter, line, findings.first(), context)
    };
    for line in &options.lines {
        if line != "-" {
            examine(line.as_bytes())?;
            continue;
        }
        let mut log = io::stdin().lock();
        let mut line = Vec::new();
        while read_line(&mut log, &mut line).map_err(|why| Error::File("-".into(), why))? {
            examine(&line)?;
        }
    }
    Ok(())
}

/// The next line without its newline, cut where it is too long; whether there was one.
fn read_line(log: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let read = log.by_ref().take(LONGEST_LINE).read_until(b'\n', line)?;
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if read as u64 == LONGEST_LINE {
        log.skip_until(b'\n')?;
    }
    Ok(read > 0)
}

/// Runs the samples of the filter.
fn prove(filter: &Arc<Filter>, context: &mut Context) -> Result<(), Error> {
    let problems = Problems::default();
    filters::verify(filter, &problems);
    let problems = problems.into_sorted();
    let samples = filter.patterns.iter().map(|pattern| pattern.hits.len()).sum();
    let (patterns, misses) = (filter.patterns.len(), filter.misses.len());
    if context.globals.json {
        let problems = problems.iter().map(ToString::to_string).collect();
        context.out.json(&Proof { filter: &filter.name, patterns, samples, misses, problems })?;
    } else {
        for problem in &problems {
            say(&problem.to_string());
        }
        let count = |number: usize, one, many| counted(number as u64, one, many);
        let verdict =
            if problems.is_empty() { "no problem".to_owned() } else { count(problems.len(), "problem", "problems") };
        let (patterns, samples) = (count(patterns, "pattern", "patterns"), count(samples, "sample", "samples"));
        let misses = count(misses, "line", "lines");
        context
            .out
            .line(&format!("{}: {patterns}, {samples}, {misses} that must not hit, {verdict}", escape(&filter.name)))?;
    }
    if problems.is_empty() { Ok(()) } else { Err(Error::Unfit) }
}

fn show(filter: &Filter, line: &[u8], finding: Option<&Finding>, context: &mut Context) -> Result<(), Error> {
    let progress = if finding.is_some() { Progress::Tried(Vec::new()) } else { filter.progress(line) };
    if context.globals.json {
        let text = String::from_utf8_lossy(line);
        return Ok(context.out.json(&row(filter, &text, finding, &progress))?);
    }
    let Some(found) = finding else { return explain(filter, &progress, context) };
    let offender = match &found.offender {
        Offender::Address(address) => address.to_string(),
        Offender::Name(name) => format!("{} (a host name, never banned)", escape(name)),
    };
    let user = found.user.as_deref().map(|user| format!("  user={}", escape(user))).unwrap_or_default();
    let pattern = pattern_name(filter, found.pattern.into());
    Ok(context.out.line(&format!("hit  {offender}  {}/{}  {}{user}", filter.name, escape(pattern), found.time))?)
}

fn row<'a>(filter: &'a Filter, line: &'a str, finding: Option<&'a Finding>, progress: &'a Progress) -> Row<'a> {
    let offender = finding.map(|found| &found.offender);
    Row {
        line,
        hit: finding.is_some(),
        pattern: finding.map(|found| pattern_name(filter, found.pattern.into())),
        addr: offender.and_then(|offender| match offender {
            Offender::Address(address) => Some(*address),
            Offender::Name(_) => None,
        }),
        name: offender.and_then(|offender| match offender {
            Offender::Address(_) => None,
            Offender::Name(name) => Some(name.as_str()),
        }),
        time: finding.map(|found| found.time),
        user: finding.and_then(|found| found.user.as_deref()),
        evidence: finding.map(|found| found.evidence),
        reason: match progress {
            Progress::Foreign { program } => Some(foreign(filter, program.as_deref())),
            Progress::Tried(_) => None,
        },
        near: nearest(progress).into_iter().map(|(index, reach)| near_row(filter, index, reach)).collect(),
    }
}

fn near_row<'a>(filter: &'a Filter, index: usize, reach: &'a Reach) -> NearRow<'a> {
    let regex = filter.patterns.get(index).and_then(|pattern| pattern.regex.as_deref()).unwrap_or_default();
    let fits = regex.get(..reach.fits).unwrap_or_default();
    NearRow { pattern: pattern_name(filter, index), fits, rest: &reach.rest, reason: reach.reason }
}

fn pattern_name(filter: &Filter, index: usize) -> &str {
    filter.patterns.get(index).map_or("", |pattern| &pattern.name)
}

/// The patterns by how far they came, the nearest first.
fn nearest(progress: &Progress) -> Vec<(usize, &Reach)> {
    let Progress::Tried(reaches) = progress else { return Vec::new() };
    let mut nearest: Vec<(usize, &Reach)> = reaches.iter().enumerate().collect();
    nearest.sort_by_key(|(_, reach)| Reverse(reach.nearness()));
    nearest
}

/// Why a line is none of the filter's.
fn foreign(filter: &Filter, program: Option<&str>) -> String {
    let wanted = filter.programs.join(", ");
    match program {
        Some(program) => format!("The line is of the program '{program}'; the filter reads those of {wanted}."),
        None if wanted.is_empty() => "The line has not the form that the filter reads.".to_owned(),
        None => format!("The line has no syslog header; the filter reads lines of the program {wanted}."),
    }
}

/// Says how far the nearest patterns came.
fn explain(filter: &Filter, progress: &Progress, context: &mut Context) -> Result<(), Error> {
    if let Progress::Foreign { program } = progress {
        return Ok(context.out.line(&format!("no hit  {}", escape(&foreign(filter, program.as_deref()))))?);
    }
    let all = filter.patterns.len();
    // A pattern that knows nothing of the line is not near it.
    let nearest: Vec<(usize, &Reach)> =
        nearest(progress).into_iter().filter(|(_, reach)| reach.known > 0 || reach.of == 0).collect();
    let which = match nearest.len() {
        0 => "  No pattern begins like this line.".to_owned(),
        near if near > SHOWN => format!("  The nearest {SHOWN} of {all} patterns:"),
        _ => String::new(),
    };
    context.out.line(&format!("no hit{which}"))?;
    for (index, reach) in nearest.into_iter().take(SHOWN) {
        let name = escape(pattern_name(filter, index));
        context.out.line(&format!("  {name}: {}", why(reach)))?;
        if let Some(regex) = filter.patterns.get(index).and_then(|pattern| pattern.regex.as_deref())
            && reach.of > 0
        {
            let mark = escape(regex.get(..reach.fits).unwrap_or_default()).chars().count();
            context.out.line(&format!("    {}", escape(regex)))?;
            context.out.line(&format!("    {:mark$}^", ""))?;
        }
    }
    Ok(())
}

fn why(reach: &Reach) -> String {
    if let Some(reason) = reach.reason {
        return reason.to_owned();
    }
    let rest: String = reach.rest.chars().take(LONGEST_REST).collect();
    match rest.as_str() {
        "" => "It fits as far as the mark; there the line ends.".to_owned(),
        rest => format!("It fits as far as the mark; there the line goes on with \"{}\".", escape(rest)),
    }
}
