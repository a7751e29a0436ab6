//! Whether others may write what the daemon goes by: whoever writes its configuration, filters or state decides whom it
//! bans.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::sources::writers::{is_person, writers};

/// All that may be written by somebody who should not, each with the remedy. `user` is whom the daemon becomes.
pub(crate) fn untrusted(config: &Config, user: Option<u32>) -> Vec<String> {
    let mut owners = owners();
    let mut found = untrusted_settings(&config.path);
    let filters = config.daemon.filters.iter().flat_map(|folder| toml_files(folder));
    found.extend(filters.filter_map(|path| complaint(&path, &owners)));
    owners.extend(user);
    found.extend(
        with_folders(&[config.daemon.state_dir.join("lock")]).iter().filter_map(|path| complaint(path, &owners)),
    );
    found.dedup();
    found
}

/// The same of the configuration alone.
pub(crate) fn untrusted_settings(config: &Path) -> Vec<String> {
    let mut paths = with_folders(&[config.to_owned()]);
    paths.extend(toml_files(&config.with_file_name("conf.d")));
    let owners = owners();
    paths.iter().filter_map(|path| complaint(path, &owners)).collect()
}

/// Why a list of whom to ban is not gone by, if somebody may write it who should not: another service may have it for its
/// own, a person other than the administrator may not.
pub(crate) fn untrusted_list(file: &Path) -> Option<String> {
    let folder = file.parent().map(Path::to_owned);
    folder.into_iter().chain([file.to_owned()]).find_map(|path| {
        let owner = fs::metadata(&path).ok()?.uid();
        let service = (!is_person(owner)).then_some(owner);
        complaint(&path, &owners().into_iter().chain(service).collect::<Vec<_>>())
    })
}

/// Who may have files that the daemon goes by.
fn owners() -> Vec<u32> {
    let own = rustix::process::geteuid().as_raw();
    // Whoever runs it by sudo may do all that anyway.
    let sudo = std::env::var("SUDO_UID").ok().and_then(|uid| uid.parse().ok());
    [0, own].into_iter().chain(sudo).collect()
}

/// A folder, if it is there, and the files in it that are read.
fn toml_files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let files = entries.flatten().map(|entry| entry.path());
    let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "toml"));
    std::iter::once(folder.to_owned()).chain(files).collect()
}

/// Files, and the folders that they are in.
fn with_folders(files: &[PathBuf]) -> Vec<PathBuf> {
    files.iter().flat_map(|file| file.parent().map(Path::to_owned).into_iter().chain([file.clone()])).collect()
}

fn complaint(path: &Path, owners: &[u32]) -> Option<String> {
    // A file that is not there yet nobody has written.
    let found = fs::metadata(path).ok()?;
    let shown = path.display();
    if !owners.contains(&found.uid()) {
        return Some(format!(
            "{shown} belongs to user {}, who decides by it whom to ban: chown root {shown}",
            found.uid()
        ));
    }
    writers(&found).map(|who| format!("{shown} may be written by {who}: chmod go-w {shown}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown};

    use super::*;

    #[test]
    fn what_others_may_write_is_named_with_its_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let mut config = Config::built_in();
        config.path = path("banward.toml");
        config.daemon.state_dir = path("state");
        config.daemon.filters = vec![path("filters")];
        fs::write(&config.path, "").unwrap();
        fs::create_dir(path("filters")).unwrap();
        fs::create_dir(path("state")).unwrap();
        fs::write(path("filters/own.toml"), "").unwrap();
        assert_eq!(untrusted(&config, None), Vec::<String>::new());
        for name in ["banward.toml", "filters/own.toml", "filters", "state"] {
            let before = fs::metadata(path(name)).unwrap().permissions();
            fs::set_permissions(path(name), fs::Permissions::from_mode(before.mode() | 0o002)).unwrap();
            let found = untrusted(&config, None);
            assert_eq!(found, [format!("{0} may be written by everybody: chmod go-w {0}", path(name).display())]);
            fs::set_permissions(path(name), before).unwrap();
        }
        chown(path("state"), Some(65534), None).unwrap();
        assert!(untrusted(&config, None)[0].contains("belongs to user 65534"));
        assert_eq!(untrusted(&config, Some(65534)), Vec::<String>::new(), "the state is the daemon's own");
        chown(path("filters/own.toml"), Some(65534), None).unwrap();
        assert_eq!(untrusted(&config, Some(65534)).len(), 1, "a filter is not");
    }

    #[test]
    fn a_list_may_be_another_service_s_and_nobody_else_s() {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("list");
        assert_eq!(untrusted_list(&list), None, "what is not there nobody has written");
        fs::write(&list, "").unwrap();
        for (owner, mode, refused) in [(0, 0o644, false), (33, 0o644, false), (1000, 0o644, true), (0, 0o666, true)] {
            chown(&list, Some(owner), Some(owner)).unwrap();
            fs::set_permissions(&list, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(untrusted_list(&list).is_some(), refused, "{owner} {mode:o}");
        }
        fs::set_permissions(&list, fs::Permissions::from_mode(0o644)).unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(untrusted_list(&list).is_some(), "its folder");
    }
}
