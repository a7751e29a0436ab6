//! `banctl scan`: which lines of log files are evidence, against whom, by which filter. Works offline; it bans nobody.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::input;
use super::near::Near;
use super::output::{counted, json_line};
use crate::config::problem::Problems;
use crate::filters::{Clock, Effect, Evidence, Filter, Filters, Finding, Matcher, Memory, Mode, Offender};
use crate::text::escape;
use crate::time::Timestamp;

/// What is looked at, and by which filters.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each file is read by itself; nothing carries over to the next. No hits is no error.
Lines that look like failures and match nothing are shown behind the hits, as messages.

Examples:
  banctl scan --filter sshd /var/log/auth.log
  journalctl -o short-iso | banctl scan --all -
  banctl scan --filter vsftpd --near /var/log/vsftpd.log")]
pub(crate) struct Args {
    /// Filter to try; may be given several times
    #[arg(long, value_name = "NAME", required_unless_present = "all", conflicts_with = "all", value_delimiter = ',')]
    filter: Vec<String>,
    /// Try every filter there is
    #[arg(long)]
    all: bool,
    /// Folder of filters, instead of those that the configuration names
    #[arg(long, value_name = "DIR")]
    filters: Option<PathBuf>,
    /// Show every shape of line that looks like a failure and matches nothing; with --json too, behind the hits
    #[arg(long)]
    near: bool,
    /// Log files; - is standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

impl Args {
    /// Whether the folders of the configuration are needed at all.
    pub(super) fn brings_filters(&self) -> bool {
        self.filters.is_some()
    }
}

/// Why a scan did not do all that was asked.
#[derive(Debug)]
pub(crate) enum ScanError {
    /// The problems have been shown.
    Filters,
    UnknownFilter {
        name: String,
        known: Vec<String>,
    },
    /// Each has been named.
    Unreadable {
        files: usize,
    },
    Output(io::Error),
}

impl ScanError {
    /// The exit status: 78 for what is wrong with filters, 1 otherwise.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            ScanError::Filters | ScanError::UnknownFilter { .. } => 78,
            ScanError::Unreadable { .. } | ScanError::Output(_) => 1,
        }
    }
}

impl fmt::Display for ScanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ScanError::Filters => f.write_str("the filters cannot be used until these problems are solved"),
            ScanError::UnknownFilter { name, known } => {
                write!(f, "there is no filter '{}'; there are: {}", name.escape_debug(), known.join(", "))
            }
            ScanError::Unreadable { files } => write!(f, "{files} of the files could not be read"),
            ScanError::Output(error) => write!(f, "the hits cannot be written: {error}"),
        }
    }
}

impl std::error::Error for ScanError {}

impl From<io::Error> for ScanError {
    fn from(error: io::Error) -> ScanError {
        ScanError::Output(error)
    }
}

/// Lines are gathered to blocks of at least this many bytes.
const BLOCK: usize = 256 << 10;

/// Longer lines are cut, as a source cuts them.
const LONGEST_LINE: usize = 16 << 10;

/// One hit, as `--json` shows it.
#[derive(serde::Serialize)]
struct Row<'a> {
    file: &'a str,
    line: u64,
    filter: &'a str,
    pattern: &'a str,
    addr: Option<IpAddr>,
    name: Option<&'a str>,
    time: Timestamp,
    user: Option<&'a str>,
    evidence: Evidence,
}

/// What all files together held.
#[derive(Default)]
struct Totals {
    lines: u64,
    hits: u64,
    cut: u64,
    /// `None` where nobody wants to see it.
    near: Option<Near>,
}

