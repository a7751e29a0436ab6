//! `banctl status`: one calm screen. How it is comes first, what is wrong and what to do about it comes last.

use crate::text::escape;
use std::time::Duration;

use crate::control::{Health, JailStatus, ListStatus, Missing, SourceStatus, Status};

use super::output::{Output, Style, counted, grouped};
use super::table::{self, Column};
use super::when::{Reader, brief};
use super::{Context, Error, status_by};

pub(super) fn run(context: &mut Context) -> Result<(), Error> {
    let status = status_by(&mut context.connect()?)?;
    if context.globals.json { Ok(context.out.json(&status)?) } else { print(&status, &mut context.out) }
}

fn print(status: &Status, out: &mut Output) -> Result<(), Error> {
    let reader = Reader::new(out.is_terminal());
    print_head(status, &reader, out)?;
    if !status.jails.is_empty() {
        out.line("")?;
        let counted = status.jails.iter().any(|jail| jail.dropped.is_some());
        let columns = if counted { &JAILS[..] } else { &JAILS[..UNCOUNTED] };
        table::print(out, columns, &status.jails.iter().map(jail_cells).collect::<Vec<_>>())?;
    }
    if !status.sources.is_empty() {
        out.line("")?;
        table::print(
            out,
            &SOURCES,
            &status.sources.iter().map(|source| source_cells(source, &reader)).collect::<Vec<_>>(),
        )?;
    }
    for SourceStatus { log, suppressed, forgers, .. } in &status.sources {
        if let Some(missing) = suppressed {
            out.line(&escape(&left_out(log, missing, &reader)))?;
        }
        if let Some(who) = forgers {
            out.line(&escape(&format!("{log}: {who} may write it, and so decides whom its lines ban")))?;
        }
    }
    if !status.lists.is_empty() {
        out.line("")?;
        table::print(out, &LISTS, &status.lists.iter().map(|list| list_cells(list, &reader)).collect::<Vec<_>>())?;
    }
    print_troubles(status, out)
}

fn print_head(status: &Status, reader: &Reader, out: &mut Output) -> Result<(), Error> {
    let (style, word, meaning) = match status.health {
        Health::Starting => (Style::Warning, "starting", "the kernel is being given the bans"),
        Health::Ok => (Style::Good, "ok", "guarding this machine"),
        Health::Degraded => (Style::Warning, "degraded", "guarding, but see the troubles below"),
        Health::Failing => (Style::Bad, "failing", "the kernel does not hold the bans"),
        Health::Observing => (Style::Warning, "observing", "decides and records, enforces nothing"),
    };
    let up = brief(reader.now.since(status.started));
    let listed = if status.listed == 0 { String::new() } else { format!(", and {} on lists", grouped(status.listed)) };
    let held = counted(status.installed, "entry", "entries");
    let bans = format!("{} now{listed}; {held} in the kernel", grouped(status.bans));
    out.line(&format!("{}, {meaning}", out.styled(style, word)))?;
    out.line("")?;
    for (title, text) in [
        ("daemon", format!("banward {}, process {}, up {up}", escape(&status.version), status.pid)),
        ("config", escape(&status.config).into_owned()),
        ("backend", backend(status)),
        ("bans", bans),
    ] {
        out.line(&format!("{}  {text}", out.styled(Style::Bold, &format!("{title:<7}"))))?;
    }
    Ok(())
}

/// The backend is not known before it has opened.
fn backend(status: &Status) -> String {
    match (&*status.backend, &*status.backend_reason) {
        ("", _) => "not open yet".to_owned(),
        (name, "") => escape(name).into_owned(),
        (name, reason) => format!("{}, because {}", escape(name), escape(reason)),
    }
}

/// What counts since the start comes first, what is so now comes last.
const JAILS: [Column; 10] = [
    Column::text("jail").shrinking(),
    Column::text("filter").optional(),
    Column::number("hits").optional(),
    Column::number("offences").optional(),
    Column::number("ignored").optional(),
    Column::number("bans"),
    Column::number("banned now"),
    Column::number("tracked now").optional(),
    Column::number("packets").optional(),
    Column::number("never hit").optional(),
];

/// Columns of [`JAILS`] before those that the kernel counts.
const UNCOUNTED: usize = 8;

fn jail_cells(status: &JailStatus) -> Vec<String> {
    let JailStatus { jail, filter, hits, offences, bans, banned_now, ignored, tracked, dropped, .. } = status;
    let numbers = [*hits, *offences, *ignored, *bans, *banned_now, *tracked].map(grouped);
    let counted = match dropped {
        Some(dropped) => [dropped.count.packets, dropped.never_hit].map(grouped),
        None => Default::default(),
    };
    [jail.clone(), filter.clone()].into_iter().chain(numbers).chain(counted).collect()
}

const SOURCES: [Column; 6] = [
    Column::text("source").shrinking(),
    Column::number("lines"),
    Column::number("hits").optional(),
    Column::number("lost"),
    Column::number("cut").optional(),
    Column::text("last line").shrinking(),
];

fn source_cells(status: &SourceStatus, reader: &Reader) -> Vec<String> {
    let SourceStatus { log, lines, bytes: _, hits, lost, suppressed: _, cut, latest, live, trouble, forgers: _ } =
        status;
    let lag = latest.map_or_else(|| "none yet".to_owned(), |time| ago(reader.now.since(time)));
    let last = match trouble {
        Some(trouble) => trouble.clone(),
        None if *live => lag,
        None => format!("{lag}, catching up"),
    };
    let numbers = [*lines, *hits, *lost, *cut].map(grouped);
    [log.clone()].into_iter().chain(numbers).chain([last]).collect()
}

/// Counts that are samples say so.
pub(super) fn left_out(log: &str, missing: &Missing, reader: &Reader) -> String {
    let Missing { lines, by, time } = missing;
    let lines = if *lines == 0 { "some lines".to_owned() } else { counted(*lines, "line", "lines") };
    format!("{log}: {lines} left out by {by}, last at {}; its counts are too low", reader.show_seconds(*time))
}

fn ago(lag: Duration) -> String {
    if lag.as_secs() == 0 { "just now".to_owned() } else { format!("{} ago", brief(lag)) }
}

const LISTS: [Column; 3] = [Column::text("list").shrinking(), Column::number("entries"), Column::text("until")];

fn list_cells(status: &ListStatus, reader: &Reader) -> Vec<String> {
    vec![status.list.clone(), grouped(status.entries), reader.show_end(status.until)]
}

/// Whole, however narrow the terminal: the remedy stands at the end.
fn print_troubles(status: &Status, out: &mut Output) -> Result<(), Error> {
    if status.troubles.is_empty() {
        return Ok(());
    }
    out.line("")?;
    out.line(&out.styled(Style::Bad, "troubles"))?;
    for trouble in &status.troubles {
        let lines = trouble.lines().flat_map(|line| out.wrap(&escape(line), BULLET.len()));
        for (index, line) in lines.collect::<Vec<_>>().iter().enumerate() {
            out.line(&format!("{}{line}", if index == 0 { BULLET } else { "   " }))?;
        }
    }
    Ok(())
}

const BULLET: &str = " - ";
