//! Who may write a log, and so decides whom its lines ban.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const GROUP_WRITES: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;
const STICKY: u32 = 0o1000;

/// Users that are people and not services: all from 1000 on (those that `adduser` makes, of a directory, of containers),
/// but for the users that systemd gives to services for a while, and nobody.
pub(crate) fn is_person(uid: u32) -> bool {
    uid >= 1000 && !(60_514..=65_535).contains(&uid)
}

/// Who besides services may write lines into this log, as a phrase: such lines are worth as much as their word.
pub(crate) fn forgers(log: &Path) -> Option<String> {
    let found = fs::metadata(log).ok()?;
    if is_person(found.uid()) {
        return Some(format!("user {}", found.uid()));
    }
    let who = writers(&found)?;
    (who == "everybody" || is_person(found.gid())).then(|| who.to_owned())
}

/// Who besides its owner may write this; in a folder with the sticky bit nobody replaces what is another's.
pub(crate) fn writers(found: &Metadata) -> Option<&'static str> {
    let mode = found.mode();
    if mode & OTHERS_WRITE != 0 && !(found.is_dir() && mode & STICKY != 0) {
        return Some("everybody");
    }
    (mode & GROUP_WRITES != 0 && found.gid() != 0 && !(found.is_dir() && mode & STICKY != 0)).then_some("its group")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown};

    use super::*;

    #[test]
    fn a_log_is_forgeable_where_people_may_write_it() {
        let log = tempfile::NamedTempFile::new().unwrap();
        for (owner, group, mode, who) in [
            (0, 4, 0o640, None),
            (0, 4, 0o660, None),
            (33, 33, 0o644, None),
            (0, 0, 0o666, Some("everybody")),
            (0, 1000, 0o660, Some("its group")),
            (1000, 1000, 0o600, Some("user 1000")),
        ] {
            chown(log.path(), Some(owner), Some(group)).unwrap();
            fs::set_permissions(log.path(), fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(forgers(log.path()).as_deref(), who, "{owner}:{group} {mode:o}");
        }
    }
}
