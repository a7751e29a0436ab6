//! `banctl filters draft`: from the failures in a log, a filter that loads and proves itself. What only its author can
//! know is marked with DECIDE.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::compose::{Draft, MOST_PATTERNS, comment};
use super::wording;
use super::{Context, Error};
use crate::config::problem::Problems;
use crate::ctl::input;
use crate::ctl::near::may_hold_address;
use crate::ctl::output::{counted, say};
use crate::ctl::scan::{clock, fill, lines};
use crate::ctl::settings;
use crate::ctl::shapes::{Shape, Shapes, Tone};
use crate::filters::{self, Filter, Filters, Format, Matcher, Memory, Mode};

#[derive(Debug, Args)]
#[command(after_help = "\
Lines that a filter of the configuration hits already are left out. Addresses in samples are replaced by ones that
are nobody's; names are not. Read every DECIDE of the draft, and look for wrong hits with banctl scan.

Examples:
  banctl filters draft --name gatekeeper /var/log/gatekeeper.log > ./gatekeeper.toml
  banctl filters draft --name imapd --program imapd /var/log/mail.log")]
pub(super) struct Options {
    /// What the filter will be called
    #[arg(long, value_name = "NAME")]
    name: String,
    /// Only lines of this program, where a log has those of several
    #[arg(long, value_name = "PROGRAM")]
    program: Option<String>,
    /// Logs; - is standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

/// A draft as `--json` prints it.
#[derive(Serialize)]
struct Row<'a> {
    filter: &'a str,
    patterns: usize,
    toml: &'a str,
}

pub(super) fn run(options: &Options, context: &mut Context) -> Result<(), Error> {
    let all = shapes(options, context)?;
    let shapes = chosen(options, all)?;
    let (text, patterns) = draft(options, &shapes)?;
    let problems = Problems::default();
    match Filter::parse(&options.name, text.clone(), &problems) {
        Some(filter) => filters::verify(&filter, &problems),
        None => say("the draft does not load yet; these problems are for you to solve:"),
    }
    for problem in problems.into_sorted() {
        say(&problem.to_string());
    }
    if context.globals.json {
        return Ok(context.out.json(&Row { filter: &options.name, patterns, toml: &text })?);
    }
    io::Write::write_all(&mut context.out, text.as_bytes())?;
    io::Write::flush(&mut context.out)?;
    let patterns = counted(patterns as u64, "pattern", "patterns");
    say(&format!("{patterns}; read the lines marked DECIDE, then try it: banctl filters test ./{}.toml", options.name));
    Ok(())
}

/// The shapes of the lines that name an address and that no filter hits.
fn shapes(options: &Options, context: &Context) -> Result<Vec<Shape>, Error> {
    // A broken filter elsewhere is no reason not to draft a new one; `banctl check` tells of it.
    let known = Filters::load(&settings::filters(&context.globals)?, &Problems::default());
    let known = known.iter().filter(|filter| *filter.name != *options.name);
    let matcher = Matcher::new(known.map(|filter| filter.with_mode(Mode::Aggressive)).collect());
    let mut shapes = Shapes::default();
    for path in &options.files {
        read(path, &matcher, &mut shapes).map_err(|why| Error::File(path.clone(), why))?;
    }
    Ok(shapes.into_sorted())
}

fn read(path: &Path, matcher: &Matcher, shapes: &mut Shapes) -> io::Result<()> {
    let mut log = BufReader::new(input::open(path, "filters draft …")?);
    let (mut block, mut memory, clock, mut number) = (Vec::new(), Memory::default(), clock(), 0);
    let file = path.to_string_lossy();
    loop {
        block.clear();
        fill(&mut log, &mut block)?;
        if block.is_empty() {
            return Ok(());
        }
        let mut hits = std::collections::HashSet::new();
        matcher.search(&block, &clock, &mut memory, &mut |line, _| {
            hits.insert(line.start);
        });
        for (offset, line) in lines(&block) {
            number += 1;
            if may_hold_address(line) && !hits.contains(&offset) {
                Shape::of(line, &file, number)
                    .filter(Shape::has_address)
                    .into_iter()
                    .for_each(|shape| shapes.add(shape));
            }
        }
    }
}

