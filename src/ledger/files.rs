//! Files that are there in full or not at all, whatever happens while they are written.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// Replaces what stands at `path` by what is written bit by bit: on the disk when this returns, and never half.
///
/// An existing file's owner and mode are kept, a new one gets `mode`. A symbolic link is refused rather than followed
/// or replaced: the first could be led to write over a foreign file, the second would undo what somebody set up. A file
/// that would become what it is stays the same file.
pub(crate) fn replace(path: &Path, mode: u32, content: impl FnOnce(&mut Fresh) -> io::Result<()>) -> io::Result<()> {
    let standing = standing_file(path)?;
    let fresh = fresh_name(path)?;
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let written = write_fresh(&fresh, content, mode, standing.as_ref());
    let replaced = written.and_then(|()| match standing {
        Some(_) if is_same(path, &fresh)? => fs::remove_file(&fresh).and_then(|()| File::open(path)?.sync_all()),
        _ => fs::rename(&fresh, path),
    });
    if let Err(error) = replaced {
        // Best effort: what was refused is reported, and the next attempt clears the way too.
        let _ = fs::remove_file(&fresh);
        return Err(error);
    }
    sync_directory_of(path)
}

/// Makes the names in the directory of `path` durable.
pub(crate) fn sync_directory_of(path: &Path) -> io::Result<()> {
    File::open(directory_of(path))?.sync_all()
}

/// Makes a directory, and those above it, that only its owner may enter; durable when this returns.
pub(super) fn make_directory(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    sync_directory_of(path)
}

fn standing_file(path: &Path) -> io::Result<Option<fs::Metadata>> {
    match fs::symlink_metadata(path) {
        Ok(file) if file.is_file() => Ok(Some(file)),
        Ok(file) if file.is_symlink() => {
            Err(io::Error::other("it is a symbolic link; name the file that it points to instead"))
        }
        Ok(_) => Err(io::Error::other("it is not a regular file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A file while it is written.
pub(crate) type Fresh = BufWriter<File>;

/// Bytes that are handled at a time.
const BLOCK: usize = 256 << 10;

fn write_fresh(
    fresh: &Path,
    content: impl FnOnce(&mut Fresh) -> io::Result<()>,
    mode: u32,
    standing: Option<&fs::Metadata>,
) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(fresh)?;
    let mut file = BufWriter::with_capacity(BLOCK, file);
    content(&mut file)?;
    let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
    if let Some(standing) = standing {
        let own = file.metadata()?;
        if (own.uid(), own.gid()) != (standing.uid(), standing.gid()) {
            fchown(&file, Some(standing.uid()), Some(standing.gid()))?;
        }
    }
    let mode = standing.map_or(mode, |standing| standing.mode() & 0o7777);
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.sync_all()
}

fn is_same(one: &Path, other: &Path) -> io::Result<bool> {
    let (one, other) = (File::open(one)?, File::open(other)?);
    if one.metadata()?.len() != other.metadata()?.len() {
        return Ok(false);
    }
    let (mut one, mut other) = (BufReader::with_capacity(BLOCK, one), BufReader::with_capacity(BLOCK, other));
    loop {
        let (here, there) = (one.fill_buf()?, other.fill_buf()?);
        let both = here.len().min(there.len());
        if here.get(..both) != there.get(..both) {
            return Ok(false);
        }
        if both == 0 {
            return Ok(here.len() == there.len());
        }
        one.consume(both);
        other.consume(both);
    }
}

fn fresh_name(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| io::Error::other("it does not name a file"))?;
    let mut fresh = std::ffi::OsString::from(".");
    fresh.push(name);
    fresh.push(".new");
    Ok(path.with_file_name(fresh))
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn write_atomically(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
        replace(path, mode, |file| file.write_all(bytes))
    }

    #[test]
    fn a_new_file_gets_the_mode_and_an_old_one_keeps_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list");
        write_atomically(&path, b"one", 0o644).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o644);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        write_atomically(&path, b"two", 0o644).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside the file");
    }

    #[test]
    fn a_symbolic_link_is_neither_followed_nor_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("target"), folder.path().join("link"));
        fs::write(&target, "foreign").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert!(write_atomically(&link, b"x", 0o644).unwrap_err().to_string().contains("symbolic link"));
        assert_eq!(fs::read(&target).unwrap(), b"foreign");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[test]
    fn a_file_that_would_become_what_it_is_stays_the_same_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list");
        let inode = |text: &[u8]| {
            write_atomically(&path, text, 0o644).unwrap();
            assert_eq!(fs::read(&path).unwrap(), text);
            fs::metadata(&path).unwrap().ino()
        };
        let large = vec![b'x'; 3 * BLOCK];
        let first = inode(&large);
        assert_eq!(inode(&large), first);
        let other = [&large[1..], b"y"].concat();
        assert_ne!(inode(&other), first);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_crash_left_behind_does_not_stand_in_the_way() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(".list.new"), "half").unwrap();
        write_atomically(&folder.path().join("list"), b"whole", 0o644).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
