//! One log: a path, and the files that lines come from under it, as it is rotated. Every line is read once.

mod backlog;
mod begin;
mod rotate;

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::Shared;
use super::family::Names;
use super::reader::{BUFFER, Filled, Mark, Reader};
use crate::filters::Clock;
use crate::sources::lines::{self, Taken};
use crate::sources::outlet::Stopped;
use crate::sources::{Batch, Position};
use crate::time::Timestamp;

pub(super) use begin::Begin;

/// How many ticks a file that was renamed is still read after its last line: several processes may write a log, and
/// each changes to the new file in its own time.
const DRAIN_TICKS: u32 = if cfg!(test) { 2 } else { 10 };

/// How many ticks a new file called like an older generation of a log is left to that log, whose rotation may have made
/// it. After that it is a log of its own.
const CLAIM_TICKS: u32 = 2;

/// Most renamed files of one log that are still read.
const MAX_DRAINING: usize = 4;

pub(super) struct Log {
    pub(super) path: PathBuf,
    /// The file that `path` led to when it was last opened, symbolic links resolved.
    pub(super) real: PathBuf,
    pub(super) name: Arc<str>,
    /// Whether the user named this very file: then it is a trouble when it is missing.
    pub(super) literal: bool,
    /// The names under which inotify tells of this log.
    pub(super) watched: Vec<PathBuf>,
    begin: Option<Begin>,
    /// Oldest first. Lines come from the first; the last is the file that the path leads to, or led to.
    generations: VecDeque<Reader>,
    draining: Vec<Draining>,
    missing_ticks: u32,
    /// Since the path led to another file, or that was truncated.
    ticks: u32,
    /// When the path last led to the file that is read: what was made later came after that.
    confirmed: SystemTime,
    /// How far the file was read before it was truncated last.
    truncated_at: Option<Mark>,
    /// Whether the path leads to another file than the one that is read, which is still empty.
    apart: bool,
}

/// A file that is not the log any more, but that somebody may still write to.
struct Draining {
    reader: Reader,
    idle_ticks: u32,
}

/// What reading a block came to.
enum Step {
    Read,
    End,
    Truncated,
    /// These copies are to be read first.
    Missed(Vec<Reader>),
}

impl Log {
    /// `initial`: it is there at the start.
    pub(super) fn new(path: PathBuf, literal: bool, begin: Begin, initial: bool) -> Log {
        let name = Arc::from(path.to_string_lossy());
        Log {
            real: path.clone(),
            path,
            name,
            literal,
            watched: Vec::new(),
            begin: Some(begin),
            generations: VecDeque::new(),
            draining: Vec::new(),
            missing_ticks: 0,
            ticks: if initial { CLAIM_TICKS } else { 0 },
            confirmed: SystemTime::UNIX_EPOCH,
            truncated_at: None,
            apart: false,
        }
    }

    /// The names that the files now have which are not the log any more, but may still be written.
    pub(super) fn former_names(&self) -> impl Iterator<Item = PathBuf> {
        let last = self.generations.back().filter(|_| self.apart || self.missing_ticks > 0);
        let readers = self.draining.iter().map(|draining| &draining.reader).chain(last);
        readers.filter_map(|reader| std::fs::read_link(format!("/proc/self/fd/{}", reader.file.as_raw_fd())).ok())
    }

    /// Whether nothing is left to read here, now or later.
    pub(super) fn is_over(&self) -> bool {
        !self.literal && self.missing_ticks > 0 && self.generations.is_empty() && self.draining.is_empty()
    }

    /// Reads all there is. `tick`: a second has passed since the last tick.
    pub(super) fn look(&mut self, tick: bool, shared: &mut Shared) -> Result<(), Stopped> {
        self.ticks = self.ticks.saturating_add(u32::from(tick));
        self.drain(tick, shared)?;
        self.read(shared)?;
        // A file may be renamed while the one after it is read.
        while self.follow(tick, shared)? {
            self.read(shared)?;
        }
        Ok(())
    }

