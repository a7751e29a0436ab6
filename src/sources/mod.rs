//! Log files, the kernel's ring buffer, the journal and standard input, each read by its own thread, which also
//! runs the filters. Out: batches of hits with the position that they bring the source to. Only `sources` reads logs.

mod choice;
pub(crate) mod crew;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod hostile;
mod journal;
mod kmsg;
mod lines;
mod outlet;
mod stdin;
mod tail;
#[cfg(test)]
mod tests;
pub(crate) mod writers;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

pub(crate) use crate::filters::Scanned;
use crate::filters::{Clock, Hit, Matcher, Memory, Record, Suppressed};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

pub(crate) use choice::{Choice, KMSG, journalctl};
pub(crate) use kmsg::keep_open as keep_kernel_log_open;
use outlet::{Bell, Outlet};
pub(crate) use outlet::{Inbox, Taker};
use writers::forgers;

/// Longest line that is read, in bytes without its newline; the rest of a longer one is passed over.
pub(crate) const MAX_LINE: usize = 16 * 1024;

/// How much of a log is read, filtered and reported at once, in bytes.
const BLOCK: usize = 256 * 1024;

/// What a source does with its lines. Built once, shared, immutable.
pub(crate) trait Scan: Send + Sync {
    /// Whole lines, each ending in a newline except perhaps the last, with the memory of their log. Appends hits.
    fn scan(&self, block: &[u8], clock: &Clock, memory: &mut Memory, hits: &mut Vec<Hit>) -> Scanned;
    /// One record without envelope. Appends hits.
    fn record(&self, record: &Record<'_>, memory: &mut Memory, hits: &mut Vec<Hit>);
    /// The time stamp of a line, for finding where to start.
    fn line_time(&self, line: &[u8], clock: &Clock) -> Option<Timestamp>;
}

impl Scan for Matcher {
    fn scan(&self, block: &[u8], clock: &Clock, memory: &mut Memory, hits: &mut Vec<Hit>) -> Scanned {
        Matcher::scan(self, block, clock, memory, hits)
    }

    fn record(&self, record: &Record<'_>, memory: &mut Memory, hits: &mut Vec<Hit>) {
        Matcher::record(self, record, memory, hits);
    }

    fn line_time(&self, line: &[u8], clock: &Clock) -> Option<Timestamp> {
        Matcher::line_time(self, line, clock)
    }
}

/// One source, ready to run.
pub(crate) struct Spec {
    /// Index of the source in the daemon's list; every report carries it.
    pub(crate) index: usize,
    pub(crate) place: Place,
    pub(crate) scan: Arc<dyn Scan>,
    /// Where to go on, per log (file path, `kmsg`, `journal`): what is before has had its consequences.
    pub(crate) resume: HashMap<Arc<str>, Position>,
    /// Lines before this time matter to no window. A log without a position is read from here on; one with a position
    /// as well when windows are to be refilled, and what is before the position then decides nothing (`Batch::warm`).
    pub(crate) since: Timestamp,
    /// Whether the windows are empty and are to be refilled.
    pub(crate) refill: bool,
    /// The zone of stamps that name none.
    pub(crate) zone: jiff::tz::TimeZone,
    /// Whether a file without a position that is there at the start begins at `since`; if not, at its beginning,
    /// like a file that appears later.
    pub(crate) start: bool,
}

/// This process has one standard input.
static UNREAD: Mutex<stdin::Unread> = Mutex::new(stdin::Unread::new());

/// Starts the thread of a source. It ends when it is stopped, or when nobody receives its reports any more.
pub(crate) fn spawn(spec: Spec, inbox: Inbox) -> io::Result<Running> {
    let bell = Arc::new(Bell::new()?);
    let outlet = Outlet::new(spec.index, inbox, Arc::clone(&bell));
    let thread = std::thread::Builder::new().name(format!("source-{}", spec.index)).spawn(move || {
        let place = spec.place.clone();
        // The thread ends for one reason only: it was asked to, or nobody listens.
        let _ended = match place {
            Place::Files(patterns) => tail::run(spec, &patterns, outlet),
            Place::Kmsg => kmsg::run(spec, outlet),
            Place::Journal { units, identifiers, kernel } => {
                journal::run(spec, &journal::matches(&units, &identifiers, kernel), outlet)
            }
            Place::Stdin => stdin::run(&spec, outlet, io::stdin(), &UNREAD),
        };
    })?;
    Ok(Running { bell, thread })
}

/// A source at work.
pub(crate) struct Running {
    bell: Arc<Bell>,
    thread: JoinHandle<()>,
}

impl Running {
    /// Asks the thread to end, wherever it waits, and waits until it has.
    pub(crate) fn stop(self) {
        self.bell.stop();
        self.thread.thread().unpark();
        // A panic of the thread was shown by the panic hook; there is nothing to add here.
        let _panicked = self.thread.join();
    }
}

/// Where lines come from, as a jail names it, with `auto` and `kernel` already resolved.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    /// Globs of log files.
    Files(Vec<String>),
    /// `/dev/kmsg`.
    Kmsg,
    /// The journal: entries of these units, or with these syslog identifiers, or of the kernel.
    Journal {
        units: Vec<String>,
        identifiers: Vec<String>,
        kernel: bool,
    },
    Stdin,
}

