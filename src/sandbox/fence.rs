//! The files that a process may read, write and run (Landlock): all others are closed to it, whoever owns them.
//!
//! The kernel goes by what stood in a place at the start, not by its name: what is put there later (by rename, as packages
//! are upgraded) is closed. So folders are open in which such things stand, and what no folder may be opened for (who is
//! in which group, the resolvers) the witness tells.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetStatus, Scope, path_beneath_rules,
};

use crate::config::Config;
use crate::sources::Place;

/// What programs and libraries need, and the state of the system. None of it is secret.
const SYSTEM: [&str; 10] = [
    "/usr",
    "/lib",
    "/lib64",
    "/bin",
    "/sbin",
    "/proc",
    "/dev/null",
    "/dev/urandom",
    // Without it, once it was replaced, libraries are found where they usually are.
    "/etc/ld.so.cache",
    ZONE,
];

/// The time zone: a link to what stands below `/usr`, or a file.
const ZONE: &str = "/etc/localtime";

/// Besides that, what the brain reads: logs, the journal.
const BRAIN: [&str; 5] = ["/var/log", "/run/log/journal", "/etc/machine-id", "/etc/timezone", "/dev/kmsg"];

/// Besides that, what the firewall's tools read, if they can.
const TOOLS: [&str; 5] = ["/etc/protocols", "/etc/services", "/etc/nsswitch.conf", "/etc/ethertypes", "/etc/xtables"];

/// Dynamic loaders: to run a program is to run one of them. They run any program that may be read, so that nothing is lost
/// where all of a folder of programs may be run.
const LOADERS: [&str; 3] = ["/lib*/ld-*.so*", "/lib/*-linux-*/ld-*.so*", "/usr/lib*/ld-*.so*"];

/// What lies within is open; everything else is not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fence {
    read: Vec<Opening>,
    write: Vec<Opening>,
    run: Vec<Opening>,
    /// Folders of logs and lists.
    logs: Vec<Folder>,
}

/// A folder, and where it really was when the fence was made.
#[derive(Clone, Debug)]
struct Folder {
    path: PathBuf,
    real: Option<PathBuf>,
}

/// A folder in whose place another one stands by now, which is closed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Lost<'a> {
    pub(crate) path: &'a Path,
    /// Whether links lead to another place than at the start: whoever may write in a folder of logs can make one.
    pub(crate) elsewhere: bool,
}

/// A place that is open, with what stood there when the fence was made: whatever is put there later is closed.
#[derive(Clone, Debug)]
struct Opening {
    path: PathBuf,
    stood: Option<Inode>,
}

/// A file or folder, whatever it is called.
type Inode = (u64, u64);

impl Fence {
    /// Around the process that reads logs in these places.
    pub(crate) fn brain(config: &Config, places: &[Place]) -> Fence {
        let mut read: Vec<PathBuf> = SYSTEM.iter().chain(&BRAIN).map(PathBuf::from).collect();
        read.extend(readable(config, places));
        let run = journalctl(places).map(|program| folders_of([program.to_owned()])).unwrap_or_default();
        let (write, logs) = (openings(writable(config)), folders(logs(config, places)));
        Fence { read: openings(read), write, run: openings(run), logs }
    }

    /// Around the process that runs the firewall's tools. It goes by this configuration.
    pub(crate) fn enforcer(config: &Path, lock: &Path) -> Fence {
        let mut read: Vec<PathBuf> = SYSTEM.iter().chain(&TOOLS).map(PathBuf::from).collect();
        read.extend(config.parent().map(Path::to_owned));
        // Tools may be installed later, too.
        let mut run = folders_of(crate::firewall::command::installed());
        run.extend(crate::firewall::command::FOLDERS.map(PathBuf::from));
        Fence { read: openings(read), write: openings(vec![lock.to_owned()]), run: openings(run), logs: Vec::new() }
    }

    /// Whether programs are run at all.
    pub(crate) fn runs_programs(&self) -> bool {
        !self.run.is_empty()
    }

    /// The first folder or file that this configuration needs and that is closed.
    pub(crate) fn closes(&self, config: &Config, places: &[Place]) -> Option<PathBuf> {
        let mut read = readable(config, places);
        read.push(ZONE.into());
        let write = writable(config);
        let unreadable = read.into_iter().find(|path| !self.lets_read(path));
        unreadable.or_else(|| write.into_iter().find(|path| !is_within(path, self.write.iter())))
    }

    /// A folder of logs or lists in whose place another one stands by now, which is closed.
    pub(crate) fn lost(&self) -> Option<Lost<'_>> {
        let Folder { path, real } = self.logs.iter().find(|folder| !self.lets_read(&folder.path))?;
        Some(Lost { path, elsewhere: fs::canonicalize(path).ok() != *real })
    }

    /// What is written or run and was replaced, or taken away, which closes it.
    pub(crate) fn replaced(&self) -> Option<&Path> {
        let written = self.write.iter().find(|opening| inode(&opening.path) != opening.stood);
        let replaced = written.or_else(|| self.run.iter().find(|opening| !is_within(&opening.path, self.run.iter())));
        replaced.map(|opening| opening.path.as_path())
    }

    fn lets_read(&self, path: &Path) -> bool {
        is_within(path, self.read.iter().chain(&self.write).chain(&self.run))
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
            .add_rules(path_beneath_rules(paths(&self.read), read))?
            .add_rules(path_beneath_rules(paths(&self.write), write))?
            .add_rules(path_beneath_rules(paths(&self.run), run))?;
        Ok(rules.restrict_self()?.ruleset)
    }
}

