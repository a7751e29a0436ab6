//! `banctl replay`: who would have been banned by a log, when, by which jail. The daemon's own pipeline, by log time.

mod diff;

use crate::text::escape;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::Instant;

use ipnet::IpNet;
use serde::Serialize;

use super::output::{Output, counted};
use super::when::Reader;
use super::{Context, Error, ReplayOptions};
use crate::filters::{Clock, Effect, Hit, Matcher, Memory};
use crate::ledger::Ledger;
use crate::pipeline::Pipeline;
use crate::pipeline::event::{Event, Kind, Shown};
use crate::pipeline::wiring::Wiring;
use crate::policy::allowlist::Allowlist;
use crate::setup::{self, Depth, Setup};
use crate::sources::Place;
use crate::time::Timestamp;

/// Bytes that are read at a time.
const BLOCK: usize = 256 * 1024;

/// A ban that would have been made, in JSON.
#[derive(Serialize)]
struct Row<'a> {
    time: Timestamp,
    prefix: IpNet,
    jail: &'a str,
    until: Option<crate::time::Until>,
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
    let mut replay = Replay::new(&setup, context.globals.json);
    let (start, clock) = (Instant::now(), clock());
    for path in &options.files {
        replay.lane.begin();
        each_block(path, |block| Ok(replay.scan(block, &clock, &mut context.out)?))?;
    }
    replay.finish(start.elapsed().as_secs_f64(), &mut context.out)?;
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

fn open(path: &Path) -> io::Result<Box<dyn Read>> {
    if path == Path::new("-") { Ok(Box::new(io::stdin().lock())) } else { Ok(Box::new(File::open(path)?)) }
}

/// Reads a log block by block; a line that is cut by the end of a block waits for the next.
fn each_block(path: &Path, mut each: impl FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error> {
    let failed = |why| Error::File(path.to_owned(), why);
    let mut file = open(path).map_err(failed)?;
    let mut block = vec![0; BLOCK];
    let mut filled = 0;
    loop {
        let count = file.read(&mut block[filled..]).map_err(failed)?;
        filled += count;
        let whole = match memchr::memrchr(b'\n', &block[..filled]) {
            _ if count == 0 => filled,
            Some(newline) => newline + 1,
            None if filled == block.len() => filled,
            None => continue,
        };
        each(&block[..whole])?;
        block.copy_within(whole..filled, 0);
        filled -= whole;
        if count == 0 {
            return Ok(());
        }
    }
}

/// One configuration at work.
struct Lane {
    pipeline: Pipeline,
    matcher: std::sync::Arc<Matcher>,
    /// The latest log time so far.
    now: Timestamp,
    hits: Vec<Hit>,
    memory: Memory,
    hit_count: u64,
}

impl Lane {
    fn new(setup: &Setup) -> Lane {
        // Every enabled jail reads every file: which log a line came from is for the filters to tell.
        let wiring = Wiring::new(&setup.config, &setup.filters, |_, _| Place::Stdin);
        let mut allowlist = Allowlist::default();
        allowlist.set_given(&setup.config.allow.networks);
        let pipeline = Pipeline::new(&setup.config, &wiring, Ledger::in_memory(), allowlist);
        let matcher = match wiring.sources.first() {
            Some(source) => source.matcher.clone(),
            None => std::sync::Arc::new(Matcher::new(Vec::new())),
        };
        let (hits, memory) = (Vec::new(), Memory::default());
        Lane { pipeline, matcher, now: Timestamp::EPOCH, hits, memory, hit_count: 0 }
    }

    /// Another log begins.
    fn begin(&mut self) {
        self.memory = Memory::default();
    }

    /// Hands out the bans that follow from a block; says how many lines it has.
    fn scan(
        &mut self,
        block: &[u8],
        clock: &Clock,
        mut banned: impl FnMut(&Event) -> io::Result<()>,
    ) -> io::Result<u64> {
        let mut hits = std::mem::take(&mut self.hits);
        let lines = self.matcher.scan(block, clock, &mut self.memory, &mut hits).lines;
        self.hit_count += hits.iter().filter(|hit| hit.effect != Effect::Forgive).count() as u64;
        for hit in &hits {
            self.now = self.now.max(hit.time);
            if self.pipeline.ledger.next_expiry().is_some_and(|end| end <= self.now) {
                self.pipeline.expire(self.now);
            }
            let outcome = self.pipeline.on_hits(0, std::slice::from_ref(hit), false, self.now);
            outcome.events.iter().filter(|event| event.kind == Kind::Banned).try_for_each(&mut banned)?;
        }
        hits.clear();
        self.hits = hits;
        Ok(lines)
    }
}

struct Replay {
    lane: Lane,
    json: bool,
    lines: u64,
    bytes: u64,
    bans: u64,
    by_jail: BTreeMap<String, u64>,
}

impl Replay {
    fn new(setup: &Setup, json: bool) -> Replay {
        Replay { lane: Lane::new(setup), json, lines: 0, bytes: 0, bans: 0, by_jail: BTreeMap::new() }
    }

    fn scan(&mut self, block: &[u8], clock: &Clock, out: &mut Output) -> io::Result<()> {
        let Replay { lane, json, bans, by_jail, .. } = self;
        self.lines += lane.scan(block, clock, |event| {
            *bans += 1;
            let jail = event.jail.as_deref().unwrap_or_default();
            *by_jail.entry(jail.to_owned()).or_default() += 1;
            row(event, jail, *json, out)
        })?;
        self.bytes += block.len() as u64;
        Ok(())
    }

    fn finish(self, seconds: f64, out: &mut Output) -> io::Result<()> {
        #[expect(clippy::cast_precision_loss, reason = "a rate is rounded anyway")]
        let lines_per_second = if seconds > 0.0 { self.lines as f64 / seconds } else { 0.0 };
        let sources = self.lane.pipeline.jails().iter().map(|jail| jail.tracked() as u64).sum();
        let summary = Summary {
            lines: self.lines,
            bytes: self.bytes,
            hits: self.lane.hit_count,
            bans: self.bans,
            sources,
            seconds,
            lines_per_second,
        };
        if self.json {
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
    if json {
        return out.json(&Row { time: event.time, prefix, jail, until: event.until, reason: &event.text });
    }
    let prefix = Shown(prefix).to_string();
    let reader = Reader::new(out.is_terminal());
    let (time, until) = (reader.show_seconds(event.time), event.until.map(|until| reader.show_end(until)));
    let until = until.unwrap_or_default();
    out.line(&format!("{time}  {prefix:<18}  {jail:<10}  until {until}  {}", escape(&event.text)))
}