    /// Reads the generations to their ends, oldest first; the last one stays.
    fn read(&mut self, shared: &mut Shared) -> Result<(), Stopped> {
        while let Some(mut reader) = self.generations.pop_front() {
            let step = self.read_file(&mut reader, shared);
            self.generations.push_front(reader);
            match step? {
                Step::Truncated => self.restart(shared),
                Step::Missed(missed) => {
                    missed.into_iter().rev().for_each(|copy| self.generations.push_front(copy));
                    self.hold_all(shared);
                }
                Step::Read | Step::End if self.generations.len() > 1 => self.retire_first(shared)?,
                Step::Read | Step::End => break,
            }
        }
        Ok(())
    }

    /// Reads a file to its end.
    fn read_file(&self, reader: &mut Reader, shared: &mut Shared) -> Result<Step, Stopped> {
        if reader.mark.offset == 0 && reader.warm_to == 0 && !self.begins(reader, shared)? {
            return Ok(Step::End);
        }
        loop {
            // Only the first block and the last few need a look at what else there is.
            backlog::read(self, reader, shared)?;
            match self.read_block(reader, None, shared)? {
                Step::Read => {}
                step => return Ok(step),
            }
        }
    }

    /// Before a file is read from its beginning: it may have been read already under another name, or be a copy of a
    /// log that is read. Says whether it is to be read now.
    fn begins(&self, reader: &mut Reader, shared: &mut Shared) -> Result<bool, Stopped> {
        let read = shared.registry.mark(reader.identity).filter(|mark| mark.offset > 0 && reader.agrees(*mark));
        if let Some(mark) = read {
            reader.mark = mark;
            shared.outlet.batch(self.batch(Taken::default(), reader.position(), false, shared))?;
            return Ok(true);
        }
        let may_be_claimed = self.ticks < CLAIM_TICKS && shared.registry.extends_a_log(&self.path);
        Ok(!may_be_claimed && !shared.registry.is_copy(&self.path, &reader.head()))
    }

    /// Reads, filters and reports one block. `position`: what to report instead of the reader's own.
    fn read_block(
        &self,
        reader: &mut Reader,
        position: Option<Position>,
        shared: &mut Shared,
    ) -> Result<Step, Stopped> {
        shared.buffer.resize(BUFFER, 0);
        let (from, to, inside) = match reader.fill(&mut shared.buffer) {
            Ok(Filled::New { from, to, inside }) => (from, to, inside),
            Ok(Filled::Truncated) => return Ok(Step::Truncated),
            Err(error) => {
                shared.outlet.trouble(&self.name, unreadable(&self.path, &error))?;
                return Ok(Step::End);
            }
        };
        let is_first_of_last = reader.mark.offset == 0 && reader.warm_to == 0 && self.generations.is_empty();
        if is_first_of_last && position.is_none() {
            // After the reading, so that no copy is made in between.
            let missed = self.missed_copies(reader, &shared.buffer[..to], shared);
            if !missed.is_empty() {
                return Ok(Step::Missed(missed));
            }
        }
        let clock = Clock { now: Timestamp::now(), zone: shared.zone.clone() };
        let mut taken = lines::take(&*shared.scan, &clock, &mut reader.memory, &shared.buffer[from..to], inside);
        let warm = reader.is_warm();
        if warm && taken.bytes == 0 {
            // A position within a line, which we never store: what is before it stays applied.
            taken.bytes = to - from;
        }
        if taken.bytes == 0 {
            return Ok(Step::End);
        }
        if self.generations.is_empty() && position.is_none() {
            let read = &shared.buffer[from..from + taken.bytes];
            shared.registry.extend_head(&self.path, reader.mark.offset, read);
        }
        reader.advance(&shared.buffer, from, from + taken.bytes);
        let (mark, position) = (reader.mark, position.unwrap_or_else(|| reader.position()));
        self.hand_over(taken, reader, mark, position, warm, shared)?;
        Ok(Step::Read)
    }

