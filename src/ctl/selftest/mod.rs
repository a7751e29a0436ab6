//! `banctl selftest`: proves with packets that bans hold on this machine, in a private network that no packet of the
//! machine gets into. The machine's own rules are not touched.

mod guard;
mod lab;
mod patience;

use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use super::output::Style;
use super::{Context, Error, settings};
use crate::firewall::iptables::{SYSTEM, Tools, choose};
use crate::firewall::{Choice, Settings, command};
use crate::ledger::Stage;
use crate::text::escape;
use guard::{BURST, Guard, HITS, RATE};
use lab::{Lab, Side};
use patience::Patience;

/// How long anything may take that the daemon does by itself.
const SOON: Duration = Duration::from_secs(10);

/// The ban whose end is awaited, and how much later than that it may be over.
const SHORT: Duration = Duration::from_secs(2);

/// Packets that are above a limit, and such that are below it.
const MANY: usize = 3 * BURST as usize;
const FEW: usize = BURST as usize / 2;

/// A rule like an administrator's, by which the daemon sees which iptables this machine works with.
const MARK: &str = "-A INPUT -s 203.0.113.1/32 -j ACCEPT\n";

#[derive(Debug, Args)]
#[command(after_help = "\
Needs root, and the tool 'ip'. It takes some twenty seconds; bans and rules of this machine stay as they are.

Examples:
  banctl selftest
  banctl selftest --backend nftables")]
pub(super) struct Options {
    /// The backend to prove, instead of the configured one
    #[arg(long, value_name = "BACKEND", value_parser = ["iptables", "nftables", "plain"])]
    backend: Option<String>,
}

/// What a step found, as JSON.
#[derive(Debug, Serialize)]
struct Row<'a> {
    step: &'a str,
    passed: bool,
    message: &'a str,
}

/// Everything that the steps work with.
struct Bench {
    lab: Lab,
    guard: Guard,
    patience: Patience,
    /// The programs of the iptables in use.
    tools: Option<Tools>,
    backend: String,
}

