//! What journald and rsyslog leave out of logs when much is written: lines that are left out ban nobody.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::Findings;
use crate::text::plural;

/// Folders of additions to journald.conf, the last one the strongest (journald.conf(5)).
const FOLDERS: [&str; 4] = ["usr/lib", "usr/local/lib", "run", "etc"];

/// What holds where nothing is written: journald.conf(5), and imjournal's manual.
const JOURNALD: Limit = Limit { lines: 10_000, seconds: 30 };
const IMJOURNAL: Limit = Limit { lines: 20_000, seconds: 600 };

/// Fewer lines in a second than one attacker easily causes.
const FEW: u64 = 10;

/// So many lines in so many seconds, of one service; no limit where one of them is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limit {
    lines: u64,
    seconds: u64,
}

impl Limit {
    fn is_off(self) -> bool {
        self.lines == 0 || self.seconds == 0
    }

    fn is_low(self) -> bool {
        !self.is_off() && self.lines / self.seconds < FEW
    }
}

pub(super) fn check(root: &Path, findings: &mut Findings) {
    journald(root, findings);
    rsyslog(root, findings);
}

fn journald(root: &Path, findings: &mut Findings) {
    if !root.join("run/systemd/journal/socket").exists() {
        return findings.ok("journald", "it does not run here");
    }
    let settings = settings(root);
    if settings.get("Storage").is_some_and(|storage| storage == "none") {
        let remedy = "Storage=auto in journald.conf, then: systemctl restart systemd-journald";
        return findings.warn("journald", "it keeps nothing (Storage=none), so no jail can read it", remedy);
    }
    let number = |key| settings.get(key).and_then(|text: &String| text.parse().ok());
    let interval = ["RateLimitIntervalSec", "RateLimitInterval"].into_iter().find_map(|key| settings.get(key));
    let seconds = interval.and_then(|text| seconds(text)).unwrap_or(JOURNALD.seconds);
    let limit = Limit { lines: number("RateLimitBurst").unwrap_or(JOURNALD.lines), seconds };
    told(
        "journald",
        limit,
        "RateLimitBurst=10000 in journald.conf, then: systemctl restart systemd-journald",
        findings,
    );
}

fn told(check: &'static str, limit: Limit, remedy: &str, findings: &mut Findings) {
    let Limit { lines, seconds } = limit;
    let seconds = plural(seconds, "second");
    if limit.is_off() {
        findings.ok(check, "it leaves out nothing");
    } else if limit.is_low() {
        findings.warn(
            check,
            format!("of more than {lines} lines of a service in {seconds} it leaves out the rest"),
            remedy,
        );
    } else {
        findings.ok(check, format!("it takes at least {lines} lines of a service in {seconds}"));
    }
}

/// The settings of journald.conf and its additions: those of a later file win, by its name; of files with the same name
/// only that in the strongest folder counts.
fn settings(root: &Path) -> BTreeMap<String, String> {
    let mut additions: BTreeMap<std::ffi::OsString, PathBuf> = BTreeMap::new();
    for folder in FOLDERS {
        let entries = fs::read_dir(root.join(folder).join("systemd/journald.conf.d")).into_iter().flatten().flatten();
        let files = entries.filter(|entry| entry.path().extension().is_some_and(|kind| kind == "conf"));
        additions.extend(files.map(|entry| (entry.file_name(), entry.path())));
    }
    let mains = FOLDERS.iter().rev().map(|folder| root.join(folder).join("systemd/journald.conf"));
    let main = mains.into_iter().find(|path| path.exists());
    let mut settings = BTreeMap::new();
    for path in main.into_iter().chain(additions.into_values()) {
        let text = fs::read_to_string(path).unwrap_or_default();
        let lines = text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';']));
        let pairs = lines.filter_map(|line| line.split_once('='));
        settings.extend(pairs.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned())));
    }
    settings
}

/// A span of systemd (systemd.time(7)), as whole seconds: `30s`, `1min 30s`, `0`.
fn seconds(text: &str) -> Option<u64> {
    let mut total: f64 = 0.0;
    let mut rest = text.trim();
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..end].parse().ok()?;
        let unit = rest[end..].trim_start();
        let end = unit.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(unit.len());
        total += number
            * match &unit[..end] {
                "" | "s" | "sec" | "second" | "seconds" => 1.0,
                "ms" | "msec" => 0.001,
                "m" | "min" | "minute" | "minutes" => 60.0,
                "h" | "hr" | "hour" | "hours" => 3600.0,
                "d" | "day" | "days" => 86_400.0,
                _ => return None,
            };
        rest = unit[end..].trim_start();
    }
    // Bounded, so that nothing is lost; what is shorter than a second counts as one.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to a year of seconds")]
    Some(total.ceil().clamp(0.0, 31_536_000.0) as u64)
}

