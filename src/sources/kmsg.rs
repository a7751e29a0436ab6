//! The kernel's ring buffer, `/dev/kmsg`: netfilter's LOG lines as the kernel wrote them. Records that a user wrote
//! into it are not taken for the kernel's.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use memchr::memchr;
use rustix::fs::{Mode, OFlags, SeekFrom};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use super::choice::KMSG;
use super::outlet::{Outlet, Stopped};
use super::{Batch, Position, Scan, Spec};
use crate::filters::{Hit, Memory, Record};
use crate::time::Timestamp;

/// Most records in one batch.
const MAX_RECORDS: u64 = 1024;

/// A record has up to 1 KiB of text (`LOG_LINE_MAX`), each byte of it four when escaped, and the fields of its device.
const FIRST_BUFFER: usize = 8 * 1024;

/// Beyond this a record is not read but passed over, in bytes.
const LARGEST_BUFFER: usize = 1024 * 1024;

/// Pause before the device is opened again.
const RETRY: Duration = Duration::from_secs(5);

/// One record of `/dev/kmsg`: `pri,sequence,usec,flags[,…];message\n KEY=value\n…` (Documentation/ABI/testing/dev-kmsg).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    facility: u32,
    sequence: u64,
    /// Microseconds on the monotonic clock.
    micros: u64,
    /// With `\xNN` escapes.
    pub(super) message: &'a [u8],
}

pub(super) fn parse(record: &[u8]) -> Option<Entry<'_>> {
    let (prefix, text) = record.split_at(memchr(b';', record)?);
    let mut fields = std::str::from_utf8(prefix).ok()?.split(',');
    let priority: u32 = fields.next()?.parse().ok()?;
    let sequence = fields.next()?.parse().ok()?;
    let micros = fields.next()?.parse().ok()?;
    let text = text.get(1..)?;
    let message = text.get(..memchr(b'\n', text).unwrap_or(text.len()))?;
    Some(Entry { facility: priority >> 3, sequence, micros, message })
}

