//! Whether others may write what the daemon goes by: whoever writes its configuration, filters or state decides whom it
//! bans.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::sources::writers::writers;

/// All that may be written by somebody who should not, each with the remedy. `user` is whom the daemon becomes.
pub(crate) fn untrusted(config: &Config, user: Option<u32>) -> Vec<String> {
    let own = rustix::process::geteuid().as_raw();
    // Whoever runs it by sudo may do all that anyway.
    let sudo = std::env::var("SUDO_UID").ok().and_then(|uid| uid.parse().ok());
    let mut owners: Vec<u32> = [0, own].into_iter().chain(sudo).collect();
    let mut paths = with_folders(std::slice::from_ref(&config.path));
    paths.extend(toml_files(&config.path.with_file_name("conf.d")));
    for folder in &config.daemon.filters {
        paths.extend(toml_files(folder));
    }
    let mut found: Vec<String> = paths.iter().filter_map(|path| complaint(path, &owners)).collect();
    owners.extend(user);
    found.extend(
        with_folders(&[config.daemon.state_dir.join("lock")]).iter().filter_map(|path| complaint(path, &owners)),
    );
    found.dedup();
    found
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
}
