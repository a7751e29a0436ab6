//! What a soak counted, and what of it is a fault.

use std::fmt::Write;
use std::time::{Duration, Instant};

/// A life of the daemon that is shorter than this does not say whether memory grows.
const LONG_ENOUGH: Duration = Duration::from_secs(120);
/// Growth that is none, in KiB and in per cent: the store's cache (32 MiB) and the history of bans fill for half an hour
/// up to their bounds. It is the same for every length, so that a leak shows the more the longer a soak takes.
const SLACK: u64 = 12 * 1024;
const SLACK_PERCENT: u64 = 5;
/// Descriptors that come and go.
const SPARE: u64 = 4;

/// What the daemon's processes held at a moment of its life.
#[derive(Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) at: Instant,
    pub(crate) kib: u64,
    pub(crate) descriptors: u64,
}

#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) lines: u64,
    pub(crate) offenders: u64,
    pub(crate) seen: u64,
    pub(crate) acknowledged: u64,
    pub(crate) restarts: u64,
    pub(crate) reloads: u64,
    pub(crate) flushes: u64,
    pub(crate) rotations: u64,
    pub(crate) in_ledger: usize,
    pub(crate) in_kernel: usize,
    pub(crate) lost: Vec<String>,
    pub(crate) wrong: Vec<String>,
    /// What is wrong at the end, in words.
    pub(crate) unsettled: Vec<String>,
    pub(crate) lives: Vec<Vec<Sample>>,
}

impl Tally {
    fn longest_life(&self) -> &[Sample] {
        let length = |life: &&Vec<Sample>| life.len();
        self.lives.iter().max_by_key(length).map_or(&[], Vec::as_slice)
    }

    /// What there was in the second and in the last quarter of the longest life, where that was long enough. The median,
    /// because a program that is being started is a second daemon for a moment.
    fn growth(&self, of: impl Fn(&Sample) -> u64) -> Option<(u64, u64)> {
        let life = self.longest_life();
        let (first, last) = (life.first()?, life.last()?);
        let quarter = life.len() / 4;
        let median = |samples: &[Sample]| {
            let mut figures: Vec<u64> = samples.iter().map(&of).collect();
            figures.sort_unstable();
            figures[figures.len() / 2]
        };
        let long = last.at - first.at >= LONG_ENOUGH && quarter > 0;
        long.then(|| (median(&life[quarter..2 * quarter]), median(&life[3 * quarter..])))
    }

    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = self.unsettled.clone();
        faults.extend(self.lost.iter().map(|what| format!("lost: {what}")));
        faults.extend(self.wrong.iter().map(|what| format!("wrong: {what}")));
        if self.in_ledger != self.in_kernel {
            faults.push(format!("the ledger has {} entries and the kernel {}", self.in_ledger, self.in_kernel));
        }
        if let Some((before, after)) = self.growth(Sample::kib).filter(|(before, after)| grew(*before, *after, SLACK)) {
            faults.push(format!("memory grew from {before} KiB to {after} KiB"));
        }
        let descriptors = self.growth(Sample::descriptors);
        if let Some((before, after)) = descriptors.filter(|(before, after)| grew(*before, *after, SPARE)) {
            faults.push(format!("{before} descriptors have become {after}"));
        }
        faults
    }

    /// A figure in the longest life.
    fn figure(&self, of: impl Fn(&Sample) -> u64) -> String {
        if let Some((before, after)) = self.growth(&of) {
            return format!("{before}, later {after}");
        }
        let last = self.longest_life().last().map_or(0, of);
        format!("{last}; too short to say more")
    }
}

impl Sample {
    fn kib(&self) -> u64 {
        self.kib
    }

    fn descriptors(&self) -> u64 {
        self.descriptors
    }
}

fn grew(before: u64, after: u64, slack: u64) -> bool {
    after > before + slack + before * SLACK_PERCENT / 100
}

/// A row of the table: its name, and what stands there for a tally.
type Row = (&'static str, fn(&Tally) -> String);

/// One column per tally.
pub(crate) fn table(names: &[&str], tallies: &[Tally]) -> String {
    let rows: [Row; 14] = [
        ("lines written", |tally| tally.lines.to_string()),
        ("offenders among them", |tally| tally.offenders.to_string()),
        ("of these seen banned", |tally| tally.seen.to_string()),
        ("bans and unbans by hand", |tally| tally.acknowledged.to_string()),
        ("lost", |tally| tally.lost.len().to_string()),
        ("wrong", |tally| tally.wrong.len().to_string()),
        ("restarts", |tally| tally.restarts.to_string()),
        ("reloads", |tally| tally.reloads.to_string()),
        ("flushes", |tally| tally.flushes.to_string()),
        ("rotations", |tally| tally.rotations.to_string()),
        ("memory, KiB", |tally| tally.figure(Sample::kib)),
        ("descriptors", |tally| tally.figure(Sample::descriptors)),
        ("entries in the ledger", |tally| tally.in_ledger.to_string()),
        ("entries in the kernel", |tally| tally.in_kernel.to_string()),
    ];
    let mut table = format!("\n{:<26}", "");
    for name in names {
        write!(table, "{name:<40}").expect("text can be written");
    }
    for (name, of) in rows {
        write!(table, "\n{name:<26}").expect("text can be written");
        for tally in tallies {
            write!(table, "{:<40}", of(tally)).expect("text can be written");
        }
    }
    table + "\n\n"
}
