//! The daemon: whether it answers, how it says that it is, and whom it would never ban.

use std::path::Path;

use super::super::output::grouped;
use super::super::rules::caller;
use super::super::{Context, Error, settings, status_by};
use super::{Findings, processes};
use crate::config::Config;
use crate::control::client::Connection;
use crate::control::{Command, Health, Missing, Reply, SourceStatus, Status};

/// Troubles that are shown; `banctl status` has them all.
const TROUBLES: usize = 8;

pub(super) fn check(context: &Context, findings: &mut Findings) -> Option<Status> {
    let status = match ask(context) {
        Ok(status) => status,
        Err(error) => {
            let text = error.to_string();
            let (message, remedy) = text.split_once(". ").unwrap_or((&text, "journalctl -u banward tells more"));
            findings.bad("daemon", message, remedy);
            return None;
        }
    };
    health(&status, findings);
    for trouble in status.troubles.iter().take(TROUBLES) {
        findings.warn("daemon", trouble, "banctl status shows all troubles");
    }
    for source in &status.sources {
        missing(source, findings);
    }
    if !is_same(Path::new(&status.config), &context.globals.config) {
        let (own, other) = (context.globals.config.display(), &status.config);
        findings.warn(
            "daemon",
            format!("it works with {other}, and {own} was looked at here"),
            format!("banctl --config {other} doctor"),
        );
    }
    processes::check(&status, findings);
    Some(status)
}

/// Whether two paths lead to one file.
fn is_same(one: &Path, other: &Path) -> bool {
    let place = |path: &Path| path.canonicalize().ok();
    one == other || place(one).is_some_and(|found| place(other) == Some(found))
}

fn ask(context: &Context) -> Result<Status, Error> {
    status_by(&mut Connection::open(&settings::socket(&context.globals)?)?)
}

fn health(status: &Status, findings: &mut Findings) {
    let whole = format!("banward {}, process {}", status.version, status.pid);
    let (bans, held) = (grouped(status.bans), grouped(status.installed));
    match status.health {
        Health::Ok => findings.ok("daemon", format!("{whole}, guards; bans: {bans}, entries in the kernel: {held}")),
        Health::Degraded => findings.warn("daemon", format!("{whole}, guards with troubles"), "see the lines below"),
        Health::Starting => {
            findings.warn("daemon", format!("{whole}, is still starting"), "call banctl doctor again in a minute");
        }
        Health::Observing => {
            let remedy = "daemon.mode = \"enforce\" when what it would ban is right";
            findings.warn("daemon", format!("{whole}, observes: it decides, and blocks nobody"), remedy);
        }
        Health::Failing => {
            findings.bad("daemon", format!("{whole}: the kernel does not hold the bans"), "see the lines below");
        }
    }
}

fn missing(source: &SourceStatus, findings: &mut Findings) {
    let SourceStatus { log, lost, suppressed, .. } = source;
    if *lost > 0 {
        let remedy = "rotate it less often, or give the machine time: bans by these lines were not made";
        findings.warn("lost lines", format!("{log}: {} lines were gone before they were read", grouped(*lost)), remedy);
    }
    if let Some(Missing { lines, by, .. }) = suppressed {
        findings.warn("lost lines", format!("{log}: {} lines were left out by {by}", grouped(*lines)), by.remedy());
    }
}

/// Whether the person who asks could be banned.
pub(super) fn session(context: &Context, config: &Config, findings: &mut Findings) {
    let Some(client) = caller() else {
        return findings.ok("ssh session", "none: banctl was not called over SSH");
    };
    if client.is_loopback() || allowed(context, config).iter().any(|network| network.contains(&client)) {
        return findings.ok("ssh session", format!("{client}, from where you are logged in, is never banned"));
    }
    let message = format!("{client}, from where you are logged in, can be banned");
    findings.warn("ssh session", message, format!("banctl allow add {client}, or put it in allow.networks"));
}

/// Who is never banned: as the daemon says, else as the configuration does.
fn allowed(context: &Context, config: &Config) -> Vec<ipnet::IpNet> {
    let ask = || -> Result<Vec<ipnet::IpNet>, Error> {
        let mut connection = Connection::open(&settings::socket(&context.globals)?)?;
        let mut networks = Vec::new();
        for reply in connection.ask(Command::Allowed)? {
            if let Reply::Allowed(allowed) = reply? {
                networks.push(allowed.prefix);
            }
        }
        Ok(networks)
    };
    ask().unwrap_or_else(|_| config.allow.networks.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_the_same_by_whatever_path() {
        assert!(is_same(Path::new("/nowhere/a.toml"), Path::new("/nowhere/a.toml")));
        assert!(!is_same(Path::new("/nowhere/a.toml"), Path::new("/nowhere/b.toml")));
        let (whole, relative) = (std::env::current_dir().unwrap().join("Cargo.toml"), Path::new("./src/../Cargo.toml"));
        assert!(is_same(&whole, relative) && !is_same(&whole, Path::new("Cargo.lock")));
    }
}
