//! `banctl history`: the bans that have ended, and how.

use std::sync::Arc;

use clap::Args;
use ipnet::IpNet;
use serde::Serialize;

use super::table::{self, Column};
use super::when::Reader;
use super::{Context, Error, output, target};
use crate::control::{Command, Reply, client};
use crate::ledger::{Ended, How};
use crate::time::{Timestamp, Until};

#[derive(Debug, Args)]
#[command(after_help = "\
The daemon keeps the last 10,000.

Examples:
  banctl history
  banctl history 192.0.2.0/24")]
pub(super) struct Options {
    /// Only bans that hit this address, or any within this network
    #[arg(value_name = "PREFIX", value_parser = target::parse)]
    prefix: Option<IpNet>,
}

/// An ended ban as `--json` prints it.
#[derive(Serialize)]
struct JsonEnded {
    prefix: IpNet,
    jail: Arc<str>,
    since: Timestamp,
    until: Until,
    ended: Timestamp,
    how: How,
    reason: Arc<str>,
    count: u32,
}

pub(super) fn run(options: &Options, context: &mut Context) -> Result<(), Error> {
    let mut connection = context.connect()?;
    let mut rows = Vec::new();
    for reply in connection.ask(Command::History { prefix: options.prefix })? {
        match reply? {
            Reply::Ended(ended) => rows.push(ended),
            Reply::Done { .. } => break,
            Reply::Refused { message } => return Err(Error::Refused(message)),
            _ => return Err(client::Error::Unexpected.into()),
        }
    }
    if context.globals.json {
        return rows.into_iter().try_for_each(|ended| Ok(context.out.json(&json_of(ended))?));
    }
    if rows.is_empty() {
        output::say("No ban has ended yet.");
        return Ok(());
    }
    print(&rows, context)
}

fn json_of(Ended { ban, at, how }: Ended) -> JsonEnded {
    JsonEnded {
        prefix: ban.prefix,
        jail: ban.jail,
        since: ban.since,
        until: ban.until,
        ended: at,
        how,
        reason: ban.reason,
        count: ban.count,
    }
}

fn print(rows: &[Ended], context: &mut Context) -> Result<(), Error> {
    let reader = Reader::new(context.out.is_terminal());
    let columns = [
        Column::text("address"),
        Column::text("jail").shrinking(),
        Column::text("since").optional(),
        Column::text("ended"),
        Column::text("how"),
        Column::number("count").optional(),
    ];
    let cells = |Ended { ban, at, how }: &Ended| {
        let how = match how {
            How::Expired => "expired",
            How::Unbanned => "unbanned",
        };
        let (since, ended) = (reader.show(ban.since), reader.show(*at));
        vec![target::show(&ban.prefix), ban.jail.to_string(), since, ended, how.to_owned(), ban.count.to_string()]
    };
    let rows: Vec<Vec<String>> = rows.iter().map(cells).collect();
    Ok(table::print(&mut context.out, &columns, &rows)?)
}
