//! `banctl`: one file per subcommand. In: the command line. Out: data on stdout, messages on stderr, an exit code.
//! What it changes, the daemon changes; it never touches the ledger, the firewall or a log itself. Only `rules` does:
//! those of the host are the administrator's own, with or without a daemon. `selftest` has a network of its own.

mod allow;
mod ban;
pub(crate) mod check;
mod completions;
mod convert;
mod doctor;
mod events;
mod export;
mod filters;
mod history;
mod import;
mod input;
mod list;
mod metrics;
mod near;
mod output;
mod reload;
mod replay;
mod rules;
mod scan;
mod selftest;
mod settings;
mod shapes;
mod status;
mod table;
mod target;
mod unban;
mod when;
mod why;

use crate::text::escape;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use convert::hostile::convert as hostile;
use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use serde::Serialize;

use crate::config::problem::Problem;
use crate::control::client::{self, Connection};
use crate::control::{Command, Reply, Status};
use output::Output;

/// Refused or failed. Success is 0, and clap exits with 2 for a wrong command line.
const REFUSED: u8 = 1;
/// `EX_UNAVAILABLE` of sysexits.h: the daemon cannot be reached.
const UNREACHABLE: u8 = 69;
/// `EX_CONFIG` of sysexits.h: the configuration is wrong.
const CONFIGURATION: u8 = 78;

/// Control the banward daemon; test filters and configurations without it.
#[derive(Debug, Parser)]
#[command(name = "banctl", version, arg_required_else_help = true, subcommand_required = true, after_help = EXIT_CODES)]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Action,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 refused or failed, 2 wrong usage,
69 daemon unreachable, 78 wrong configuration.
Manual: banctl(8), banward.toml(5), banward-filter(5).";

/// Options of every subcommand.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every subcommand")]
pub(crate) struct Globals {
    /// Configuration that names the socket and the filters
    #[arg(long, global = true, value_name = "FILE", default_value = crate::config::DEFAULT_PATH)]
    pub(crate) config: PathBuf,
    /// Socket of the daemon, instead of the one in the configuration
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// Print JSON: one object per line, times in RFC 3339 UTC
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show who is banned
    List(list::Options),
    /// Ban addresses or networks
    Ban(ban::Options),
    /// Let banned addresses or networks in again
    Unban(unban::Options),
    /// Say who is never banned, whatever the logs say
    Allow(allow::Options),
    /// Show bans that have ended, the latest first
    History(history::Options),
    /// Show why an address is banned, or why not
    Why(why::Options),
    /// Show how the daemon, its jails and its sources are
    Status,
    /// Print how the daemon is as metrics for Prometheus
    Metrics,
    /// Ban everything that blocklist files name
    Import(import::Options),
    /// Make a configuration of one of fail2ban
    Convert(convert::Options),
    /// Print the bans in the format of another tool
    Export(export::Options),
    /// Check the configuration and the filters, and show every problem at once
    Check(CheckOptions),
    /// Show, try, measure and draft filters
    Filters(filters::Options),
    /// Show which lines of log files are hits of which filter
    Scan(scan::Args),
    /// Show who would have been banned, had these logs been read live
    Replay(ReplayOptions),
    /// Make the rules of this host from [host]: show, check, apply, lint
    Rules(rules::Options),
    /// Make the daemon read its configuration again
    Reload,
    /// Follow what the daemon does, until interrupted
    Events,
    /// Check all that bans depend on, and say what to do
    Doctor,
    /// Prove with packets, in a private network, that bans hold on this machine
    Selftest(selftest::Options),
    /// Print the completions of banctl for a shell
    Completions(completions::Options),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  banctl check                    the installed configuration
  banctl check ./banward.toml     one that is still being written")]
pub(crate) struct CheckOptions {
    /// Configuration to check, instead of the one that --config names
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
The windows, the policy and the jails are those of the configuration; nothing is banned.

Examples:
  banctl replay /var/log/auth.log
  banctl replay --config ./banward.toml /var/log/auth.log.1 /var/log/auth.log
  banctl replay --diff ./stricter.toml /var/log/auth.log")]
pub(crate) struct ReplayOptions {
    /// Show instead whose bans another configuration would change
    #[arg(long, value_name = "OTHER")]
    pub(crate) diff: Option<PathBuf>,
    /// Log files, oldest first; - is standard input
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
}

/// What every subcommand works with.
pub(crate) struct Context {
    pub(crate) globals: Globals,
    pub(crate) out: Output,
}

impl Context {
    fn connect(&self) -> Result<Connection, Error> {
        let path = settings::socket(&self.globals)?;
        Connection::open(&path).map_err(|error| settings::mistakes(&self.globals).unwrap_or_else(|| error.into()))
    }

    /// Sends a command that is answered by one line, and shows it.
    fn order(&mut self, connection: &mut Connection, command: Command) -> Result<Outcome, Error> {
        let outcome = Outcome::of(connection.ask(command)?.only()?)?;
        outcome.say();
        if self.globals.json {
            self.out.json(&outcome)?;
        }
        Ok(outcome)
    }
}

/// The program `banctl`.
pub fn banctl_main() -> ExitCode {
    let Cli { globals, command } = parse();
    let mut context = Context { globals, out: Output::stdout() };
    let done = run(&command, &mut context).and_then(|()| Ok(context.out.flush()?));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // What was found before something went wrong is worth having; when this fails too, `error` says enough.
            let _ = context.out.flush();
            error.report()
        }
    }
}

/// The command line, or the end: help and complaints repeat arguments, which may be an attacker's text.
fn parse() -> Cli {
    Cli::try_parse().unwrap_or_else(|error| {
        let shown = std::env::args_os().map(|argument| escape(&argument.to_string_lossy()).into_owned());
        Cli::try_parse_from(shown).err().unwrap_or(error).exit()
    })
}

