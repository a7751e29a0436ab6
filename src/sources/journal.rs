//! The journal, through a child `journalctl`: the format of the journal's files is systemd's own affair. The child is
//! restarted when it dies, behind the last entry that was read.

mod entry;

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use memchr::memchr;
use rustix::fs::{MemfdFlags, SealFlags};

use super::lines::without_half_address;
use super::outlet::{Outlet, Stopped};
use super::{BLOCK, Batch, MAX_LINE, Position, Scan, Spec, choice};
use crate::filters::{Hit, Memory, Record};
use crate::time::Timestamp;
use entry::Entry;

/// Longest entry in bytes of JSON; longer ones are passed over.
const MAX_ENTRY: usize = 1024 * 1024;

/// Most of what journalctl says on its standard error is kept, in bytes.
const MAX_COMPLAINT: usize = 4096;

/// Pause before journalctl is started again: the first, doubled each time, and the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The journal's fields that choose the entries, as arguments of journalctl. Fields that begin with `_` journald itself
/// vouches for; an identifier is what the writer calls itself.
pub(super) fn matches(units: &[String], identifiers: &[String], kernel: bool) -> Vec<String> {
    let mut groups = Vec::new();
    if kernel {
        // journald gives this transport also to what a user wrote into /dev/kmsg, but not the kernel's facility.
        groups.push(vec!["_TRANSPORT=kernel".to_owned(), "SYSLOG_FACILITY=0".to_owned()]);
    }
    groups.push(units.iter().map(|unit| format!("_SYSTEMD_UNIT={unit}")).collect());
    groups.push(identifiers.iter().map(|identifier| format!("SYSLOG_IDENTIFIER={identifier}")).collect());
    if !units.is_empty() || !identifiers.is_empty() {
        // What journald itself says of entries that it left out, of these units where there are any.
        let of_units = units.iter().map(|unit| format!("OBJECT_SYSTEMD_UNIT={unit}"));
        groups.push(SUPPRESSED.map(str::to_owned).into_iter().chain(of_units).collect());
    }
    groups.retain(|group: &Vec<String>| !group.is_empty());
    groups.join(&"+".to_owned())
}

/// What is read of an entry, besides its cursor and time.
const FIELDS: &str = "--output-fields=MESSAGE,SYSLOG_IDENTIFIER,_COMM,_PID,_UID,_EXE";

/// `SD_MESSAGE_JOURNAL_DROPPED`, from journald.
const SUPPRESSED: [&str; 2] = ["_TRANSPORT=driver", "MESSAGE_ID=a596d6fe7bfa4994828e72309e95d61e"];

/// Reads the journal until the source is stopped.
pub(super) fn run(spec: Spec, matches: &[String], outlet: Outlet) -> Result<(), Stopped> {
    run_with(spec, matches, outlet, || choice::journalctl().map(Path::to_owned))
}

/// As [`run`], with the journalctl that `program` finds.
fn run_with(
    spec: Spec,
    matches: &[String],
    outlet: Outlet,
    program: impl Fn() -> Option<PathBuf>,
) -> Result<(), Stopped> {
    let mut journal = Journal::new(spec, outlet);
    let mut pause = FIRST_PAUSE;
    loop {
        let ended = journal.read(program(), matches)?;
        if let Some(trouble) = ended.trouble {
            if ended.entries > 0 {
                pause = FIRST_PAUSE;
            }
            journal.outlet.trouble(&journal.log, trouble)?;
            let bell = Arc::clone(journal.outlet.bell());
            bell.wait([], Some(pause))?;
            pause = LONGEST_PAUSE.min(pause * 2);
        }
    }
}

struct Journal {
    scan: Arc<dyn Scan>,
    outlet: Outlet,
    log: Arc<str>,
    /// The last entry read.
    last: Option<(String, Timestamp)>,
    /// Entries up to this one refill the windows only.
    applied: Option<(String, Timestamp)>,
    /// The first start begins here; so does what follows a place that is no longer known.
    since: Timestamp,
    /// It has begun: what comes later in the journal is later, though the clock may have been set back meanwhile.
    begun: bool,
    /// What was there at the start has been read.
    live: bool,
    /// It was said that somebody writes in the name of a service.
    told_foreign: bool,
    memory: Memory,
}

/// How a run of journalctl ended.
struct Ended {
    entries: u64,
    /// `None`: as it should.
    trouble: Option<String>,
}

impl Journal {
    fn new(spec: Spec, outlet: Outlet) -> Journal {
        let log: Arc<str> = Arc::from("journal");
        let left = spec.resume.get(&log).and_then(cursor);
        // What came since it was left counts, however long ago that is.
        let since = left.as_ref().map_or(spec.since, |(_, time)| spec.since.min(*time));
        let (last, applied) = if spec.refill { (None, left) } else { (left, None) };
        Journal {
            scan: spec.scan,
            outlet,
            log,
            last,
            applied,
            since,
            begun: false,
            live: false,
            told_foreign: false,
            memory: Memory::default(),
        }
    }

