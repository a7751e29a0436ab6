//! Log files by glob: finds them, follows each through its rotations, and reports what the filters make of their
//! lines. Wakes on inotify's hints and once a second; it never writes, and never waits for a file.

mod family;
mod log;
mod reader;
mod start;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::outlet::{Outlet, Stopped};
use super::{Scan, Spec, crew};
use crate::filters::Clock;
use crate::time::Timestamp;
use family::{Names, Registry};
use log::{Begin, Log};
use watch::{Hints, Watch};

/// How often everything is looked at, whatever inotify says; and how often once nothing has happened for a while. There
/// may be a source for every jail, and an idle machine is to sleep.
const TICK: Duration = Duration::from_secs(1);
const QUIET_TICK: Duration = Duration::from_secs(30);

/// Ticks without any event before the slower ones.
const QUIET_AFTER: u32 = 30;

/// Most logs of one source; each keeps a file open.
const MAX_LOGS: usize = 1024;

/// What all logs of a source use while they are read.
struct Shared {
    scan: Arc<dyn Scan>,
    zone: jiff::tz::TimeZone,
    outlet: Outlet,
    registry: Registry,
    buffer: Vec<u8>,
    /// Windows are to be refilled with the lines since then.
    refill: Option<Timestamp>,
    /// How many blocks were read.
    blocks: u64,
    /// How many threads scan a log that is far behind.
    threads: usize,
}

impl Shared {
    /// Where in a file the lines begin that windows still look at.
    fn refill_mark(&self, reader: &reader::Reader) -> Option<reader::Mark> {
        let clock = Clock { now: Timestamp::now(), zone: self.zone.clone() };
        start::at_time(reader, &*self.scan, &clock, self.refill?).ok()
    }
}

struct Tail {
    spec: Spec,
    patterns: Vec<String>,
    shared: Shared,
    watch: Watch,
    logs: BTreeMap<PathBuf, Log>,
}

/// Reads the files that match the patterns until it is stopped.
pub(super) fn run(spec: Spec, patterns: &[String], outlet: Outlet) -> Result<(), Stopped> {
    let watch = Watch::new(outlet.bell());
    let shared = Shared {
        scan: Arc::clone(&spec.scan),
        zone: spec.zone.clone(),
        outlet,
        registry: Registry::default(),
        buffer: Vec::new(),
        refill: spec.refill.then_some(spec.since),
        blocks: 0,
        threads: if cfg!(test) { 3 } else { crew::threads() },
    };
    let mut tail = Tail { spec, patterns: patterns.to_vec(), shared, watch, logs: BTreeMap::new() };
    tail.begin()?;
    tail.follow()
}

impl Tail {
    fn begin(&mut self) -> Result<(), Stopped> {
        for position in self.spec.resume.values() {
            if let Some((identity, mark)) = start::mark_of(position) {
                self.shared.registry.remember(identity, mark);
            }
        }
        self.survey(true)?;
        self.watch()?;
        // Logs with a position first: they know which of the other files are generations of theirs.
        for resumed in [true, false] {
            for log in self.logs.values_mut() {
                if self.spec.resume.contains_key(&log.name) == resumed {
                    log.look(false, &mut self.shared)?;
                }
            }
        }
        self.watch()?;
        self.shared.outlet.caught_up()
    }

    fn follow(&mut self) -> Result<(), Stopped> {
        let mut next_tick = Instant::now() + TICK;
        let mut quiet = 0u32;
        loop {
            self.wait(next_tick)?;
            let hints = self.watch.take();
            let tick = Instant::now() >= next_tick;
            if !tick && hints.is_empty() {
                // It was about another file of the directory.
                continue;
            }
            if tick {
                quiet = quiet.saturating_add(1);
                let rests = quiet > QUIET_AFTER && self.watch.fd().is_some();
                next_tick = Instant::now() + if rests { QUIET_TICK } else { TICK };
            } else {
                quiet = 0;
                next_tick = next_tick.min(Instant::now() + TICK);
            }
            if tick || hints.names {
                self.survey(false)?;
            }
            let blocks = self.shared.blocks;
            self.look(tick, &hints)?;
            if self.shared.blocks > blocks {
                // Also where inotify says nothing, as on a network file system.
                quiet = 0;
            }
            if tick || hints.names {
                self.logs.retain(|path, log| {
                    if log.is_over() {
                        self.shared.registry.forget(path);
                    }
                    !log.is_over()
                });
                self.watch()?;
            }
            if hints.names {
                // What happened to a file before it was watched woke nobody.
                self.look(false, &hints)?;
            }
        }
    }

