//! The files that a process may read, write and run (Landlock): all others are closed to it, whoever owns them.

use std::path::{Component, Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetStatus, Scope, path_beneath_rules,
};

use crate::config::Config;
use crate::sources::Place;

/// What programs and libraries need, and the state of the system. None of it is secret.
const SYSTEM: [&str; 12] = [
    "/usr",
    "/lib",
    "/lib64",
    "/bin",
    "/sbin",
    "/proc",
    "/dev/null",
    "/dev/urandom",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/resolv.conf",
    "/run/systemd/resolve",
];

/// Besides that, what the brain reads: logs, the journal, sessions, who is in which group.
const BRAIN: [&str; 8] = [
    "/var/log",
    "/run/log/journal",
    "/run/systemd/sessions",
    "/etc/machine-id",
    "/etc/timezone",
    "/etc/passwd",
    "/etc/group",
    "/dev/kmsg",
];

/// Besides that, what the firewall's tools read.
const TOOLS: [&str; 5] = ["/etc/protocols", "/etc/services", "/etc/nsswitch.conf", "/etc/ethertypes", "/etc/xtables"];

/// Dynamic loaders: to run a program is to run one of them.
const LOADERS: [&str; 3] = ["/lib*/ld-*.so*", "/lib/*-linux-*/ld-*.so*", "/usr/lib*/ld-*.so*"];

/// What lies within is open; everything else is not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fence {
    read: Vec<PathBuf>,
    write: Vec<PathBuf>,
    run: Vec<PathBuf>,
}

impl Fence {
    /// Around the process that reads logs in these places.
    pub(crate) fn brain(config: &Config, places: &[Place]) -> Fence {
        let mut read: Vec<PathBuf> = SYSTEM.iter().chain(&BRAIN).map(PathBuf::from).collect();
        read.extend(readable(config, places));
        let write = writable(config);
        let journal = places.iter().any(|place| matches!(place, Place::Journal { .. }));
        let journalctl = crate::sources::journalctl().filter(|_| journal);
        let with_loaders = |program: &Path| std::iter::once(program.to_owned()).chain(loaders()).collect();
        Fence { read, write, run: journalctl.map(with_loaders).unwrap_or_default() }
    }

    /// Around the process that runs the firewall's tools. It goes by this configuration.
    pub(crate) fn enforcer(config: &Path, lock: &Path) -> Fence {
        let mut read: Vec<PathBuf> = SYSTEM.iter().chain(&TOOLS).map(PathBuf::from).collect();
        read.extend(config.parent().map(Path::to_owned));
        let run = crate::firewall::command::installed().into_iter().chain(loaders()).collect();
        Fence { read, write: vec![lock.to_owned()], run }
    }

    /// Whether programs are run at all.
    pub(crate) fn runs_programs(&self) -> bool {
        !self.run.is_empty()
    }

    /// The first folder or program that this configuration needs and that was closed at the start.
    pub(crate) fn closes(&self, config: &Config, places: &[Place]) -> Option<String> {
        let within = |open: &[PathBuf], path: &Path| open.iter().any(|open| path.starts_with(open));
        let wanted = Fence::brain(config, places);
        let read = wanted.read.iter().find(|path| !within(&self.read, path) && !within(&self.write, path));
        let write = wanted.write.iter().find(|path| !within(&self.write, path));
        let run = wanted.run.first().filter(|_| self.run.is_empty());
        read.or(write).or(run).map(|path| path.display().to_string())
    }

    /// From here on, in this thread and all that it starts; the error is for people.
    pub(crate) fn enforce(&self) -> Result<(), String> {
        let status = self.restrict().map_err(|why| format!("files are not fenced off (Landlock): {why}"))?;
        match status {
            RulesetStatus::NotEnforced => {
                Err("files are not fenced off: this kernel has no Landlock (5.13 and later, with landlock in the list \
                     of lsm= at boot)"
                    .to_owned())
            }
            RulesetStatus::PartiallyEnforced | RulesetStatus::FullyEnforced => Ok(()),
        }
    }

