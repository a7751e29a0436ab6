//! The files of a fail2ban configuration, in the order in which fail2ban reads them.

use std::path::{Path, PathBuf};

use super::ini::Ini;

/// Deepest nesting of `[INCLUDES]`.
const DEEPEST: usize = 10;

/// Largest file that is read, in bytes.
const LARGEST: u64 = 4 << 20;

/// Reads `jail.conf`, `jail.d/*.conf`, `jail.local`, `jail.d/*.local`, as far as they exist; or those of another stem.
pub(super) fn read(dir: &Path, stem: &str) -> Result<Option<Ini>, String> {
    let folder = dir.join(format!("{stem}.d"));
    let mut paths = Vec::new();
    for ending in ["conf", "local"] {
        paths.push(dir.join(format!("{stem}.{ending}")));
        let mut more = listed(&folder, ending)?;
        more.sort();
        paths.append(&mut more);
    }
    read_all(&paths)
}

/// Reads `filter.d/NAME.conf` and `filter.d/NAME.local`.
pub(super) fn read_filter(dir: &Path, name: &str) -> Result<Option<Ini>, String> {
    let folder = dir.join("filter.d");
    read_all(&["conf", "local"].map(|ending| folder.join(format!("{name}.{ending}"))))
}

/// `None` where none of them exists.
fn read_all(paths: &[PathBuf]) -> Result<Option<Ini>, String> {
    let mut whole = None;
    for path in paths.iter().filter(|path| path.exists()) {
        let ini = whole.get_or_insert_with(Ini::default);
        include(ini, path, 0)?;
    }
    Ok(whole)
}

/// Puts a file over what was read, with the files that it wants read before and after itself.
fn include(whole: &mut Ini, path: &Path, depth: usize) -> Result<(), String> {
    if depth > DEEPEST {
        return Err(format!("{} includes itself", path.display()));
    }
    let file = Ini::parse(&text_of(path)?);
    include_those(whole, path, &file, "before", depth)?;
    whole.overlay(file.clone());
    include_those(whole, path, &file, "after", depth)
}

fn include_those(whole: &mut Ini, path: &Path, file: &Ini, when: &str, depth: usize) -> Result<(), String> {
    let names = file.value("INCLUDES", when)?.unwrap_or_default();
    for name in names.split_whitespace() {
        let included = path.with_file_name(name);
        // A file that is not there is passed over, as fail2ban does.
        for included in [included.clone(), included.with_extension("local")] {
            if included.exists() && included != path {
                include(whole, &included, depth + 1)?;
            }
        }
    }
    Ok(())
}

fn text_of(path: &Path) -> Result<String, String> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(path).and_then(|file| file.take(LARGEST).read_to_end(&mut bytes));
    opened.map_err(|reason| format!("{} cannot be read: {reason}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The files of a folder with an ending; none where there is no such folder.
fn listed(folder: &Path, ending: &str) -> Result<Vec<PathBuf>, String> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(reason) if reason.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(reason) => return Err(format!("{} cannot be listed: {reason}", folder.display())),
    };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    Ok(paths.filter(|path| path.extension().is_some_and(|found| found == ending)).collect())
}
