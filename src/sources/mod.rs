//! Log files, the kernel's ring buffer, the journal and standard input, each read by its own thread, which also
//! runs the filters. Out: batches of hits with the position that they bring the source to. Only `sources` reads logs.

use serde::{Deserialize, Serialize};

use crate::filters::Hit;
use crate::time::Timestamp;

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
    Journal { cursor: String, time: Timestamp },
}

/// A source that resumes gets, per log (file path, `kmsg`, `journal`), both of these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Resume {
    /// Everything up to here has had its consequences: never decide on it again.
    pub(crate) applied: Position,
    /// Reading starts here, at or before `applied`: lines in between only refill the windows (`Batch::warm`).
    pub(crate) refill: Position,
}

/// What a source's thread hands over: the hits of one block of one log.
#[derive(Debug)]
pub(crate) struct Batch {
    /// Index of the source in the daemon's list.
    pub(crate) source: usize,
    /// Which log of the source: a file path, or `kmsg`, `journal`, `stdin`.
    pub(crate) log: std::sync::Arc<str>,
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
        log: std::sync::Arc<str>,
        text: String,
    },
    /// The trouble with this log is over.
    Recovered {
        source: usize,
        log: std::sync::Arc<str>,
    },
    /// Lines that are gone for good: a kmsg overrun, a rotated file that vanished before it was read.
    Lost {
        source: usize,
        log: std::sync::Arc<str>,
        lines: u64,
        text: String,
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
