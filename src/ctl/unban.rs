//! `banctl unban`: lets prefixes in again, and keeps the logs from banning them at once.

use std::time::Duration;

use clap::Args;
use ipnet::IpNet;

use crate::control::{Command, IMPORT_CHUNK};
use crate::time::Length;

use super::{Context, Error, Outcome, ban, target};

#[derive(Debug, Args)]
#[command(after_help = "\
When banctl returns, packets pass again, also after a crash.

Examples:
  banctl unban 192.0.2.9
  banctl unban 192.0.2.9 --allow 1h     and allow it for an hour
  banctl unban --all")]
pub(super) struct Options {
    /// Address or network that is banned
    #[arg(value_name = "PREFIX", required_unless_present = "all", conflicts_with = "all", value_parser = target::parse)]
    prefixes: Vec<IpNet>,
    /// Every ban there is
    #[arg(long)]
    all: bool,
    /// How long these are allowed, as by 'banctl allow add': 10m, 1h, 7d
    #[arg(long, value_name = "LENGTH", value_parser = parse_allowance)]
    allow: Option<Duration>,
}

pub(super) fn run(options: &Options, context: &mut Context) -> Result<(), Error> {
    let mut connection = context.connect()?;
    let allow = options.allow.map(|allow| allow.as_secs());
    if options.all {
        let outcome = context.order(&mut connection, Command::Unban { prefixes: Vec::new(), all: true, allow })?;
        return if outcome.is_refused() { Err(Error::Said) } else { Ok(()) };
    }
    let mut complete = true;
    for prefixes in options.prefixes.chunks(IMPORT_CHUNK) {
        let command = Command::Unban { prefixes: prefixes.to_vec(), all: false, allow };
        // A prefix that was named but not banned is a warning of the daemon: then not all was done that was asked for.
        complete &=
            matches!(context.order(&mut connection, command)?, Outcome::Done { warnings, .. } if warnings.is_empty());
    }
    if complete { Ok(()) } else { Err(Error::Said) }
}

fn parse_allowance(text: &str) -> Result<Duration, String> {
    match ban::parse_length(text)? {
        Length::For(length) => Ok(length),
        Length::Forever => Err("for ever is what 'banctl allow add' is for".to_owned()),
    }
}
