//! What `banctl` itself takes from the configuration: where the daemon's socket is, and who is allowed.
//!
//! A configuration with mistakes in other places does not keep an administrator from talking to the daemon.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use super::{Error, Globals};
use crate::config::problem::{Problem, Problems};
use crate::config::{Config, DEFAULT_PATH};
use crate::time::Length;

/// `--socket`, else `daemon.socket` of the configuration.
pub(super) fn socket(globals: &Globals) -> Result<PathBuf, Error> {
    match &globals.socket {
        Some(path) => Ok(path.clone()),
        None => Ok(read(&globals.config)?.daemon.socket),
    }
}

/// Why a daemon of this configuration cannot be reached: none could have started with it.
pub(super) fn mistakes(globals: &Globals) -> Option<Error> {
    if globals.socket.is_some() || !is_readable(&globals.config) {
        return None;
    }
    let problems = Problems::default();
    Config::load(&globals.config, &problems);
    let errors: Vec<Problem> = problems.into_sorted().into_iter().filter(Problem::is_error).collect();
    (!errors.is_empty()).then_some(Error::Config(errors))
}

/// The networks that are never banned.
pub(super) fn allowed(globals: &Globals) -> Result<Vec<IpNet>, Error> {
    Ok(read(&globals.config)?.allow.networks)
}

/// How long the first ban of each jail is.
pub(super) fn lengths(globals: &Globals) -> Result<BTreeMap<String, Length>, Error> {
    Ok(read(&globals.config)?.jails.into_iter().map(|jail| (jail.name, jail.ban.time)).collect())
}

/// The configuration without a mistake in it, for what changes the firewall by it.
pub(super) fn flawless(globals: &Globals) -> Result<Config, Error> {
    let problems = Problems::default();
    let config = Config::load(&globals.config, &problems);
    let errors: Vec<Problem> = problems.into_sorted().into_iter().filter(Problem::is_error).collect();
    config.filter(|_| errors.is_empty()).ok_or(Error::Config(errors))
}

/// The folders of filters.
pub(super) fn filters(globals: &Globals) -> Result<Vec<PathBuf>, Error> {
    Ok(read(&globals.config)?.daemon.filters)
}

/// The configuration as far as it can be read. The installed one may be missing, closed to this user or broken: then
/// the built-in one holds, for whoever is locked out needs to reach the daemon more than anybody.
fn read(path: &Path) -> Result<Config, Error> {
    if path == Path::new(DEFAULT_PATH) && !is_readable(path) {
        return Ok(Config::built_in());
    }
    let problems = Problems::default();
    match Config::load(path, &problems) {
        Some(config) => Ok(config),
        None if path == Path::new(DEFAULT_PATH) => Ok(Config::built_in()),
        None => Err(Error::Config(problems.into_sorted())),
    }
}

/// The same, where a configuration that cannot be read at all is no failure.
pub(super) fn readable(globals: &Globals) -> Option<Config> {
    read(&globals.config).ok()
}

fn is_readable(path: &Path) -> bool {
    let opened = std::fs::File::open(path);
    !opened.is_err_and(|reason| matches!(reason.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied))
}
