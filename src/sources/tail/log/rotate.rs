//! How a log changes from one file to the next: renamed, copied and truncated, deleted, made anew.

use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};

use super::{Begin, Log};
use crate::sources::outlet::Stopped;
use crate::sources::tail::Shared;
use crate::sources::tail::family::{begin_alike, find, successors};
use crate::sources::tail::reader::{HEAD, Identity, Mark, Reader, Unreadable};

/// How many ticks a name may lead nowhere before the file that it led to is let go.
const MISSING_TICKS: u32 = 60;

/// How many ticks a name may lead nowhere, as in the middle of a rotation, before that is a trouble.
const PATIENCE_TICKS: u32 = 5;

/// An inode is stamped before it has a name, by so much where its maker has to wait in between.
const BEFORE_NAMED: Duration = Duration::from_millis(10);

/// A file that was last written before this has had all its changes noticed.
const RECENT: Duration = Duration::from_secs(10);

impl Log {
    /// The file that is read was truncated. What was written to it between our last look and that is in the copy that
    /// the rotation made: its rest comes first, then the file from its beginning.
    pub(super) fn restart(&mut self, shared: &mut Shared) {
        let Some(mut reader) = self.generations.pop_front() else { return };
        self.truncated_at = Some(reader.mark);
        self.ticks = 0;
        let names = self.names();
        let copy = find(&names, reader.mark, None, Some(reader.identity));
        let warm_to = std::mem::take(&mut reader.warm_to);
        reader.mark = Mark::BEGINNING;
        shared.registry.hold(reader.identity, reader.mark, &self.name);
        let between = copy.as_ref().map(|copy| {
            successors(&names, copy, Some(&reader), |other| {
                other.born >= copy.born && !shared.registry.has_read(other, &self.name)
            })
        });
        self.generations.push_front(reader);
        for generation in between.into_iter().flatten().rev() {
            self.generations.push_front(generation);
        }
        if let Some(mut copy) = copy {
            copy.warm_to = warm_to;
            self.generations.push_front(copy);
        }
        self.hold_all(shared);
    }

    /// Looks where the path leads. Says whether there is another file to read now.
    pub(super) fn follow(&mut self, tick: bool, shared: &mut Shared) -> Result<bool, Stopped> {
        // Before the look: what is made while this thread waits for a processor comes after what it has seen.
        let now = inode_clock();
        let metadata = match std::fs::metadata(&self.path) {
            Ok(metadata) => metadata,
            Err(error) => return self.cannot_follow(error.into(), tick, shared),
        };
        let identity = Identity::of(&metadata);
        let is_current = self.generations.back().is_some_and(|current| current.identity == identity);
        if is_current && self.begin.is_none() {
            self.confirmed = now;
            self.arrived(shared)?;
            return Ok(false);
        }
        if shared.registry.is_held_by_another(identity, &self.name) && self.begin.is_none() {
            return Ok(false);
        }
        // The writer of the old file has not changed to the new one as long as that is empty.
        self.apart = !self.generations.is_empty() && metadata.is_file() && metadata.len() == 0;
        let quiet = || !is_recent(metadata.modified()) || self.passed_by(None, shared).is_empty();
        if self.apart && quiet() {
            return Ok(false);
        }
        match Reader::open(&self.path, Mark::BEGINNING) {
            Ok(reader) => {
                self.arrived(shared)?;
                self.change_to(reader, now, shared)
            }
            Err(error) => self.cannot_follow(error, tick, shared),
        }
    }

    fn arrived(&mut self, shared: &mut Shared) -> Result<(), Stopped> {
        self.missing_ticks = 0;
        self.apart = false;
        shared.outlet.recovered(&self.name)
    }

    /// The path leads to a file that is not read yet; `now` is a time before that was seen.
    fn change_to(&mut self, reader: Reader, now: SystemTime, shared: &mut Shared) -> Result<bool, Stopped> {
        let first = self.begin.is_some();
        if let Some(begin) = self.begin.take() {
            self.begin_with(begin, Some(reader), shared)?;
        } else {
            self.generations.extend(self.passed_by(Some(&reader), shared));
            self.generations.push_back(reader);
        }
        self.confirmed = now;
        self.ticks = if first { self.ticks } else { 0 };
        self.real = self.path.canonicalize().unwrap_or_else(|_| self.path.clone());
        self.hold_all(shared);
        Ok(!self.generations.is_empty())
    }

