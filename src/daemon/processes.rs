//! The daemon parts: into the brain, which this process becomes and which has no rights, the enforcer, which may change
//! the firewall and nothing else, and the witness, which may look who is logged in and nothing else.

use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::io::Errno;
use rustix::thread::CapabilitySet;

use super::closed::Closed;
use super::{Failure, startup};
use crate::config::Config;
use crate::enforcer::{self, Enforcer, Witness};
use crate::filters::Filters;
use crate::sandbox::identity::{self, Identity, Wanted};
use crate::sandbox::{Fence, capabilities, folders, trust};
use crate::setup::Setup;
use crate::sources::{self, Place};

/// The other processes, and what is closed to this one.
pub(super) struct Processes {
    pub(super) enforcer: Enforcer,
    pub(super) witness: Witness,
    /// What the enforcer's bell is made of.
    pub(super) bell: UnixStream,
    pub(super) closed: Closed,
}

/// Opens what takes rights, starts the other processes, and gives all rights up. To be done before there is a second
/// thread.
pub(super) fn part(path: &Path, setup: &Setup) -> Result<Processes, Failure> {
    let config = &setup.config;
    let identity = identity(config)?;
    let untrusted = trust::untrusted(config, identity.as_ref().map(|identity| identity.uid));
    if !untrusted.is_empty() {
        return Err(Failure { text: untrusted.join("\n"), code: super::EXIT_CONFIG });
    }
    folders::make(config);
    if let Some(identity) = &identity {
        folders::hand_over(config, identity).map_err(Failure::new)?;
    }
    sources::keep_kernel_log_open();
    let fence = Fence::brain(config, &places(config, &setup.filters));
    let started =
        enforcer::spawn(path).map_err(|why| Failure::new(format!("the other processes cannot be started: {why}")))?;
    give_up(config, identity.as_ref())?;
    let closed = Closed::at_start(config, fence);
    let watched = started.watch();
    let (enforcer, witness, bell) =
        watched.map_err(|why| Failure::new(format!("the other processes cannot be watched: {why}")))?;
    Ok(Processes { enforcer, witness, bell, closed })
}

/// Where the lines of the jails come from, now.
pub(super) fn places(config: &Config, filters: &Filters) -> Vec<Place> {
    let place = |jail: &crate::config::Jail| Some(startup::place_of(jail, &*filters.get(&jail.filter)?));
    config.enabled().filter_map(place).collect()
}

/// Whom to become. A service must have its user; whoever tries the daemon out need not make one.
fn identity(config: &Config) -> Result<Option<Identity>, Failure> {
    match identity::wanted(&config.daemon.user, &config.daemon.groups) {
        Wanted::Nobody => Ok(None),
        Wanted::Found(identity) => Ok(Some(identity)),
        Wanted::Missing => {
            let missing = format!("there is no user '{}'; make it with 'systemd-sysusers'", config.daemon.user);
            if std::env::var_os("INVOCATION_ID").is_some() {
                let text = format!("{missing}, or set daemon.user to another one, or to \"\" to stay root");
                return Err(Failure { text, code: super::EXIT_CONFIG });
            }
            log::warn!("{missing}; until then the daemon stays root by name, and gives up all that root may do");
            Ok(None)
        }
    }
}

fn give_up(config: &Config, identity: Option<&Identity>) -> Result<(), Failure> {
    let failed = |doing: String| {
        move |why: Errno| Failure::new(format!("{doing}: {}; see daemon.user", std::io::Error::from(why)))
    };
    let nothing = CapabilitySet::empty();
    capabilities::bound_to(nothing).map_err(failed("capabilities cannot be given up".to_owned()))?;
    if let Some(identity) = identity {
        identity.assume().map_err(failed(format!("the daemon cannot become the user {}", identity.user)))?;
    } else if rustix::process::geteuid().is_root() {
        // Within a user namespace that is not permitted, and files of these groups stay closed.
        let _joined = identity::join(&identity::existing(&config.daemon.groups));
    }
    capabilities::keep(nothing).map_err(failed("capabilities cannot be given up".to_owned()))
}
