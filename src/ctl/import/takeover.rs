//! `banctl import --from DATABASE`: hands the bans of fail2ban to the daemon, or shows what it would hand over.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;
use serde::Serialize;

use super::fail2ban::{self, Found};
use crate::control::client::{self, Connection};
use crate::control::{Command, Former, Reply, TAKE_OVER_CHUNK};
use crate::ctl::output::{self, counted};
use crate::ctl::table::{self, Column};
use crate::ctl::when::Reader;
use crate::ctl::{Context, Error, Outcome, settings, target};
use crate::time::{Length, Timestamp, Until};

/// What wrote the database, in reasons and messages.
const FROM: &str = "fail2ban";

/// How long a ban is that says nothing itself, of a jail that we do not have: as fail2ban's own default.
const UNSAID: Length = Length::For(Duration::from_secs(600));

/// A ban that stands, as `--dry-run --json` prints it.
#[derive(Serialize)]
struct JsonFormer<'a> {
    prefix: IpNet,
    jail: &'a str,
    since: Timestamp,
    until: Until,
    count: u32,
}

/// What became of all of them, as `--json` prints it.
#[derive(Serialize)]
struct JsonTakeOver<'a> {
    standing: usize,
    former: usize,
    bad_rows: usize,
    #[serde(flatten)]
    outcome: &'a Outcome,
}

pub(super) fn run(database: &Path, dry_run: bool, context: &mut Context) -> Result<(), Error> {
    let lengths = settings::lengths(&context.globals)?;
    let length_of = |jail: &str| lengths.get(jail).copied().unwrap_or(UNSAID);
    let found = fail2ban::read(database, length_of, Timestamp::now()).map_err(|reason| {
        let path = database.display();
        Error::Refused(format!("{path} cannot be read as a database of fail2ban: {reason}."))
    })?;
    for row in &found.bad_rows {
        output::say(&format!("{}: {row}", database.display()));
    }
    if let Some(more @ 1..) = found.bad.checked_sub(found.bad_rows.len()) {
        output::say(&format!("{}: {more} more bad rows", database.display()));
    }
    let outcome = if dry_run { rehearse(&found, context)? } else { send(&mut context.connect()?, &found)? };
    outcome.say();
    if context.globals.json {
        let former = found.bans.len() - found.standing;
        let row = JsonTakeOver { standing: found.standing, former, bad_rows: found.bad, outcome: &outcome };
        context.out.json(&row)?;
    }
    if outcome.is_refused() { Err(Error::Said) } else { Ok(()) }
}

/// Shows the bans that stand.
fn rehearse(found: &Found, context: &mut Context) -> Result<Outcome, Error> {
    let standing = found.bans.iter().take(found.standing);
    if context.globals.json {
        for Former { prefix, jail, since, until, count } in standing.cloned() {
            context.out.json(&JsonFormer { prefix, jail: &jail, since, until, count })?;
        }
    } else if found.standing > 0 {
        let reader = Reader::new(context.out.is_terminal());
        let columns =
            [Column::text("address"), Column::text("jail").shrinking(), Column::text("until"), Column::number("count")];
        let cells = |ban: &Former| {
            vec![target::show(&ban.prefix), ban.jail.clone(), reader.show_end(ban.until), ban.count.to_string()]
        };
        let rows: Vec<Vec<String>> = standing.map(cells).collect();
        table::print(&mut context.out, &columns, &rows)?;
        context.out.flush()?;
    }
    let (standing, former) = (found.standing as u64, (found.bans.len() - found.standing) as u64);
    let message = format!(
        "dry run: would take over {} and the history of {}, {} left out. The daemon refuses what is allowed or protected.",
        counted(standing, "ban", "bans"),
        counted(former, "address", "addresses"),
        counted(found.bad as u64, "bad row", "bad rows"),
    );
    Ok(Outcome::Done { message, warnings: Vec::new() })
}

fn send(connection: &mut Connection, found: &Found) -> Result<Outcome, Error> {
    let mut rest = found.bans.as_slice();
    loop {
        let (chunk, later) = rest.split_at(rest.len().min(TAKE_OVER_CHUNK));
        rest = later;
        let more = !rest.is_empty();
        match connection.ask(Command::TakeOver { from: FROM.to_owned(), bans: chunk.to_vec(), more })?.only()? {
            Reply::Continue if more => {}
            // An end before the last chunk would lose the rest without a word.
            Reply::Done { .. } if more => return Err(client::Error::Unexpected.into()),
            end => return Outcome::of(end),
        }
    }
}