type Step = (&'static str, fn(&mut Bench) -> Result<String, String>);

const STEPS: [Step; 8] = [
    ("open", open),
    ("start", start),
    ("blocked", blocked),
    ("unblocked", unblocked),
    ("limited", limited),
    ("expired", expired),
    ("flushed", flushed),
    ("restarted", restarted),
];

pub(super) fn run(options: &Options, context: &mut Context) -> Result<(), Error> {
    let refused = |why: String| Error::Refused(format!("The selftest cannot be made: {why}."));
    let mut wanted = settings::flawless(&context.globals)?.firewall;
    if let Some(choice) = options.backend.as_deref().and_then(Choice::named) {
        wanted.backend = choice;
    }
    if wanted.backend == Choice::None {
        let why = "firewall.backend is \"none\", so nothing is blocked; name one with --backend";
        return Err(refused(why.to_owned()));
    }
    if !rustix::process::geteuid().is_root() {
        return Err(refused("it makes a private network, which takes root".to_owned()));
    }
    let mut bench = Bench::new(&wanted).map_err(refused)?;
    for (name, step) in STEPS {
        let found = step(&mut bench);
        let passed = found.is_ok();
        // The daemon may have been interrupted as well: what it says then is no finding.
        let message = found.unwrap_or_else(|why| if bench.patience.is_over() { "interrupted".to_owned() } else { why });
        let message = message.trim_end_matches('.');
        show(&Row { step: name, passed, message }, context)?;
        if !passed {
            return Err(Error::Said);
        }
    }
    Ok(())
}

fn show(row: &Row<'_>, context: &mut Context) -> Result<(), Error> {
    if context.globals.json {
        context.out.json(row)?;
    } else {
        let (style, word) = if row.passed { (Style::Good, "ok   ") } else { (Style::Bad, "fails") };
        let word = context.out.styled(style, word);
        context.out.line(&format!("{word}  {:<9}  {}.", row.step, escape(row.message)))?;
    }
    // A step takes seconds: each is shown when it is done.
    Ok(std::io::Write::flush(&mut context.out)?)
}

impl Bench {
    fn new(settings: &Settings) -> Result<Bench, String> {
        // Asked of this machine, before the private network, which has no rules to go by.
        let tools = choose().ok().map(|(tools, ..)| tools).filter(|_| settings.backend != Choice::Nftables);
        let lab = Lab::new()?;
        let guard = Guard::new(settings)?;
        let patience = Patience::new().map_err(|error| error.to_string())?;
        Ok(Bench { lab, guard, patience, tools, backend: String::new() })
    }

    /// Empties the filter tables, but for the mark of the iptables in use where it is not the system's.
    fn reset_iptables(&self) -> Result<(), String> {
        let Some(tools) = self.tools else { return Ok(()) };
        let mark = if tools == SYSTEM { "" } else { MARK };
        self.lab
            .guard(|| {
                command::run(tools.restore[0], &[], &format!("*filter\n{mark}COMMIT\n"))?;
                if self.lab.sides.len() > 1 {
                    command::run(tools.restore[1], &[], "*filter\nCOMMIT\n")?;
                }
                Ok(())
            })?
            .map_err(|error: crate::firewall::FirewallError| error.to_string())
    }

    /// Waits until packets of the address pass, or no longer do, in all families, and says how long that took.
    fn await_all(&self, pass: bool, limit: Duration) -> Result<Duration, String> {
        let mut longest = Duration::ZERO;
        for side in &self.lab.sides {
            let after = self.patience.until(limit, || Ok(self.lab.passes(side)? == pass))?;
            let still = if pass { "do not pass" } else { "still pass" };
            longest = longest.max(after.ok_or_else(|| {
                format!("{}: packets of {} {still} after {} s", side.family, side.banned, limit.as_secs())
            })?);
        }
        Ok(longest)
    }

    fn each(&self, act: impl FnMut(&Side) -> Result<(), String>) -> Result<(), String> {
        self.lab.sides.iter().try_for_each(act)
    }

    /// Waits until of many packets of the address only those get through that its limit lets; how many those were.
    fn await_limit(&self, side: &Side) -> Result<usize, String> {
        let mut arriving = 0;
        let held = self.patience.until(SOON, || {
            let start = Instant::now();
            arriving = self.lab.arriving(side, MANY)?;
            let limit = f64::from(BURST) + f64::from(RATE) * start.elapsed().as_secs_f64() + 1.0;
            Ok(arriving > 0 && f64::from(u32::try_from(arriving).unwrap_or(u32::MAX)) <= limit)
        })?;
        held.map(|_| arriving).ok_or_else(|| {
            format!(
                "{}: {arriving} of {MANY} packets at once of {}, which is limited, arrive",
                side.family, side.limited
            )
        })
    }

    fn banned(&self) -> String {
        self.lab.sides.iter().map(|side| side.banned.to_string()).collect::<Vec<_>>().join(" and ")
    }
}

/// For people: with one decimal, and never less than what they feel.
fn seconds(length: Duration) -> String {
    format!("{:.1} s", length.as_secs_f64().max(0.1))
}

fn open(bench: &mut Bench) -> Result<String, String> {
    for side in &bench.lab.sides {
        // The first packet may be lost: the kernel notices a while later that the cable is plugged in.
        bench.patience.until(SOON, || Ok(bench.lab.passes(side).is_ok()))?;
    }
    bench.await_all(true, SOON)?;
    let families: Vec<&str> = bench.lab.sides.iter().map(|side| side.family).collect();
    let missing = if families.len() == 1 { "; IPv6 is switched off on this machine" } else { "" };
    Ok(format!("packets of {} arrive in a private network ({}){missing}", bench.banned(), families.join(", ")))
}

fn start(bench: &mut Bench) -> Result<String, String> {
    if bench.tools.is_some_and(|tools| tools != SYSTEM) {
        bench.reset_iptables()?;
    }
    let status = bench.guard.start(&bench.lab, &bench.patience)?;
    bench.backend.clone_from(&status.backend);
    bench.await_all(true, SOON)?;
    Ok(format!(
        "the daemon guards it with {} ({}), and the packets still arrive",
        status.backend, status.backend_reason
    ))
}

fn blocked(bench: &mut Bench) -> Result<String, String> {
    bench.each(|side| bench.guard.accuse(side.banned, Stage::Drop))?;
    bench.await_all(false, SOON)?;
    Ok(format!("{HITS} lines in a log, and packets of {} no longer arrive; those of a neighbour do", bench.banned()))
}

fn unblocked(bench: &mut Bench) -> Result<String, String> {
    bench.each(|side| bench.guard.unban(side.banned))?;
    bench.await_all(true, SOON)?;
    Ok("unbanned, and they arrive again".to_owned())
}

fn limited(bench: &mut Bench) -> Result<String, String> {
    bench.each(|side| bench.guard.accuse(side.limited, Stage::Limit))?;
    let mut passed = 0;
    for side in &bench.lab.sides {
        passed = passed.max(bench.await_limit(side)?);
    }
    std::thread::sleep(Duration::from_secs(u64::from(BURST / RATE)));
    bench.each(|side| match bench.lab.arriving(side, FEW)? {
        FEW => Ok(()),
        some => Err(format!(
            "{}: {some} of {FEW} packets of {} arrive, which is below its limit",
            side.family, side.limited
        )),
    })?;
    bench.each(|side| bench.guard.accuse(side.limited, Stage::Limit))?;
    for side in &bench.lab.sides {
        let dropped = bench.patience.until(SOON, || Ok(bench.lab.arriving(side, FEW)? == 0))?;
        dropped
            .ok_or_else(|| format!("{}: packets of {} still pass after its next offence", side.family, side.limited))?;
    }
    Ok(format!(
        "with stage = [\"limit\", \"drop\"], {passed} of {MANY} packets at once arrive, later {FEW} of {FEW}; after the next \
        offence none"
    ))
}

fn expired(bench: &mut Bench) -> Result<String, String> {
    for side in &bench.lab.sides {
        bench.guard.ban(side.banned, SHORT)?;
        if bench.lab.passes(side)? {
            return Err(format!("{}: packets of {} pass although it was banned", side.family, side.banned));
        }
    }
    bench.await_all(true, SHORT + SOON)?;
    Ok(format!("banned by hand for {}, and they arrive when that is over", seconds(SHORT)))
}

fn flushed(bench: &mut Bench) -> Result<String, String> {
    bench.each(|side| bench.guard.ban(side.banned, Duration::from_secs(3600)))?;
    bench.await_all(false, SOON)?;
    if bench.backend == "nftables" {
        bench.lab.guard(|| command::run("nft", &["flush", "ruleset"], ""))?.map_err(|error| error.to_string())?;
    } else {
        bench.reset_iptables()?;
    }
    let after = bench.await_all(false, SOON)?;
    Ok(format!("somebody else removed all rules, and the ban was back within {}", seconds(after)))
}

fn restarted(bench: &mut Bench) -> Result<String, String> {
    bench.guard.stop(&bench.patience)?;
    bench.await_all(true, SOON)?;
    bench.guard.start(&bench.lab, &bench.patience)?;
    bench.await_all(false, SOON)?;
    Ok("the daemon stopped and started, and knew its bans".to_owned())
}
