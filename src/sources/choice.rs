//! What a jail writes as its source, and the place that it comes to on this machine. It looks which logs exist; it
//! never reads them.

use std::path::Path;

use super::Place;

/// The kernel's ring buffer.
pub(crate) const KMSG: &str = "/dev/kmsg";

/// Where syslog daemons write the kernel's messages.
const KERNEL_LOGS: [&str; 3] = ["/var/log/kern.log", "/var/log/messages", "/var/log/syslog"];

/// Where journalctl is installed.
pub(super) const JOURNALCTL: [&str; 2] = ["/usr/bin/journalctl", "/bin/journalctl"];

/// The `source` of a jail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// `"auto"`: the filter's usual logs if one exists, else the journal.
    Auto,
    /// `"kernel"`: `/dev/kmsg`, else the journal, else the kernel's log files.
    Kernel,
    Files(Vec<String>),
    Journal {
        units: Vec<String>,
        identifiers: Vec<String>,
    },
    Stdin,
}

impl Choice {
    /// The place on this machine. `logs`, `units` and `programs` are those of the filter, for `auto`.
    pub(crate) fn resolve(&self, logs: &[String], units: &[String], programs: &[String]) -> Place {
        match self {
            Choice::Auto => auto(logs, units, programs),
            Choice::Kernel => kernel(Path::new(KMSG), journalctl().is_some(), &KERNEL_LOGS),
            Choice::Files(patterns) => Place::Files(patterns.clone()),
            Choice::Journal { units, identifiers } => {
                Place::Journal { units: units.clone(), identifiers: identifiers.clone(), kernel: false }
            }
            Choice::Stdin => Place::Stdin,
        }
    }
}

/// Where journalctl is on this machine.
pub(crate) fn journalctl() -> Option<&'static Path> {
    JOURNALCTL.into_iter().map(Path::new).find(|path| path.exists())
}

fn auto(logs: &[String], units: &[String], programs: &[String]) -> Place {
    let existing: Vec<String> = logs.iter().filter(|pattern| exists(pattern)).cloned().collect();
    if existing.is_empty() && !(units.is_empty() && programs.is_empty()) {
        // A unit is what systemd says of a process; an identifier is what the process says of itself. So the
        // identifiers count only where the filter knows no unit.
        let identifiers = if units.is_empty() { programs.to_vec() } else { Vec::new() };
        return Place::Journal { units: units.to_vec(), identifiers, kernel: false };
    }
    Place::Files(if existing.is_empty() { logs.to_vec() } else { existing })
}

fn kernel(kmsg: &Path, has_journal: bool, logs: &[&str]) -> Place {
    if super::kmsg::is_readable(kmsg) {
        Place::Kmsg
    } else if has_journal {
        Place::Journal { units: Vec::new(), identifiers: Vec::new(), kernel: true }
    } else {
        let existing = logs.iter().find(|log| Path::new(log).exists());
        Place::Files(existing.into_iter().chain(logs.first()).take(1).map(|log| (*log).to_owned()).collect())
    }
}

/// Whether a file matches the pattern now.
fn exists(pattern: &str) -> bool {
    glob::glob(pattern).is_ok_and(|mut paths| paths.any(|path| path.is_ok_and(|path| path.is_file())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn auto_takes_the_logs_that_exist_and_else_the_units_in_the_journal() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("auth.log").display().to_string();
        let logs = vec![log.clone(), directory.path().join("secure").display().to_string()];
        let (units, programs) = (words(&["ssh.service"]), words(&["sshd"]));
        let journal = Place::Journal { units: units.clone(), identifiers: Vec::new(), kernel: false };
        assert_eq!(Choice::Auto.resolve(&logs, &units, &programs), journal);
        std::fs::write(&log, "").unwrap();
        assert_eq!(Choice::Auto.resolve(&logs, &units, &programs), Place::Files(vec![log]));
    }

    #[test]
    fn auto_of_a_filter_without_units_takes_its_programs_in_the_journal() {
        let journal = Place::Journal { units: Vec::new(), identifiers: words(&["named"]), kernel: false };
        assert_eq!(Choice::Auto.resolve(&[], &[], &words(&["named"])), journal);
    }

    #[test]
    fn auto_of_a_filter_with_logs_only_waits_for_them() {
        let logs = words(&["/nonexistent/app.log"]);
        assert_eq!(Choice::Auto.resolve(&logs, &[], &[]), Place::Files(logs.clone()));
    }

    #[test]
    fn the_kernel_is_read_from_kmsg_else_the_journal_else_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let (present, absent) = (directory.path().join("kmsg"), directory.path().join("absent"));
        std::fs::write(&present, "").unwrap();
        let [present_log, absent_log] = [present.to_str().unwrap(), absent.to_str().unwrap()];
        assert_eq!(kernel(&present, true, &[]), Place::Kmsg);
        assert!(matches!(kernel(&absent, true, &[]), Place::Journal { kernel: true, .. }));
        assert_eq!(kernel(&absent, false, &[absent_log, present_log]), Place::Files(words(&[present_log])));
        assert_eq!(kernel(&absent, false, &[absent_log]), Place::Files(words(&[absent_log])));
    }
}
