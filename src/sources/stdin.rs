//! Standard input: lines until its end. There is no position, for nothing can be read twice.

use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};

use super::lines::{self, Taken};
use super::outlet::{Outlet, Stopped};
use super::{BLOCK, Batch, Spec};
use crate::filters::{Clock, Memory};
use crate::lock::lock;
use crate::time::Timestamp;

/// What was read and has not been handed over. It outlives a reader that is stopped, for nothing can be read twice.
pub(super) struct Unread {
    buffer: Vec<u8>,
    /// How much of the buffer is filled.
    filled: usize,
    /// Whether it begins within a line that was cut.
    inside: bool,
}

impl Unread {
    pub(super) const fn new() -> Unread {
        Unread { buffer: Vec::new(), filled: 0, inside: false }
    }
}

/// Goes on with what is `unread` and reads `input` to its end.
pub(super) fn run(spec: &Spec, mut outlet: Outlet, input: impl AsFd, unread: &Mutex<Unread>) -> Result<(), Stopped> {
    let log: Arc<str> = Arc::from("stdin");
    let mut unread = lock(unread);
    unread.buffer.resize(BLOCK, 0);
    let mut memory = Memory::default();
    outlet.caught_up()?;
    loop {
        hand_over(&mut unread, &mut memory, spec, &outlet, &log)?;
        let bell = Arc::clone(outlet.bell());
        bell.wait([input.as_fd()], None)?;
        let filled = unread.filled;
        match rustix::io::read(input.as_fd(), &mut unread.buffer[filled..]) {
            Ok(0) => break,
            Ok(length) => unread.filled += length,
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            Err(error) => {
                outlet.trouble(&log, format!("Standard input cannot be read: {error}. It is not read any more."))?;
                break;
            }
        }
    }
    let mut last = Taken::default();
    let data = &unread.buffer[..unread.filled];
    last.scan(&*spec.scan, &clock(spec), &mut memory, data);
    last.bytes = data.len();
    report(&outlet, &log, last)?;
    unread.filled = 0;
    outlet.ended()
}

/// Reports the whole lines. Only what was reported is no longer unread.
fn hand_over(
    unread: &mut Unread,
    memory: &mut Memory,
    spec: &Spec,
    outlet: &Outlet,
    log: &Arc<str>,
) -> Result<(), Stopped> {
    let data = &unread.buffer[..unread.filled];
    let taken = lines::take(&*spec.scan, &clock(spec), memory, data, unread.inside);
    let (end, cut) = (taken.bytes, taken.cut);
    let inside = if end == 0 { unread.inside } else { data[end - 1] != b'\n' };
    outlet.suppressed(log, memory, false)?;
    report(outlet, log, taken)?;
    unread.buffer.copy_within(end..unread.filled, 0);
    unread.filled -= end;
    unread.inside = inside;
    outlet.cut(cut)
}

fn clock(spec: &Spec) -> Clock {
    Clock { now: Timestamp::now(), zone: spec.zone.clone() }
}

fn report(outlet: &Outlet, log: &Arc<str>, taken: Taken) -> Result<(), Stopped> {
    if taken.bytes == 0 {
        return Ok(());
    }
    outlet.batch(Batch {
        source: outlet.source(),
        log: Arc::clone(log),
        hits: taken.hits,
        position: None,
        warm: false,
        lines: taken.lines,
        bytes: taken.bytes as u64,
        latest: taken.latest,
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::sources::tests::{Harness, Recorder, spec};
    use crate::sources::{MAX_LINE, Place, Report};

    fn start(recorder: &Arc<Recorder>) -> (std::io::PipeWriter, Harness) {
        let (reader, writer) = std::io::pipe().unwrap();
        let spec = spec(Place::Stdin, recorder);
        (writer, Harness::start(move |outlet| run(&spec, outlet, reader, &Mutex::new(Unread::new()))))
    }

    #[test]
    fn lines_are_read_until_the_end_and_the_last_needs_no_newline() {
        let recorder = Arc::new(Recorder::default());
        let (mut writer, mut harness) = start(&recorder);
        writer.write_all(b"one\ntw").unwrap();
        harness.await_report("the first line", |report| matches!(report, Report::Batch(batch) if batch.lines == 1));
        writer.write_all(b"o\nthree").unwrap();
        drop(writer);
        harness.await_report("the end", |report| matches!(report, Report::Ended { source: 0 }));
        assert_eq!(recorder.lines(), ["one", "two", "three"]);
    }

    #[test]
    fn a_line_without_end_takes_bounded_memory_and_is_counted_once() {
        let recorder = Arc::new(Recorder::default());
        let (mut writer, mut harness) = start(&recorder);
        let feed = std::thread::spawn(move || {
            (0..64).for_each(|_| writer.write_all(&[b'x'; MAX_LINE]).unwrap());
            writer.write_all(b"\nshort\n").unwrap();
        });
        harness.await_report("the end", |report| matches!(report, Report::Ended { .. }));
        feed.join().unwrap();
        let lengths: Vec<usize> = recorder.lines().iter().map(String::len).collect();
        assert_eq!((lengths, harness.cut), (vec![MAX_LINE, 5], 1));
    }

    #[test]
    fn a_silent_input_can_be_stopped() {
        let (_writer, mut harness) = start(&Arc::new(Recorder::default()));
        harness.stop();
    }
}