fn run(action: &Action, context: &mut Context) -> Result<(), Error> {
    match action {
        Action::List(options) => list::run(options, context),
        Action::Ban(options) => ban::run(options, context),
        Action::Unban(options) => unban::run(options, context),
        Action::Allow(options) => allow::run(options, context),
        Action::History(options) => history::run(options, context),
        Action::Why(options) => why::run(options, context),
        Action::Status => status::run(context),
        Action::Import(options) => import::run(options, context),
        Action::Convert(options) => convert::run(options, context),
        Action::Export(options) => export::run(options, context),
        Action::Check(options) => check(options, context),
        Action::Filters(options) => filters::run(options, context),
        Action::Scan(options) => scan(options, context),
        Action::Replay(options) => replay::run(options, context),
        Action::Rules(options) => rules::run(options, context),
        Action::Reload => reload::run(context),
        Action::Events => events::run(context),
        Action::Metrics => metrics::run(context),
        Action::Doctor => doctor::run(context),
        Action::Selftest(options) => selftest::run(options, context),
        Action::Completions(options) => completions::run(options, context),
    }
}

/// Checks a configuration and its filters; problems go to stderr, the verdict to stdout, and both as JSON to stdout.
fn check(options: &CheckOptions, context: &mut Context) -> Result<(), Error> {
    let path = options.file.as_ref().unwrap_or(&context.globals.config);
    let code = if context.globals.json {
        check::run_json(path, &mut context.out)
    } else {
        check::run(path, &mut io::stderr().lock(), &mut context.out)
    };
    match code? {
        0 => Ok(()),
        _ => Err(Error::Unfit),
    }
}

/// Runs filters over logs; those of the configuration unless a folder is given.
fn scan(options: &scan::Args, context: &mut Context) -> Result<(), Error> {
    let folders = if options.brings_filters() { Vec::new() } else { settings::filters(&context.globals)? };
    let json = context.globals.json;
    scan::run(options, json, &folders, &mut context.out, &mut io::stderr().lock()).map_err(Error::Scan)
}

/// How the daemon is.
fn status_by(connection: &mut Connection) -> Result<Status, Error> {
    match connection.ask(Command::Status)?.only()? {
        Reply::Status(status) => Ok(*status),
        Reply::Refused { message } => Err(Error::Refused(message)),
        _ => Err(client::Error::Unexpected.into()),
    }
}

/// How the daemon answered an order. With `--json` it is printed as it stands here.
#[derive(Debug, Serialize)]
#[serde(tag = "result", rename_all = "snake_case")]
enum Outcome {
    Done { message: String, warnings: Vec<String> },
    Refused { message: String },
}

impl Outcome {
    fn of(reply: Reply) -> Result<Outcome, Error> {
        match reply {
            Reply::Done { message, warnings } => Ok(Outcome::Done { message, warnings }),
            Reply::Refused { message } => Ok(Outcome::Refused { message }),
            _ => Err(client::Error::Unexpected.into()),
        }
    }

    fn say(&self) {
        match self {
            Outcome::Done { message, warnings } => {
                output::say(message);
                output::warn(warnings);
            }
            Outcome::Refused { message } => output::say(&format!("refused: {message}")),
        }
    }

    fn is_refused(&self) -> bool {
        matches!(self, Outcome::Refused { .. })
    }
}

/// Why a subcommand did not do all that it was asked to.
#[derive(Debug)]
pub(crate) enum Error {
    Client(client::Error),
    Config(Vec<Problem>),
    /// A filter that was asked for is wrong.
    Filter(Vec<Problem>),
    /// Standard output.
    Output(io::Error),
    File(PathBuf, io::Error),
    /// A whole sentence.
    Refused(String),
    Scan(scan::ScanError),
    /// What went wrong has been said already, each at its place.
    Said,
    /// The configuration or a filter is wrong, which has been said already.
    Unfit,
}

impl Error {
    /// Says what went wrong and chooses the exit code. A reader who closed the pipe has had enough: that is silent.
    fn report(&self) -> ExitCode {
        match self {
            Error::Output(reason) if reason.kind() == ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
            Error::Said | Error::Unfit => {}
            _ => output::say(&format!("banctl: {self}")),
        }
        ExitCode::from(match self {
            Error::Client(reason) if reason.is_unreachable() => UNREACHABLE,
            Error::Config(_) | Error::Filter(_) | Error::Unfit => CONFIGURATION,
            Error::Scan(reason) => reason.exit_code(),
            _ => REFUSED,
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Client(reason) => reason.fmt(f),
            Error::Config(problems) => {
                f.write_str("the configuration cannot be used.")?;
                problems.iter().try_for_each(|problem| write!(f, "\n{problem}"))
            }
            Error::Filter(problems) => {
                f.write_str("the filter cannot be used.")?;
                problems.iter().try_for_each(|problem| write!(f, "\n{problem}"))
            }
            Error::Output(reason) => write!(f, "standard output cannot be written: {reason}."),
            Error::File(path, reason) => write!(f, "{} cannot be read: {reason}.", path.display()),
            Error::Refused(sentence) => f.write_str(sentence),
            Error::Scan(reason) => write!(f, "{reason}."),
            Error::Said | Error::Unfit => f.write_str("not everything was done."),
        }
    }
}

impl std::error::Error for Error {}

impl From<client::Error> for Error {
    fn from(reason: client::Error) -> Error {
        Error::Client(reason)
    }
}

/// Inside `ctl` a bare `io::Error` is always one of standard output; those of files become [`Error::File`].
impl From<io::Error> for Error {
    fn from(reason: io::Error) -> Error {
        Error::Output(reason)
    }
}
