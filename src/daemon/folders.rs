//! Wakes the loop when something happens in the folders of files that people edit. Only a hint: what has changed, the
//! files themselves tell.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

/// Watched folders. Where they cannot be watched nothing wakes, and the files are looked at now and then all the same.
pub(super) struct Folders {
    /// `None` where there is nothing to watch. Watching ends with it.
    _watcher: Option<RecommendedWatcher>,
}

impl Folders {
    /// Watches the folders of these files, as far as they exist. `waker` is of a channel that holds one.
    pub(super) fn of(files: &[PathBuf], waker: &mpsc::Sender<()>) -> Folders {
        let waker = waker.clone();
        let folders: BTreeSet<&Path> = files.iter().filter_map(|file| file.parent()).filter(|it| it.is_dir()).collect();
        let ring = move |_event| {
            // One waiting wake-up stands for all that happen meanwhile.
            let _waiting = waker.try_send(());
        };
        let watcher = if folders.is_empty() { None } else { notify::recommended_watcher(ring).ok() };
        let watcher = watcher.map(|mut watcher| {
            for folder in folders {
                // What cannot be watched is looked at now and then.
                let _unwatched = watcher.watch(folder, RecursiveMode::NonRecursive);
            }
            watcher
        });
        Folders { _watcher: watcher }
    }
}
