//! `banctl replay`: who would have been banned by a log, when, by which jail. The daemon's own pipeline, by log time.

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
use crate::config::Config;
use crate::filters::{Clock, Filters, Hit, Matcher, Memory};
use crate::ledger::Ledger;
use crate::pipeline::event::{Event, Kind, Shown};
use crate::pipeline::wiring::Wiring;
use crate::pipeline::{Outcome, Pipeline};
use crate::policy::allowlist::Allowlist;
use crate::setup::{self, Depth};
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

/// Runs the log files through the jails of the configuration.
pub(super) fn run(options: &ReplayOptions, context: &mut Context) -> Result<(), Error> {
    let (setup, problems) = setup::load(&context.globals.config, Depth::Read);
    let Some(setup) = setup else { return Err(Error::Config(problems)) };
    let mut replay = Replay::new(&setup.config, &setup.filters, context.globals.json);
    let start = Instant::now();
    for path in &options.files {
        let mut file = open(path).map_err(|why| Error::File(path.clone(), why))?;
        replay.read(path, &mut *file, &mut context.out)?;
    }
    replay.finish(start.elapsed().as_secs_f64(), &mut context.out)?;
    Ok(())
}

fn open(path: &Path) -> io::Result<Box<dyn Read>> {
    if path == Path::new("-") { Ok(Box::new(io::stdin().lock())) } else { Ok(Box::new(File::open(path)?)) }
}

struct Replay {
    pipeline: Pipeline,
    matcher: std::sync::Arc<Matcher>,
    clock: Clock,
    /// The latest log time so far.
    now: Timestamp,
    hits: Vec<Hit>,
    memory: Memory,
    json: bool,
    lines: u64,
    bytes: u64,
    hit_count: u64,
    bans: u64,
    by_jail: BTreeMap<String, u64>,
}

impl Replay {
    fn new(config: &Config, filters: &Filters, json: bool) -> Replay {
        // Every enabled jail reads every file: which log a line came from is for the filters to tell.
        let wiring = Wiring::new(config, filters, |_, _| Place::Stdin);
        let mut allowlist = Allowlist::default();
        allowlist.set_given(&config.allow.networks);
        let pipeline = Pipeline::new(config, &wiring, Ledger::in_memory(), allowlist);
        let matcher = match wiring.sources.first() {
            Some(source) => source.matcher.clone(),
            None => std::sync::Arc::new(Matcher::new(Vec::new())),
        };
        Replay {
            pipeline,
            matcher,
            clock: Clock { now: Timestamp::now(), zone: jiff::tz::TimeZone::system() },
            now: Timestamp::EPOCH,
            hits: Vec::new(),
            memory: Memory::default(),
            json,
            lines: 0,
            bytes: 0,
            hit_count: 0,
            bans: 0,
            by_jail: BTreeMap::new(),
        }
    }

    /// Reads a log block by block; a line that is cut by the end of a block waits for the next.
    fn read(&mut self, path: &Path, file: &mut dyn Read, out: &mut Output) -> Result<(), Error> {
        let mut block = vec![0; BLOCK];
        let mut filled = 0;
        self.memory = Memory::default();
        loop {
            let count = file.read(&mut block[filled..]).map_err(|why| Error::File(path.to_owned(), why))?;
            filled += count;
            self.bytes += count as u64;
            let whole = match memchr::memrchr(b'\n', &block[..filled]) {
                _ if count == 0 => filled,
                Some(newline) => newline + 1,
                None if filled == block.len() => filled,
                None => continue,
            };
            self.scan(&block[..whole], out)?;
            block.copy_within(whole..filled, 0);
            filled -= whole;
            if count == 0 {
                return Ok(());
            }
        }
    }

    fn scan(&mut self, block: &[u8], out: &mut Output) -> io::Result<()> {
        let mut hits = std::mem::take(&mut self.hits);
        self.lines += self.matcher.scan(block, &self.clock, &mut self.memory, &mut hits).lines;
        self.hit_count += hits.len() as u64;
        for hit in &hits {
            self.now = self.now.max(hit.time);
            if self.pipeline.ledger.next_expiry().is_some_and(|end| end <= self.now) {
                self.pipeline.expire(self.now);
            }
            let outcome = self.pipeline.on_hits(0, std::slice::from_ref(hit), false, self.now);
            self.tell(&outcome, out)?;
        }
        hits.clear();
        self.hits = hits;
        Ok(())
    }

    fn tell(&mut self, outcome: &Outcome, out: &mut Output) -> io::Result<()> {
        for event in outcome.events.iter().filter(|event| event.kind == Kind::Banned) {
            self.bans += 1;
            let jail = event.jail.as_deref().unwrap_or_default();
            *self.by_jail.entry(jail.to_owned()).or_default() += 1;
            self.row(event, jail, out)?;
        }
        Ok(())
    }

    fn row(&self, event: &Event, jail: &str, out: &mut Output) -> io::Result<()> {
        let Some(prefix) = event.prefix else { return Ok(()) };
        if self.json {
            return out.json(&Row { time: event.time, prefix, jail, until: event.until, reason: &event.text });
        }
        let prefix = Shown(prefix).to_string();
        let reader = Reader::new(out.is_terminal());
        let (time, until) = (reader.show_seconds(event.time), event.until.map(|until| reader.show_end(until)));
        let until = until.unwrap_or_default();
        out.line(&format!("{time}  {prefix:<18}  {jail:<10}  until {until}  {}", escape(&event.text)))
    }

    fn finish(self, seconds: f64, out: &mut Output) -> io::Result<()> {
        #[expect(clippy::cast_precision_loss, reason = "a rate is rounded anyway")]
        let lines_per_second = if seconds > 0.0 { self.lines as f64 / seconds } else { 0.0 };
        let sources = self.pipeline.jails().iter().map(|jail| jail.tracked() as u64).sum();
        let summary = Summary {
            lines: self.lines,
            bytes: self.bytes,
            hits: self.hit_count,
            bans: self.bans,
            sources,
            seconds,
            lines_per_second,
        };
        if self.json {
            return out.json(&summary);
        }
        for (jail, bans) in &self.by_jail {
            out.line(&format!("{jail}: {}", counted(*bans, "ban")))?;
        }
        out.line(&format!(
            "{}, {}, {}, {} in {seconds:.3} s: {lines_per_second:.0} lines per second",
            counted(summary.lines, "line"),
            counted(summary.bytes, "byte"),
            counted(summary.hits, "hit"),
            counted(summary.bans, "ban")
        ))
    }
}
