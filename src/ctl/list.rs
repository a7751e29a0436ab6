//! `banctl list`: who is banned.

use crate::text::escape;
use std::io::Write;
use std::sync::Arc;

use clap::Args;
use ipnet::IpNet;
use serde::Serialize;

use crate::control::client::{self, Answer, Connection};
use crate::control::{Command, Listed, Reply};
use crate::filters::Evidence;
use crate::firewall::Count;
use crate::ledger::Ban;
use crate::time::{Timestamp, Until};

use super::output::{self, grouped};
use super::table::{self, Column};
use super::when::{Reader, brief};
use super::{Context, Error, target};

/// Most bans that are held in memory, to be sorted and fitted into a table. More are printed as they come.
const SORTED: usize = 10_000;

#[derive(Debug, Args)]
#[command(after_help = "\
On a terminal, times are short and in your time zone; elsewhere they are
RFC 3339 in UTC. Bans that end first come first; more than 10,000 are printed
as they come.

Examples:
  banctl list --jail sshd
  banctl list --counters
  banctl list --json | jq -r 'select(.count > 3).prefix'")]
pub(super) struct Options {
    /// Only the bans of this jail; 'manual' and 'list:NAME' are jails, too
    #[arg(long, value_name = "JAIL")]
    jail: Option<String>,
    /// Also how many packets and bytes each ban has dropped, as the kernel counts them
    #[arg(long)]
    counters: bool,
}

/// A ban as `--json` prints it.
#[derive(Serialize)]
pub(super) struct JsonBan {
    prefix: IpNet,
    jail: Arc<str>,
    since: Timestamp,
    until: Until,
    reason: Arc<str>,
    count: u32,
    evidence: Evidence,
    /// `packets` and `bytes`, with `--counters`.
    #[serde(flatten)]
    dropped: Option<Count>,
}

impl From<Listed> for JsonBan {
    fn from(Listed { ban, dropped }: Listed) -> JsonBan {
        let Ban { prefix, jail, scope: _, since, until, reason, count, evidence } = ban;
        JsonBan { prefix, jail, since, until, reason, count, evidence, dropped }
    }
}

/// The bans of an answer to [`Command::List`], as they come.
pub(super) struct Bans<'a>(Answer<'a>);

impl Bans<'_> {
    pub(super) fn of(connection: &mut Connection, jail: Option<String>, counters: bool) -> Result<Bans<'_>, Error> {
        Ok(Bans(connection.ask(Command::List { jail, counters })?))
    }
}

impl Iterator for Bans<'_> {
    type Item = Result<Listed, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.0.next()? {
            Ok(Reply::Ban(ban)) => Some(Ok(ban)),
            Ok(Reply::Done { warnings, .. }) => {
                output::warn(&warnings);
                None
            }
            Ok(Reply::Refused { message }) => Some(Err(Error::Refused(message))),
            Ok(_) => Some(Err(client::Error::Unexpected.into())),
            Err(error) => Some(Err(error.into())),
        }
    }
}

pub(super) fn run(options: &Options, context: &mut Context) -> Result<(), Error> {
    let mut connection = context.connect()?;
    let mut bans = Bans::of(&mut connection, options.jail.clone(), options.counters)?;
    if context.globals.json {
        return bans.try_for_each(|ban| Ok(context.out.json(&JsonBan::from(ban?))?));
    }
    let mut first = Vec::new();
    for ban in bans.by_ref().take(SORTED + 1) {
        first.push(ban?);
    }
    if first.is_empty() {
        output::say("Nobody is banned.");
        return Ok(());
    }
    if first.len() > SORTED { print_stream(first, bans, context) } else { print_table(first, context) }
}

fn print_table(mut bans: Vec<Listed>, context: &mut Context) -> Result<(), Error> {
    bans.sort_by_cached_key(|Listed { ban, .. }| (ban.until, ban.prefix, Arc::clone(&ban.jail)));
    let reader = Reader::new(context.out.is_terminal());
    let counted = bans.iter().any(|ban| ban.dropped.is_some());
    let rows: Vec<_> = bans.iter().map(|ban| cells(ban, &reader).to_vec()).collect();
    let columns = columns();
    let shown = if counted { &columns[..] } else { &columns[..UNCOUNTED] };
    table::print(&mut context.out, shown, &rows)?;
    if context.out.is_terminal() {
        context.out.flush()?;
        let bans = output::counted(u64::try_from(rows.len()).unwrap_or(u64::MAX), "ban", "bans");
        output::say(&format!("{bans}; times in {}", reader.zone()));
    }
    Ok(())
}

/// Columns that are always there; those of the counters follow.
const UNCOUNTED: usize = 6;

fn columns() -> [Column; 8] {
    [
        Column::text("address"),
        Column::text("jail").shrinking(),
        Column::text("since").optional(),
        Column::text("until"),
        Column::number("remaining"),
        Column::number("count").optional(),
        Column::number("packets"),
        Column::number("bytes").optional(),
    ]
}

fn cells(Listed { ban, dropped }: &Listed, reader: &Reader) -> [String; 8] {
    let (packets, bytes) = match dropped {
        None => Default::default(),
        Some(Count { packets: 0, .. }) => ("never hit".to_owned(), String::new()),
        Some(Count { packets, bytes }) => (grouped(*packets), grouped(*bytes)),
    };
    [
        target::show(&ban.prefix),
        ban.jail.to_string(),
        reader.show(ban.since),
        reader.show_end(ban.until),
        ban.until.remaining(reader.now).map_or_else(|| "forever".to_owned(), brief),
        ban.count.to_string(),
        packets,
        bytes,
    ]
}

/// Fixed widths, which fit all but long IPv6 networks and long names, so that nothing has to be known in advance.
fn print_stream(first: Vec<Listed>, rest: Bans<'_>, context: &mut Context) -> Result<(), Error> {
    let reader = Reader::new(context.out.is_terminal());
    let when = if context.out.is_terminal() { 12 } else { 20 };
    let counted = first.iter().any(|ban| ban.dropped.is_some());
    let line = |[address, jail, since, until, remaining, count, packets, bytes]: [&str; 8]| {
        let line = format!("{address:<22}  {jail:<12}  {since:<when$}  {until:<when$}  {remaining:>9}  {count:>5}");
        if counted { format!("{line}  {packets:>13}  {bytes:>17}") } else { line }
    };
    let titles = ["address", "jail", "since", "until", "remaining", "count", "packets", "bytes"];
    context.out.line(&line(titles))?;
    for ban in first.into_iter().map(Ok).chain(rest) {
        let cells = cells(&ban?, &reader);
        let cells = cells.each_ref().map(|cell| escape(cell));
        context.out.line(&line(cells.each_ref().map(AsRef::as_ref)))?;
    }
    Ok(())
}
