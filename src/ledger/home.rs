//! The state directory: made, locked against a second daemon, with a place for everything in it.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::files::{make_directory, sync_directory_of};
use crate::time::Timestamp;

/// Why the ledger cannot be opened. None of these is mended by setting the ledger aside.
#[derive(Debug)]
pub(crate) enum LedgerError {
    /// The state directory, or a file in it, cannot be made or used.
    Directory { path: PathBuf, why: io::Error },
    /// Another daemon uses the state directory.
    Locked { path: PathBuf, pid: Option<u32> },
    /// The ledger was written by a newer Banward.
    Newer { path: PathBuf, found: u32, known: u32 },
    /// The store can neither be used nor replaced.
    Unusable { path: PathBuf, why: String },
}

impl fmt::Display for LedgerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LedgerError::Directory { path, why } => {
                write!(f, "The ledger cannot be kept in {}: {why}. ", path.display())?;
                f.write_str(match why.kind() {
                    io::ErrorKind::PermissionDenied => {
                        "Run banward as a user who may write there, or set daemon.state_dir to a directory that it may."
                    }
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "Free space on that file system.",
                    io::ErrorKind::ReadOnlyFilesystem => {
                        "Mount that file system writable, or set daemon.state_dir to another directory."
                    }
                    _ => "Mend that, or set daemon.state_dir to another directory.",
                })
            }
            LedgerError::Locked { path, pid } => {
                match pid {
                    Some(pid) => write!(f, "Another banward, process {pid},")?,
                    None => f.write_str("Another banward")?,
                }
                write!(f, " uses {} already; stop it, or give this one another daemon.state_dir.", path.display())
            }
            LedgerError::Newer { path, found, known } => write!(
                f,
                "The ledger in {} was written by a newer banward (format {found}, this one knows {known}); install that \
                 version again, or move the directory away to start anew.",
                path.display()
            ),
            LedgerError::Unusable { path, why } => write!(
                f,
                "The ledger in {} cannot be used: {why}. Check that file system and its disk, or set daemon.state_dir to \
                 another directory.",
                path.display()
            ),
        }
    }
}

impl std::error::Error for LedgerError {}

/// How often, and how far apart, a lock that is taken is tried again. A program that a daemon was just starting when it
/// ended holds the daemon's lock until it is itself.
const LOCK_TRIES: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// A state directory that belongs to this process as long as this value lives.
#[derive(Debug)]
pub(crate) struct Home {
    path: PathBuf,
    _lock: File,
}

impl Home {
    pub(crate) fn take(path: &Path) -> Result<Home, LedgerError> {
        let trouble = |why| LedgerError::Directory { path: path.to_owned(), why };
        make_directory(path).map_err(trouble)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut lock = options.open(path.join("lock")).map_err(trouble)?;
        let mut tries = LOCK_TRIES;
        while let Err(error) = flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            if error != rustix::io::Errno::WOULDBLOCK {
                return Err(trouble(error.into()));
            }
            tries -= 1;
            if tries == 0 {
                return Err(LedgerError::Locked { path: path.to_owned(), pid: pid_in(&lock) });
            }
            std::thread::sleep(LOCK_PAUSE);
        }
        lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id())).map_err(trouble)?;
        Ok(Home { path: path.to_owned(), _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn store(&self) -> PathBuf {
        self.path.join("ledger")
    }

    pub(super) fn lists(&self) -> PathBuf {
        self.path.join("lists")
    }

    /// Moves the store to a name that says what it is and since when.
    pub(super) fn set_aside(&self, now: Timestamp) -> Result<PathBuf, LedgerError> {
        let stamp = now.to_string().replace(':', "-");
        let names = (1..100).map(|number| match number {
            1 => format!("ledger.damaged-{stamp}"),
            _ => format!("ledger.damaged-{stamp}-{number}"),
        });
        let free = names.map(|name| self.path.join(name)).find(|path| fs::symlink_metadata(path).is_err());
        let aside = free.unwrap_or_else(|| self.path.join("ledger.damaged"));
        let moved = fs::rename(self.store(), &aside).and_then(|()| sync_directory_of(&aside));
        moved.map_err(|why| LedgerError::Directory { path: self.path.clone(), why })?;
        Ok(aside)
    }
}

/// The process that holds the lock, as it wrote itself.
fn pid_in(lock: &File) -> Option<u32> {
    let mut text = String::new();
    lock.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
