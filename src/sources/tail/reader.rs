//! One open log file and how far it was read. It reads at offsets, so a partial last line costs nothing: it is read
//! again when it has grown.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::SystemTime;

use rustix::fs::{Mode, OFlags};

use crate::filters::Memory;
use crate::sources::{BLOCK, Position};

/// How many bytes before the offset tell whether the file is still the one that was read.
const TAIL: usize = 64;

/// How many bytes of its beginning tell whether a file is a copy of another.
pub(super) const HEAD: usize = 256;

/// Size of the buffer that [`Reader::fill`] wants.
pub(super) const BUFFER: usize = TAIL + BLOCK;

/// Which file it is, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    pub(super) device: u64,
    pub(super) inode: u64,
}

impl Identity {
    pub(super) fn of(metadata: &Metadata) -> Identity {
        Identity { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// How far a file was read, and a hash of the last bytes before that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) offset: u64,
    pub(super) tail: u64,
}

impl Mark {
    pub(super) const BEGINNING: Mark = Mark { offset: 0, tail: fingerprint(&[]) };

    /// How many bytes before the offset are hashed.
    fn reach(self) -> usize {
        usize::try_from(self.offset).map_or(TAIL, |offset| offset.min(TAIL))
    }
}

/// FNV-1a, 64 bits: positions are stored, so the hash must be the same in every version. Not against malice: who can
/// choose all 64 bytes can write the log anyway.
pub(super) const fn fingerprint(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut rest = bytes;
    while let [byte, tail @ ..] = rest {
        hash = (hash ^ *byte as u64).wrapping_mul(0x0100_0000_01b3);
        rest = tail;
    }
    hash
}

/// Why a path cannot be read as a log.
#[derive(Debug)]
pub(super) enum Unreadable {
    Missing,
    /// A directory, device, FIFO or socket.
    NotAFile,
    Failed(io::Error),
}

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Unreadable {
        // ENOTDIR: a parent is something else now.
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Unreadable::Missing,
            _ => Unreadable::Failed(error),
        }
    }
}

/// Opens a regular file for reading; never waits, never becomes the master of a terminal.
pub(super) fn open(path: &Path) -> Result<(File, Metadata), Unreadable> {
    // Looked at before it is opened, because to open a device can have effects; and after, for it may have changed.
    if !std::fs::metadata(path)?.is_file() {
        return Err(Unreadable::NotAFile);
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty()).map_err(io::Error::from)?);
    let metadata = file.metadata()?;
    if metadata.is_file() { Ok((file, metadata)) } else { Err(Unreadable::NotAFile) }
}

/// What [`Reader::fill`] found.
pub(super) enum Filled {
    /// Bytes of the buffer from here on are new; there may be none. With `inside` they begin within a line.
    New { from: usize, to: usize, inside: bool },
    /// The bytes before the offset are not those that were read: the file was truncated, and may have grown again.
    Truncated,
}

/// One file that lines come from.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) file: File,
    pub(super) identity: Identity,
    pub(super) mark: Mark,
    /// Lines before this offset were applied before the last restart.
    pub(super) warm_to: u64,
    /// When the file was made (or last written, where the file system does not know): orders generations.
    pub(super) born: SystemTime,
    /// When it was last written, as it was opened.
    pub(super) written: SystemTime,
    /// What lines of the file leave behind for later ones.
    pub(super) memory: Memory,
}

impl Reader {
    pub(super) fn new(file: File, metadata: &Metadata, mark: Mark) -> Reader {
        let written = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        let born = metadata.created().unwrap_or(written);
        Reader { file, identity: Identity::of(metadata), mark, warm_to: 0, born, written, memory: Memory::default() }
    }

    pub(super) fn open(path: &Path, mark: Mark) -> Result<Reader, Unreadable> {
        let (file, metadata) = open(path)?;
        Ok(Reader::new(file, &metadata, mark))
    }

    /// Whether the file holds what was read up to `mark`.
    pub(super) fn agrees(&self, mark: Mark) -> bool {
        let mut tail = [0; TAIL];
        let tail = &mut tail[..mark.reach()];
        let from = mark.offset.saturating_sub(tail.len() as u64);
        self.file.read_exact_at(tail, from).is_ok() && fingerprint(tail) == mark.tail
    }

    /// The mark at an offset of the file as it is now.
    pub(super) fn mark_at(&self, offset: u64) -> io::Result<Mark> {
        let mut tail = [0; TAIL];
        let tail = &mut tail[..Mark { offset, tail: 0 }.reach()];
        self.file.read_exact_at(tail, offset.saturating_sub(tail.len() as u64))?;
        Ok(Mark { offset, tail: fingerprint(tail) })
    }

    /// The mark at the end of the file as it is now.
    pub(super) fn end(&self) -> Option<Mark> {
        self.size().and_then(|size| self.mark_at(size)).ok()
    }

    pub(super) fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// The first bytes of the file, at most [`HEAD`].
    pub(super) fn head(&self) -> Vec<u8> {
        let mut head = vec![0; HEAD];
        let length = self.file.read_at(&mut head, 0).unwrap_or(0);
        head.truncate(length);
        head
    }

    /// Reads what comes next, with the bytes before it in the same call, so that no truncation falls in between.
    pub(super) fn fill(&self, buffer: &mut [u8]) -> io::Result<Filled> {
        let reach = self.mark.reach();
        let warm = usize::try_from(self.warm_to.saturating_sub(self.mark.offset)).unwrap_or(usize::MAX);
        let limit = if warm == 0 { buffer.len() } else { buffer.len().min(warm.saturating_add(reach)) };
        let to = self.file.read_at(&mut buffer[..limit], self.mark.offset.saturating_sub(reach as u64))?;
        match buffer.get(..reach) {
            Some(tail) if to >= reach && fingerprint(tail) == self.mark.tail => {
                let inside = tail.last().is_some_and(|byte| *byte != b'\n');
                Ok(Filled::New { from: reach, to, inside })
            }
            _ => Ok(Filled::Truncated),
        }
    }

    /// Goes on to `to`, the end of what was taken from the buffer that [`Reader::fill`] filled.
    pub(super) fn advance(&mut self, buffer: &[u8], from: usize, to: usize) {
        let offset = self.mark.offset.saturating_add(to.saturating_sub(from) as u64);
        let reach = Mark { offset, tail: 0 }.reach();
        let tail = buffer.get(to.saturating_sub(reach)..to).unwrap_or_default();
        self.mark = Mark { offset, tail: fingerprint(tail) };
    }

    pub(super) fn is_warm(&self) -> bool {
        self.mark.offset < self.warm_to
    }

    pub(super) fn position(&self) -> Position {
        let Identity { device, inode } = self.identity;
        Position::File { device, inode, offset: self.mark.offset, tail: self.mark.tail }
    }
}