    fn restrict(&self) -> Result<RulesetStatus, landlock::RulesetError> {
        let abi = ABI::V6;
        let read: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::ReadDir;
        let write = AccessFs::from_all(abi) & !AccessFs::Execute;
        let run: BitFlags<AccessFs> = read | AccessFs::Execute;
        let rules = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(abi))?
            .handle_access(AccessNet::from_all(abi))?
            .scope(Scope::from_all(abi))?
            .create()?
            .add_rules(path_beneath_rules(&self.read, read))?
            .add_rules(path_beneath_rules(&self.write, write))?
            .add_rules(path_beneath_rules(&self.run, run))?;
        Ok(rules.restrict_self()?.ruleset)
    }
}

fn loaders() -> impl Iterator<Item = PathBuf> {
    LOADERS.iter().filter_map(|pattern| glob::glob(pattern).ok()).flatten().flatten()
}

/// Links are not followed: whoever may write in a folder of logs would open another one to the daemon.
fn readable(config: &Config, places: &[Place]) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = config.path.parent().map(Path::to_owned).into_iter().collect();
    paths.extend(config.daemon.filters.iter().cloned());
    paths.extend(config.blocklist.read.iter().filter_map(|file| file.parent()).map(nearest));
    for place in places {
        let Place::Files(patterns) = place else { continue };
        for pattern in patterns {
            paths.push(nearest(&folder_of(pattern)));
        }
    }
    paths.retain(|path| path != Path::new("/"));
    paths
}

fn writable(config: &Config) -> Vec<PathBuf> {
    let mut paths = vec![config.daemon.state_dir.clone()];
    paths.extend(config.daemon.socket.parent().map(Path::to_owned));
    paths.extend(config.blocklist.write.as_deref().and_then(Path::parent).map(Path::to_owned));
    paths
}

/// The folder of a pattern, as far as it has no wildcard.
fn folder_of(pattern: &str) -> PathBuf {
    let mut folder = PathBuf::new();
    let components: Vec<Component<'_>> = Path::new(pattern).components().collect();
    for component in components.iter().take(components.len().saturating_sub(1)) {
        if component.as_os_str().as_encoded_bytes().iter().any(|byte| b"*?[".contains(byte)) {
            break;
        }
        folder.push(component);
    }
    folder
}

/// The path, or what there is of it yet: a folder may be made later.
fn nearest(path: &Path) -> PathBuf {
    path.ancestors().find(|path| path.exists()).unwrap_or(path).to_owned()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::ErrorKind;
    use std::process::Command;

    use super::*;

    #[test]
    fn what_is_outside_the_fence_is_closed_even_to_root() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["logs", "state", "secrets"] {
            fs::create_dir(path(name)).unwrap();
            fs::write(path(name).join("file"), "text").unwrap();
        }
        let fence = Fence { read: vec![path("logs")], write: vec![path("state")], run: Vec::new() };
        let fenced = || {
            rustix::thread::set_no_new_privs(true).unwrap();
            fence.enforce().unwrap();
            let kind = |result: std::io::Result<()>| result.map_err(|why| why.kind());
            let read = |name| kind(fs::read(path(name).join("file")).map(drop));
            let write = |name| kind(fs::write(path(name).join("file"), "other"));
            let run = kind(Command::new("/bin/true").status().map(drop));
            (["logs", "state", "secrets"].map(read), ["logs", "state", "secrets"].map(write), run)
        };
        let (read, written, run) = std::thread::scope(|scope| scope.spawn(fenced).join().unwrap());
        let denied = Err(ErrorKind::PermissionDenied);
        assert_eq!(read, [Ok(()), Ok(()), denied]);
        assert_eq!(written, [denied, Ok(()), denied]);
        assert_eq!(run, denied);
    }

    #[test]
    fn a_configuration_that_needs_more_than_at_the_start_is_noticed() {
        let mut config = Config::built_in();
        let files = |pattern: &str| vec![Place::Files(vec![pattern.to_owned()])];
        let fence = Fence::brain(&config, &files("/var/log/*.log"));
        assert_eq!(fence.closes(&config, &files("/var/log/nginx/*/error.log")), None);
        assert_eq!(fence.closes(&config, &files("/opt/*/app.log")), Some("/opt".to_owned()));
        config.daemon.state_dir = "/srv".into();
        assert_eq!(fence.closes(&config, &[]), Some("/srv".to_owned()));
        assert_eq!(folder_of("/srv/app/*/logs/a.log"), Path::new("/srv/app"));
    }
}
