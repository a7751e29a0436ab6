//! What is wrong with other people's firewall scripts. In: a shell script, or what `iptables-save` wrote. Out: each
//! mistake with its line and what to do instead. Nothing is ever run.

mod flow; // what is wrong with the order and the whole
mod line; // what is wrong with one command
mod read; // text → commands with their places
mod shell; // what is wrong with the shell around them
#[cfg(test)]
mod tests;

use std::path::Path;

use crate::config::problem::{Place, Problem, Severity};

/// Most lines that are looked at.
const MAX_LINES: usize = 100_000;

/// Most mistakes that are named.
pub(crate) const MAX_FINDINGS: usize = 1000;

/// A mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// What kind of mistake, in a word or two: `host-bits`.
    pub(crate) code: &'static str,
    pub(crate) severity: Severity,
    /// From and to which byte of the text.
    span: (usize, usize),
    pub(crate) message: String,
    pub(crate) remedy: String,
}

impl Finding {
    /// Something that fails, or does not do what it seems to.
    fn error(
        code: &'static str,
        span: (usize, usize),
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Finding {
        Finding { code, severity: Severity::Error, span, message: message.into(), remedy: remedy.into() }
    }

    /// Something that works and is not wise.
    fn warning(
        code: &'static str,
        span: (usize, usize),
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Finding {
        Finding { severity: Severity::Warning, ..Finding::error(code, span, message, remedy) }
    }

    pub(crate) fn place(&self, text: &str) -> Place {
        Place::of(text, &(self.span.0..self.span.1))
    }

    /// The mistake as problems are shown.
    pub(crate) fn problem(&self, path: &Path, text: &str) -> Problem {
        Problem {
            severity: self.severity,
            path: path.to_owned(),
            place: Some(self.place(text)),
            message: format!("{} [{}]", self.message, self.code),
            hint: Some(self.remedy.clone()),
        }
    }
}

/// All mistakes of a text, in their order.
pub(crate) fn lint(text: &str) -> Vec<Finding> {
    let source = read::read(text);
    let mut findings = Vec::new();
    for command in &source.commands {
        findings.extend(line::check(command));
    }
    findings.extend(shell::check(text, &source));
    findings.extend(flow::check(&source));
    findings.sort_by_key(|finding| (finding.span.0, finding.code));
    findings.dedup_by(|a, b| a.code == b.code && a.span == b.span);
    findings.truncate(MAX_FINDINGS);
    findings
}
