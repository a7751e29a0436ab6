//! `banctl rules lint`: the mistakes of other people's scripts, each with its line and the remedy.

use std::io::{self, Read as _};
use std::path::Path;

use serde::Serialize;

use super::LintOptions;
use crate::config::problem::Severity;
use crate::ctl::output::{counted, say};
use crate::ctl::{Context, Error, input};
use crate::rules::lint::{MAX_FINDINGS, lint};

/// Largest file that is looked at, in bytes.
const MAX_FILE: u64 = 16 << 20;

/// A mistake, as JSON.
#[derive(Debug, Serialize)]
struct Row<'a> {
    file: String,
    line: usize,
    column: usize,
    severity: Severity,
    code: &'static str,
    message: &'a str,
    remedy: &'a str,
}

pub(super) fn run(options: &LintOptions, context: &mut Context) -> Result<(), Error> {
    let mut total = 0;
    for path in &options.files {
        let text = read(path).map_err(|error| Error::File(path.clone(), error))?;
        let findings = lint(&text);
        total += findings.len() as u64;
        for finding in &findings {
            if context.globals.json {
                let place = finding.place(&text);
                context.out.json(&Row {
                    file: path.display().to_string(),
                    line: place.line,
                    column: place.column,
                    severity: finding.severity,
                    code: finding.code,
                    message: &finding.message,
                    remedy: &finding.remedy,
                })?;
            } else {
                let shown = finding.problem(path, &text).to_string();
                shown.lines().try_for_each(|line| context.out.line(&crate::text::escape(line)))?;
            }
        }
        if findings.len() == MAX_FINDINGS {
            say(&format!("{}: there are more; only the first {MAX_FINDINGS} are named.", path.display()));
        }
    }
    if total == 0 {
        say("no mistake found.");
        return Ok(());
    }
    say(&format!("{} found.", counted(total, "mistake", "mistakes")));
    Err(Error::Said)
}

fn read(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    input::open(path, "rules lint")?.take(MAX_FILE).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
