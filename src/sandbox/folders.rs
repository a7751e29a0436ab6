//! Hands the daemon's own files to the user that it becomes, those of earlier versions, which ran as root, too.
//!
//! Whoever owns such a folder may have put a link into it, so none is followed, and a file with a second name is left.

use std::io;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Uid, chownat, fchown, fstat, open, openat, statat};
use rustix::io::Errno;
use rustix::path::Arg;

use super::identity::Identity;
use crate::config::Config;

/// Deeper than any folder of ours.
const DEEPEST: u32 = 8;

/// Makes the state folder and that of the control socket, which must be there before all others are closed.
pub(crate) fn make(config: &Config) {
    let folders = [Some(config.daemon.state_dir.as_path()), config.daemon.socket.parent()];
    for folder in folders.into_iter().flatten() {
        // Whoever uses it says why it cannot be used.
        let _made = std::fs::create_dir_all(folder);
    }
}

/// Hands over the state folder, the folder of the control socket, and the blocklist file.
pub(crate) fn hand_over(config: &Config, identity: &Identity) -> Result<(), String> {
    let failed = |path: &Path, why: Errno| {
        format!("{} cannot be handed to the user {}: {}", path.display(), identity.user, io::Error::from(why))
    };
    let state = &config.daemon.state_dir;
    give(state, identity, true).map_err(|why| failed(state, why))?;
    // Only a folder of its own: one that others use, such as /run, stays theirs.
    if let Some(folder) = config.daemon.socket.parent().filter(|folder| folder.ends_with("banward")) {
        give(folder, identity, false).map_err(|why| failed(folder, why))?;
    }
    if let Some(file) = &config.blocklist.write
        && let (Some(folder), Some(name)) = (file.parent(), file.file_name())
        && let Ok(folder) = open_folder(folder)
    {
        own(&folder, name, identity).map_err(|why| failed(file, why))?;
    }
    Ok(())
}

type Folder = rustix::fd::OwnedFd;

fn open_folder(path: &Path) -> Result<Folder, Errno> {
    open(path, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

fn give(path: &Path, identity: &Identity, with_content: bool) -> Result<(), Errno> {
    let folder = open_folder(path)?;
    if fstat(&folder)?.st_uid == 0 || !with_content {
        fchown(&folder, Some(Uid::from_raw(identity.uid)), Some(Gid::from_raw(identity.gid)))?;
    }
    if with_content { own_all(&folder, identity, DEEPEST) } else { Ok(()) }
}

fn own_all(folder: &Folder, identity: &Identity, depth: u32) -> Result<(), Errno> {
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        own(folder, name, identity)?;
        if depth > 0 && entry.file_type() == FileType::Directory {
            let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            own_all(&openat(folder, name, flags, Mode::empty())?, identity, depth - 1)?;
        }
    }
    Ok(())
}

/// What is root's and stands nowhere else. A name may be any bytes; what is gone meanwhile is nobody's.
fn own(folder: &Folder, name: impl Arg + Copy, identity: &Identity) -> Result<(), Errno> {
    let found = match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(()),
        found => found?,
    };
    let kind = FileType::from_raw_mode(found.st_mode);
    let ours = kind == FileType::Directory || (kind == FileType::RegularFile && found.st_nlink == 1);
    if found.st_uid != 0 || !ours {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    chownat(folder, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    #[test]
    fn what_an_earlier_version_kept_as_root_is_handed_over_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let (state, foreign) = (folder.path().join("state"), folder.path().join("shadow"));
        fs::create_dir_all(state.join("ledger")).unwrap();
        let odd = state.join(OsStr::from_bytes(b"not-\xff-utf8"));
        for file in [&state.join("ledger/db"), &state.join("lock"), &odd, &foreign] {
            fs::write(file, "").unwrap();
        }
        symlink(&foreign, state.join("link")).unwrap();
        fs::hard_link(&foreign, state.join("second-name")).unwrap();
        let identity = Identity { user: "nobody".to_owned(), uid: 65534, gid: 65534, groups: Vec::new() };
        give(&state, &identity, true).unwrap();
        for ours in ["", "ledger", "ledger/db", "lock"] {
            assert_eq!(fs::metadata(state.join(ours)).unwrap().uid(), 65534, "{ours}");
        }
        assert_eq!(fs::metadata(odd).unwrap().uid(), 65534, "whatever it is called");
        assert_eq!(fs::metadata(&foreign).unwrap().uid(), 0);
    }
}
