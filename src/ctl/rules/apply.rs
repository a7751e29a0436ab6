//! `banctl rules apply` and `confirm`: into the kernel, and back out of it unless somebody says that they stay.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::check::objections;
use super::{ApplyOptions, Wanted, refused};
use crate::ctl::output::{counted, say};
use crate::ctl::{Context, Error, settings};
use crate::rules::live::{Format, Kernel, State};
use crate::rules::pending::{self, Standing, Trial};

/// How often it looks, while it waits for an answer, whether somebody else has answered.
const GLANCE: Duration = Duration::from_millis(200);

pub(super) fn run(options: &ApplyOptions, context: &mut Context) -> Result<(), Error> {
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
        say("the kernel holds these rules already.");
        return Ok(());
    }
    if wanted.format == Format::Iptables {
        warn_of_others(&kernel)?;
    }
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
    if std::io::stdin().is_terminal() {
        return ask(&trial, options.confirm, context);
    }
    say(&format!(
        "the rules are in the kernel, on trial: they go in {} s unless you run 'banctl rules confirm'.",
        options.confirm
    ));
    Ok(())
}

/// Rules that decide before ours.
fn warn_of_others(kernel: &Kernel) -> Result<(), Error> {
    let foreign = kernel.foreign()?;
    if !foreign.is_empty() {
        let many = counted(foreign.len() as u64, "jump to the chain of another tool", "jumps to chains of other tools");
        say(&format!("warning: {many} stand first in INPUT: what those accept these rules do not see."));
    }
    Ok(())
}

/// Waits for the answer of the person at the terminal, or of somebody elsewhere.
fn ask(trial: &Trial, seconds: u32, context: &Context) -> Result<(), Error> {
    eprint!(
        "The rules are in the kernel. Open a second session to see that you still get in.\nKeep them? Type 'yes' within {seconds} s: "
    );
    let _ = std::io::stderr().flush();
    let stdin = std::io::stdin();
    loop {
        match trial.standing() {
            Standing::Kept => {
                eprintln!();
                say("the rules stay.");
                return Ok(());
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
            return confirm(context);
        }
        if length == 0 {
            say(&format!("no answer: the rules go unless somebody runs 'banctl rules confirm' within {seconds} s."));
            return Ok(());
        }
        eprint!("Type 'yes', or wait: ");
        let _ = std::io::stderr().flush();
    }
}

/// The rules on trial stay.
pub(super) fn confirm(context: &Context) -> Result<(), Error> {
    let folder = settings::flawless(&context.globals)?.daemon.state_dir;
    match pending::keep(&folder) {
        Ok(true) => {
            say("the rules stay. 'banctl rules save' keeps them for the next boot.");
            Ok(())
        }
        Ok(false) => Err(refused("no rules are on trial: none were applied, or they are gone again.")),
        Err(error) => Err(refused(format!("the rules cannot be kept: {error}."))),
    }
}

/// Nothing of ours is left; what was open before is open again.
pub(super) fn remove(context: &Context) -> Result<(), Error> {
    let folder = settings::flawless(&context.globals)?.daemon.state_dir;
    if pending::is_running(&folder) {
        return Err(refused("rules are on trial and would come back; wait for their end, or confirm them first."));
    }
    Kernel::open()?.put(&State::default())?;
    say("the rules of [host] are out of the kernel; saved ones come back at the next boot.");
    Ok(())
}