    /// The generations that came and went since the last look, but for the `current` one.
    fn passed_by(&self, current: Option<&Reader>, shared: &Shared) -> Vec<Reader> {
        let Some(last) = self.generations.back() else { return Vec::new() };
        successors(&self.names(), last, current, |other| self.is_new(other, shared))
    }

    /// The copies that were made of a file since the last look, which found nothing to read in it: all that was written
    /// to it since may have been truncated away again. Not a copy of what is in it now, `read`.
    pub(super) fn missed_copies(&self, reader: &Reader, read: &[u8], shared: &Shared) -> Vec<Reader> {
        let is_quiet = read.is_empty() && !reader.file.metadata().is_ok_and(|file| is_recent(file.modified()));
        if is_quiet || self.confirmed == SystemTime::UNIX_EPOCH {
            return Vec::new();
        }
        let mut missed = successors(&self.names(), reader, None, |other| {
            // Looked at after the copy, as in `successors`.
            let copied = other.head();
            let head = if read.is_empty() { reader.head() } else { read.iter().take(HEAD).copied().collect() };
            self.is_new(other, shared) && !begin_alike(&copied, &head)
        });
        for copy in &mut missed {
            // It may have been looked for and not found while generations were being renamed.
            copy.mark = self.truncated_at.filter(|mark| copy.agrees(*mark)).unwrap_or(copy.mark);
        }
        missed
    }

    /// Whether a file was made after the path was last seen to lead to the file that is read, and was not read yet.
    fn is_new(&self, other: &Reader, shared: &Shared) -> bool {
        other.born >= self.confirmed && !shared.registry.has_read(other, &self.name)
    }

    /// The path leads nowhere, or to something that cannot be read.
    fn cannot_follow(&mut self, why: Unreadable, tick: bool, shared: &mut Shared) -> Result<bool, Stopped> {
        let path = self.path.display();
        match why {
            Unreadable::Missing => return self.missing(tick, shared),
            Unreadable::NotAFile => {
                let text =
                    format!("{path} is not a regular file; name the log itself, or a glob that matches only logs.");
                shared.outlet.trouble(&self.name, text)?;
            }
            Unreadable::Failed(error) => shared.outlet.trouble(&self.name, super::unreadable(&self.path, &error))?,
        }
        Ok(false)
    }

    fn missing(&mut self, tick: bool, shared: &mut Shared) -> Result<bool, Stopped> {
        if let Some(begin @ Begin::Resume(_)) = self.begin.take_if(|begin| matches!(begin, Begin::Resume(_))) {
            // It may have been renamed away, with lines that were not read.
            self.begin_with(begin, None, shared)?;
            self.hold_all(shared);
            if !self.generations.is_empty() {
                return Ok(true);
            }
        }
        if matches!(self.begin, Some(Begin::Since(_))) {
            // It was not there at the start: when it comes, it is new.
            self.begin = Some(Begin::Beginning);
        }
        let passed_by = self.passed_by(None, shared);
        if !passed_by.is_empty() {
            // What was made just now may be a copy of a file that the path leads to again.
            if !self.path.exists() {
                self.generations.extend(passed_by);
                self.hold_all(shared);
            }
            return Ok(true);
        }
        let was_never_there = self.generations.is_empty() && self.missing_ticks == 0;
        self.missing_ticks = self.missing_ticks.saturating_add(u32::from(tick || was_never_there));
        if self.literal && (was_never_there || self.missing_ticks >= PATIENCE_TICKS) {
            shared.outlet.trouble(&self.name, missing(&self.path))?;
        }
        if self.missing_ticks >= MISSING_TICKS {
            while !self.generations.is_empty() {
                self.retire_first(shared)?;
            }
        }
        Ok(false)
    }
}

/// The earliest stamp of an inode that gets its name now. The clock of stamps goes in steps, and in longer ones where a
/// virtual machine waits for its processors (`inode_set_ctime_current` in `fs/inode.c`).
fn inode_clock() -> SystemTime {
    let coarse = Duration::try_from(clock_gettime(ClockId::RealtimeCoarse)).unwrap_or_default();
    SystemTime::UNIX_EPOCH + coarse.saturating_sub(BEFORE_NAMED)
}

/// Whether a file that was written at this time may have changed in ways that were not noticed yet.
fn is_recent(written: std::io::Result<SystemTime>) -> bool {
    written.is_ok_and(|written| written.elapsed().is_ok_and(|age| age < RECENT) || written > SystemTime::now())
}

fn missing(path: &std::path::Path) -> String {
    format!(
        "{} does not exist. It is read as soon as it appears; if this machine logs to the journal only, \
         name the journal as the jail's source.",
        path.display()
    )
}
