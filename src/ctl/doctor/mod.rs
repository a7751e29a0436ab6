//! `banctl doctor`: looks at everything that bans depend on, and says what to do where something is amiss. It changes
//! nothing, and asks the daemon only if there is one.

mod daemon;
mod firewall;
mod host;
mod interfaces;
mod journald;
mod logs;
mod neighbours;
mod processes;
mod tables;

use serde::Serialize;

use super::output::Style;
use super::{Context, Error, settings};
use crate::config::Config;
use crate::config::problem::{Problem, Problems};
use crate::setup::{self, Depth, Setup};
use crate::text::{escape, plural};

/// How a check came out. Ordered: bad is the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Ok,
    Warn,
    Bad,
}

/// One check, as `--json` prints it.
#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    verdict: Verdict,
    message: String,
    /// What to do about it; null when nothing is to be done.
    remedy: Option<String>,
}

/// What was found so far.
#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn ok(&mut self, check: &'static str, message: impl Into<String>) {
        self.0.push(Finding { check, verdict: Verdict::Ok, message: message.into(), remedy: None });
    }

    fn warn(&mut self, check: &'static str, message: impl Into<String>, remedy: impl Into<String>) {
        self.add(check, Verdict::Warn, message, remedy);
    }

    fn bad(&mut self, check: &'static str, message: impl Into<String>, remedy: impl Into<String>) {
        self.add(check, Verdict::Bad, message, remedy);
    }

    fn add(&mut self, check: &'static str, verdict: Verdict, message: impl Into<String>, remedy: impl Into<String>) {
        self.0.push(Finding { check, verdict, message: message.into(), remedy: Some(remedy.into()) });
    }
}

pub(super) fn run(context: &mut Context) -> Result<(), Error> {
    let mut findings = Findings::default();
    let setup = configuration(context, &mut findings);
    let config = &setup.config;
    let status = daemon::check(context, &mut findings);
    host::caller(&mut findings);
    firewall::check(config, status.as_ref(), &mut findings);
    interfaces::check(config, &mut findings);
    logs::check(&setup, &mut findings);
    journald::check(std::path::Path::new("/"), &mut findings);
    host::check(config, status.as_ref(), &mut findings);
    daemon::session(context, config, &mut findings);
    let bad = findings.0.iter().any(|finding| finding.verdict == Verdict::Bad);
    for finding in &findings.0 {
        show(finding, context)?;
    }
    if bad { Err(Error::Said) } else { Ok(()) }
}

/// The configuration as far as it can be read; what is wrong with it is a finding.
fn configuration(context: &Context, findings: &mut Findings) -> Setup {
    let path = &context.globals.config;
    let shown = path.display();
    let (setup, problems) = setup::load(path, Depth::Read);
    let first = problems.iter().max_by_key(|problem| problem.severity).map(headline);
    let remedy = format!("banctl check {shown}");
    let Some(setup) = setup else {
        let errors = problems.iter().filter(|problem| problem.is_error()).count() as u64;
        let first = first.unwrap_or_default();
        findings.bad("configuration", format!("{}: {first}", plural(errors, "error")), remedy);
        let config = settings::readable(&context.globals).unwrap_or_else(Config::built_in);
        let filters = crate::filters::Filters::load(&config.daemon.filters, &Problems::default());
        return Setup { config, filters };
    };
    let jails = setup.config.enabled().count() as u64;
    match first {
        None => findings.ok("configuration", format!("{shown}: {} switched on", plural(jails, "jail"))),
        Some(first) => {
            let warnings = plural(problems.len() as u64, "warning");
            findings.warn("configuration", format!("{warnings}: {first}"), remedy);
        }
    }
    setup
}

/// A problem in one line.
fn headline(problem: &Problem) -> String {
    let place = problem.place.as_ref().map(|place| format!(":{}", place.line)).unwrap_or_default();
    format!("{}{place}: {}", problem.path.display(), problem.message)
}

/// Columns of the verdict and of the check's name.
const INDENT: usize = 21;

fn show(finding: &Finding, context: &mut Context) -> Result<(), Error> {
    let out = &mut context.out;
    if context.globals.json {
        return Ok(out.json(finding)?);
    }
    let (style, word) = match finding.verdict {
        Verdict::Ok => (Style::Good, "ok  "),
        Verdict::Warn => (Style::Warning, "warn"),
        Verdict::Bad => (Style::Bad, "bad "),
    };
    let mut text = sentence(&finding.message);
    if let Some(remedy) = &finding.remedy {
        text = format!("{text} Remedy: {}", sentence(remedy));
    }
    let word = out.styled(style, word);
    for (number, line) in out.wrap(&escape(&text), INDENT).into_iter().enumerate() {
        if number == 0 {
            out.line(&format!("{word}  {:<13}  {line}", finding.check))?;
        } else {
            out.line(&format!("{:INDENT$}{line}", ""))?;
        }
    }
    Ok(())
}

/// With a stop at its end, once.
fn sentence(text: &str) -> String {
    format!("{}.", text.trim_end_matches('.'))
}
