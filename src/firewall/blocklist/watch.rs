//! Whether a file changed since one looked last: also when an editor replaced it, and when it appeared or vanished.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// A file that is looked at again and again.
#[derive(Debug)]
pub(crate) struct Watch {
    path: PathBuf,
    /// Whether its content was ever taken, and as what; a file that is not there has no state.
    is_taken: bool,
    taken: Option<State>,
    /// As it was at the last look, and since when it was seen so.
    latest: Option<State>,
    since: Instant,
}

/// What tells one content of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Watch {
    /// Nothing was taken yet: whatever is there, or not, has changed.
    pub(crate) fn new(path: &Path) -> Watch {
        Watch { path: path.to_owned(), is_taken: false, taken: None, latest: None, since: Instant::now() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// How long the file has been as it is, where that is not what was taken: who writes one may not be done. A symbolic link
    /// is followed.
    pub(crate) fn changed(&mut self) -> Option<Duration> {
        let now = State::of(&self.path);
        if now != self.latest {
            self.latest = now;
            self.since = Instant::now();
        }
        let still = self.since.elapsed().max(now.map_or(Duration::ZERO, State::age));
        (!self.is_taken || now != self.taken).then_some(still)
    }

    /// What it was at the last look is known from now on.
    pub(crate) fn take(&mut self) {
        self.is_taken = true;
        self.taken = self.latest;
    }
}

impl State {
    fn of(path: &Path) -> Option<State> {
        let file = fs::metadata(path).ok()?;
        Some(State {
            device: file.dev(),
            inode: file.ino(),
            size: file.size(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        })
    }

    /// By the clock, since anything of it changed; nothing where that is yet to come.
    fn age(self) -> Duration {
        let (seconds, nanoseconds) = self.changed;
        let (Ok(seconds), Ok(nanoseconds)) = (u64::try_from(seconds), u32::try_from(nanoseconds)) else {
            return Duration::ZERO;
        };
        let changed = SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanoseconds));
        changed.and_then(|changed| changed.elapsed().ok()).unwrap_or_default()
    }
}