impl Place {
    /// Most files of one place that are looked at.
    const LOOKED_AT: usize = 1000;

    /// The logs of this place that people may write, and who.
    pub(crate) fn forgeable(&self) -> Vec<(PathBuf, String)> {
        let Place::Files(patterns) = self else { return Vec::new() };
        let files = patterns.iter().filter_map(|pattern| glob::glob(pattern).ok()).flatten().flatten();
        files.take(Place::LOOKED_AT).filter_map(|path| forgers(&path).map(|who| (path, who))).collect()
    }
}

/// The same text after every restart: positions are kept under it.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Files(patterns) => f.write_str(&patterns.join(", ")),
            Place::Kmsg => f.write_str(choice::KMSG),
            Place::Journal { kernel: true, .. } => f.write_str("journal of the kernel"),
            Place::Journal { units, identifiers, .. } => {
                let names: Vec<&str> = units.iter().chain(identifiers).map(String::as_str).collect();
                write!(f, "journal of {}", names.join(", "))
            }
            Place::Stdin => f.write_str("standard input"),
        }
    }
}

/// How far a log was read. One per file, or one per source that is not a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Position {
    /// `offset` bytes of the file with this identity were read; `tail` is a hash of the last bytes before it, by which
    /// a truncated and regrown file, or a reused inode, is told from the one that was read.
    File { device: u64, inode: u64, offset: u64, tail: u64 },
    /// The next sequence number of `/dev/kmsg`, and the boot it belongs to.
    Kmsg { boot: String, sequence: u64 },
    /// The cursor of the last journal entry read, and that entry's time.
    Journal {
        cursor: String,
        /// By it, entries are told from later ones: a second cut short would count them twice.
        #[serde(serialize_with = "crate::time::exactly")]
        time: Timestamp,
    },
}

/// What a source's thread hands over: the hits of one block of one log.
#[derive(Debug)]
pub(crate) struct Batch {
    /// Index of the source in the daemon's list.
    pub(crate) source: usize,
    /// Which log of the source: a file path, or `kmsg`, `journal`, `stdin`.
    pub(crate) log: Arc<str>,
    pub(crate) hits: Vec<Hit>,
    /// Where this block ends. `None` where nothing can be resumed (standard input).
    pub(crate) position: Option<Position>,
    /// These lines were applied before the last restart: they refill windows and decide nothing.
    pub(crate) warm: bool,
    pub(crate) lines: u64,
    pub(crate) bytes: u64,
    /// The latest log time in the block.
    pub(crate) latest: Option<Timestamp>,
}

/// What a source's thread reports.
#[derive(Debug)]
pub(crate) enum Report {
    Batch(Batch),
    /// Something is wrong and is being retried; said once per change of text. It names the remedy.
    Trouble {
        source: usize,
        log: Arc<str>,
        text: String,
    },
    /// The trouble with this log is over.
    Recovered {
        source: usize,
        log: Arc<str>,
    },
    /// Lines that are gone for good: a kmsg overrun, a rotated file that vanished before it was read.
    Lost {
        source: usize,
        log: Arc<str>,
        lines: u64,
        text: String,
    },
    /// The log itself says that lines were left out of it.
    Suppressed {
        source: usize,
        log: Arc<str>,
        suppressed: Suppressed,
    },
    /// A line was longer than 16 KiB and was cut.
    Cut {
        source: usize,
        lines: u64,
    },
    /// Everything that was there at the start has been read: from here on the source is live.
    CaughtUp {
        source: usize,
    },
    /// Nothing will come any more (standard input ended).
    Ended {
        source: usize,
    },
}