/// Scans the files, each by itself, at the strictest mode of each filter. A closed pipe ends it silently.
pub(crate) fn run(
    args: &Args,
    json: bool,
    filter_dirs: &[PathBuf],
    out: &mut impl Write,
    err: &mut impl Write,
) -> Result<(), ScanError> {
    let outcome = scan(args, json, filter_dirs, out, err).and_then(|()| Ok(out.flush()?));
    match outcome {
        Err(ScanError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}

fn scan(
    args: &Args,
    json: bool,
    filter_dirs: &[PathBuf],
    out: &mut impl Write,
    err: &mut impl Write,
) -> Result<(), ScanError> {
    let filters = chosen(args, filter_dirs, err)?;
    let near = (args.near || !json).then(|| Near::new(&filters, args.all));
    let scan = Scan { matcher: Matcher::new(filters.clone()), filters, clock: clock(), json };
    let (mut totals, mut unreadable) = (Totals { near, ..Totals::default() }, 0);
    for path in &args.files {
        if let Err(error) = scan.file(path, out, &mut totals)? {
            writeln!(err, "{}: {}", escape(&path.to_string_lossy()), escape(&error.to_string()))?;
            unreadable += 1;
        }
    }
    if !json {
        // What follows are messages; they come behind the hits where both go to a terminal.
        out.flush()?;
        let Totals { lines, hits, cut, .. } = totals;
        let cut = if cut == 0 { String::new() } else { format!(", {cut} longer than 16 KiB and cut") };
        let files = counted(args.files.len() as u64, "file", "files");
        let (hits, lines) = (counted(hits, "hit", "hits"), counted(lines, "line", "lines"));
        writeln!(err, "{hits} in {lines} of {files}{cut}")?;
    }
    match totals.near {
        Some(near) if json => near.write(out)?,
        Some(near) => near.say(args.near, err)?,
        None => {}
    }
    if unreadable > 0 { Err(ScanError::Unreadable { files: unreadable }) } else { Ok(()) }
}

/// The filters to use. Problems are shown here; warnings do not keep a filter from being used.
fn chosen(args: &Args, filter_dirs: &[PathBuf], err: &mut impl Write) -> Result<Vec<Arc<Filter>>, ScanError> {
    let problems = Problems::default();
    let dirs = args.filters.as_ref().map_or(filter_dirs, std::slice::from_ref);
    let filters = Filters::load(dirs, &problems);
    let failed = problems.has_errors();
    for problem in problems.into_sorted() {
        writeln!(err, "{problem}")?;
    }
    if failed {
        return Err(ScanError::Filters);
    }
    let strictest = |filter: &Arc<Filter>| filter.with_mode(Mode::Aggressive);
    if args.all {
        return Ok(filters.iter().map(strictest).collect());
    }
    let get = |name: &String| {
        let known = || filters.iter().map(|filter| filter.name.to_string()).collect();
        let unknown = || ScanError::UnknownFilter { name: name.clone(), known: known() };
        filters.get(name).map(|filter| strictest(&filter)).ok_or_else(unknown)
    };
    args.filter.iter().map(get).collect()
}

pub(super) fn clock() -> Clock {
    Clock { now: Timestamp::now(), zone: jiff::tz::TimeZone::system() }
}

/// What is the same for all files.
struct Scan {
    filters: Vec<Arc<Filter>>,
    matcher: Matcher,
    clock: Clock,
    json: bool,
}

/// Done, or why the log could not be read; that the output failed is the outer error.
type LogOutcome = Result<io::Result<()>, ScanError>;

impl Scan {
    fn file(&self, path: &Path, out: &mut impl Write, totals: &mut Totals) -> LogOutcome {
        match input::open(path, "scan …") {
            Ok(file) => self.log(&mut BufReader::with_capacity(64 << 10, file), &path.to_string_lossy(), out, totals),
            Err(error) => Ok(Err(error)),
        }
    }

    fn log(&self, log: &mut impl BufRead, file: &str, out: &mut impl Write, totals: &mut Totals) -> LogOutcome {
        let (mut block, mut memory) = (Vec::new(), Memory::default());
        let mut line = 1;
        loop {
            block.clear();
            match fill(log, &mut block) {
                Ok(cut) => totals.cut += cut,
                Err(error) => return Ok(Err(error)),
            }
            if block.is_empty() {
                return Ok(Ok(()));
            }
            let lines = self.block(&block, file, line, &mut memory, out, totals)?;
            totals.lines += lines;
            line += lines;
        }
    }

    /// Shows the hits of a block whose first line has the given number; returns how many lines it has.
    fn block(
        &self,
        block: &[u8],
        file: &str,
        first: u64,
        memory: &mut Memory,
        out: &mut impl Write,
        totals: &mut Totals,
    ) -> Result<u64, ScanError> {
        let mut found = Vec::new();
        self.matcher.search(block, &self.clock, memory, &mut |line, finding| {
            if finding.effect != Effect::Forgive {
                found.push((line.start, finding.clone()));
            }
        });
        let (mut line, mut counted) = (first, 0);
        for (offset, finding) in &found {
            line += newlines(block.get(counted..*offset));
            counted = *offset;
            totals.hits += 1;
            self.show(file, line, finding, out)?;
        }
        if let Some(near) = &mut totals.near {
            let mut hits = found.iter().map(|(offset, _)| *offset).peekable();
            for (number, (offset, text)) in (first..).zip(lines(block)) {
                while hits.peek().is_some_and(|hit| *hit < offset) {
                    hits.next();
                }
                if hits.peek() != Some(&offset) {
                    near.look(text, file, number);
                }
            }
        }
        let rest = newlines(block.get(counted..));
        Ok(line - first + rest + u64::from(!block.ends_with(b"\n")))
    }

    fn show(&self, file: &str, line: u64, finding: &Finding, out: &mut impl Write) -> Result<(), ScanError> {
        let Some(filter) = self.filters.get(usize::from(finding.filter)) else { return Ok(()) };
        let pattern = filter.patterns.get(usize::from(finding.pattern)).map_or("", |pattern| &pattern.name);
        let (addr, name) = match &finding.offender {
            Offender::Address(address) => (Some(*address), None),
            Offender::Name(name) => (None, Some(name.as_str())),
        };
        let (time, user, evidence) = (finding.time, finding.user.as_deref(), finding.evidence);
        if self.json {
            let row = Row { file, line, filter: &filter.name, pattern, addr, name, time, user, evidence };
            return Ok(json_line(out, &row)?);
        }
        let offender = addr.map_or_else(|| name.unwrap_or_default().to_owned(), |address| address.to_string());
        write!(out, "{}:{line}  {offender:<15}  {}/{pattern}  {time}", escape(file), filter.name)?;
        match user {
            Some(user) => writeln!(out, "  user={}", user.escape_debug())?,
            None => writeln!(out)?,
        }
        Ok(())
    }
}

/// The lines of a block, each with its offset.
pub(super) fn lines(block: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut at = 0;
    block.split_inclusive(|byte| *byte == b'\n').map(move |line| {
        let offset = at;
        at += line.len();
        (offset, line)
    })
}

fn newlines(text: Option<&[u8]>) -> u64 {
    memchr::memchr_iter(b'\n', text.unwrap_or_default()).count() as u64
}

/// Adds whole lines to the block until it is full or the log ends; returns how many had to be cut.
pub(super) fn fill(log: &mut impl BufRead, block: &mut Vec<u8>) -> io::Result<u64> {
    let mut cut = 0;
    while block.len() < BLOCK {
        let read = log.by_ref().take(LONGEST_LINE as u64).read_until(b'\n', block)?;
        if read == 0 {
            break;
        }
        if read == LONGEST_LINE && !block.ends_with(b"\n") {
            cut += u64::from(log.skip_until(b'\n')? > 1);
            block.push(b'\n');
        }
    }
    Ok(cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILTER: &str = r#"
description = "d"
format = "syslog"
programs = ["d"]
[[pattern]]
name = "no"
regex = '^no (?<user>.*) from <ADDR>$'
[[pattern]]
name = "yes"
regex = '^yes (?<user>.*) from <ADDR>$'
forgive = true
"#;

    fn scan(arguments: &[&str], log: &[u8]) -> (String, String, Option<u8>) {
        #[derive(clap::Parser)]
        struct Cli {
            #[command(flatten)]
            args: Args,
            #[arg(long)]
            json: bool,
        }
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("d.toml"), FILTER).unwrap();
        std::fs::write(dir.path().join("log"), log).unwrap();
        let log = dir.path().join("log");
        let arguments = [&["scan"], arguments, &[log.to_str().unwrap()]].concat();
        let cli = <Cli as clap::Parser>::try_parse_from(arguments).unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let outcome = run(&cli.args, cli.json, &[dir.path().to_owned()], &mut out, &mut err);
        let text = |bytes| String::from_utf8(bytes).unwrap().replace(dir.path().to_str().unwrap(), "");
        (text(out), text(err), outcome.err().map(|error| error.exit_code()))
    }

    #[test]
    fn a_hit_is_shown_with_its_file_line_filter_and_pattern() {
        let log =
            b"2026-11-20T01:30:00Z h d: yes a from 192.0.2.9\n2026-11-20T01:30:00Z h d: no a\x07 from 192.0.2.9\n\n";
        let (out, err, code) = scan(&["--all"], log);
        assert_eq!(out, "/log:2  192.0.2.9        d/no  2026-11-20T01:30:00Z  user=a\\u{7}\n");
        let near = "1 line looks like this service and matches nothing; here is its shape:\n       \
                    1  d: yes a from <ADDR>\n          /log:1: 2026-11-20T01:30:00Z h d: yes a from 192.0.2.9\n";
        assert!(err.starts_with("1 hit in 3 lines of 1 file\n") && err.contains(near), "{err}");
        assert_eq!(code, None);
    }

    #[test]
    fn json_names_what_is_only_a_name() {
        let log = b"2026-11-20T01:30:00Z h d: no a from h.example.org\n2026-11-20T01:30:00Z h d: no b from 192.0.2.9";
        let (out, err, code) = scan(&["--filter", "d", "--json"], log);
        let first = r#"{"file":"/log","line":1,"filter":"d","pattern":"no","addr":null,"name":"h.example.org","#;
        assert!(out.starts_with(first), "{out}");
        let second = r#"{"file":"/log","line":2,"filter":"d","pattern":"no","addr":"192.0.2.9","name":null,"#;
        assert!(out.contains(second), "{out}");
        assert_eq!((err.as_str(), code), ("", None));
    }

    #[test]
    fn the_end_of_a_line_that_was_cut_is_not_taken_for_its_end() {
        let mut log = b"2026-11-20T01:30:00Z h d: no ".to_vec();
        let forged = b" from 192.0.2.1";
        log.resize(LONGEST_LINE - forged.len(), b'a');
        log.extend_from_slice(forged);
        log.extend_from_slice(b" from 203.0.113.5\n2026-11-20T01:30:00Z h d: no b from 192.0.2.9\n");
        let (out, err, _) = scan(&["--all"], &log);
        assert!(out.starts_with("/log:2  192.0.2.9 "), "{out}");
        assert_eq!(err, "1 hit in 2 lines of 1 file, 1 longer than 16 KiB and cut\n");
    }

    #[test]
    fn near_misses_are_messages_and_objects_only_when_asked_for() {
        let log = b"2026-11-20T01:30:00Z h d: no a from 192.0.2.9\n2026-11-20T01:30:00Z h d: hey \x1b[2J 192.0.2.1\n\
                    2026-11-20T01:30:00Z h d: hey \x1b[2J 192.0.2.2\n2026-11-20T01:30:00Z h x: failed \x7f 192.0.2.3\n";
        let (out, err, _) = scan(&["--filter", "d"], log);
        assert_eq!(out.lines().count(), 1, "{out}");
        let said = "1 hit in 4 lines of 1 file\n2 lines look like this service and match nothing; here is their shape:\n       \
                    2  d: hey \\u{1b}[2J <ADDR>\n          /log:2: 2026-11-20T01:30:00Z h d: hey \\u{1b}[2J 192.0.2.1\n";
        assert!(err.starts_with(said), "{err}");
        let (out, err, _) = scan(&["--filter", "d", "--json"], log);
        assert_eq!((out.lines().count(), err.as_str()), (1, ""), "{out}");
        let (out, _, _) = scan(&["--all", "--json", "--near"], log);
        let near: Vec<&str> = out.lines().skip(1).collect();
        let failed = r#"{"count":1,"shape":"x: failed \u007f <ADDR>","program":"x","file":"/log","line":4,"#;
        assert!(near.len() == 2 && near[0].starts_with(failed), "{out}");
    }

    #[test]
    fn what_sounds_like_a_success_is_not_near() {
        let log =
            b"2026-11-20T01:30:00Z h d: accepted a from 192.0.2.9\n2026-11-20T01:30:00Z h d: failed, no address\n";
        let (out, err, _) = scan(&["--all", "--near"], log);
        let said = "0 hits in 2 lines of 1 file\nno other line looks like this service\n";
        assert_eq!((out.as_str(), err.as_str()), ("", said));
    }

    #[test]
    fn unknown_filters_and_unreadable_files_are_named() {
        assert_eq!(scan(&["--filter", "x"], b"").2, Some(78));
        let (_, err, code) = scan(&["--all", "/nowhere/log"], b"");
        assert!(err.starts_with("/nowhere/log: "), "{err}");
        assert_eq!(code, Some(1));
    }
}
