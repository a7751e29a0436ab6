//! `banctl rules check`: the rules played in the mind. Does each expectation come true, and does the caller stay?

use std::io::Read as _;
use std::path::Path;

use serde::Serialize;

use super::session::sessions;
use super::{CheckOptions, Wanted};
use crate::ctl::output::{Style, counted, say};
use crate::ctl::{Context, Error};
use crate::rules::expect::Expectation;
use crate::rules::model::{Name, Plan};
use crate::rules::simulate::Fate;
use crate::text::escape;

/// Largest file of expectations, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// One expectation and what came of it, as JSON.
#[derive(Debug, Serialize)]
struct Row<'a> {
    expect: &'a str,
    verdict: &'static str,
    holds: bool,
    /// Which rule decided; null when none did.
    rule: Option<String>,
    logged: Vec<&'static str>,
}

/// One session that stays or does not, as JSON.
#[derive(Debug, Serialize)]
struct SessionRow {
    session: String,
    port: u16,
    holds: bool,
    message: Option<String>,
}

pub(super) fn run(options: &CheckOptions, context: &mut Context) -> Result<(), Error> {
    let wanted = Wanted::read(context, None)?;
    let mut expectations = wanted.host.expect.clone();
    if let Some(path) = &options.expect {
        expectations.extend(read(path)?);
    }
    let mut failed = 0;
    for expectation in &expectations {
        failed += u64::from(!show(expectation, &wanted.plan, context)?);
    }
    let sessions = sessions(&wanted.host);
    for session in &sessions {
        let message = session.cut_off(&wanted.plan);
        failed += u64::from(message.is_some());
        let (client, port) = (session.client.to_string(), session.port);
        if context.globals.json {
            context.out.json(&SessionRow { session: client, port, holds: message.is_none(), message })?;
        } else if let Some(message) = message {
            let word = context.out.styled(Style::Bad, "fails");
            context.out.line(&format!("{word}  {message}."))?;
        } else {
            let word = context.out.styled(Style::Good, "holds");
            context.out.line(&format!("{word}  your SSH session from {client} to port {port} stays."))?;
        }
    }
    let checked = counted(expectations.len() as u64, "expectation", "expectations");
    let stays = counted(sessions.len() as u64, "SSH session", "SSH sessions");
    if failed == 0 {
        say(&format!("{checked} and {stays} checked, all hold."));
        return Ok(());
    }
    say(&format!("{checked} and {stays} checked, {failed} fail."));
    Err(Error::Said)
}

/// Says why the rules must not be applied: what does not come true, and who would be cut off.
pub(super) fn objections(wanted: &Wanted) -> Vec<String> {
    let mut objections = Vec::new();
    for expectation in &wanted.host.expect {
        let fate = expectation.play(&wanted.plan);
        if fate.verdict != expectation.verdict {
            let (text, verdict) = (&expectation.text, fate.verdict.word());
            objections.push(format!("'{text}' is expected, and the verdict is {verdict}"));
        }
    }
    objections.extend(sessions(&wanted.host).iter().filter_map(|session| session.cut_off(&wanted.plan)));
    objections
}

fn show(expectation: &Expectation, plan: &Plan, context: &mut Context) -> Result<bool, Error> {
    let Fate { verdict, rule, logged } = expectation.play(plan);
    let holds = verdict == expectation.verdict;
    let rule = rule.map(|(name, number)| match name {
        Name::End(end) => format!("the end '{}'", end.word()),
        name => format!("rule {number} of {}", format!("{name:?}").to_ascii_lowercase()),
    });
    if context.globals.json {
        let expect = expectation.text.as_str();
        context.out.json(&Row { expect, verdict: verdict.word(), holds, rule, logged })?;
        return Ok(holds);
    }
    let (style, word) = if holds { (Style::Good, "holds") } else { (Style::Bad, "fails") };
    let word = context.out.styled(style, word);
    let by = rule.unwrap_or_else(|| "no rule".to_owned());
    let found = if holds { format!("by {by}") } else { format!("{} by {by}", verdict.word()) };
    context.out.line(&format!("{word}  {}  ({found})", escape(&expectation.text)))?;
    Ok(holds)
}

/// One expectation on a line; `#` begins a comment.
fn read(path: &Path) -> Result<Vec<Expectation>, Error> {
    let file = |error| Error::File(path.to_owned(), error);
    let mut text = String::new();
    std::fs::File::open(path).map_err(file)?.take(MAX_FILE).read_to_string(&mut text).map_err(file)?;
    let mut expectations = Vec::new();
    let mut wrong = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        match line.parse() {
            Ok(expectation) => expectations.push(expectation),
            Err(error) => wrong.push(format!("{}:{}: {error}.", path.display(), index + 1)),
        }
    }
    if wrong.is_empty() { Ok(expectations) } else { Err(Error::Refused(wrong.join("\n"))) }
}
