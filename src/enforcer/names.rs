//! The names that our chain has had, as long as there may be rules under them: the configuration has only the latest. They
//! stand in the state folder, one a line. In: that folder. Out: names, of which nothing is known but that the brain wrote
//! them.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

/// More names than anybody tries between two starts that work.
const MOST: usize = 8;
/// Longest file.
const LONGEST: u64 = 1024;

/// The file in this state folder.
pub(crate) fn file(state: &Path) -> PathBuf {
    state.join("chains")
}

/// The names in this state folder. Whoever was the brain before may have put anything there: nothing is waited for, no
/// link is followed, and what is no file has no names.
pub(crate) fn read(state: &Path) -> Vec<String> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let mut text = String::new();
    let opened = File::options().read(true).custom_flags(flags).open(file(state));
    let read = opened.and_then(|file| file.take(LONGEST).read_to_string(&mut text));
    let lines = text.lines().take(MOST).map(str::to_owned);
    if read.is_ok() { lines.collect() } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_stands_in_the_place_of_the_names_is_read_within_bounds() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read(folder.path()).is_empty());
        std::fs::write(file(folder.path()), "ONE\nTWO\n").unwrap();
        assert_eq!(read(folder.path()), ["ONE", "TWO"]);
        std::fs::write(file(folder.path()), "X\n".repeat(100_000)).unwrap();
        assert_eq!(read(folder.path()).len(), MOST);
        std::fs::rename(file(folder.path()), folder.path().join("other")).unwrap();
        std::os::unix::fs::symlink("other", file(folder.path())).unwrap();
        assert!(read(folder.path()).is_empty(), "a link");
        std::fs::remove_file(file(folder.path())).unwrap();
        let made = std::process::Command::new("mkfifo").arg(file(folder.path())).status();
        assert!(made.unwrap().success());
        assert!(read(folder.path()).is_empty(), "a pipe, into which nobody writes");
    }
}
