//! Wakes the reader when something happens in the directories of its logs. Only hints: what is true, a look at the
//! files says, at least once a second. Directories are watched, not files: a file's watch would follow its inode away.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use notify::event::{EventKind, ModifyKind};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};

use super::reader::Identity;
use crate::sources::outlet::Bell;

/// Most paths that are kept; beyond it, everything is looked at.
const MAX_HINTS: usize = 1024;

/// What happened since the last time.
#[derive(Debug, Default)]
pub(super) struct Hints {
    /// Files that were written.
    pub(super) paths: HashSet<PathBuf>,
    /// Names came or went: there may be new logs, and any log may be another file now.
    pub(super) names: bool,
}

#[derive(Debug, Default)]
struct State {
    hints: Hints,
    /// Files whose writes matter.
    interest: HashSet<PathBuf>,
}

pub(super) struct Watch {
    watcher: Option<RecommendedWatcher>,
    state: Arc<Mutex<State>>,
    bell: Arc<Bell>,
    watched: HashMap<PathBuf, Identity>,
}

impl Watch {
    /// Without a watcher (inotify's limits are reached) there are no hints, and the log is read once a second.
    pub(super) fn new(bell: &Arc<Bell>) -> Watch {
        let state = Arc::new(Mutex::new(State::default()));
        let (callback_state, callback_bell) = (Arc::clone(&state), Arc::clone(bell));
        let callback = move |event: notify::Result<Event>| {
            if lock(&callback_state).note(event) {
                callback_bell.ring();
            }
        };
        let watcher = notify::recommended_watcher(callback).ok();
        Watch { watcher, state, bell: Arc::clone(bell), watched: HashMap::new() }
    }

    /// Whether there are hints at all.
    pub(super) fn is_on(&self) -> bool {
        self.watcher.is_some()
    }

    pub(super) fn take(&self) -> Hints {
        std::mem::take(&mut lock(&self.state).hints)
    }

    pub(super) fn set_interest(&self, interest: HashSet<PathBuf>) {
        lock(&self.state).interest = interest;
    }

    /// Watches these directories and no others; those that cannot be watched are returned, with the reason.
    pub(super) fn set_directories(&mut self, wanted: &HashSet<PathBuf>) -> Vec<(PathBuf, String)> {
        let Some(watcher) = &mut self.watcher else {
            let reason = "inotify is not available".to_owned();
            return wanted.iter().map(|directory| (directory.clone(), reason.clone())).collect();
        };
        self.watched.retain(|directory, identity| {
            let keep = wanted.contains(directory) && identity_of(directory) == Some(*identity);
            if !keep {
                // The watch of a directory that was deleted is gone already.
                let _gone = watcher.unwatch(directory);
            }
            keep
        });
        let mut failed = Vec::new();
        for directory in wanted {
            if self.watched.contains_key(directory) {
                continue;
            }
            let Some(identity) = identity_of(directory) else { continue };
            match watcher.watch(directory, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.watched.insert(directory.clone(), identity);
                    // What happened before the watch was set gave no hint.
                    lock(&self.state).hints.names = true;
                    self.bell.ring();
                }
                Err(error) => failed.push((directory.clone(), error.to_string())),
            }
        }
        failed
    }
}

impl State {
    /// Keeps what matters of an event; says whether anything did.
    fn note(&mut self, event: notify::Result<Event>) -> bool {
        let Ok(event) = event else {
            self.hints.names = true;
            return true;
        };
        match event.kind {
            // An overflow of the kernel's queue comes without a path.
            _ if event.need_rescan() || event.paths.is_empty() => self.hints.names = true,
            // Somebody, most often we, opened or closed a file.
            EventKind::Access(_) => return false,
            EventKind::Create(_) | EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)) => {
                self.hints.names = true;
            }
            _ => {
                let before = self.hints.paths.len();
                let matters = |path: &PathBuf| self.interest.contains(path);
                self.hints.paths.extend(event.paths.into_iter().filter(matters));
                self.hints.names |= self.hints.paths.len() > MAX_HINTS;
                return self.hints.paths.len() > before;
            }
        }
        true
    }
}

fn identity_of(path: &Path) -> Option<Identity> {
    std::fs::metadata(path).ok().map(|metadata| Identity::of(&metadata))
}

/// A panic of another thread under this lock leaves hints, which are always safe to use.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