fn openings(paths: Vec<PathBuf>) -> Vec<Opening> {
    paths.into_iter().map(|path| Opening { stood: inode(&path), path }).collect()
}

fn folders(paths: Vec<PathBuf>) -> Vec<Folder> {
    paths.into_iter().map(|path| Folder { real: fs::canonicalize(&path).ok(), path }).collect()
}

fn paths(openings: &[Opening]) -> impl Iterator<Item = &Path> {
    openings.iter().map(|opening| opening.path.as_path())
}

fn inode(path: &Path) -> Option<Inode> {
    fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

/// Whether what stands there now lies within one of these, as the kernel sees it. What is not there is not closed.
fn is_within<'a>(path: &Path, openings: impl Iterator<Item = &'a Opening>) -> bool {
    let Ok(path) = fs::canonicalize(path) else { return true };
    let around: Vec<Inode> = path.ancestors().filter_map(inode).collect();
    openings.filter_map(|opening| opening.stood).any(|stood| around.contains(&stood))
}

/// The program that reads the journal, where that is wanted.
pub(crate) fn journalctl(places: &[Place]) -> Option<&'static Path> {
    let journal = places.iter().any(|place| matches!(place, Place::Journal { .. }));
    crate::sources::journalctl().filter(|_| journal)
}

/// The folders in which these programs really stand, and the loaders that they need.
fn folders_of(programs: impl IntoIterator<Item = PathBuf>) -> Vec<PathBuf> {
    let loaders = LOADERS.iter().filter_map(|pattern| glob::glob(pattern).ok()).flatten().flatten();
    let real = programs.into_iter().chain(loaders).filter_map(|program| fs::canonicalize(program).ok());
    let mut folders: Vec<PathBuf> = real.filter_map(|program| program.parent().map(Path::to_owned)).collect();
    folders.sort_unstable();
    folders.dedup();
    folders.retain(|folder| folder != Path::new("/"));
    folders
}

/// Links are not followed: whoever may write in a folder of logs would open another one to the daemon.
fn readable(config: &Config, places: &[Place]) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = config.path.parent().map(Path::to_owned).into_iter().collect();
    paths.extend(config.daemon.filters.iter().cloned());
    paths.extend(logs(config, places));
    paths
}

/// Folders of logs and lists.
fn logs(config: &Config, places: &[Place]) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = config.blocklist.read.iter().filter_map(|file| file.parent()).map(nearest).collect();
    for place in places {
        let Place::Files(patterns) = place else { continue };
        paths.extend(patterns.iter().map(|pattern| nearest(&folder_of(pattern))));
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
        let (read, write) = (openings(vec![path("logs")]), openings(vec![path("state")]));
        let fence = Fence { read, write, run: Vec::new(), logs: Vec::new() };
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
        assert_eq!(fence.closes(&config, &files("/opt/*/app.log")), Some("/opt".into()));
        config.daemon.state_dir = "/srv".into();
        assert_eq!(fence.closes(&config, &[]), Some("/srv".into()));
        assert_eq!(folder_of("/srv/app/*/logs/a.log"), Path::new("/srv/app"));
    }

    #[test]
    fn a_folder_that_was_replaced_is_noticed_and_one_that_only_has_new_files_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["logs", "other"] {
            fs::create_dir(path(name)).unwrap();
        }
        let mut config = Config::built_in();
        (config.path, config.daemon.state_dir) = (path("banward.toml"), path("state"));
        let places = [Place::Files(vec![path("logs/*.log").display().to_string()])];
        let fence = Fence {
            read: openings(vec![path("logs"), PathBuf::from("/usr"), PathBuf::from("/etc")]),
            write: openings(writable(&config)),
            run: Vec::new(),
            logs: folders(logs(&config, &places)),
        };
        fs::write(path("logs/a.log"), "").unwrap();
        assert_eq!((fence.lost(), fence.lets_read(&path("logs/a.log"))), (None, true));
        fs::rename(path("logs"), path("before")).unwrap();
        assert_eq!(fence.lost(), None, "what is not there is not replaced");
        fs::rename(path("other"), path("logs")).unwrap();
        assert_eq!(fence.lost(), Some(Lost { path: &path("logs"), elsewhere: false }));
        assert!(fence.lets_read(&path("before")), "the kernel goes by what it is, not by its name");
        assert!(!fence.lets_read(&path("logs")));
        fs::rename(path("logs"), path("other")).unwrap();
        std::os::unix::fs::symlink(path("other"), path("logs")).unwrap();
        assert_eq!(fence.lost(), Some(Lost { path: &path("logs"), elsewhere: true }));
        fs::remove_file(path("logs")).unwrap();
        std::os::unix::fs::symlink(path("before"), path("logs")).unwrap();
        assert_eq!(fence.lost(), None);
    }
}
