//! The daemon parts: into the brain, which this process becomes and which has no rights, the enforcer, which may change
//! the firewall and nothing else, and the witness, which may look who is logged in and nothing else.

use std::path::Path;

use rustix::io::Errno;
use rustix::thread::CapabilitySet;

use super::{Failure, startup};
use crate::config::Config;
use crate::enforcer::{self, Enforcer, Witness};
use crate::filters::Filters;
use crate::sandbox::identity::{self, Identity, Wanted};
use crate::sandbox::{Calls, Fence, capabilities, folders, trust};
use crate::setup::Setup;
use crate::sources::{self, Place};

/// The other processes, and what is left open to this one.
pub(super) struct Processes {
    pub(super) enforcer: Enforcer,
    pub(super) witness: Witness,
    pub(super) fence: Option<Fence>,
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
    let fence = if config.daemon.sandbox { close(fence) } else { None };
    let watched = started.watch();
    let (enforcer, witness) =
        watched.map_err(|why| Failure::new(format!("the other processes cannot be watched: {why}")))?;
    Ok(Processes { enforcer, witness, fence })
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

/// Closes files and system calls. Where the kernel cannot, the daemon guards all the same.
fn close(fence: Fence) -> Option<Fence> {
    let fenced = fence.enforce();
    let calls = if fence.runs_programs() { Calls::Programs } else { Calls::NoPrograms };
    for why in [&fenced, &calls.enforce()].into_iter().filter_map(|done| done.as_ref().err()) {
        log::warn!("{why}; the daemon runs without that");
    }
    fenced.is_ok().then_some(fence)
}