/// Undoes the kernel's escapes, `\xNN` for a byte that is not printable and for the backslash.
pub(super) fn unescape(message: &[u8], into: &mut Vec<u8>) {
    into.clear();
    let mut rest = message;
    while let Some(backslash) = memchr(b'\\', rest) {
        let (before, escape) = rest.split_at(backslash);
        into.extend_from_slice(before);
        let byte = match escape {
            [b'\\', b'x', high, low, ..] => hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        into.push(byte.unwrap_or(b'\\'));
        rest = escape.get(if byte.is_some() { 4 } else { 1 }..).unwrap_or_default();
    }
    into.extend_from_slice(rest);
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// Reads the ring buffer until the source is stopped.
pub(super) fn run(spec: Spec, outlet: Outlet) -> Result<(), Stopped> {
    let mut kmsg = Kmsg::new(spec, outlet, boot_id());
    loop {
        let why = match device() {
            Ok(device) => {
                kmsg.outlet.recovered(&kmsg.log)?;
                kmsg.read_device(&device)?
            }
            Err(error) => error,
        };
        kmsg.outlet.trouble(&kmsg.log, trouble(why))?;
        let bell = Arc::clone(kmsg.outlet.bell());
        bell.wait([], Some(RETRY))?;
    }
}

/// The device, opened while that was permitted: with `kernel.dmesg_restrict` it takes a capability, which the daemon
/// gives up. All who read it share one place in it, and there is one reader at a time.
static KEPT: OnceLock<OwnedFd> = OnceLock::new();

/// Opens the device for good, if it can be.
pub(crate) fn keep_open() {
    if let Ok(device) = open(Path::new(KMSG)) {
        // A second call changes nothing.
        let _kept = KEPT.set(device);
    }
}

/// Whether there is something to be read.
pub(super) fn is_readable(path: &Path) -> bool {
    (path == Path::new(KMSG) && KEPT.get().is_some()) || std::fs::File::open(path).is_ok()
}

/// The device, at its oldest record.
fn device() -> Result<OwnedFd, Errno> {
    let Some(kept) = KEPT.get() else { return open(Path::new(KMSG)) };
    let device = rustix::io::fcntl_dupfd_cloexec(kept, 0)?;
    rustix::fs::seek(&device, SeekFrom::Start(0))?;
    Ok(device)
}

fn open(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
}

fn trouble(why: Errno) -> String {
    let remedy = match why {
        Errno::PERM | Errno::ACCESS => "Run banward as root or give it CAP_SYSLOG",
        Errno::NOENT => "In a container, pass the device in, or name another source",
        _ => "It is tried again every 5 seconds",
    };
    format!("{KMSG} cannot be read: {why}. {remedy}.")
}

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}

struct Kmsg {
    scan: Arc<dyn Scan>,
    outlet: Outlet,
    log: Arc<str>,
    boot: String,
    /// Records before this one are passed over.
    from: u64,
    /// Records before this one refill the windows only.
    applied: u64,
    /// Records before this time are passed over, where no position says better.
    since: Timestamp,
    /// Whether this boot's records were read before: what came after them counts, however long ago.
    resumed: bool,
    /// The sequence number that comes next if nothing is lost; unknown before the first record of a first start.
    expected: Option<u64>,
    caught_up: bool,
    buffer: Vec<u8>,
    message: Vec<u8>,
    memory: Memory,
}

/// What is gathered for a batch.
#[derive(Default)]
struct Gathered {
    hits: Vec<Hit>,
    warm: bool,
    records: u64,
    lines: u64,
    bytes: u64,
    latest: Option<Timestamp>,
}

/// The two clocks, read together.
#[derive(Clone, Copy)]
struct Clocks {
    now: Timestamp,
    monotonic: Duration,
}

impl Clocks {
    fn read() -> Clocks {
        let monotonic = Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap_or_default();
        Clocks { now: Timestamp::now(), monotonic }
    }

    /// The wall time of a moment of the monotonic clock, never later than now. Taken from now, not from the time of the
    /// boot: the clock of the records stands still while the machine is suspended.
    fn wall(self, micros: u64) -> Timestamp {
        self.now - self.monotonic.saturating_sub(Duration::from_micros(micros))
    }
}

impl Kmsg {
    fn new(spec: Spec, outlet: Outlet, boot: String) -> Kmsg {
        let log: Arc<str> = Arc::from("kmsg");
        let left = spec.resume.get(&log).and_then(|position| left_in_boot(position, &boot));
        let applied = left.unwrap_or_default();
        let from = if spec.refill { 0 } else { applied };
        Kmsg {
            scan: spec.scan,
            outlet,
            log,
            boot,
            from,
            applied,
            since: spec.since,
            resumed: left.is_some(),
            expected: left,
            caught_up: false,
            buffer: vec![0; FIRST_BUFFER],
            message: Vec::new(),
            memory: Memory::default(),
        }
    }

    /// Reads until the device fails.
    fn read_device(&mut self, device: &OwnedFd) -> Result<Errno, Stopped> {
        let bell = Arc::clone(self.outlet.bell());
        loop {
            let mut gathered = Gathered::default();
            let end = self.gather(device, &mut gathered)?;
            self.report(gathered)?;
            match end {
                None => {}
                Some(Errno::AGAIN) => {
                    if !self.caught_up {
                        self.caught_up = true;
                        self.outlet.caught_up()?;
                    }
                    bell.wait([device.as_fd()], None)?;
                }
                Some(error) => return Ok(error),
            }
        }
    }

    /// Reads records until there are none, or enough, or they cease to be warm.
    fn gather(&mut self, device: &OwnedFd, gathered: &mut Gathered) -> Result<Option<Errno>, Stopped> {
        let clocks = Clocks::read();
        while gathered.records < MAX_RECORDS {
            match rustix::io::read(device, &mut self.buffer) {
                Ok(0) => return Ok(Some(Errno::AGAIN)),
                Ok(length) => {
                    let record = std::mem::take(&mut self.buffer);
                    let taken = self.take(record.get(..length).unwrap_or_default(), clocks, gathered);
                    self.buffer = record;
                    taken?;
                }
                // Records were overwritten before they were read. The next read gives the oldest one that is left, and
                // the gap in its sequence number says how many.
                Err(Errno::PIPE | Errno::INTR) => {}
                Err(Errno::INVAL) if self.buffer.len() < LARGEST_BUFFER => {
                    let larger = self.buffer.len() * 2;
                    self.buffer.resize(larger, 0);
                }
                Err(error) => return Ok(Some(error)),
            }
        }
        Ok(None)
    }

    fn take(&mut self, record: &[u8], clocks: Clocks, gathered: &mut Gathered) -> Result<(), Stopped> {
        let Some(entry) = parse(record) else { return Ok(()) };
        if entry.sequence < self.from {
            return Ok(());
        }
        self.count_lost(entry.sequence)?;
        let warm = entry.sequence < self.applied;
        if gathered.records > 0 && gathered.warm != warm {
            self.report(std::mem::take(gathered))?;
        }
        gathered.warm = warm;
        gathered.records += 1;
        gathered.bytes += record.len() as u64;
        self.from = entry.sequence.saturating_add(1);
        let time = clocks.wall(entry.micros);
        // What a user writes into the device can have any facility but the kernel's, 0.
        let irrelevant = time < self.since && (warm || !self.resumed);
        if entry.facility != 0 || irrelevant {
            return Ok(());
        }
        unescape(entry.message, &mut self.message);
        self.scan.record(
            &Record { time, program: b"kernel", process: b"", message: &self.message },
            &mut self.memory,
            &mut gathered.hits,
        );
        gathered.lines += 1;
        gathered.latest = gathered.latest.max(Some(time));
        Ok(())
    }

    fn count_lost(&mut self, sequence: u64) -> Result<(), Stopped> {
        let lost = self.expected.map_or(0, |expected| sequence.saturating_sub(expected));
        let next = sequence.saturating_add(1);
        self.expected = Some(self.expected.map_or(next, |expected| expected.max(next)));
        if lost == 0 {
            return Ok(());
        }
        let text = format!(
            "The kernel overwrote {lost} records before they were read. Limit the LOG rules (-m limit), or boot with a \
             larger log_buf_len."
        );
        self.outlet.lost(&self.log, lost, text)
    }

    fn report(&mut self, gathered: Gathered) -> Result<(), Stopped> {
        if gathered.records == 0 {
            return Ok(());
        }
        self.outlet.suppressed(&self.log, &mut self.memory, gathered.warm)?;
        self.outlet.batch(Batch {
            source: self.outlet.source(),
            log: Arc::clone(&self.log),
            hits: gathered.hits,
            position: Some(Position::Kmsg { boot: self.boot.clone(), sequence: self.from }),
            warm: gathered.warm,
            lines: gathered.lines,
            bytes: gathered.bytes,
            latest: gathered.latest,
        })
    }
}

/// The sequence number of a position, if it is of this boot.
fn left_in_boot(position: &Position, boot: &str) -> Option<u64> {
    match position {
        Position::Kmsg { boot: of, sequence } if of == boot => Some(*sequence),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
