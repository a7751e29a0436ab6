//! The other names and generations of a log: where a file went that was renamed or copied away, which files came after
//! it, and which files that match a glob are only copies of one that is read already.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::reader::{HEAD, Identity, Mark, Reader};

/// Most entries of a directory that are looked at to find where a file went.
const MAX_SIBLINGS: usize = 4096;

/// How often the neighbours of a log are looked at anew because they are being renamed.
const MOST_LOOKS: u32 = 16;

/// Most files whose marks are remembered; beyond it, those that no log reads now are forgotten.
const MAX_MARKS: usize = 16_384;

/// What all logs of a source know of each other, so that no file is read twice under two names.
#[derive(Debug, Default)]
pub(super) struct Registry {
    marks: HashMap<Identity, Entry>,
    /// The first bytes, at most [`HEAD`], that were read of the file that each log reads now.
    heads: HashMap<PathBuf, Vec<u8>>,
}

#[derive(Debug)]
struct Entry {
    mark: Mark,
    /// The log that reads this file now.
    holder: Option<Arc<str>>,
}

impl Registry {
    /// How far a file was read, under whatever name.
    pub(super) fn mark(&self, identity: Identity) -> Option<Mark> {
        self.marks.get(&identity).map(|entry| entry.mark)
    }

    /// Whether `log` reads this file, or any log has read some of it. An inode may have been another file before.
    pub(super) fn has_read(&self, reader: &Reader, log: &Arc<str>) -> bool {
        self.marks.get(&reader.identity).is_some_and(|entry| {
            reader.agrees(entry.mark) && (entry.mark.offset > 0 || entry.holder.as_ref() == Some(log))
        })
    }

    /// Whether there is a log whose name this one's name extends.
    pub(super) fn extends_a_log(&self, path: &Path) -> bool {
        self.heads.keys().any(|original| extends(path, original))
    }

    pub(super) fn is_held_by_another(&self, identity: Identity, log: &Arc<str>) -> bool {
        let holder = self.marks.get(&identity).and_then(|entry| entry.holder.as_ref());
        holder.is_some_and(|holder| holder != log)
    }

    /// Notes how far a file was read before the start.
    pub(super) fn remember(&mut self, identity: Identity, mark: Mark) {
        self.marks.insert(identity, Entry { mark, holder: None });
    }

    /// Notes that `log` reads this file and is at `mark`. A file that another log holds stays with it.
    pub(super) fn hold(&mut self, identity: Identity, mark: Mark, log: &Arc<str>) {
        if self.marks.len() >= MAX_MARKS {
            self.marks.retain(|_, entry| entry.holder.is_some());
        }
        let entry = self.marks.entry(identity).or_insert(Entry { mark, holder: None });
        entry.mark = mark;
        entry.holder.get_or_insert_with(|| Arc::clone(log));
    }

    pub(super) fn release(&mut self, identity: Identity, log: &Arc<str>) {
        if let Some(entry) = self.marks.get_mut(&identity)
            && entry.holder.as_ref() == Some(log)
        {
            entry.holder = None;
        }
    }

    /// Sets the beginning of the file that a log reads now, of which the first `offset` bytes were read.
    pub(super) fn set_head(&mut self, path: &Path, mut head: Vec<u8>, offset: u64) {
        head.truncate(usize::try_from(offset).unwrap_or(HEAD));
        self.heads.insert(path.to_owned(), head);
    }

    /// Adds what was read at `offset`, if that is in the beginning of the file.
    pub(super) fn extend_head(&mut self, path: &Path, offset: u64, read: &[u8]) {
        if offset < HEAD as u64
            && let Some(head) = self.heads.get_mut(path)
            && offset == head.len() as u64
        {
            head.extend(read.iter().take(HEAD - head.len()));
        }
    }

    pub(super) fn forget(&mut self, path: &Path) {
        self.heads.remove(path);
    }

    /// Whether `path` is a copy, or the beginning of one, of a log in the same directory whose name it extends. Only
    /// such a file: two live logs may well begin with the same header.
    pub(super) fn is_copy(&self, path: &Path, head: &[u8]) -> bool {
        self.heads.iter().any(|(original, original_head)| {
            extends(path, original) && !original_head.is_empty() && begin_alike(head, original_head)
        })
    }
}

/// Whether a copy, which may still be in the making, can be one of a file that begins with `head`.
pub(super) fn begin_alike(copied: &[u8], head: &[u8]) -> bool {
    copied.is_empty() || !head.is_empty() && (head.starts_with(copied) || copied.starts_with(head))
}

/// Whether `path` is called like `original` with something after it: `auth.log.1`.
fn extends(path: &Path, original: &Path) -> bool {
    path.parent() == original.parent() && suffix(path, original).is_some_and(|suffix| !suffix.is_empty())
}

fn suffix<'a>(path: &'a Path, original: &Path) -> Option<&'a [u8]> {
    let original = original.file_name().map(OsStr::as_bytes)?;
    path.file_name().map(OsStr::as_bytes)?.strip_prefix(original)
}

/// The paths under which a log's neighbours are looked for: its own, and that of the file it links to.
pub(super) struct Names<'a>(pub(super) [&'a Path; 2]);

