//! Where the reading of a log begins: where it was left, or at a time.

use std::collections::VecDeque;
use std::os::unix::fs::FileExt;

use memchr::memchr;

use super::family::{Names, find, successors};
use super::reader::{Identity, Mark, Reader};
use crate::filters::Clock;
use crate::sources::{MAX_LINE, Position, Scan};
use crate::time::Timestamp;

/// How far to look for a line with a time stamp, in bytes.
const PROBE: u64 = 1 << 20;

/// The files to read for a log that was left at `position`, oldest first; and whether the file where it was left is gone.
/// `refill`: where in that file the lines begin that windows still look at. That file may be the one that the log's name leads to (`current`), whatever its inode, for device numbers change
/// between boots; or one that it was renamed or copied to.
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
    let stamps = Stamps { reader, scan, clock };
    let (mut low, mut high) = (0, size);
    while high.saturating_sub(low) > MAX_LINE as u64 {
        let middle = low + (high - low) / 2;
        match stamps.first(middle, high, |_| true)? {
            Some((offset, time)) if time < since => low = offset,
            _ => high = middle,
        }
    }
    let found = stamps.first(low, size, |time| time >= since)?;
    reader.mark_at(found.map_or(size, |(offset, _)| offset))
}

/// Reads time stamps of lines anywhere in a file.
struct Stamps<'a> {
    reader: &'a Reader,
    scan: &'a dyn Scan,
    clock: &'a Clock,
}

impl Stamps<'_> {
    /// The first line that starts in `from..to` (but at most [`PROBE`] after it) and whose stamp is `wanted`.
    fn first(
        &self,
        from: u64,
        to: u64,
        wanted: impl Fn(Timestamp) -> bool,
    ) -> std::io::Result<Option<(u64, Timestamp)>> {
        let to = to.min(from.saturating_add(PROBE));
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
        Ok(None)
    }
}
