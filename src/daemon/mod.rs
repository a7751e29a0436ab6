//! The daemon: start-up order, one loop, reload and stop.

mod alarm;
mod calls;
mod chronicle;
mod clock;
mod closed;
mod counters;
mod files;
mod folders;
mod guard;
mod imports;
mod processes;
mod reload;
mod remains;
mod startup;
mod status;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

use self::guard::Guard;
use self::processes::Processes;
use crate::config::DEFAULT_PATH;
use crate::config::problem::Problem;
use crate::setup::{Depth, Setup};
use crate::{ctl, enforcer, logger, memory, setup};

/// Something failed; the log says what.
const EXIT_FAILED: u8 = 1;
/// `EX_CONFIG` of sysexits(3): the configuration is wrong, and starting again will not help.
const EXIT_CONFIG: u8 = 78;

/// Reads logs, notices who attacks this machine, and shuts that source out in the kernel.
#[derive(Parser, Debug)]
#[command(name = "banward", version, after_help = "banctl(8) controls a running daemon and tries filters on logs.")]
struct Options {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH)]
    config: PathBuf,
    /// Check the configuration and the filters, and stop
    #[arg(long)]
    check: bool,
    /// What the daemon starts itself as; see `enforcer`
    #[arg(long, hide = true)]
    enforcer: bool,
    /// The same
    #[arg(long, hide = true)]
    witness: bool,
}

/// The program `banward`.
pub fn banward_main() -> ExitCode {
    let options = Options::parse();
    if options.check {
        return check(&options.config);
    }
    logger::start();
    abort_on_panic();
    // What the daemon makes is its own; files meant for others get their mode explicitly.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    // Its folder is watched, and read again, whatever the working directory is then.
    let config = std::path::absolute(&options.config).unwrap_or(options.config);
    let ended = match (options.enforcer, options.witness) {
        (true, _) => enforcer::run(&config).map_err(Failure::new),
        (_, true) => enforcer::witness(&config).map_err(Failure::new),
        _ => {
            memory::insist();
            run(config)
        }
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            log::error!("{}", failure.text);
            ExitCode::from(failure.code)
        }
    }
}

/// Why the daemon could not start, as a sentence with the remedy.
struct Failure {
    text: String,
    code: u8,
}

impl Failure {
    fn new(text: impl Into<String>) -> Failure {
        Failure { text: text.into(), code: EXIT_FAILED }
    }
}

fn run(path: PathBuf) -> Result<(), Failure> {
    let (setup, problems) = setup::load(&path, Depth::Read);
    tell(&problems);
    let Some(setup) = setup else {
        let text = format!("{} cannot be used; the lines above say why", path.display());
        return Err(Failure { text, code: EXIT_CONFIG });
    };
    let processes = processes::part(&path, &setup)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|why| Failure::new(format!("the event loop cannot be made: {why}")))?;
    let ended = runtime.block_on(guard(path, setup, processes));
    // What was asked of a busy enforcer nobody waits for any more.
    runtime.shutdown_background();
    ended
}

async fn guard(path: PathBuf, setup: Setup, processes: Processes) -> Result<(), Failure> {
    let (guard, mut ears) = startup::start(path, setup, processes)?;
    let ended = Guard::run(&guard, &mut ears).await;
    Guard::stop(guard, ears).await;
    ended
}

/// `--check` is `banctl check`.
fn check(path: &Path) -> ExitCode {
    match ctl::check::run(path, &mut std::io::stderr().lock(), &mut std::io::stdout().lock()) {
        Ok(code) => ExitCode::from(code),
        Err(_) => ExitCode::from(EXIT_FAILED),
    }
}

/// Logs every problem of a file, each on lines of its own; the level of a line says how severe it is.
fn tell(problems: &[Problem]) {
    for problem in problems {
        for line in format!("{problem:#}").lines() {
            if problem.is_error() { log::error!("{line}") } else { log::warn!("{line}") }
        }
    }
}

/// A daemon that lost one of its threads must not live on as a ghost that guards nothing: systemd starts it anew.
/// The ledger catches panics of its database while opening it; that is the one place where one is survived.
fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if crate::ledger::survives_panic() {
            return;
        }
        report(panic);
        std::process::abort();
    }));
}
