//! `banctl check` and `banward --check`: every problem of the configuration and of its filters, at once.
//! In: the main file. Out: an exit code, one line on `out` when all is well, the problems on `err` as they are cited.
//! It starts nothing and asks no daemon.

use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;

use super::input;
use super::output::json_line;
use crate::config::problem::{Problem, Severity};
use crate::config::{Config, Jail};
use crate::setup::{self, Depth};
use crate::sources::Choice;
use crate::text::{escape, plural};

/// `EX_CONFIG` of sysexits(3): something is wrong with what the user wrote.
pub(crate) const EXIT_CONFIG: u8 = 78;

/// What a check found.
struct Found {
    /// How many jails and filters there are; `None` where the configuration cannot be used.
    counts: Option<(usize, usize)>,
    problems: Vec<Problem>,
    errors: usize,
}

/// A problem, as JSON.
#[derive(Serialize)]
struct Row<'a> {
    path: String,
    line: Option<usize>,
    column: Option<usize>,
    severity: Severity,
    message: &'a str,
    hint: Option<&'a str>,
}

/// What was checked, as JSON: the last object.
#[derive(Serialize)]
struct Verdict {
    path: String,
    jails: Option<usize>,
    filters: Option<usize>,
    errors: usize,
    warnings: usize,
}

/// Checks the configuration at `path` with its filters, each of which proves itself on its samples.
pub(crate) fn run(path: &Path, err: &mut impl Write, out: &mut impl Write) -> io::Result<u8> {
    let found = Found::at(path);
    found.tell(path, err, out)?;
    Ok(found.exit_code())
}

/// The same as JSON, all of it on `out`.
pub(super) fn run_json(path: &Path, out: &mut impl Write) -> io::Result<u8> {
    let found = Found::at(path);
    found.list(path, out)?;
    Ok(found.exit_code())
}

impl Found {
    fn at(path: &Path) -> Found {
        let (setup, mut problems) = setup::load(path, Depth::Prove);
        problems.extend(setup.iter().flat_map(|setup| folders(&setup.config)));
        let counts = setup.map(|setup| (setup.config.jails.len(), setup.filters.iter().count()));
        let errors = problems.iter().filter(|problem| problem.is_error()).count();
        Found { counts, problems, errors }
    }

    fn warnings(&self) -> usize {
        self.problems.len() - self.errors
    }

    fn exit_code(&self) -> u8 {
        if self.errors > 0 { EXIT_CONFIG } else { 0 }
    }

    /// Shows the problems, then, unless one of them is an error, what was checked.
    fn tell(&self, path: &Path, err: &mut impl Write, out: &mut impl Write) -> io::Result<()> {
        for problem in &self.problems {
            writeln!(err, "{problem}")?;
        }
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
        let (name, warnings) = (escape(&name), plural(self.warnings() as u64, "warning"));
        if self.errors > 0 {
            return writeln!(err, "{name}: {}, {warnings}", plural(self.errors as u64, "error"));
        }
        let (jails, filters) = self.counts.unwrap_or_default();
        let verdict = if self.problems.is_empty() { "no problem" } else { &warnings };
        writeln!(out, "{name}: {}, {}, {verdict}", plural(jails as u64, "jail"), plural(filters as u64, "filter"))
    }

    /// An object for each problem, and one for the whole.
    fn list(&self, path: &Path, out: &mut impl Write) -> io::Result<()> {
        for Problem { severity, path, place, message, hint } in &self.problems {
            let (path, hint) = (path.display().to_string(), hint.as_deref());
            let (line, column) = place.as_ref().map(|place| (place.line, place.column)).unzip();
            json_line(out, &Row { path, line, column, severity: *severity, message, hint })?;
        }
        let (jails, filters) = self.counts.unzip();
        let (path, errors, warnings) = (path.display().to_string(), self.errors, self.warnings());
        json_line(out, &Verdict { path, jails, filters, errors, warnings })
    }
}

