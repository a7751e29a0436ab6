//! `banctl allow`: who is never banned. What the configuration says and what the daemon protects is shown; what a
//! person allows can be added and removed while the daemon runs, and outlives it.

use std::sync::Arc;

use clap::{Args, Subcommand};
use ipnet::IpNet;
use serde::Serialize;

use super::ban::{parse_length, parse_reason, seconds};
use super::table::{self, Column};
use super::when::Reader;
use super::{Context, Error, Outcome, output, target};
use crate::control::{Allowed, Command, Granted, Origin, Reply, client};
use crate::time::{Length, Timestamp, Until};

#[derive(Debug, Args)]
#[command(after_help = "\
What is allowed is banned by nobody: no log, no list, no person. What bans it
is lifted at once.

Examples:
  banctl allow add 198.51.100.0/24 --comment 'the office'
  banctl allow add 192.0.2.9 --for 1h
  banctl allow list
  banctl allow remove 192.0.2.9")]
pub(super) struct Options {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Never ban these, from now on and across restarts
    Add(Add),
    /// Show who is never banned, and who says so
    List,
    /// Take back what was allowed by hand
    Remove(Remove),
}

#[derive(Debug, Args)]
struct Add {
    /// Address or network
    #[arg(value_name = "PREFIX", required = true, value_parser = target::parse)]
    prefixes: Vec<IpNet>,
    /// How long: 90s, 10m, 1h30m, 7d, 2w, or forever
    #[arg(long = "for", value_name = "LENGTH", default_value = "forever", value_parser = parse_length)]
    length: Length,
    /// Why, for whoever reads the list later
    #[arg(long, value_name = "TEXT", default_value = "", value_parser = parse_reason)]
    comment: String,
}

#[derive(Debug, Args)]
struct Remove {
    /// Address or network, as it was allowed
    #[arg(value_name = "PREFIX", required = true, value_parser = target::parse)]
    prefixes: Vec<IpNet>,
}

/// The outcome for one of the prefixes, as `--json` prints it.
#[derive(Serialize)]
struct JsonOutcome<'a> {
    prefix: IpNet,
    #[serde(flatten)]
    outcome: &'a Outcome,
}

/// An allowed network as `--json` prints it.
#[derive(Serialize)]
struct JsonAllowed {
    prefix: IpNet,
    origin: Origin,
    kind: Option<String>,
    since: Option<Timestamp>,
    /// `null` is for ever.
    until: Option<Until>,
    by: Option<u32>,
    comment: Option<Arc<str>>,
}

pub(super) fn run(options: &Options, context: &mut Context) -> Result<(), Error> {
    match &options.action {
        Action::Add(Add { prefixes, length, comment }) => {
            let command = |prefix| Command::Allow { prefix, seconds: seconds(*length), comment: comment.clone() };
            order_each(prefixes, command, context)
        }
        Action::List => list(context),
        Action::Remove(Remove { prefixes }) => order_each(prefixes, |prefix| Command::Disallow { prefix }, context),
    }
}

/// Each prefix by itself: one that is refused does not keep the others from being done.
fn order_each(prefixes: &[IpNet], command: impl Fn(IpNet) -> Command, context: &mut Context) -> Result<(), Error> {
    let mut connection = context.connect()?;
    let mut refused = false;
    for &prefix in prefixes {
        let outcome = Outcome::of(connection.ask(command(prefix))?.only()?)?;
        outcome.say();
        if context.globals.json {
            context.out.json(&JsonOutcome { prefix, outcome: &outcome })?;
        }
        refused |= outcome.is_refused();
    }
    if refused { Err(Error::Said) } else { Ok(()) }
}

fn list(context: &mut Context) -> Result<(), Error> {
    let mut connection = context.connect()?;
    let mut rows = Vec::new();
    for reply in connection.ask(Command::Allowed)? {
        match reply? {
            Reply::Allowed(allowed) => rows.push(allowed),
            Reply::Done { .. } => break,
            Reply::Refused { message } => return Err(Error::Refused(message)),
            _ => return Err(client::Error::Unexpected.into()),
        }
    }
    rows.sort_by_key(|allowed| (allowed.origin, allowed.prefix));
    if context.globals.json {
        return rows.into_iter().try_for_each(|allowed| Ok(context.out.json(&json_of(allowed))?));
    }
    if rows.is_empty() {
        output::say("Nobody is allowed.");
        return Ok(());
    }
    print(&rows, context)
}

fn json_of(Allowed { prefix, origin, kind, grant }: Allowed) -> JsonAllowed {
    let (mut since, mut until, mut by, mut comment) = (None, None, None, None);
    if let Some(grant) = grant {
        (since, until, by, comment) = (Some(grant.since), Some(grant.until), grant.by, Some(grant.comment));
    }
    JsonAllowed { prefix, origin, kind, since, until, by, comment }
}

fn print(rows: &[Allowed], context: &mut Context) -> Result<(), Error> {
    let reader = Reader::new(context.out.is_terminal());
    let columns = [
        Column::text("allowed"),
        Column::text("origin"),
        Column::text("until"),
        Column::text("by").optional(),
        Column::text("comment").shrinking(),
    ];
    let rows: Vec<Vec<String>> = rows.iter().map(|allowed| cells(allowed, &reader)).collect();
    Ok(table::print(&mut context.out, &columns, &rows)?)
}

fn cells(Allowed { prefix, origin, kind, grant }: &Allowed, reader: &Reader) -> Vec<String> {
    let origin = match (origin, kind) {
        (Origin::Config, _) => "allow.networks".to_owned(),
        (Origin::Protected, kind) => kind.clone().unwrap_or_default(),
        (Origin::Hand, _) => "by hand".to_owned(),
    };
    let (until, by, comment) = match grant {
        Some(Granted { until, by, comment, .. }) => {
            (reader.show_end(*until), by.map_or_else(String::new, |uid| format!("uid {uid}")), comment.to_string())
        }
        None => Default::default(),
    };
    vec![target::show(prefix), origin, until, by, comment]
}
