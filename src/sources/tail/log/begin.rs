//! How a log is opened for the first time.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::time::SystemTime;

use super::Log;
use crate::filters::Clock;
use crate::sources::Position;
use crate::sources::lines::Taken;
use crate::sources::outlet::Stopped;
use crate::sources::tail::family::{begin_alike, generations_of};
use crate::sources::tail::reader::Reader;
use crate::sources::tail::{Shared, start};
use crate::time::Timestamp;

/// Where a log that was not opened yet begins.
pub(in crate::sources::tail) enum Begin {
    Resume(Position),
    Since(Timestamp),
    Beginning,
    /// An older generation of a log that has a position.
    End,
}

impl Log {
    /// Sets the files to read. Where that is not possible yet, the log stays as it was. `current`: what the path leads to.
    pub(super) fn begin_with(
        &mut self,
        begin: Begin,
        current: Option<Reader>,
        shared: &mut Shared,
    ) -> Result<(), Stopped> {
        let current = current.filter(|current| !shared.registry.is_held_by_another(current.identity, &self.name));
        match begin {
            Begin::Resume(position) => self.begin_where_left(position, current, shared)?,
            Begin::Since(since) => match current {
                Some(reader) => self.begin_at_time(since, reader, shared),
                None => self.begin = Some(Begin::Since(since)),
            },
            Begin::End => self.generations.extend(current.map(|reader| at_end(reader, shared))),
            Begin::Beginning => self.generations.extend(current),
        }
        self.announce(shared)
    }

    fn begin_where_left(
        &mut self,
        position: Position,
        current: Option<Reader>,
        shared: &mut Shared,
    ) -> Result<(), Stopped> {
        let is_there = current.is_some();
        let (mut generations, gone) =
            start::resume(&self.names(), &position, current, |reader| shared.refill_mark(reader));
        if generations.is_empty() {
            self.begin = Some(Begin::Resume(position));
        } else if gone && is_there {
            shared.outlet.lost(&self.name, 0, lost(&self.path))?;
        }
        generations.retain(|reader| !shared.registry.is_held_by_another(reader.identity, &self.name));
        // The other generations are older, and were read or were too old before the last stop.
        let mut older = generations_of(&self.names());
        older.retain(|reader| !generations.iter().any(|chosen| chosen.identity == reader.identity));
        for reader in &older {
            if let Some(end) = reader.end()
                && !shared.registry.has_read(reader, &self.name)
            {
                shared.registry.remember(reader.identity, end);
            }
        }
        for reader in self.to_refill(older, &generations, shared) {
            generations.push_front(reader);
        }
        self.generations = generations;
        Ok(())
    }

    /// Those older generations in which there are lines that windows still look at, newest first, set to those lines. All
    /// of them were applied before the last stop.
    fn to_refill(&self, mut older: Vec<Reader>, chosen: &VecDeque<Reader>, shared: &Shared) -> Vec<Reader> {
        let Some(since) = shared.refill else { return Vec::new() };
        let long_ago = |reader: &Reader| reader.written < SystemTime::UNIX_EPOCH + since.since(Timestamp::EPOCH);
        // A copy that is made just now has the lines of the file itself.
        let is_copy = |reader: &Reader| chosen.iter().any(|other| begin_alike(&reader.head(), &other.head()));
        older.retain(|reader| !long_ago(reader) && !is_copy(reader));
        older.retain(|reader| !shared.registry.is_held_by_another(reader.identity, &self.name));
        older.sort_by_key(|reader| Reverse(reader.written));
        older.dedup_by_key(|reader| reader.identity);
        let warm = |mut reader: Reader| {
            reader.mark = shared.refill_mark(&reader)?;
            reader.warm_to = reader.size().ok()?;
            reader.is_warm().then_some(reader)
        };
        older.into_iter().filter_map(warm).collect()
    }

    fn begin_at_time(&mut self, since: Timestamp, mut reader: Reader, shared: &Shared) {
        // If it was read already under another name, or is a copy, `begins` will find out.
        if !shared.registry.has_read(&reader, &self.name) && !shared.registry.is_copy(&self.path, &reader.head()) {
            let clock = Clock { now: Timestamp::now(), zone: shared.zone.clone() };
            reader.mark = start::at_time(&reader, &*shared.scan, &clock, since).unwrap_or(reader.mark);
            if reader.mark.offset > 0 {
                log::info!(
                    "{} is read from byte {} on, where its lines of {since} and later begin: no window looks further back",
                    self.path.display(),
                    reader.mark.offset
                );
            }
        }
        self.generations.push_back(reader);
    }

    /// Reports the position in a new log of which nothing was read yet, so that it is known after a restart.
    fn announce(&self, shared: &Shared) -> Result<(), Stopped> {
        match self.generations.front() {
            Some(reader) if reader.warm_to == 0 && !shared.registry.is_copy(&self.path, &reader.head()) => {
                shared.outlet.batch(self.batch(Taken::default(), reader.position(), false, shared))
            }
            _ => Ok(()),
        }
    }
}

/// A file of which everything is taken for read.
fn at_end(mut reader: Reader, shared: &Shared) -> Reader {
    let known = shared.registry.mark(reader.identity).filter(|mark| mark.offset > 0 && reader.agrees(*mark));
    reader.mark = known.or_else(|| reader.end()).unwrap_or(reader.mark);
    reader
}

fn lost(path: &std::path::Path) -> String {
    format!(
        "The file that {} was when banward stopped is gone or compressed: lines written to it after that were not read.",
        path.display()
    )
}