    /// Runs journalctl once: before the source is live to the end of the journal, then for ever.
    fn read(&mut self, program: Option<PathBuf>, matches: &[String]) -> Result<Ended, Stopped> {
        let failed = |trouble: String| Ok(Ended { entries: 0, trouble: Some(trouble) });
        let Some(program) = program else {
            return failed("There is no journalctl. Install systemd, or name log files as the source.".to_owned());
        };
        let mut reader = match Reader::start(&program, &self.arguments(matches)) {
            Ok(reader) => reader,
            Err(error) => return failed(format!("{} cannot be run: {error}.", program.display())),
        };
        let entries = self.read_entries(&mut reader)?;
        let success = reader.child.wait().is_ok_and(|status| status.success());
        if success && !self.live {
            self.live = true;
            // All that was there has been read: the rest is new, whatever time it is stamped with.
            (self.begun, self.applied) = (true, None);
            self.outlet.recovered(&self.log)?;
            self.outlet.caught_up()?;
            return Ok(Ended { entries, trouble: None });
        }
        let complaint = reader.complaint();
        if complaint.contains("cursor") && entries == 0 {
            // It does not know the place any more; the time is the next best.
            self.since = self.last.take().map_or(self.since, |(_, time)| time);
            self.begun = false;
        }
        let trouble = format!(
            "journalctl ended ({complaint}). It is started again; see that systemd-journald runs and that banward may \
             read the journal (group systemd-journal)."
        );
        Ok(Ended { entries, trouble: Some(trouble) })
    }

    fn arguments(&self, matches: &[String]) -> Vec<OsString> {
        // Without --all, journalctl leaves out fields over 4 KiB.
        let mut arguments: Vec<OsString> =
            ["--output=json", "--all", "--quiet", "--no-pager", FIELDS].map(OsString::from).into();
        if self.live {
            arguments.extend(["--follow", "--no-tail"].map(OsString::from));
        }
        arguments.push(match &self.last {
            Some((cursor, _)) => format!("--after-cursor={cursor}").into(),
            None => format!("--since=@{}", self.since.as_secs()).into(),
        });
        arguments.extend(matches.iter().map(OsString::from));
        arguments
    }

    /// Reads what journalctl writes until it closes its output; says how many entries that were.
    fn read_entries(&mut self, reader: &mut Reader) -> Result<u64, Stopped> {
        let bell = Arc::clone(self.outlet.bell());
        let mut block = vec![0; BLOCK];
        let mut lines = Lines::default();
        let mut entries = 0;
        loop {
            bell.wait([reader.output.as_fd()], None)?;
            match rustix::io::read(&reader.output, &mut block) {
                Ok(0) => return Ok(entries),
                Ok(length) => entries += self.take(&mut lines, block.get(..length).unwrap_or_default())?,
                Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
                Err(_) => return Ok(entries),
            }
        }
    }

    /// Filters the entries that `read` completes.
    fn take(&mut self, lines: &mut Lines, read: &[u8]) -> Result<u64, Stopped> {
        let mut gathered = Gathered::default();
        let mut entries = 0;
        let mut rest = read;
        while let Some(newline) = memchr(b'\n', rest) {
            let (line, after) = rest.split_at(newline + 1);
            rest = after;
            let Some(line) = lines.complete(line) else {
                gathered.cut += 1;
                continue;
            };
            if let Some(entry) = Entry::parse(&line) {
                entries += 1;
                self.filter(&entry, line.len(), &mut gathered)?;
            }
        }
        lines.keep(rest);
        self.report(gathered)?;
        Ok(entries)
    }

    fn filter(&mut self, entry: &Entry, bytes: usize, gathered: &mut Gathered) -> Result<(), Stopped> {
        let time = entry.time().min(Timestamp::now());
        let warm = self.is_warm(entry);
        if gathered.lines > 0 && gathered.warm != warm {
            self.report(std::mem::take(gathered))?;
        }
        gathered.warm = warm;
        gathered.lines += 1;
        gathered.bytes += bytes as u64;
        gathered.latest = gathered.latest.max(Some(time));
        self.last = Some((entry.cursor.clone(), entry.time()));
        self.begun |= warm || time >= self.since;
        if !self.begun {
            return Ok(());
        }
        if let Some(writer) = entry.foreign() {
            self.tell_foreign(&writer);
            return Ok(());
        }
        let mut message = entry.message();
        if message.len() > MAX_LINE {
            message = without_half_address(&message[..MAX_LINE]);
            gathered.cut += 1;
        }
        self.scan.record(
            &Record { time, program: entry.program(), process: entry.process(), message },
            &mut self.memory,
            &mut gathered.hits,
        );
        Ok(())
    }

