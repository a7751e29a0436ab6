//! Whether a file changed since one looked last: also when an editor replaced it, and when it appeared or vanished.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A file that is looked at again and again.
#[derive(Debug)]
pub(crate) struct Watch {
    path: PathBuf,
    seen: Option<State>,
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
    /// Nothing has been seen yet: the first look says that an existing file changed.
    pub(crate) fn new(path: &Path) -> Watch {
        Watch { path: path.to_owned(), seen: None }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file is another one than at the last look. A symbolic link is followed.
    pub(crate) fn changed(&mut self) -> bool {
        let now = fs::metadata(&self.path).ok().map(|file| State {
            device: file.dev(),
            inode: file.ino(),
            size: file.size(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        });
        let changed = now != self.seen;
        self.seen = now;
        changed
    }
}
