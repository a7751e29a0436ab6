//! Near misses: lines of a scan that look like a failure of the service and that no pattern matches. Nothing follows
//! from them; they show the author of a filter what it lacks.

use std::io::{self, Write};
use std::sync::Arc;

use serde::Serialize;

use super::output::{self, counted, grouped};
use super::shapes::{Shape, Shapes, Tone};
use crate::filters::{Filter, Format, tone};
use crate::text::escape;

/// Shapes that are shown to people who did not ask for more.
const SHOWN: usize = 5;

/// Longest sample that is shown to people, in characters.
const LONGEST_SAMPLE: usize = 200;

/// A shape, as `--near --json` shows it.
#[derive(Serialize)]
struct Row<'a> {
    count: u64,
    shape: &'a str,
    program: Option<&'a str>,
    file: &'a str,
    line: u64,
    sample: &'a str,
}

/// The lines of a scan that were near.
pub(super) struct Near {
    /// The filters that go by programs.
    named: Vec<Arc<Filter>>,
    /// The formats of filters that take lines of no certain program.
    formats: Vec<Format>,
    /// Whether every failure counts, whoever reports it.
    anybody: bool,
    shapes: Shapes,
}

impl Near {
    /// Near to these filters; to `anybody`, when they are all there are.
    pub(super) fn new(filters: &[Arc<Filter>], anybody: bool) -> Near {
        let formats =
            filters.iter().filter(|filter| filter.format != Format::Syslog && filter.format != Format::Kernel);
        Near {
            named: filters.iter().filter(|filter| !filter.programs.is_empty()).cloned().collect(),
            formats: formats.map(|filter| filter.format).collect(),
            anybody,
            shapes: Shapes::default(),
        }
    }

    /// Looks at a line that is no hit.
    pub(super) fn look(&mut self, line: &[u8], file: &str, number: u64) {
        if !may_hold_address(line) || (self.named.is_empty() && tone(line) != Tone::Failure) {
            return;
        }
        if let Some(shape) = Shape::of(line, file, number).filter(|shape| self.is_near(shape)) {
            self.shapes.add(shape);
        }
    }

    fn is_near(&self, shape: &Shape) -> bool {
        let named = self.named.iter().any(|filter| filter.accepts(shape.program.as_bytes()));
        let formed = shape.program.is_empty() && self.formats.contains(&shape.format);
        let failure = shape.tone == Tone::Failure && shape.format != Format::Kernel;
        shape.has_address() && shape.tone != Tone::Success && (named || (failure && (formed || self.anybody)))
    }

    /// For people: the commonest shapes, or `all` of them.
    pub(super) fn say(self, all: bool, err: &mut impl Write) -> io::Result<()> {
        let (lines, exact) = (self.shapes.lines, self.shapes.is_exact());
        if lines == 0 {
            return if all { writeln!(err, "no other line looks like this service") } else { Ok(()) };
        }
        let shapes = self.shapes.into_sorted();
        let shown = if all { shapes.len() } else { shapes.len().min(SHOWN) };
        let look = if lines == 1 { "looks like this service and matches" } else { "look like this service and match" };
        let whose = if lines == 1 { "its" } else { "their" };
        let kinds = match shapes.len() {
            1 => format!("here is {whose} shape"),
            all if shown < all => format!("here are the first {shown} of {whose} {} shapes", grouped(all as u64)),
            all => format!("here are {whose} {all} shapes"),
        };
        writeln!(err, "{} {look} nothing; {kinds}:", counted(lines, "line", "lines"))?;
        for shape in shapes.iter().take(shown) {
            let count = if exact { grouped(shape.count) } else { format!("{}+", grouped(shape.count)) };
            let line: String = shape.sample.line().chars().take(LONGEST_SAMPLE).collect();
            writeln!(err, "{count:>8}  {}", escape(&cut(&shape.text())))?;
            writeln!(err, "          {}:{}: {}", escape(&shape.sample.file), shape.sample.number, escape(&line))?;
        }
        writeln!(err, "banctl filters draft makes patterns of them")
    }

    /// For programs: every shape.
    pub(super) fn write(self, out: &mut impl Write) -> io::Result<()> {
        for shape in self.shapes.into_sorted() {
            let program = Some(shape.program.as_str()).filter(|program| !program.is_empty());
            let (text, sample, file) = (shape.text(), shape.sample.line(), shape.sample.file.as_str());
            let (count, line) = (shape.count, shape.sample.number);
            output::json_line(out, &Row { count, shape: &text, program, file, line, sample: &sample })?;
        }
        Ok(())
    }
}

fn cut(text: &str) -> String {
    text.chars().take(LONGEST_SAMPLE).collect()
}

/// Whether a full stop or a colon stands between two digits, as in every address but a few of IPv6.
pub(super) fn may_hold_address(line: &[u8]) -> bool {
    let is_part = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_hexdigit() || *byte == b':');
    memchr::memchr2_iter(b'.', b':', line)
        .any(|at| is_part(line.get(at + 1)) && at.checked_sub(1).is_none_or(|before| is_part(line.get(before))))
}
