//! `banctl rules`: the rules of the host, from the `[host]` section of the configuration. One file per thing to do.
//! These change the kernel themselves, without the daemon: they are the administrator's own rules.

mod apply;
mod check;
mod diff;
mod lint;
mod save;
mod session;
mod show;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::output::say;
use super::{Context, Error, Outcome, settings};
use crate::firewall::FirewallError;
use crate::rules::live::{Format, State};
use crate::rules::model::Plan;
use crate::rules::{Host, plan};

pub(super) use session::caller;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  banctl rules show --format nft
  banctl rules check
  banctl rules apply --confirm 60
  banctl rules lint ./firewall.sh")]
pub(crate) struct Options {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print the rules that [host] comes to
    Show(ShowOptions),
    /// Show how the rules in the kernel differ from these
    Diff(FormatOptions),
    /// See whether the rules do what is expected of them, and let you stay
    Check(CheckOptions),
    /// Put the rules into the kernel; they go again unless you confirm
    Apply(ApplyOptions),
    /// Keep the rules that were applied
    Confirm,
    /// Take the rules out of the kernel
    Remove,
    /// Write the rules of the kernel to a file, for the next boot
    Save(SaveOptions),
    /// Put saved rules into the kernel
    Restore(SaveOptions),
    /// Name the mistakes in a firewall script or a saved table
    Lint(LintOptions),
    #[command(hide = true)]
    Watch(WatchOptions),
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ShownFormat {
    Iptables,
    Nft,
    Sh,
}

#[derive(Debug, Args)]
struct ShowOptions {
    /// In which form; that of firewall.backend unless it is said
    #[arg(long, value_enum)]
    format: Option<ShownFormat>,
}

#[derive(Debug, Args)]
struct FormatOptions {
    /// By which tool: iptables or nft; that of firewall.backend unless it is said
    #[arg(long, value_name = "TOOL")]
    format: Option<Format>,
}

#[derive(Debug, Args)]
struct CheckOptions {
    /// A file of expectations, one on a line, beside those in the configuration
    #[arg(long, value_name = "FILE")]
    expect: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct ApplyOptions {
    #[command(flatten)]
    format: FormatOptions,
    /// Seconds in which to confirm, from 5 to 3600
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(5..=3600))]
    confirm: u32,
}

#[derive(Debug, Args)]
struct SaveOptions {
    /// The folder, instead of /etc/iptables where it exists, or else the daemon's own
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct LintOptions {
    /// Shell scripts, or what iptables-save wrote; - is standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

#[derive(Debug, Args)]
struct WatchOptions {
    #[arg(long)]
    folder: PathBuf,
    #[arg(long)]
    seconds: u32,
}

pub(super) fn run(options: &Options, context: &mut Context) -> Result<(), Error> {
    match &options.action {
        Action::Show(options) => show::run(options, context),
        Action::Diff(options) => diff::run(options, context),
        Action::Check(options) => check::run(options, context),
        Action::Apply(options) => tell(apply::run(options, context), context),
        Action::Confirm => tell(apply::confirm(context), context),
        Action::Remove => tell(apply::remove(context), context),
        Action::Save(options) => tell(save::save(options, context), context),
        Action::Restore(options) => tell(save::restore(options, context), context),
        Action::Lint(options) => lint::run(options, context),
        Action::Watch(options) => {
            // The one who started this reads its standard output.
            let watched = crate::rules::pending::watch(&options.folder, options.seconds);
            watched.or_else(|error| Ok(context.out.line(&error.to_string())?))
        }
    }
}

/// Says what was done, and prints it or the refusal where JSON is wanted. Warnings were said before it was done.
fn tell(outcome: Result<Outcome, Error>, context: &mut Context) -> Result<(), Error> {
    let outcome = match outcome {
        Err(Error::Refused(message)) => Outcome::Refused { message },
        outcome => outcome?,
    };
    if context.globals.json {
        context.out.json(&outcome)?;
    }
    match outcome {
        Outcome::Done { message, .. } => say(&message),
        Outcome::Refused { message } => return Err(Error::Refused(message)),
    }
    Ok(())
}

fn done(message: impl Into<String>) -> Outcome {
    Outcome::Done { message: message.into(), warnings: Vec::new() }
}

/// What the configuration says about the host, and what that comes to.
struct Wanted {
    host: Host,
    plan: Plan,
    format: Format,
    state_dir: PathBuf,
}

impl Wanted {
    /// Without a `[host]` section there is nothing to do, and with a mistake anywhere nothing is done.
    fn read(context: &Context, format: Option<Format>) -> Result<Wanted, Error> {
        let config = settings::flawless(&context.globals)?;
        let Some(host) = config.host else {
            let path = context.globals.config.display();
            return Err(refused(format!("{path} has no [host] section; banward.toml(5) explains it.")));
        };
        let format = format.unwrap_or_else(|| Format::of(config.firewall.backend));
        Ok(Wanted { plan: plan(&host), host, format, state_dir: config.daemon.state_dir })
    }

    fn state(&self) -> State {
        State::of(&self.plan, self.format)
    }
}

fn refused(sentence: impl Into<String>) -> Error {
    Error::Refused(sentence.into())
}

impl From<FirewallError> for Error {
    fn from(error: FirewallError) -> Error {
        refused(format!("{error}."))
    }
}