/// The shapes of the program and format that most failures are of.
fn chosen(options: &Options, shapes: Vec<Shape>) -> Result<Vec<Shape>, Error> {
    let wanted = |shape: &Shape| {
        let program = options.program.as_ref().is_none_or(|program| *program == shape.program);
        program && shape.format != Format::Kernel && wording::is_quotable(shape)
    };
    let shapes: Vec<Shape> = shapes.into_iter().filter(wanted).collect();
    let mut weights: HashMap<(&str, Format), (u64, u64)> = HashMap::new();
    for shape in shapes.iter().filter(|shape| shape.tone != Tone::Success) {
        let weight = weights.entry((&shape.program, shape.format)).or_default();
        weight.0 += if shape.tone == Tone::Failure { shape.count } else { 0 };
        weight.1 += shape.count;
    }
    let heaviest = weights.into_iter().max_by_key(|((program, _), weight)| (*weight, std::cmp::Reverse(*program)));
    let Some(((program, format), _)) = heaviest else {
        let what = "no line of these logs names an address, sounds like no success and is new to all filters";
        let hint = "Failures of the kernel's packet log need no draft: see KERNEL FILTERS in banward-filter(5).";
        return Err(Error::Refused(format!("{what}. {hint}")));
    };
    let program = program.to_owned();
    Ok(shapes.into_iter().filter(|shape| shape.program == program && shape.format == format).collect())
}

/// The text of the filter, and how many patterns it has. Where nothing sounds like a failure, what sounds like nothing
/// is drafted, for the author to judge.
fn draft(options: &Options, shapes: &[Shape]) -> Result<(String, usize), Error> {
    let mut draft = Draft::below(head(options, shapes));
    let (several, single): (Vec<&Shape>, Vec<&Shape>) =
        shapes.iter().filter(|shape| shape.tone != Tone::Success).partition(|shape| !shape.has_one_address());
    let (failures, unclear): (Vec<&Shape>, Vec<&Shape>) =
        single.into_iter().partition(|shape| shape.tone == Tone::Failure);
    let mut unsafe_ones = draft.add_all(failures);
    let mut quiet = unclear;
    if draft.is_empty() {
        unsafe_ones.extend(draft.add_all(std::mem::take(&mut quiet)));
    }
    if draft.is_empty() {
        let what = "no pattern can be drafted from these logs: each of their lines names several addresses, or has text \
                    of an attacker on both sides of the address";
        return Err(Error::Refused(format!("{what}. banward-filter(5) tells how to write one by hand.")));
    }
    draft.refuse(shapes);
    let mut text = draft.head + &draft.patterns;
    text += &left_out("no safe pattern was found for these lines, or there are too many shapes", &unsafe_ones);
    text +=
        &left_out("these lines name several addresses. Which is the offender's, and who writes the others?", &several);
    text += &left_out("these lines name an address, and say nothing of a failure. Is one of them evidence?", &quiet);
    text += "\n# Lines that must not hit. DECIDE: add lines of your own users, who do nothing wrong.\n";
    text += &draft.misses;
    Ok((text, draft.names.len()))
}

/// Shapes that the author has to look at.
fn left_out(why: &str, shapes: &[&Shape]) -> String {
    if shapes.is_empty() {
        return String::new();
    }
    let listed: String = shapes.iter().take(MOST_PATTERNS).map(|shape| comment(shape)).collect();
    format!("\n# DECIDE: {why}\n{listed}")
}

/// The keys of the file.
fn head(options: &Options, shapes: &[Shape]) -> String {
    let (format, program) = shapes.first().map_or((Format::Plain, ""), |shape| (shape.format, shape.program.as_str()));
    let logs: Vec<String> = options
        .files
        .iter()
        .filter_map(|path| path.canonicalize().ok())
        .map(|path| wording::toml(&path.to_string_lossy()))
        .collect();
    let mut text = format!(
        "# DECIDE: one line for people.\ndescription = {}\n",
        wording::toml(&format!("{}: failed attempts", options.name))
    );
    let _ = writeln!(text, "format   = \"{}\"", format.name());
    if !program.is_empty() {
        let _ = writeln!(text, "programs = [{}]", wording::toml(program));
    }
    let _ = writeln!(text, "# DECIDE: is this where the service usually writes?\nlogs     = [{}]", logs.join(", "));
    text += "# DECIDE: the ports that a ban closes; all of them without this key.\n# ports    = [\"443/tcp\"]\n";
    text +=
        "# DECIDE: \"forgeable\" if the service speaks UDP, where an address may be spoofed.\nevidence = \"proven\"\n";
    text
}
