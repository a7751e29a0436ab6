//! `banctl ban`: what an administrator wants out. The allowlist holds for it, too.

use clap::Args;
use ipnet::IpNet;
use serde::Serialize;

use crate::control::Command;
use crate::time::{DurationError, Length};

use super::{Context, Error, Outcome, target};

/// Longest reason that is sent, in characters.
const LONGEST_REASON: usize = 200;

#[derive(Debug, Args)]
#[command(after_help = "\
When banctl returns, the ban is in the ledger for good and in the kernel.
What is allowed is refused. An address is banned by itself, in IPv6 too; write
2001:db8::/64 to ban a network.

Examples:
  banctl ban 192.0.2.9
  banctl ban 192.0.2.0/24 2001:db8::/64 --for 7d --reason 'scans every night'")]
pub(super) struct Options {
    /// Address or network
    #[arg(value_name = "PREFIX", required = true, value_parser = target::parse)]
    prefixes: Vec<IpNet>,
    /// How long: 90s, 10m, 1h30m, 7d, 2w, or forever
    #[arg(long = "for", value_name = "LENGTH", default_value = "1d", value_parser = parse_length)]
    length: Length,
    /// Why, for whoever reads the list later
    #[arg(long, value_name = "TEXT", default_value = "banned by hand", value_parser = parse_reason)]
    reason: String,
}

/// The outcome for one of the prefixes, as `--json` prints it.
#[derive(Serialize)]
struct JsonOutcome<'a> {
    prefix: IpNet,
    #[serde(flatten)]
    outcome: &'a Outcome,
}

pub(super) fn run(options: &Options, context: &mut Context) -> Result<(), Error> {
    let mut connection = context.connect()?;
    let mut refused = false;
    for &prefix in &options.prefixes {
        let command = Command::Ban { prefix, seconds: seconds(options.length), reason: options.reason.clone() };
        let outcome = Outcome::of(connection.ask(command)?.only()?)?;
        outcome.say();
        if context.globals.json {
            context.out.json(&JsonOutcome { prefix, outcome: &outcome })?;
        }
        refused |= outcome.is_refused();
    }
    if refused { Err(Error::Said) } else { Ok(()) }
}

/// `None` is for ever.
pub(super) fn seconds(length: Length) -> Option<u64> {
    match length {
        Length::For(length) => Some(length.as_secs()),
        Length::Forever => None,
    }
}

/// A length that is not zero.
pub(super) fn parse_length(text: &str) -> Result<Length, String> {
    match text.parse() {
        Ok(length) if seconds(length) == Some(0) => Err("it must be longer than nothing".to_owned()),
        Ok(length) => Ok(length),
        Err(DurationError::MissingUnit) => Err(format!("it has no unit; did you mean {text}s, {text}m or {text}h?")),
        Err(reason) => Err(format!("{reason}; write 90s, 10m, 1h30m, 7d, 2w or forever")),
    }
}

pub(super) fn parse_reason(text: &str) -> Result<String, String> {
    if text.chars().count() > LONGEST_REASON {
        return Err(format!("it is longer than {LONGEST_REASON} characters"));
    }
    Ok(text.to_owned())
}