/// A warning for each folder that a jail names as its log.
fn folders(config: &Config) -> Vec<Problem> {
    let of = |jail: &Jail| {
        let Choice::Files(patterns) = &jail.source else { return Vec::new() };
        let Some(spot) = &jail.spots.source else { return Vec::new() };
        let folders = input::folders(patterns).into_iter().map(|folder| folder.display().to_string());
        let warn = |folder| {
            let problem = spot.problem(format!("\"{folder}\" is a directory, and nothing in it is read")).warning();
            problem.hint(format!("name its files: \"{folder}/*.log\""))
        };
        folders.map(warn).collect()
    };
    config.enabled().flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILTER: &str = "description = 'd'\nformat = 'plain'\nlogs = ['/var/log/d']\n[[pattern]]\nname = 'no'\n\
        regex = '^no <ADDR>$'\n[[pattern.hit]]\nline = 'no 192.0.2.9'\naddr = '192.0.2.9'\n[[miss]]\nline = 'yes'\n";

    /// Checks these jails beside a filter `d`; what stands on `err` and `out`, without the folder.
    fn check(jails: &str, filter: &str) -> (u8, String, String) {
        let folder = tempfile::tempdir().unwrap();
        let filters = folder.path().join("filters");
        std::fs::create_dir(&filters).unwrap();
        std::fs::write(filters.join("d.toml"), filter).unwrap();
        let path = folder.path().join("banward.toml");
        std::fs::write(&path, format!("daemon.filters = ['{}']\n{jails}", filters.display())).unwrap();
        let (mut err, mut out) = (Vec::new(), Vec::new());
        let code = run(&path, &mut err, &mut out).unwrap();
        let shown = |bytes| String::from_utf8(bytes).unwrap().replace(&format!("{}/", folder.path().display()), "");
        (code, shown(err), shown(out))
    }

    #[test]
    fn a_configuration_in_order_is_one_line() {
        let shown = "banward.toml: 1 jail, 1 filter, no problem\n";
        assert_eq!(check("[jail.x]\nfilter = 'd'\n", FILTER), (0, String::new(), shown.to_owned()));
    }

    #[test]
    fn warnings_are_shown_and_counted_but_refuse_nothing() {
        let (code, err, out) = check("", FILTER);
        assert!(err.starts_with("banward.toml: warning: no jail is switched on"), "{err}");
        assert_eq!((code, out.as_str()), (0, "banward.toml: 0 jails, 1 filter, 1 warning\n"));
    }

    #[test]
    fn problems_of_configuration_and_filters_are_shown_together() {
        let (code, err, out) = check("[jail.odd]\nfilter = 'dd'\n", &FILTER.replace("yes", "no 192.0.2.1"));
        let missing = "banward.toml:3:10: there is no filter \"dd\"\n3 | filter = 'dd'\n  |          ^^^^\n  \
                       hint: did you mean \"d\"?\nfilters/d.toml:";
        assert!(err.starts_with(missing), "{err}");
        assert!(err.ends_with("banward.toml: 2 errors, 0 warnings\n"), "{err}");
        assert_eq!((code, out.as_str()), (EXIT_CONFIG, ""));
    }

    #[test]
    fn a_directory_in_place_of_a_log_is_warned_of() {
        let (code, err, out) = check("[jail.x]\nfilter = 'd'\nsource = { files = ['/proc/self'] }\n", FILTER);
        assert!(err.starts_with("banward.toml:4:10: warning: \"/proc/self\" is a directory, and"), "{err}");
        assert!(err.ends_with("\n  hint: name its files: \"/proc/self/*.log\"\n"), "{err}");
        assert_eq!((code, out.as_str()), (0, "banward.toml: 1 jail, 1 filter, 1 warning\n"));
    }

    #[test]
    fn a_name_that_a_terminal_would_obey_is_shown_escaped() {
        let (mut err, mut out) = (Vec::new(), Vec::new());
        assert_eq!(run(Path::new("/nowhere/na\u{1b}[31mme.toml"), &mut err, &mut out).unwrap(), EXIT_CONFIG);
        let shown = String::from_utf8(err).unwrap();
        assert!(shown.starts_with("/nowhere/na\\u{1b}[31mme.toml: "), "{shown}");
        assert!(shown.ends_with("na\\u{1b}[31mme.toml: 1 error, 0 warnings\n"), "{shown}");
    }
}