/// The file that holds what was read up to `mark`, among the neighbours: the one with the identity `wanted` where it
/// is there, else a copy, the newest where there are several. Never the file `not`.
pub(super) fn find(names: &Names, mark: Mark, wanted: Option<Identity>, not: Option<Identity>) -> Option<Reader> {
    if mark.offset == 0 && wanted.is_none() {
        return None;
    }
    let known = |reader: &Reader| Some(reader.identity) == wanted;
    // With nothing read there is nothing to compare, and only the very file will do.
    let comes_in_question = |reader: &Reader| mark.offset > 0 || known(reader);
    let has_it = |reader: &Reader| Some(reader.identity) != not && reader.agrees(mark);
    let candidates = names.open(|_| true, mark, |reader| comes_in_question(reader) && has_it(reader));
    candidates.into_iter().max_by_key(|reader| (known(reader), reader.born))
}

/// All generations of a log but the one that is called like it.
pub(super) fn generations_of(names: &Names) -> Vec<Reader> {
    names.open(|path| names.is_generation(path), Mark::BEGINNING, |_| true)
}

/// The generations of a log that came after `reader`, oldest first: by their last writing, for a file that is truncated
/// again and again may be older than all its copies.
///
/// Not the `current` one, and no copy of what that holds now.
pub(super) fn successors(
    names: &Names,
    reader: &Reader,
    current: Option<&Reader>,
    came_after: impl Fn(&Reader) -> bool,
) -> Vec<Reader> {
    let is_current = |other: &Reader| {
        // In this order: what a copy has that is being made just now, the file has too.
        let copied = other.head();
        let alike = |current: &Reader| other.identity == current.identity || begin_alike(&copied, &current.head());
        copied.is_empty() || current.is_some_and(alike)
    };
    let head = reader.head();
    let mut readers: Vec<Reader> = generations_of(names)
        .into_iter()
        .filter(|other| other.identity != reader.identity && came_after(other))
        .filter(|other| head.len() < HEAD || other.head() != head)
        .filter(|other| !is_current(other))
        .collect();
    readers.sort_by_key(|reader| reader.written);
    readers
}

impl Names<'_> {
    /// Whether this is what an older generation of a log is called: `auth.log.1`, `auth.log-20261121`. Not `.gz`, not `.bak`.
    pub(super) fn is_generation(&self, path: &Path) -> bool {
        self.0.iter().any(|name| {
            let Some([b'.' | b'-', number @ ..]) = suffix(path, name) else { return false };
            !number.is_empty() && number.iter().all(|byte| byte.is_ascii_digit() || *byte == b'-')
        })
    }

    /// Opens the neighbours that are wanted by name, each once, and keeps those that are wanted for what they are. A
    /// rotation gives one file the name of another: as long as names change while they are opened, a file may have been
    /// under neither name when that was looked at.
    fn open(&self, wanted: impl Fn(&Path) -> bool, mark: Mark, keep: impl Fn(&Reader) -> bool) -> Vec<Reader> {
        let look = || -> BTreeMap<PathBuf, Identity> {
            let identity = |path: &PathBuf| path.metadata().ok().map(|metadata| Identity::of(&metadata));
            let paths = self.neighbours().into_iter().filter(|path| wanted(path));
            paths.filter_map(|path| identity(&path).map(|identity| (path, identity))).collect()
        };
        let mut opened: Vec<Reader> = Vec::new();
        let mut there = look();
        for _ in 0..MOST_LOOKS {
            for reader in there.keys().filter_map(|path| Reader::open(path, mark).ok()) {
                if opened.iter().all(|other| other.identity != reader.identity) && keep(&reader) {
                    opened.push(reader);
                }
            }
            let now = look();
            if now == there {
                break;
            }
            there = now;
        }
        opened
    }

    /// The files beside the log whose names begin like its own up to the first dot: rotation renames `web.log` to
    /// `web.log.1` or to `web-20261121.log`.
    fn neighbours(&self) -> Vec<PathBuf> {
        let [path, real] = self.0;
        let mut found = neighbours_of(path);
        if real != path {
            found.extend(neighbours_of(real));
        }
        found
    }
}

fn neighbours_of(path: &Path) -> Vec<PathBuf> {
    let Some(name) = path.file_name().map(OsStr::as_bytes) else { return Vec::new() };
    let stem = name.split(|byte| *byte == b'.').next().unwrap_or(name);
    let Some(entries) = path.parent().and_then(|directory| directory.read_dir().ok()) else { return Vec::new() };
    let entries = entries.take(MAX_SIBLINGS).filter_map(Result::ok);
    entries.filter(|entry| entry.file_name().as_bytes().starts_with(stem)).map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use super::*;

    #[test]
    fn no_generation_is_missed_while_all_of_them_are_renamed() {
        const COUNT: usize = 30;
        let folder = tempfile::tempdir().unwrap();
        let name = |number: usize| folder.path().join(format!("a.log.{number}"));
        (0..COUNT).for_each(|number| std::fs::write(name(number), "").unwrap());
        let (path, over) = (folder.path().join("a.log"), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0.. {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    for number in (round..round + COUNT).rev() {
                        std::fs::rename(name(number), name(number + 1)).unwrap();
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
            let missing = (0..500).filter(|_| generations_of(&Names([&path; 2])).len() != COUNT).count();
            over.store(true, Ordering::Relaxed);
            assert_eq!(missing, 0);
        });
    }
}
