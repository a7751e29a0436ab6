//! Where the reading of a log begins: where it was left, or at a time.

use std::cell::Cell;
use std::collections::VecDeque;
use std::os::unix::fs::FileExt;

use memchr::memchr;

use super::family::{Names, find, successors};
use super::reader::{Identity, Mark, Reader};
use crate::filters::Clock;
use crate::sources::{MAX_LINE, Position, Scan};
use crate::time::Timestamp;

/// How many bytes without any time stamp are passed over to find where to start. A machine that lost its power leaves a
/// stretch of zeros in a log, and a program may dump much without stamps.
const PATIENCE: u64 = 64 << 20;

/// The files to read for a log that was left at `position`, oldest first; and whether the file where it was left is gone.
/// `refill`: where in that file the lines begin that windows still look at. That file may be the one that the log's name
/// leads to (`current`), whatever its inode, for device numbers change between boots; or one that it was renamed or copied
/// to.
pub(super) fn resume(
    names: &Names,
    position: &Position,
    current: Option<Reader>,
    refill: impl Fn(&Reader) -> Option<Mark>,
) -> (VecDeque<Reader>, bool) {
    let Some((wanted, applied)) = mark_of(position) else { return (current.into_iter().collect(), false) };
    let is_left_file = |reader: &Reader| (applied.offset > 0 || reader.identity == wanted) && reader.agrees(applied);
    match current {
        Some(mut current) if is_left_file(&current) => {
            rewind(&mut current, applied, refill);
            (VecDeque::from([current]), false)
        }
        current => {
            let current_identity = current.as_ref().map(|current| current.identity);
            let left = find(names, applied, Some(wanted), current_identity);
            let gone = left.is_none() && applied.offset > 0;
            let mut generations = VecDeque::new();
            if let Some(mut left) = left {
                let came_after = |other: &Reader| other.written > left.written;
                let successors = successors(names, &left, current.as_ref(), came_after);
                rewind(&mut left, applied, refill);
                generations.push_back(left);
                generations.extend(successors);
            }
            generations.extend(current);
            (generations, gone)
        }
    }
}

/// Sets the reader of the file where a log was left to where refilling begins, or to where it was left.
fn rewind(reader: &mut Reader, applied: Mark, refill: impl Fn(&Reader) -> Option<Mark>) {
    reader.mark = refill(reader).filter(|mark| mark.offset <= applied.offset).unwrap_or(applied);
    reader.warm_to = applied.offset;
}

/// Which file a position is of, and how far it was read.
pub(super) fn mark_of(position: &Position) -> Option<(Identity, Mark)> {
    match *position {
        Position::File { device, inode, offset, tail } => Some((Identity { device, inode }, Mark { offset, tail })),
        Position::Kmsg { .. } | Position::Journal { .. } => None,
    }
}

/// The first line at or after `since`, by binary search: stamps grow in a log. The end where no line has a stamp.
pub(super) fn at_time(reader: &Reader, scan: &dyn Scan, clock: &Clock, since: Timestamp) -> std::io::Result<Mark> {
    let size = reader.size()?;
    let stamps = Stamps { reader, scan, clock, patience: Cell::new(PATIENCE) };
    let (mut low, mut high, mut after) = (0, size, None);
    while high.saturating_sub(low) > MAX_LINE as u64 {
        let middle = low + (high - low) / 2;
        match stamps.first(middle, high, |_| true)? {
            Some((offset, time)) if time < since => low = offset,
            Some((offset, _)) => (high, after) = (middle, Some(offset)),
            None => high = middle,
        }
    }
    // The last look has a patience of its own.
    stamps.patience.set(PATIENCE);
    let found = stamps.first(low, size, |time| time >= since)?.map(|(offset, _)| offset);
    let found = match found {
        None if stamps.patience.get() == 0 => stamps.last_look(after.unwrap_or(size), size, since)?,
        found => found,
    };
    reader.mark_at(found.or(after).unwrap_or(size))
}

/// Reads time stamps of lines anywhere in a file.
struct Stamps<'a> {
    reader: &'a Reader,
    scan: &'a dyn Scan,
    clock: &'a Clock,
    /// How many bytes more may be passed over.
    patience: Cell<u64>,
}

impl Stamps<'_> {
    /// The same from an end backwards, where so much without stamps lies before that nobody looks through it: no line
    /// behind it is to be missed.
    fn last_look(&self, end: u64, size: u64, since: Timestamp) -> std::io::Result<Option<u64>> {
        let (mut back, mut found) = (4 * MAX_LINE as u64, None);
        loop {
            let start = end.saturating_sub(back);
            self.patience.set(PATIENCE);
            match self.first(start, end, |_| true)? {
                Some((offset, time)) if time < since => {
                    return Ok(self.first(offset, size, |time| time >= since)?.map(|(offset, _)| offset));
                }
                Some((offset, _)) => found = Some(offset),
                None => (),
            }
            if start == 0 || back >= PATIENCE {
                return Ok(found);
            }
            back *= 4;
        }
    }

    /// The first line that starts in `from..to` and whose stamp is `wanted`, as long as there is patience.
    fn first(
        &self,
        from: u64,
        to: u64,
        wanted: impl Fn(Timestamp) -> bool,
    ) -> std::io::Result<Option<(u64, Timestamp)>> {
        let to = to.min(from.saturating_add(self.patience.get()));
        let mut buffer = vec![0; 4 * MAX_LINE];
        // The byte before tells whether a line starts at `from` itself.
        let mut offset = from.saturating_sub(1);
        let mut inside = from > 0;
        while offset < to {
            let length = self.reader.file.read_at(&mut buffer, offset)?;
            let mut rest = buffer.get(..length).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            while let Some(newline) = memchr(b'\n', rest) {
                let (line, after) = rest.split_at(newline + 1);
                let time = if inside || offset >= to { None } else { self.scan.line_time(line, self.clock) };
                if let Some(time) = time.filter(|time| wanted(*time)) {
                    self.patience.set(self.patience.get().saturating_sub(offset.saturating_sub(from)));
                    return Ok(Some((offset, time)));
                }
                inside = false;
                offset += line.len() as u64;
                rest = after;
            }
            // A line that fills the buffer is passed over; a partial one is read again from its start.
            if rest.len() == buffer.len() || length < buffer.len() {
                inside = true;
                offset += rest.len() as u64;
            }
        }
        self.patience.set(self.patience.get().saturating_sub(to.saturating_sub(from)));
        Ok(None)
    }
}
