//! `banctl rules apply` and `confirm`: into the kernel, and back out of it unless somebody says that they stay.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::check::objections;
use super::{ApplyOptions, Wanted, done, refused};
use crate::ctl::output::warn;
use crate::ctl::{Context, Error, Outcome, settings};
use crate::rules::live::{Format, Kernel, State};
use crate::rules::pending::{self, Standing, Trial};

/// How often it looks, while it waits for an answer, whether somebody else has answered.
const GLANCE: Duration = Duration::from_millis(200);

pub(super) fn run(options: &ApplyOptions, context: &Context) -> Result<Outcome, Error> {
    let wanted = Wanted::read(context, options.format.format)?;
    let objections = objections(&wanted);
    if !objections.is_empty() {
        let list = objections.join(".\n  ");
        return Err(refused(format!("nothing was changed, because these rules are not what you want:\n  {list}.")));
    }
    if pending::is_running(&wanted.state_dir) {
        return Err(refused("other rules are on trial; confirm them with 'banctl rules confirm', or wait."));
    }
    let kernel = Kernel::open()?;
    let state = kernel.worded(&wanted.state())?;
    if kernel.is(&state)? {
        return Ok(done("the kernel holds these rules already."));
    }
    let warnings = if wanted.format == Format::Iptables { others(&kernel)? } else { Vec::new() };
    warn(&warnings);
    let failed = |error| refused(format!("nothing was changed: the trial cannot begin: {error}."));
    let trial = Trial::begin(&wanted.state_dir, options.confirm, &kernel.state()?).map_err(failed)?;
    if let Err(error) = kernel.put(&state) {
        // Nothing is left to be undone.
        let _ = pending::keep(&wanted.state_dir);
        return Err(refused(format!("nothing was changed: {error}.")));
    }
    if !kernel.is(&state)? {
        return Err(refused(format!(
            "the kernel holds other rules than these; 'banctl rules diff' shows how they differ. They go in {} s.",
            options.confirm
        )));
    }
    let message = if std::io::stdin().is_terminal() {
        ask(&trial, options.confirm, context)?
    } else {
        let seconds = options.confirm;
        format!("the rules are in the kernel, on trial: they go in {seconds} s unless you run 'banctl rules confirm'.")
    };
    Ok(Outcome::Done { message, warnings })
}

/// A warning of rules that decide before ours.
fn others(kernel: &Kernel) -> Result<Vec<String>, Error> {
    let warning = match kernel.foreign()?.len() {
        0 => return Ok(Vec::new()),
        1 => "1 jump to the chain of another tool stands first in INPUT: what that accepts".to_owned(),
        many => format!("{many} jumps to chains of other tools stand first in INPUT: what those accept"),
    };
    Ok(vec![format!("{warning} these rules do not see.")])
}

/// Waits for the answer of the person at the terminal, or of somebody elsewhere.
fn ask(trial: &Trial, seconds: u32, context: &Context) -> Result<String, Error> {
    eprint!(
        "The rules are in the kernel. Open a second session to see that you still get in.\nKeep them? Type 'yes' within {seconds} s: "
    );
    let _ = std::io::stderr().flush();
    let stdin = std::io::stdin();
    loop {
        match trial.standing() {
            Standing::Kept => {
                eprintln!();
                return Ok("the rules stay.".to_owned());
            }
            Standing::Undone => {
                eprintln!();
                return Err(refused("nobody confirmed: the rules are what they were before."));
            }
            Standing::Running => (),
        }
        let mut ready = [PollFd::new(&stdin, PollFlags::IN)];
        let wait = Timespec { tv_sec: 0, tv_nsec: i64::from(GLANCE.subsec_nanos()) };
        if poll(&mut ready, Some(&wait)).unwrap_or(0) == 0 {
            continue;
        }
        let mut line = String::new();
        let length = stdin.read_line(&mut line).unwrap_or(0);
        if line.trim() == "yes" {
            return keep(context);
        }
        if length == 0 {
            return Ok(format!(
                "no answer: the rules go unless somebody runs 'banctl rules confirm' within {seconds} s."
            ));
        }
        eprint!("Type 'yes', or wait: ");
        let _ = std::io::stderr().flush();
    }
}

/// The rules on trial stay.
pub(super) fn confirm(context: &Context) -> Result<Outcome, Error> {
    keep(context).map(done)
}

fn keep(context: &Context) -> Result<String, Error> {
    let folder = settings::flawless(&context.globals)?.daemon.state_dir;
    match pending::keep(&folder) {
        Ok(true) => Ok("the rules stay. 'banctl rules save' keeps them for the next boot.".to_owned()),
        Ok(false) => Err(refused("no rules are on trial: none were applied, or they are gone again.")),
        Err(error) => Err(refused(format!("the rules cannot be kept: {error}."))),
    }
}

/// Nothing of ours is left; what was open before is open again.
pub(super) fn remove(context: &Context) -> Result<Outcome, Error> {
    let folder = settings::flawless(&context.globals)?.daemon.state_dir;
    if pending::is_running(&folder) {
        return Err(refused("rules are on trial and would come back; wait for their end, or confirm them first."));
    }
    Kernel::open()?.put(&State::default())?;
    Ok(done("the rules of [host] are out of the kernel; saved ones come back at the next boot."))
}