    /// Once: whoever writes such entries must not fill our log.
    fn tell_foreign(&mut self, writer: &str) {
        if !std::mem::replace(&mut self.told_foreign, true) {
            log::warn!("entries of the journal that {writer} wrote in the name of a service do not count");
        }
    }

    /// Whether the entry was applied before the last restart.
    fn is_warm(&mut self, entry: &Entry) -> bool {
        let Some((cursor, time)) = &self.applied else { return false };
        let is_last = *cursor == entry.cursor;
        let warm = is_last || entry.time() <= *time;
        if is_last || !warm {
            self.applied = None;
        }
        warm
    }

    fn report(&mut self, gathered: Gathered) -> Result<(), Stopped> {
        if gathered.lines > 0 {
            self.outlet.recovered(&self.log)?;
            self.outlet.suppressed(&self.log, &mut self.memory, gathered.warm)?;
            let position = self.last.clone().map(|(cursor, time)| Position::Journal { cursor, time });
            self.outlet.batch(Batch {
                source: self.outlet.source(),
                log: Arc::clone(&self.log),
                hits: gathered.hits,
                position,
                warm: gathered.warm,
                lines: gathered.lines,
                bytes: gathered.bytes,
                latest: gathered.latest,
            })?;
        }
        self.outlet.cut(gathered.cut)
    }
}

/// What is gathered for a batch.
#[derive(Default)]
struct Gathered {
    hits: Vec<Hit>,
    warm: bool,
    lines: u64,
    bytes: u64,
    cut: u64,
    latest: Option<Timestamp>,
}

/// The entry that a position is behind.
fn cursor(position: &Position) -> Option<(String, Timestamp)> {
    match position {
        Position::Journal { cursor, time } => Some((cursor.clone(), *time)),
        Position::File { .. } | Position::Kmsg { .. } => None,
    }
}

/// Puts lines together that come in pieces, each bounded.
#[derive(Default)]
struct Lines {
    pending: Vec<u8>,
    /// The line that is being put together is too long.
    too_long: bool,
}

impl Lines {
    fn keep(&mut self, piece: &[u8]) {
        self.too_long |= self.pending.len() + piece.len() > MAX_ENTRY;
        if self.too_long {
            self.pending.clear();
        } else {
            self.pending.extend_from_slice(piece);
        }
    }

    /// The line that this piece ends; `None` if it was too long.
    fn complete(&mut self, piece: &[u8]) -> Option<Vec<u8>> {
        self.keep(piece);
        let line = std::mem::take(&mut self.pending);
        (!std::mem::take(&mut self.too_long)).then_some(line)
    }
}

/// A journalctl at work. It is killed and reaped when this is dropped.
struct Reader {
    child: Child,
    output: ChildStdout,
    errors: File,
}

impl Reader {
    fn start(program: &Path, arguments: &[OsString]) -> io::Result<Reader> {
        let errors = complaints()?;
        let mut child = Command::new(program)
            .args(arguments)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors.try_clone()?)
            .spawn()?;
        match child.stdout.take() {
            Some(output) => Ok(Reader { child, output, errors }),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// The last line that journalctl wrote to its standard error.
    fn complaint(&self) -> String {
        let mut said = [0; MAX_COMPLAINT];
        let length = self.errors.read_at(&mut said, 0).unwrap_or(0);
        let said = String::from_utf8_lossy(said.get(..length).unwrap_or_default());
        let last = said.trim_matches(['\0', '\n']).lines().last().unwrap_or_default().trim();
        if last.is_empty() { "it did not say why".to_owned() } else { last.escape_debug().to_string() }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // Both fail only when it has ended and was reaped already.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// A file in memory for standard error. It cannot grow, so that a talkative child neither fills the memory nor, as with
/// a pipe that nobody empties, comes to a halt.
fn complaints() -> io::Result<File> {
    let file = rustix::fs::memfd_create("journalctl", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    rustix::fs::ftruncate(&file, MAX_COMPLAINT as u64)?;
    rustix::fs::fcntl_add_seals(&file, SealFlags::GROW | SealFlags::SHRINK)?;
    Ok(File::from(file))
}

/// An entry has a time within bounds, whatever it says (see `hostile.rs`).
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn read_as_fuzzers_do(line: &[u8]) {
    if let Some(entry) = Entry::parse(line) {
        assert!(entry.time() >= Timestamp::EPOCH, "a time before all");
        assert!(entry.message().len() + entry.process().len() + entry.program().len() <= 3 * line.len(), "it grew");
    }
}

#[cfg(test)]
mod tests;
