//! `banctl replay --diff`: whom another configuration would ban, spare, or ban at another time. Both read each line
//! once, side by side; the same logs always give the same answer.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use serde::Serialize;

use super::lane::Lane;
use super::{clock, walk};
use crate::ctl::output::{Output, counted};
use crate::ctl::table::{self, Column};
use crate::ctl::when::Reader;
use crate::ctl::{Context, Error, target};
use crate::pipeline::event::Event;
use crate::setup::Setup;
use crate::time::{Timestamp, Until, format_duration};

/// The bans of one prefix under one configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Sentence {
    /// The first ban, and by which jail.
    time: Timestamp,
    jail: Arc<str>,
    bans: u64,
    /// All bans together; `null` when one of them is for ever.
    seconds: Option<u64>,
}

type Sentences = BTreeMap<IpNet, Sentence>;

/// What the other configuration changes for a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Change {
    Gained,
    Lost,
    Sooner,
    Later,
    Longer,
    Shorter,
}

impl Change {
    const ALL: [(Change, &str); 6] = [
        (Change::Gained, "gained"),
        (Change::Lost, "lost"),
        (Change::Sooner, "sooner"),
        (Change::Later, "later"),
        (Change::Longer, "longer"),
        (Change::Shorter, "shorter"),
    ];

    fn word(self) -> &'static str {
        Change::ALL.iter().find(|(change, _)| *change == self).map_or("", |(_, word)| word)
    }

    /// Nothing where nothing changes; a ban may come sooner and be longer.
    fn between(before: Option<&Sentence>, after: Option<&Sentence>) -> Vec<Change> {
        let (Some(before), Some(after)) = (before, after) else {
            return if before.is_some() { vec![Change::Lost] } else { vec![Change::Gained] };
        };
        let of = |order: std::cmp::Ordering, less, more| match order {
            std::cmp::Ordering::Less => Some(less),
            std::cmp::Ordering::Equal => None,
            std::cmp::Ordering::Greater => Some(more),
        };
        let length = |sentence: &Sentence| sentence.seconds.unwrap_or(u64::MAX);
        let time = of(after.time.cmp(&before.time), Change::Sooner, Change::Later);
        time.into_iter().chain(of(length(after).cmp(&length(before)), Change::Shorter, Change::Longer)).collect()
    }
}

/// A prefix whose bans differ.
#[derive(Serialize)]
struct Row {
    prefix: IpNet,
    changes: Vec<Change>,
    before: Option<Sentence>,
    after: Option<Sentence>,
}

/// The last line, in JSON.
#[derive(Serialize)]
struct Summary {
    lines: u64,
    bytes: u64,
    #[serde(flatten)]
    changes: BTreeMap<&'static str, u64>,
    same: u64,
}

pub(super) fn run(one: &Setup, other: &Setup, files: &[PathBuf], context: &mut Context) -> Result<(), Error> {
    let mut lanes = [Lane::new(one), Lane::new(other)];
    let mut sentences = [Sentences::new(), Sentences::new()];
    let (mut read, mut bytes, clock) = (0, 0, clock());
    for path in files {
        let seen = walk::through(path, &mut lanes, &clock, |lane, event| {
            add(&mut sentences[lane], event);
            Ok(())
        })?;
        read += seen.lines;
        bytes += seen.bytes;
    }
    let [before, after] = sentences;
    let (rows, same) = compare(before, after);
    let mut changes: BTreeMap<&str, u64> = Change::ALL.iter().map(|(_, word)| (*word, 0)).collect();
    for change in rows.iter().flat_map(|row| &row.changes) {
        *changes.entry(change.word()).or_default() += 1;
    }
    let summary = Summary { lines: read, bytes, changes, same };
    if context.globals.json {
        rows.iter().try_for_each(|row| context.out.json(row))?;
        return Ok(context.out.json(&summary)?);
    }
    print(&rows, &summary, &mut context.out)
}

fn add(sentences: &mut Sentences, event: &Event) {
    let (Some(prefix), Some(jail), Some(until)) = (event.prefix, &event.jail, event.until) else { return };
    let length = match until {
        Until::At(end) => Some(end.since(event.time).as_secs()),
        Until::Forever => None,
    };
    let fresh = || Sentence { time: event.time, jail: Arc::clone(jail), bans: 0, seconds: Some(0) };
    let sentence = sentences.entry(prefix).or_insert_with(fresh);
    sentence.bans += 1;
    sentence.seconds = sentence.seconds.zip(length).map(|(so_far, length)| so_far.saturating_add(length));
}

/// Those that differ, by prefix, and how many do not.
fn compare(before: Sentences, mut after: Sentences) -> (Vec<Row>, u64) {
    let (mut rows, mut same) = (Vec::new(), 0);
    for (prefix, sentence) in before {
        let other = after.remove(&prefix);
        let changes = Change::between(Some(&sentence), other.as_ref());
        if changes.is_empty() {
            same += 1;
        } else {
            rows.push(Row { prefix, changes, before: Some(sentence), after: other });
        }
    }
    rows.extend(after.into_iter().map(|(prefix, sentence)| {
        let changes = Change::between(None, Some(&sentence));
        Row { prefix, changes, before: None, after: Some(sentence) }
    }));
    rows.sort_by(|one, other| (&one.changes, one.prefix).cmp(&(&other.changes, other.prefix)));
    (rows, same)
}

fn print(rows: &[Row], summary: &Summary, out: &mut Output) -> Result<(), Error> {
    let reader = Reader::new(out.is_terminal());
    let columns =
        [Column::text("change"), Column::text("address"), Column::text("before").shrinking(), Column::text("after")];
    let cells = |row: &Row| {
        let changes: Vec<&str> = row.changes.iter().map(|change| change.word()).collect();
        let [before, after] = [&row.before, &row.after].map(|sentence| shown(sentence.as_ref(), &reader));
        vec![changes.join(", "), target::show(&row.prefix), before, after]
    };
    if !rows.is_empty() {
        table::print(out, &columns, &rows.iter().map(cells).collect::<Vec<_>>())?;
        out.line("")?;
    }
    let changes = Change::ALL.map(|(_, word)| format!("{} {word}", summary.changes[word]));
    out.line(&format!("{}; {} the same", changes.join(", "), summary.same))?;
    Ok(out.line(&format!("{} read", counted(summary.lines, "line", "lines")))?)
}

/// `sshd at 2026-11-21T01:30:00Z for 10m`.
fn shown(sentence: Option<&Sentence>, reader: &Reader) -> String {
    let Some(Sentence { time, jail, bans, seconds }) = sentence else { return "not banned".to_owned() };
    let length = match seconds {
        Some(seconds) => format!("for {}", format_duration(Duration::from_secs(*seconds))),
        None => "for ever".to_owned(),
    };
    let more = if *bans > 1 { format!(" in {bans} bans") } else { String::new() };
    format!("{jail} at {} {length}{more}", reader.show_seconds(*time))
}
