//! Wakes the reader when something happens in the directories of its logs. Only hints: what is true, a look at the
//! files says, at least once a second. Directories are watched, not files: a file's watch would follow its inode away.
//!
//! The reader waits for inotify itself, because each thread in between costs a line some 50 us before it is read.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use super::reader::Identity;
use crate::sources::outlet::Bell;

/// Most paths that are kept; beyond it, everything is looked at.
const MAX_HINTS: usize = 1024;

/// What the events that are taken at a time are read into: one is 16 bytes and a name of 256 at most.
const BUFFER: usize = 4096;

/// A name came or went.
const NAMES: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF);

/// Not that a file is opened or closed: most often it is we who do that.
const WATCHED: WatchFlags = NAMES.union(WatchFlags::MODIFY).union(WatchFlags::ATTRIB).union(WatchFlags::ONLYDIR);

/// A file was written, cut or linked: everything else that the kernel tells is about names, or that it could not tell.
const WRITTEN: ReadFlags = ReadFlags::MODIFY.union(ReadFlags::ATTRIB).union(ReadFlags::ISDIR);

/// What happened since the last time.
#[derive(Debug, Default)]
pub(super) struct Hints {
    /// Files that were written.
    pub(super) paths: HashSet<PathBuf>,
    /// Names came or went: there may be new logs, and any log may be another file now.
    pub(super) names: bool,
}

impl Hints {
    pub(super) fn is_empty(&self) -> bool {
        !self.names && self.paths.is_empty()
    }
}

pub(super) struct Watch {
    /// `None` where inotify's limits are reached.
    inotify: Option<OwnedFd>,
    bell: Arc<Bell>,
    watched: HashMap<PathBuf, (Identity, Descriptor)>,
    /// Files whose writes matter.
    interest: HashSet<PathBuf>,
    hints: Hints,
}

/// The kernel's number of a watch. Directories that are the same one, by a bind mount say, share it.
type Descriptor = i32;

impl Watch {
    /// Without inotify there are no hints, and the log is read once a second.
    pub(super) fn new(bell: &Arc<Bell>) -> Watch {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok();
        let (watched, interest, hints) = (HashMap::new(), HashSet::new(), Hints::default());
        Watch { inotify, bell: Arc::clone(bell), watched, interest, hints }
    }

    /// What is readable when there are hints, if there are any at all.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.inotify.as_ref().map(AsFd::as_fd)
    }

    /// Never waits.
    pub(super) fn take(&mut self) -> Hints {
        let mut hints = std::mem::take(&mut self.hints);
        if let Some(inotify) = &self.inotify {
            let mut buffer = [MaybeUninit::uninit(); BUFFER];
            let mut events = inotify::Reader::new(inotify, &mut buffer);
            loop {
                match events.next() {
                    Ok(event) => self.note(&event, &mut hints),
                    Err(Errno::INTR) => continue,
                    Err(Errno::AGAIN) => break,
                    // What is not taken is not known: everything is looked at.
                    Err(_) => {
                        hints.names = true;
                        break;
                    }
                }
                // What came since wakes again: the log is to be read first.
                if events.is_buffer_empty() {
                    break;
                }
            }
        }
        hints
    }

    pub(super) fn set_interest(&mut self, interest: HashSet<PathBuf>) {
        self.interest = interest;
    }

    /// Watches these directories and no others; those that cannot be watched are returned, with the reason.
    pub(super) fn set_directories(&mut self, wanted: &HashSet<PathBuf>) -> Vec<(PathBuf, String)> {
        let Some(inotify) = &self.inotify else {
            let reason = "inotify is not available".to_owned();
            return wanted.iter().map(|directory| (directory.clone(), reason.clone())).collect();
        };
        let keeps = |directory: &Path, identity| wanted.contains(directory) && identity_of(directory) == Some(identity);
        let gone = self.watched.extract_if(|directory, (identity, _)| !keeps(directory, *identity));
        let gone: HashSet<Descriptor> = gone.map(|(_, (_, descriptor))| descriptor).collect();
        for descriptor in gone {
            if !self.watched.values().any(|(_, kept)| *kept == descriptor) {
                // The watch of a directory that was deleted is gone already.
                let _gone = inotify::remove_watch(inotify, descriptor);
            }
        }
        let mut failed = Vec::new();
        for directory in wanted {
            if self.watched.contains_key(directory) {
                continue;
            }
            let Some(identity) = identity_of(directory) else { continue };
            match inotify::add_watch(inotify, directory, WATCHED) {
                Ok(descriptor) => {
                    self.watched.insert(directory.clone(), (identity, descriptor));
                    // What happened before the watch was set gave no hint.
                    self.hints.names = true;
                    self.bell.ring();
                }
                Err(error) => failed.push((directory.clone(), error.to_string())),
            }
        }
        failed
    }

    /// Keeps what matters of an event.
    fn note(&self, event: &inotify::Event<'_>, hints: &mut Hints) {
        let Some(name) = event.file_name().filter(|_| WRITTEN.contains(event.events())) else {
            // A watch that has ended was taken out by us, or its directory's end was told before.
            hints.names |= !event.events().contains(ReadFlags::IGNORED);
            return;
        };
        let name = OsStr::from_bytes(name.to_bytes());
        let directories = self.watched.iter().filter(|(_, (_, descriptor))| *descriptor == event.wd());
        let paths = directories.map(|(directory, _)| directory.join(name));
        hints.paths.extend(paths.filter(|path| self.interest.contains(path)));
        hints.names |= hints.paths.len() > MAX_HINTS;
    }
}

fn identity_of(path: &Path) -> Option<Identity> {
    std::fs::metadata(path).ok().map(|metadata| Identity::of(&metadata))
}
