//! What the tests of all sources share: filters that remember what they saw, and a receiver of reports.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{Receiver, channel};

use super::outlet::{Bell, Outlet, Stopped};
use super::{Batch, Inbox, Place, Position, Report, Scan, Scanned, Spec, Taker};
use crate::filters::{Clock, Effect, Evidence, Hit, Memory, Record};
use crate::time::Timestamp;

/// How long a test waits for something that must happen.
const DEADLINE: Duration = Duration::from_secs(20);

/// Filters that remember every line. A line `T word…` with a number T has the time of that second.
#[derive(Default)]
pub(super) struct Recorder {
    lines: Mutex<Vec<String>>,
}

impl Recorder {
    pub(super) fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    fn note(&self, line: &[u8]) {
        self.lines.lock().unwrap().push(String::from_utf8_lossy(line).into_owned());
    }
}

impl Scan for Recorder {
    fn scan(&self, block: &[u8], clock: &Clock, _memory: &mut Memory, hits: &mut Vec<Hit>) -> Scanned {
        let mut scanned = Scanned::default();
        for line in block.split_inclusive(|byte| *byte == b'\n') {
            self.note(line.strip_suffix(b"\n").unwrap_or(line));
            scanned.lines += 1;
            scanned.latest = scanned.latest.max(self.line_time(line, clock));
            hits.push(hit(Timestamp::EPOCH, line.strip_suffix(b"\n").unwrap_or(line)));
        }
        scanned
    }

    fn record(&self, record: &Record<'_>, _memory: &mut Memory, hits: &mut Vec<Hit>) {
        let text = [record.program, b": ", record.message].concat();
        self.note(&text);
        hits.push(hit(record.time, &text));
    }

    fn line_time(&self, line: &[u8], _clock: &Clock) -> Option<Timestamp> {
        let word = line.split(u8::is_ascii_whitespace).next()?;
        std::str::from_utf8(word).ok()?.parse().ok().map(Timestamp::from_secs)
    }
}

/// A hit that carries its line.
pub(super) fn hit(time: Timestamp, line: &[u8]) -> Hit {
    Hit {
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        time,
        filter: 0,
        pattern: 0,
        user: None,
        port: None,
        evidence: Evidence::Proven,
        effect: Effect::Count(1),
        repeat: 1,
        line: line.into(),
    }
}

pub(super) fn clock() -> Clock {
    Clock { now: Timestamp::now(), zone: jiff::tz::TimeZone::UTC }
}

pub(super) fn spec(place: Place, recorder: &Arc<Recorder>) -> Spec {
    Spec {
        index: 0,
        place,
        scan: Arc::clone(recorder) as Arc<dyn Scan>,
        resume: HashMap::new(),
        since: Timestamp::EPOCH,
        refill: false,
        zone: jiff::tz::TimeZone::UTC,
        start: true,
    }
}

/// Takes nothing: all is queued.
pub(super) struct Nobody;

impl Taker for Nobody {
    fn take(&self, batch: Batch) -> Option<Batch> {
        Some(batch)
    }
}

/// A source at work in its thread, and what it has reported.
pub(super) struct Harness {
    bell: Arc<Bell>,
    thread: Option<JoinHandle<()>>,
    reports: Receiver<Report>,
    /// Where each log is.
    pub(super) positions: HashMap<Arc<str>, Position>,
    /// Sums over all batches.
    pub(super) lines: u64,
    pub(super) warm_lines: u64,
    /// The lines that were reported and are not warm.
    pub(super) seen: Vec<String>,
    pub(super) cut: u64,
    pub(super) lost: u64,
    pub(super) lost_texts: Vec<String>,
    pub(super) troubles: Vec<String>,
    pub(super) recovered: u64,
}

impl Harness {
    pub(super) fn start(run: impl FnOnce(Outlet) -> Result<(), Stopped> + Send + 'static) -> Harness {
        Harness::with_room(64, run)
    }

    /// `room`: how many reports the channel holds.
    pub(super) fn with_room(room: usize, run: impl FnOnce(Outlet) -> Result<(), Stopped> + Send + 'static) -> Harness {
        let (sender, reports) = channel(room);
        let bell = Arc::new(Bell::new().unwrap());
        let outlet = Outlet::new(0, Inbox::new(sender, Weak::<Nobody>::new()), Arc::clone(&bell));
        let thread = Some(std::thread::spawn(move || drop(run(outlet))));
        Harness {
            bell,
            thread,
            reports,
            positions: HashMap::new(),
            lines: 0,
            warm_lines: 0,
            seen: Vec::new(),
            cut: 0,
            lost: 0,
            lost_texts: Vec::new(),
            troubles: Vec::new(),
            recovered: 0,
        }
    }

    /// The next report, noted; `None` when there is none before the deadline.
    fn next(&mut self, deadline: Instant) -> Option<Report> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let next = async { tokio::time::timeout_at(deadline.into(), self.reports.recv()).await };
        let report = runtime.block_on(next).ok().flatten()?;
        self.note(&report);
        Some(report)
    }

    fn note(&mut self, report: &Report) {
        match report {
            Report::Batch(batch) => {
                self.lines += batch.lines;
                self.warm_lines += if batch.warm { batch.lines } else { 0 };
                if !batch.warm {
                    self.seen.extend(batch.hits.iter().map(|hit| String::from_utf8_lossy(&hit.line).into_owned()));
                }
                if let Some(position) = &batch.position {
                    self.positions.insert(Arc::clone(&batch.log), position.clone());
                }
            }
            Report::Cut { lines, .. } => self.cut += lines,
            Report::Lost { lines, text, .. } => {
                self.lost += lines;
                self.lost_texts.push(text.clone());
            }
            Report::Trouble { text, .. } => self.troubles.push(text.clone()),
            Report::Recovered { .. } => self.recovered += 1,
            Report::Suppressed { .. } | Report::CaughtUp { .. } | Report::Ended { .. } => {}
        }
    }

    /// Takes reports until one is the one that is awaited.
    #[track_caller]
    pub(super) fn await_report(&mut self, what: &str, is_it: impl Fn(&Report) -> bool) -> Report {
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self.next(deadline) {
                Some(report) if is_it(&report) => return report,
                Some(_) => {}
                None => panic!("{what} was awaited; troubles: {:?}", self.troubles),
            }
        }
    }

    #[track_caller]
    pub(super) fn await_caught_up(&mut self) {
        self.await_report("being caught up", |report| matches!(report, Report::CaughtUp { .. }));
    }

    /// Takes reports until the condition holds.
    #[track_caller]
    pub(super) fn await_until(&mut self, what: &str, holds: impl Fn(&Harness) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !holds(self) {
            assert!(self.next(deadline).is_some(), "{what} was awaited; troubles: {:?}", self.troubles);
        }
    }

    /// Stops the source, takes the reports that are left, and gives where every log is.
    pub(super) fn stop(&mut self) -> HashMap<Arc<str>, Position> {
        let thread = self.thread.take().expect("a source is stopped once");
        self.bell.stop();
        thread.thread().unpark();
        thread.join().unwrap();
        while let Ok(report) = self.reports.try_recv() {
            self.note(&report);
        }
        self.positions.clone()
    }
}

/// A generator of numbers for tests: xorshift, the same for the same seed.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}