fn rsyslog(root: &Path, findings: &mut Findings) {
    let additions = fs::read_dir(root.join("etc/rsyslog.d")).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = additions.map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|kind| kind == "conf"));
    paths.sort();
    paths.insert(0, root.join("etc/rsyslog.conf"));
    let text: String = paths.iter().filter_map(|path| fs::read_to_string(path).ok()).collect::<Vec<_>>().join("\n");
    if let Some(limit) = imjournal(&text) {
        told(
            "rsyslog",
            limit,
            "ratelimit.burst=\"20000\" for imjournal in rsyslog.conf, then restart rsyslog",
            findings,
        );
    }
}

/// The limit of rsyslog's reader of the journal; `None` where it is not loaded.
fn imjournal(text: &str) -> Option<Limit> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().to_ascii_lowercase());
    let text = lines.collect::<Vec<_>>().join(" ");
    let number = |text: &str, key: &str| -> Option<u64> {
        let rest = text.split_once(key)?.1.trim_start_matches(['=', '"', ' ']);
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    };
    if let Some((_, rest)) = text.split_once("module(load=\"imjournal\"") {
        let module = rest.split(')').next().unwrap_or_default();
        return Some(Limit {
            lines: number(module, "ratelimit.burst").unwrap_or(IMJOURNAL.lines),
            seconds: number(module, "ratelimit.interval").unwrap_or(IMJOURNAL.seconds),
        });
    }
    text.contains("$modload imjournal").then(|| Limit {
        lines: number(&text, "$imjournalratelimitburst").unwrap_or(IMJOURNAL.lines),
        seconds: number(&text, "$imjournalratelimitinterval").unwrap_or(IMJOURNAL.seconds),
    })
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn machine(files: &[(&str, &str)]) -> Vec<(&'static str, Verdict, String)> {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let mut findings = Findings::default();
        check(root.path(), &mut findings);
        findings.0.into_iter().map(|finding| (finding.check, finding.verdict, finding.message)).collect()
    }

    const RUNS: (&str, &str) = ("run/systemd/journal/socket", "");

    #[test]
    fn a_later_addition_sets_the_limit_and_a_file_of_etc_hides_its_namesake() {
        let found = machine(&[
            RUNS,
            ("etc/systemd/journald.conf", "[Journal]\n#RateLimitBurst=1\nRateLimitBurst=5\n"),
            ("usr/lib/systemd/journald.conf.d/50-x.conf", "[Journal]\nRateLimitBurst=7\n"),
            ("etc/systemd/journald.conf.d/50-x.conf", "[Journal]\nRateLimitIntervalSec=1min 30s\nRateLimitBurst=60\n"),
            ("etc/systemd/journald.conf.d/40-y.conf", "[Journal]\nRateLimitBurst=6\n"),
        ]);
        let message = "of more than 60 lines of a service in 90 seconds it leaves out the rest";
        assert_eq!(found, [("journald", Verdict::Warn, message.to_owned())]);
    }

    #[test]
    fn the_usual_limit_and_none_are_in_order() {
        assert!(machine(&[RUNS])[0].2.contains("10000 lines of a service in 30 seconds"));
        let off = machine(&[RUNS, ("etc/systemd/journald.conf", "[Journal]\nRateLimitIntervalSec=0\n")]);
        assert_eq!(off[0].2, "it leaves out nothing");
        let none = machine(&[RUNS, ("etc/systemd/journald.conf", "[Journal]\nStorage=none\n")]);
        assert_eq!(none[0].1, Verdict::Warn);
        assert_eq!(machine(&[])[0].2, "it does not run here");
    }

    #[test]
    fn what_rsyslog_takes_of_the_journal_is_read_in_both_ways_of_writing_it() {
        let modern = "module(load=\"imuxsock\")\nmodule(load=\"imjournal\" # state\n  StateFile=\"x\"\n  Ratelimit.Interval=\"600\" Ratelimit.Burst=\"100\")\n";
        assert_eq!(imjournal(modern), Some(Limit { lines: 100, seconds: 600 }));
        let old = "$ModLoad imjournal\n$imjournalRatelimitInterval 0\n";
        assert_eq!(imjournal(old), Some(Limit { lines: 20_000, seconds: 0 }));
        assert_eq!(imjournal("module(load=\"imuxsock\")\n# module(load=\"imjournal\")\n"), None);
        let found = machine(&[("etc/rsyslog.d/a.conf", modern)]);
        assert_eq!((found[1].0, found[1].1), ("rsyslog", Verdict::Warn));
    }
}
