//! Who the brain becomes: a user and its groups, as `/etc/passwd` and `/etc/group` say. Other directories of users are
//! not asked: what guards a machine must start without its network.

use std::fs;
use std::path::Path;

use rustix::io::Errno;
use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

/// A user with a group of its own and others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) user: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Of the wanted groups those that exist.
    pub(crate) groups: Vec<u32>,
}

/// Who there is to become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The process was not started as root, or is to stay who it is.
    Nobody,
    Found(Identity),
    /// There is no such user on this machine.
    Missing,
}

/// Looks up the user of the configuration.
pub(crate) fn wanted(user: &str, groups: &[String]) -> Wanted {
    if user.is_empty() || !geteuid().is_root() {
        return Wanted::Nobody;
    }
    look_up(user, groups, Path::new("/etc")).map_or(Wanted::Missing, Wanted::Found)
}

/// The numbers of those of these groups that exist.
pub(crate) fn existing(groups: &[String]) -> Vec<u32> {
    let file = read(Path::new("/etc/group"));
    groups.iter().filter_map(|group| number(&file, group)).collect()
}

/// Whether a user is in a group, as the files say now; it may be the group of the user's own entry.
pub(crate) fn is_member(uid: u32, group: &str) -> bool {
    is_member_by(uid, group, Path::new("/etc"))
}

fn is_member_by(uid: u32, group: &str, folder: &Path) -> bool {
    let (users, groups) = (read(&folder.join("passwd")), read(&folder.join("group")));
    let Some(user) = users.lines().find(|line| field(line, 2).is_some_and(|found| found == uid.to_string())) else {
        return false;
    };
    let Some(entry) = groups.lines().find(|line| field(line, 0) == Some(group)) else { return false };
    let named = field(entry, 3).unwrap_or_default().split(',').any(|name| Some(name) == field(user, 0));
    named || (field(user, 3).is_some() && field(user, 3) == field(entry, 2))
}

fn look_up(user: &str, groups: &[String], folder: &Path) -> Option<Identity> {
    let users = read(&folder.join("passwd"));
    let entry = users.lines().find(|line| field(line, 0) == Some(user))?;
    let (uid, gid) = (field(entry, 2)?.parse().ok()?, field(entry, 3)?.parse().ok()?);
    let file = read(&folder.join("group"));
    let groups = groups.iter().filter_map(|group| number(&file, group)).collect();
    Some(Identity { user: user.to_owned(), uid, gid, groups })
}

fn number(groups: &str, group: &str) -> Option<u32> {
    field(groups.lines().find(|line| field(line, 0) == Some(group))?, 2)?.parse().ok()
}

fn field(line: &str, at: usize) -> Option<&str> {
    line.split(':').nth(at)
}

/// A file that is not there names nobody.
fn read(path: &Path) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// Takes these groups besides its own; who may not do that has them or not.
pub(crate) fn join(groups: &[u32]) -> Result<(), Errno> {
    let groups: Vec<Gid> = groups.iter().map(|group| Gid::from_raw(*group)).collect();
    set_thread_groups(&groups)
}

impl Identity {
    /// Becomes this user, with no way back. The process must have one thread only.
    pub(crate) fn assume(&self) -> Result<(), Errno> {
        join(&self.groups)?;
        let (gid, uid) = (Gid::from_raw(self.gid), Uid::from_raw(self.uid));
        set_thread_res_gid(gid, gid, gid)?;
        set_thread_res_uid(uid, uid, uid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let users = "root:x:0:0::/root:/bin/sh\nbanward:x:990:991::/:/sbin/nologin\nann:x:1000:1000::/:/bin/sh\n";
        let groups = "root:x:0:\nadm:x:4:syslog,ann\nbanward:x:991:\nann:x:1000:\n";
        fs::write(folder.path().join("passwd"), users).unwrap();
        fs::write(folder.path().join("group"), groups).unwrap();
        folder
    }

    #[test]
    fn a_user_has_those_of_the_groups_that_exist() {
        let folder = files();
        let groups = ["adm", "systemd-journal"].map(str::to_owned);
        let found = look_up("banward", &groups, folder.path()).unwrap();
        assert_eq!((found.uid, found.gid, found.groups), (990, 991, vec![4]));
        assert_eq!(look_up("nobody-here", &groups, folder.path()), None);
    }

    #[test]
    fn a_member_is_named_by_the_group_or_has_it_for_its_own() {
        let folder = files();
        let is_member = |uid, group| is_member_by(uid, group, folder.path());
        assert!(is_member(1000, "adm") && is_member(1000, "ann") && is_member(990, "banward"));
        assert!(!is_member(990, "adm") && !is_member(1000, "root") && !is_member(77, "adm") && !is_member(1000, ""));
    }
}
