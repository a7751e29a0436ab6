//! Splits what was read into whole lines and runs the filters over them. A line is never scanned in part, except for
//! one that is too long: its beginning is.

use memchr::{memchr, memrchr};

use super::{MAX_LINE, Scan};
use crate::filters::{Clock, Hit, Memory};
use crate::time::Timestamp;

/// What became of a stretch of a log.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// How many bytes are done with; the rest is the beginning of a line that has not ended yet.
    pub(super) bytes: usize,
    pub(super) lines: u64,
    /// How many of the lines were too long.
    pub(super) cut: u64,
    pub(super) latest: Option<Timestamp>,
    pub(super) hits: Vec<Hit>,
}

/// Scans the whole lines at the beginning of `data`. With `inside`, `data` begins within a line that was cut: its rest
/// is passed over.
pub(super) fn take(scan: &dyn Scan, clock: &Clock, memory: &mut Memory, data: &[u8], inside: bool) -> Taken {
    let mut taken = Taken::default();
    let mut start = if inside { after_newline(data, 0) } else { 0 };
    let mut end = start;
    while let Some(rest) = data.get(end..) {
        let window = rest.get(..=MAX_LINE).unwrap_or(rest);
        if let Some(newline) = memrchr(b'\n', window) {
            end += newline + 1;
        } else if window.len() > MAX_LINE {
            taken.scan(scan, clock, memory, &data[start..end]);
            taken.scan(scan, clock, memory, without_half_address(&window[..MAX_LINE]));
            taken.cut += 1;
            end = after_newline(data, end + MAX_LINE);
            start = end;
        } else {
            break;
        }
    }
    taken.scan(scan, clock, memory, data.get(start..end).unwrap_or_default());
    taken.bytes = end;
    taken
}

impl Taken {
    pub(super) fn scan(&mut self, scan: &dyn Scan, clock: &Clock, memory: &mut Memory, lines: &[u8]) {
        if lines.is_empty() {
            return;
        }
        let scanned = scan.scan(lines, clock, memory, &mut self.hits);
        self.lines += scanned.lines;
        self.latest = self.latest.max(scanned.latest);
    }
}

/// Where the line that goes on at `from` has ended: after its newline, or at the end of the data.
fn after_newline(data: &[u8], from: usize) -> usize {
    let newline = data.get(from..).and_then(|rest| memchr(b'\n', rest));
    newline.map_or(data.len(), |newline| from + newline + 1)
}

/// A line that is cut must not end in the beginning of an address, which would be another one's: `192.0.2.1` is not
/// `192.0.2.10`. So it loses what an address may consist of at its end.
pub(super) fn without_half_address(line: &[u8]) -> &[u8] {
    let end = line.iter().rposition(|byte| !(byte.is_ascii_hexdigit() || matches!(byte, b'.' | b':')));
    end.and_then(|end| line.get(..=end)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::tests::{Recorder, clock};

    fn texts(data: &[u8], inside: bool) -> (Vec<String>, Taken) {
        let recorder = Recorder::default();
        let taken = take(&recorder, &clock(), &mut Memory::default(), data, inside);
        (recorder.lines(), taken)
    }

    #[test]
    fn only_whole_lines_are_taken() {
        let (lines, taken) = texts(b"one\ntwo\nthr", false);
        assert_eq!(lines, ["one", "two"]);
        assert_eq!((taken.bytes, taken.lines, taken.cut), (8, 2, 0));
    }

    #[test]
    fn the_rest_of_a_line_that_was_cut_is_passed_over() {
        let (lines, taken) = texts(b"rest\nnext\n", true);
        assert_eq!(lines, ["next"]);
        assert_eq!(taken.bytes, 10);
        let (lines, taken) = texts(b"no end", true);
        assert!(lines.is_empty());
        assert_eq!(taken.bytes, 6);
    }

    #[test]
    fn a_line_of_just_the_longest_length_is_whole() {
        let mut data = vec![b'x'; MAX_LINE];
        data.push(b'\n');
        let (lines, taken) = texts(&data, false);
        assert_eq!((lines.len(), lines[0].len(), taken.cut), (1, MAX_LINE, 0));
    }

    #[test]
    fn a_longer_line_is_cut_and_counted_and_its_neighbours_are_whole() {
        let mut data = b"before\n".to_vec();
        data.extend(std::iter::repeat_n(b'x', MAX_LINE + 1));
        data.extend(b"\nafter\n");
        let (lines, taken) = texts(&data, false);
        assert_eq!((lines[0].as_str(), lines[1].len(), lines[2].as_str()), ("before", MAX_LINE, "after"));
        assert_eq!((taken.bytes, taken.lines, taken.cut), (data.len(), 3, 1));
    }

    #[test]
    fn a_line_that_has_not_ended_is_cut_as_soon_as_it_is_too_long() {
        let data = vec![b'x'; MAX_LINE + 1];
        let (lines, taken) = texts(&data, false);
        assert_eq!((lines.len(), taken.bytes, taken.cut), (1, data.len(), 1));
    }

    #[test]
    fn a_cut_line_never_ends_in_half_an_address() {
        assert_eq!(without_half_address(b"from 192.0.2.1"), b"from ");
        assert_eq!(without_half_address(b"from [2001:db8::1"), b"from [");
        assert_eq!(without_half_address(b"12"), b"");
    }
}