    /// Until something happens, or it is time.
    fn wait(&self, until: Instant) -> Result<(), Stopped> {
        let (bell, left) = (self.shared.outlet.bell(), until.saturating_duration_since(Instant::now()));
        match self.watch.fd() {
            Some(hints) => bell.wait([hints], Some(left)).map(|_| ()),
            None => bell.wait([], Some(left)).map(|_| ()),
        }
    }

    fn look(&mut self, tick: bool, hints: &Hints) -> Result<(), Stopped> {
        for log in self.logs.values_mut() {
            let hinted = || log.watched.iter().any(|path| hints.paths.contains(path));
            if tick || hints.names || hinted() {
                log.look(tick, &mut self.shared)?;
            }
        }
        Ok(())
    }

    /// Finds logs that are not followed yet. `initial`: those that are there at the start.
    fn survey(&mut self, initial: bool) -> Result<(), Stopped> {
        for index in 0..self.patterns.len() {
            let pattern = self.patterns[index].clone();
            if is_literal(&pattern) {
                self.add(PathBuf::from(pattern), true, initial)?;
                continue;
            }
            let log = Arc::from(pattern.as_str());
            match glob::glob(&pattern) {
                Ok(paths) => {
                    let mut any = false;
                    for path in paths.filter_map(Result::ok) {
                        any = true;
                        self.add(path, false, initial)?;
                    }
                    if any {
                        self.shared.outlet.recovered(&log)?;
                    } else {
                        let text = format!("No file matches {pattern} yet; one that appears is read.");
                        self.shared.outlet.trouble(&log, text)?;
                    }
                }
                Err(error) => self.shared.outlet.trouble(&log, format!("{pattern} is not a glob: {error}."))?,
            }
        }
        Ok(())
    }

    fn add(&mut self, path: PathBuf, literal: bool, initial: bool) -> Result<(), Stopped> {
        if self.logs.contains_key(&path) {
            return Ok(());
        }
        let name: Arc<str> = Arc::from(path.to_string_lossy());
        if self.logs.len() >= MAX_LOGS {
            let text = format!("More than {MAX_LOGS} files match; {name} is not read. Name fewer in one jail.");
            return self.shared.outlet.trouble(&Arc::from("files"), text);
        }
        let begin = match self.spec.resume.get(&name) {
            _ if initial && self.is_read_generation(&path) => Begin::End,
            _ if self.is_read_generation(&path) => Begin::Beginning,
            Some(position) => Begin::Resume(position.clone()),
            None if initial && self.spec.start => Begin::Since(self.spec.since),
            None => Begin::Beginning,
        };
        self.logs.insert(path.clone(), Log::new(path, literal, begin, initial));
        Ok(())
    }

    /// Whether the path is an older generation of a log that has a position: what of it was not read, that log reads.
    fn is_read_generation(&self, path: &Path) -> bool {
        self.spec.resume.keys().any(|log| Names([Path::new(&**log); 2]).is_generation(path))
    }

    /// Brings the watched directories and the interesting files up to date.
    fn watch(&mut self) -> Result<(), Stopped> {
        let mut directories = HashSet::new();
        let mut interest = HashSet::new();
        for pattern in &self.patterns {
            directories.extend(nearest_directory(Path::new(pattern)));
        }
        for log in self.logs.values_mut() {
            let named = log.path.parent().and_then(|parent| parent.canonicalize().ok());
            log.watched = named.into_iter().zip(log.path.file_name()).map(|(parent, name)| parent.join(name)).collect();
            log.watched.push(log.real.clone());
            let former: Vec<PathBuf> = log.former_names().collect();
            log.watched.extend(former);
            directories.extend(log.watched.iter().filter_map(|path| path.parent()).map(Path::to_owned));
            interest.extend(log.watched.iter().cloned());
        }
        self.watch.set_interest(interest);
        for (directory, reason) in self.watch.set_directories(&directories) {
            let text = format!(
                "{} cannot be watched ({reason}), so its logs are read once a second only. \
                 Raise fs.inotify.max_user_watches and max_user_instances.",
                directory.display()
            );
            self.shared.outlet.trouble(&Arc::from(directory.to_string_lossy()), text)?;
        }
        Ok(())
    }
}

fn is_literal(pattern: &str) -> bool {
    !pattern.contains(['*', '?', '['])
}

/// The directory in which the files of a pattern are, or in which it may appear: the longest one that exists.
fn nearest_directory(pattern: &Path) -> Option<PathBuf> {
    pattern.ancestors().skip(1).find_map(|directory| directory.canonicalize().ok().filter(|found| found.is_dir()))
}
