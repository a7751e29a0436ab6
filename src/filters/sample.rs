//! The lines by which a filter proves itself. In: a filter. Out: a problem for each line that does not do what the
//! file says, for a pattern without a line that hits, and for a filter without a line that must not.

use std::net::IpAddr;
use std::sync::Arc;

use super::file::{Filter, Mode, Spot};
use super::{Clock, Effect, Finding, Matcher, Memory, Offender};
use crate::config::document::{Table, Value};
use crate::config::problem::Problems;
use crate::time::Timestamp;

/// A line that must hit, by the pattern it stands under.
#[derive(Debug)]
pub(crate) struct Sample {
    /// Usually one; the last one must hit.
    lines: Vec<String>,
    offender: Offender,
    /// `None`: not checked.
    user: Option<String>,
    time: Option<Timestamp>,
    spot: Spot,
}

/// A line that must neither hit nor forgive, or not a certain address.
#[derive(Debug)]
pub(crate) struct Miss {
    lines: Vec<String>,
    not: Option<IpAddr>,
    spot: Spot,
}

/// When samples are read: year-less stamps mean 2026, in UTC. 2027-01-01T00:00:00Z.
const SAMPLES_READ_AT: Timestamp = Timestamp::from_secs(1_798_761_600);

impl Sample {
    pub(crate) fn read(value: Value<'_>) -> Option<Sample> {
        let table = value.table()?;
        let lines = lines(&table);
        let address: Option<IpAddr> = table.parse("addr", "an address");
        let name = table.string("name");
        let user = table.string("user").map(str::to_owned);
        let time = table.parse("time", "a time such as \"2026-11-21T01:30:00Z\"");
        let spot = Spot(table.problem(""));
        let offender = address.map(Offender::Address).or_else(|| name.map(|name| Offender::Name(name.to_owned())));
        if lines.is_none() || offender.is_none() {
            table.complain(table.problem("a hit has a 'line' and the 'addr' (or 'name') that is found in it"));
        }
        table.finish();
        Some(Sample { lines: lines?, offender: offender?, user, time, spot })
    }

    /// What is wrong with the findings of the line, if anything is.
    fn objection(&self, findings: &[Finding], pattern: usize, filter: &Filter) -> Option<String> {
        let [found] = findings else { return Some("this line does not hit".to_owned()) };
        if usize::from(found.pattern) != pattern {
            let other = filter.patterns.get(usize::from(found.pattern)).map_or("?", |other| &other.name);
            return Some(format!("this line hits by the pattern '{other}', which stands before this one"));
        }
        if found.offender != self.offender {
            return Some(format!("this line accuses {}", shown(&found.offender)));
        }
        if self.user.is_some() && self.user.as_deref() != found.user.as_deref() {
            return Some(format!("this line names the user {:?}", found.user.as_deref().unwrap_or_default()));
        }
        let wrong_time = self.time.is_some_and(|time| time != found.time);
        wrong_time.then(|| format!("this line has the time {}", found.time))
    }
}

impl Miss {
    pub(crate) fn read(value: Value<'_>) -> Option<Miss> {
        let table = value.table()?;
        let lines = lines(&table);
        let not = table.parse("not", "an address");
        let spot = Spot(table.problem(""));
        if lines.is_none() {
            table.complain(table.problem("a miss has a 'line'"));
        }
        table.finish();
        Some(Miss { lines: lines?, not, spot })
    }

    fn objection(&self, findings: &[Finding]) -> Option<String> {
        let accused = findings.iter().find(|found| match self.not {
            Some(address) => found.offender == Offender::Address(address),
            None => true,
        });
        accused.map(|found| match found.effect {
            Effect::Count(_) => format!("this line must not hit, but accuses {}", shown(&found.offender)),
            Effect::Forgive => format!("this line must not match, but forgives {}", shown(&found.offender)),
        })
    }
}

/// `line`, or `lines` that belong together.
fn lines(table: &Table<'_>) -> Option<Vec<String>> {
    let (line, lines) = (table.string("line"), table.strings("lines"));
    line.map(|line| vec![line.to_owned()]).or(lines).filter(|lines| !lines.is_empty())
}

/// What a filter, with all its patterns in use, finds in each of the lines of a sample.
fn examiner(filter: &Filter) -> impl Fn(&[String]) -> Vec<Vec<Finding>> + use<> {
    let matcher = Matcher::new(vec![filter.with_mode(Mode::Aggressive)]);
    let clock = Clock { now: SAMPLES_READ_AT, zone: jiff::tz::TimeZone::UTC };
    move |lines| {
        let mut memory = Memory::default();
        let examine = |line: &String| {
            let mut findings = Vec::new();
            matcher.examine(line.as_bytes(), &clock, &mut memory, &mut findings);
            findings
        };
        lines.iter().map(examine).collect()
    }
}

/// For each pattern, which pattern each of its samples hits by.
pub(crate) fn hits_by(filter: &Filter) -> Vec<Vec<Option<u16>>> {
    let examine = examiner(filter);
    let by = |sample: &Sample| Some(examine(&sample.lines).last()?.first()?.pattern);
    filter.patterns.iter().map(|pattern| pattern.hits.iter().map(by).collect()).collect()
}

/// Runs all samples of a filter, with all its patterns in use.
pub(crate) fn verify(filter: &Arc<Filter>, problems: &Problems) {
    let examine = examiner(filter);
    for (index, pattern) in filter.patterns.iter().enumerate() {
        if pattern.hits.is_empty() {
            let problem = pattern.spot.problem(format!("the pattern '{}' has no sample", pattern.name));
            problems.push(problem.hint("add a [[pattern.hit]] with a line and the address in it"));
        }
        for sample in &*pattern.hits {
            let findings = examine(&sample.lines).pop().unwrap_or_default();
            if let Some(objection) = sample.objection(&findings, index, filter) {
                problems.push(sample.spot.problem(objection));
            }
        }
    }
    if filter.misses.is_empty() {
        let problem =
            crate::config::problem::Problem::of_file(&filter.path, "the filter has no line that must not hit");
        problems.push(problem.hint("add a [[miss]] with a line that looks alike"));
    }
    for miss in &*filter.misses {
        if let Some(objection) = miss.objection(&examine(&miss.lines).concat()) {
            problems.push(miss.spot.problem(objection));
        }
    }
}

fn shown(offender: &Offender) -> String {
    match offender {
        Offender::Address(address) => address.to_string(),
        Offender::Name(name) => format!("the host name {name}"),
    }
}

#[cfg(test)]
mod injection;