    /// Reports what became of a block. `mark`: where it ends; `position`: to where that brings the log.
    fn hand_over(
        &self,
        taken: Taken,
        reader: &mut Reader,
        mark: Mark,
        position: Position,
        warm: bool,
        shared: &mut Shared,
    ) -> Result<(), Stopped> {
        shared.registry.hold(reader.identity, mark, &self.name);
        shared.blocks += 1;
        let cut = taken.cut;
        shared.outlet.suppressed(&self.name, &mut reader.memory, warm)?;
        shared.outlet.batch(self.batch(taken, position, warm, shared))?;
        shared.outlet.cut(cut)
    }

    fn batch(&self, taken: Taken, position: Position, warm: bool, shared: &Shared) -> Batch {
        Batch {
            source: shared.outlet.source(),
            log: Arc::clone(&self.name),
            hits: taken.hits,
            position: Some(position),
            warm,
            lines: taken.lines,
            bytes: taken.bytes as u64,
            latest: taken.latest,
        }
    }

    fn names(&self) -> Names<'_> {
        Names([&self.path, &self.real])
    }

    /// Notes in the registry which files this log reads, and what the last one begins with.
    fn hold_all(&self, shared: &mut Shared) {
        if let Some(current) = self.generations.back() {
            shared.registry.set_head(&self.path, current.head(), current.mark.offset);
        }
        for reader in &self.generations {
            let known = shared.registry.mark(reader.identity);
            let mark = if reader.mark.offset == 0 { known.unwrap_or(reader.mark) } else { reader.mark };
            shared.registry.hold(reader.identity, mark, &self.name);
        }
    }

    /// The first generation was read to its end, and another file is the log now.
    fn retire_first(&mut self, shared: &mut Shared) -> Result<(), Stopped> {
        if let Some(reader) = self.generations.pop_front() {
            if reader.mark.offset == 0 && shared.registry.extends_a_log(&self.path) {
                // It was left to that log, or is a copy of it.
                shared.registry.release(reader.identity, &self.name);
                return Ok(());
            }
            self.draining.push(Draining { reader, idle_ticks: 0 });
        }
        if self.draining.len() > MAX_DRAINING {
            let oldest = self.draining.remove(0);
            self.close(&oldest.reader, shared)?;
        }
        Ok(())
    }

    /// Reads what is still written to files that were renamed, and closes those that have been quiet.
    fn drain(&mut self, tick: bool, shared: &mut Shared) -> Result<(), Stopped> {
        let position = self.generations.front().map(Reader::position);
        for mut draining in std::mem::take(&mut self.draining) {
            draining.idle_ticks += u32::from(tick);
            let mut step = Step::Read;
            while matches!(step, Step::Read) {
                step = self.read_block(&mut draining.reader, position.clone(), shared)?;
                if matches!(step, Step::Read) {
                    draining.idle_ticks = 0;
                }
            }
            if matches!(step, Step::Truncated) || draining.idle_ticks >= DRAIN_TICKS {
                self.close(&draining.reader, shared)?;
            } else {
                self.draining.push(draining);
            }
        }
        Ok(())
    }

    fn close(&self, reader: &Reader, shared: &mut Shared) -> Result<(), Stopped> {
        shared.registry.release(reader.identity, &self.name);
        let whole = reader.size().is_ok_and(|size| size <= reader.mark.offset);
        if whole || !reader.agrees(reader.mark) {
            return Ok(());
        }
        let text =
            format!("The last line of a rotated file of {} has no end, so it was not used.", self.path.display());
        shared.outlet.lost(&self.name, 1, text)
    }
}

fn unreadable(path: &Path, error: &io::Error) -> String {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            format!(
                "{path} cannot be read: {error}. Let the user of daemon.user read it: by a group \
                 in daemon.groups, or with 'setfacl -m u:banward:r'."
            )
        }
        _ => format!("{path} cannot be read: {error}. It is tried again every second."),
    }
}
