//! `banctl check` and `banward --check`: every problem of the configuration and of its filters, at once.
//! In: the main file. Out: an exit code, one line on `out` when all is well, the problems on `err` as they are cited.
//! It starts nothing and asks no daemon.

use std::io::{self, Write};
use std::path::Path;

use crate::config::problem::Problem;
use crate::setup::{self, Depth};
use crate::text::plural;

/// `EX_CONFIG` of sysexits(3): something is wrong with what the user wrote.
pub(crate) const EXIT_CONFIG: u8 = 78;

/// Checks the configuration at `path` with its filters, each of which proves itself on its samples.
pub(crate) fn run(path: &Path, err: &mut impl Write, out: &mut impl Write) -> io::Result<u8> {
    let (setup, problems) = setup::load(path, Depth::Prove);
    let counted = setup.map(|setup| {
        let (jails, filters) = (setup.config.jails.len(), setup.filters.iter().count());
        format!("{}, {}", plural(jails as u64, "jail"), plural(filters as u64, "filter"))
    });
    report(path, &counted.unwrap_or_default(), &problems, err, out)
}

/// Shows the problems, then, unless one of them is an error, what was checked.
fn report(
    path: &Path,
    counted: &str,
    problems: &[Problem],
    err: &mut impl Write,
    out: &mut impl Write,
) -> io::Result<u8> {
    for problem in problems {
        writeln!(err, "{problem}")?;
    }
    let errors = problems.iter().filter(|problem| problem.is_error()).count();
    let warnings = problems.len() - errors;
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    if errors > 0 {
        writeln!(err, "{name}: {}, {}", plural(errors as u64, "error"), plural(warnings as u64, "warning"))?;
        return Ok(EXIT_CONFIG);
    }
    let verdict = if warnings == 0 { "no problem".to_owned() } else { plural(warnings as u64, "warning") };
    writeln!(out, "{name}: {counted}, {verdict}")?;
    Ok(0)
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
}
