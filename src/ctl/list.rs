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
use crate::ledger::{Ban, Direction, Interface, MANUAL, Scope, Stage, Target};
use crate::pipeline::LIST;
use crate::time::{Timestamp, Until};

use super::output::{self, grouped};
use super::table::{self, Column};
use super::when::{Reader, brief};
use super::{Context, Error, status_by, target};

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
    /// Where it is not everything.
    #[serde(flatten)]
    scope: Option<Shape>,
    /// `packets` and `bytes`, with `--counters`.
    #[serde(flatten)]
    dropped: Option<Count>,
    /// With plain rules: whether there was room for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    in_force: Option<bool>,
}

impl From<Listed> for JsonBan {
    fn from(Listed { ban, dropped, in_force }: Listed) -> JsonBan {
        let Ban { prefix, jail, scope, since, until, reason, count, evidence } = ban;
        JsonBan { prefix, jail, since, until, reason, count, evidence, scope: Shape::of(&scope), dropped, in_force }
    }
}

/// What `--json` says of a scope.
#[derive(Serialize)]
struct Shape {
    stage: Stage,
    ports: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interface: Option<Interface>,
    #[serde(skip_serializing_if = "Option::is_none")]
    direction: Option<Direction>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<Target>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<String>,
}

impl Shape {
    fn of(scope: &Scope) -> Option<Shape> {
        (!scope.is_all()).then(|| Shape {
            stage: scope.stage(),
            ports: scope.ports.iter().map(ToString::to_string).collect(),
            interface: scope.interface.clone(),
            direction: scope.direction,
            target: scope.target,
            limit: scope.limit.map(|limit| limit.rate()),
        })
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
        say_nobody(options.jail.as_deref(), &mut connection);
        return Ok(());
    }
    if first.len() > SORTED { print_stream(first, bans, context) } else { print_table(first, context) }
}

/// Says that there is nothing to show, and of a jail that is not there, which ones are.
fn say_nobody(jail: Option<&str>, connection: &mut Connection) {
    let Some(jail) = jail else { return output::say("Nobody is banned.") };
    output::say(&format!("There is no ban of jail '{jail}'."));
    // A daemon that does not tell has answered what it was asked.
    let Ok(status) = status_by(connection) else { return };
    let jails = status.jails.into_iter().map(|jail| jail.jail);
    let lists = status.lists.into_iter().map(|list| format!("{LIST}{}", list.list));
    let known: Vec<String> = jails.chain([MANUAL.to_owned()]).chain(lists).collect();
    if !known.iter().any(|known| known == jail) {
        output::say(&format!("There is no such jail; there are {}.", known.join(", ")));
    }
}

fn print_table(mut bans: Vec<Listed>, context: &mut Context) -> Result<(), Error> {
    bans.sort_by_cached_key(|Listed { ban, .. }| (ban.until, ban.prefix, Arc::clone(&ban.jail)));
    let reader = Reader::new(context.out.is_terminal());
    let shown = shown(&bans);
    let rows: Vec<_> = bans.iter().map(|ban| chosen(cells(ban, &reader), shown)).collect();
    table::print(&mut context.out, &chosen(columns(), shown), &rows)?;
    if context.out.is_terminal() {
        context.out.flush()?;
        let bans = output::counted(u64::try_from(rows.len()).unwrap_or(u64::MAX), "ban", "bans");
        output::say(&format!("{bans}; times in {}", reader.zone()));
    }
    Ok(())
}

const COLUMNS: usize = 9;

/// Which columns there are: the stage where somebody is only limited, the counters where they were asked for.
fn shown(bans: &[Listed]) -> [bool; COLUMNS] {
    let counted = bans.iter().any(|ban| ban.dropped.is_some());
    let staged = bans.iter().any(|listed| listed.ban.scope.stage() == Stage::Limit || listed.in_force == Some(false));
    [true, true, true, true, true, true, staged, counted, counted]
}

fn chosen<T>(all: [T; COLUMNS], shown: [bool; COLUMNS]) -> Vec<T> {
    all.into_iter().zip(shown).filter_map(|(one, is_shown)| is_shown.then_some(one)).collect()
}

fn columns() -> [Column; COLUMNS] {
    [
        Column::text("address"),
        Column::text("jail").shrinking(),
        Column::text("since").optional(),
        Column::text("until"),
        Column::number("remaining"),
        Column::number("count").optional(),
        Column::text("stage"),
        Column::number("packets"),
        Column::number("bytes").optional(),
    ]
}

fn cells(Listed { ban, dropped, in_force }: &Listed, reader: &Reader) -> [String; COLUMNS] {
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
        if *in_force == Some(false) { "not in force".to_owned() } else { ban.scope.stage().to_string() },
        packets,
        bytes,
    ]
}

/// Fixed widths, which fit all but long IPv6 networks and long names, so that nothing has to be known in advance.
fn print_stream(first: Vec<Listed>, rest: Bans<'_>, context: &mut Context) -> Result<(), Error> {
    let reader = Reader::new(context.out.is_terminal());
    let when = if context.out.is_terminal() { 12 } else { 20 };
    let [.., staged, counted, _] = shown(&first);
    let line = |[address, jail, since, until, remaining, count, stage, packets, bytes]: [&str; COLUMNS]| {
        let line = format!("{address:<22}  {jail:<12}  {since:<when$}  {until:<when$}  {remaining:>9}  {count:>5}");
        let line = if staged { format!("{line}  {stage:<5}") } else { line };
        if counted { format!("{line}  {packets:>13}  {bytes:>17}") } else { line }
    };
    let titles = ["address", "jail", "since", "until", "remaining", "count", "stage", "packets", "bytes"];
    context.out.line(&line(titles))?;
    for ban in first.into_iter().map(Ok).chain(rest) {
        let cells = cells(&ban?, &reader);
        let cells = cells.each_ref().map(|cell| escape(cell));
        context.out.line(&line(cells.each_ref().map(AsRef::as_ref)))?;
    }
    Ok(())
}
