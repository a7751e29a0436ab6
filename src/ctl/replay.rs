//! `banctl replay`: who would have been banned by a log, when, by which jail. The daemon's own pipeline, by log time.

mod diff;
mod lane;
mod walk;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Instant;

use ipnet::IpNet;
use serde::Serialize;

use super::output::{Output, counted};
use super::when::Reader;
use super::{Context, Error, ReplayOptions};
use crate::filters::Clock;
use crate::ledger::Stage;
use crate::pipeline::event::{Event, Kind, Shown};
use crate::setup::{self, Depth, Setup};
use crate::text::escape;
use crate::time::Timestamp;
use lane::Lane;

/// A ban that would have been made, in JSON.
#[derive(Serialize)]
struct Row<'a> {
    time: Timestamp,
    prefix: IpNet,
    jail: &'a str,
    until: Option<crate::time::Until>,
    stage: Stage,
    reason: &'a str,
}

/// The last line, in JSON.
#[derive(Serialize)]
struct Summary {
    lines: u64,
    bytes: u64,
    hits: u64,
    bans: u64,
    sources: u64,
    seconds: f64,
    lines_per_second: f64,
}

/// Runs the log files through the jails of the configuration, or of two.
pub(super) fn run(options: &ReplayOptions, context: &mut Context) -> Result<(), Error> {
    let setup = load(&context.globals.config)?;
    if let Some(other) = &options.diff {
        return diff::run(&setup, &load(other)?, &options.files, context);
    }
    let mut tally = Tally::default();
    let (mut lanes, start, clock) = ([Lane::new(&setup)], Instant::now(), clock());
    let json = context.globals.json;
    for path in &options.files {
        let seen = walk::through(path, &mut lanes, &clock, |_, event| tally.note(event, json, &mut context.out))?;
        tally.lines += seen.lines;
        tally.bytes += seen.bytes;
    }
    tally.finish(&lanes[0], json, start.elapsed().as_secs_f64(), &mut context.out)?;
    Ok(())
}

fn load(path: &Path) -> Result<Setup, Error> {
    let (setup, problems) = setup::load(path, Depth::Read);
    setup.ok_or(Error::Config(problems))
}

/// The same for all lines, so that the same logs give the same answer.
fn clock() -> Clock {
    Clock { now: Timestamp::now(), zone: jiff::tz::TimeZone::system() }
}

/// What is counted beside the bans that are shown.
#[derive(Default)]
struct Tally {
    lines: u64,
    bytes: u64,
    bans: u64,
    by_jail: BTreeMap<String, u64>,
}

impl Tally {
    /// Counts a ban and shows it.
    fn note(&mut self, event: &Event, json: bool, out: &mut Output) -> io::Result<()> {
        self.bans += 1;
        let jail = event.jail.as_deref().unwrap_or_default();
        *self.by_jail.entry(jail.to_owned()).or_default() += 1;
        row(event, jail, json, out)
    }

    fn finish(self, lane: &Lane, json: bool, seconds: f64, out: &mut Output) -> io::Result<()> {
        #[expect(clippy::cast_precision_loss, reason = "a rate is rounded anyway")]
        let lines_per_second = if seconds > 0.0 { self.lines as f64 / seconds } else { 0.0 };
        let sources = lane.sources();
        let summary = Summary {
            lines: self.lines,
            bytes: self.bytes,
            hits: lane.hit_count,
            bans: self.bans,
            sources,
            seconds,
            lines_per_second,
        };
        if json {
            return out.json(&summary);
        }
        for (jail, bans) in &self.by_jail {
            out.line(&format!("{jail}: {}", counted(*bans, "ban", "bans")))?;
        }
        out.line(&format!(
            "{}, {}, {}, {} in {seconds:.3} s: {lines_per_second:.0} lines per second",
            counted(summary.lines, "line", "lines"),
            counted(summary.bytes, "byte", "bytes"),
            counted(summary.hits, "hit", "hits"),
            counted(summary.bans, "ban", "bans")
        ))
    }
}

fn row(event: &Event, jail: &str, json: bool, out: &mut Output) -> io::Result<()> {
    let Some(prefix) = event.prefix else { return Ok(()) };
    let (stage, word) = match event.kind {
        Kind::Limited => (Stage::Limit, "limited "),
        _ => (Stage::Drop, ""),
    };
    if json {
        return out.json(&Row { time: event.time, prefix, jail, until: event.until, stage, reason: &event.text });
    }
    let prefix = Shown(prefix).to_string();
    let reader = Reader::new(out.is_terminal());
    let (time, until) = (reader.show_seconds(event.time), event.until.map(|until| reader.show_end(until)));
    let until = until.unwrap_or_default();
    out.line(&format!("{time}  {prefix:<18}  {jail:<10}  {word}until {until}  {}", escape(&event.text)))
}
