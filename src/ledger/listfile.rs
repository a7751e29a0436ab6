//! One file per list in the folder `lists` of the state directory: the list's record in its first line, then a prefix
//! per line. It stands apart from the database, so that neither a million prefixes burden that, nor its damage them.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use ipnet::IpNet;

use super::files::{make_directory, replace, sync_directory_of};
use super::lists::List;
use crate::time::{Timestamp, Until};

/// Longest name of a list in bytes. Each may take three in the name of its file, of which 255 may be used.
pub(super) const MAX_NAME: usize = 80;

const HEAD: &str = "# banward list: ";

pub(super) fn is_good_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_NAME && !name.chars().any(char::is_control) && name.trim() == name
}

pub(super) fn write(folder: &Path, list: &List) -> io::Result<()> {
    make_directory(folder)?;
    replace(&folder.join(file_name(&list.name)), 0o600, |file| fill(file, list))
}

pub(super) fn remove(folder: &Path, name: &str) -> io::Result<()> {
    let path = folder.join(file_name(name));
    match fs::remove_file(&path) {
        Ok(()) => sync_directory_of(&path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// All lists of the folder, and how many lines or whole files of it could not be read.
pub(super) fn read_all(folder: &Path) -> io::Result<(Vec<List>, u64)> {
    let (mut lists, mut skipped) = (Vec::new(), 0);
    let files = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((lists, 0)),
        files => files?,
    };
    for file in files {
        let path = file?.path();
        // A name with a dot in front is a file that a crash left half written.
        if path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")) {
            continue;
        }
        match parse(&String::from_utf8_lossy(&fs::read(&path)?)) {
            Some((list, bad)) => {
                lists.push(list);
                skipped += bad;
            }
            None => skipped += 1,
        }
    }
    Ok((lists, skipped))
}

/// Letters, digits, `_`, `-` and inner dots stand for themselves, any other byte is `%` and two hexadecimal digits.
fn file_name(name: &str) -> String {
    let mut file = String::new();
    for (place, byte) in name.bytes().enumerate() {
        let plain = byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-') || (byte == b'.' && place > 0);
        if plain {
            file.push(char::from(byte));
        } else {
            write!(file, "%{byte:02X}").expect("writing to a String does not fail");
        }
    }
    file
}

fn fill(file: &mut impl Write, list: &List) -> io::Result<()> {
    let (count, since, until, name) = (list.prefixes.len(), list.since, list.until, &list.name);
    writeln!(file, "{HEAD}entries={count} since={since} until={until} name={name}")?;
    list.prefixes.iter().try_for_each(|prefix| writeln!(file, "{prefix}"))
}

/// A list, and how many of its lines are missing or cannot be read. `None` without a first line that names it.
fn parse(text: &str) -> Option<(List, u64)> {
    let (head, body) = text.split_once('\n')?;
    let rest = head.strip_prefix(HEAD)?.strip_prefix("entries=")?;
    let (entries, rest) = rest.split_once(" since=")?;
    let (since, rest) = rest.split_once(" until=")?;
    let (until, name) = rest.split_once(" name=")?;
    let (entries, since, until): (u64, Timestamp, Until) =
        (entries.parse().ok()?, since.parse().ok()?, until.parse().ok()?);
    let prefixes: Vec<IpNet> = body.lines().filter_map(|line| line.parse().ok()).collect();
    let missing = entries.saturating_sub(prefixes.len() as u64);
    is_good_name(name).then(|| (List::new(name, prefixes, since, until), missing))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(name: &str) -> List {
        let prefixes = ["192.0.2.9/32", "2001:db8::/64", "10.0.0.0/8"].map(|net| net.parse().unwrap());
        List::new(name, prefixes.into(), Timestamp::from_secs(1), Until::Forever)
    }

    #[test]
    fn lists_of_any_good_name_are_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("lists");
        let long = "ü".repeat(MAX_NAME / 2);
        let names = ["/etc/banward/ip.blocked", "..", "a b", "%2F", "/", &long, "x name=y"];
        for name in names {
            write(&inside, &list(name)).unwrap();
        }
        let (mut lists, skipped) = read_all(&inside).unwrap();
        let mut expected = names.map(list);
        lists.sort_by(|a, b| a.name.cmp(&b.name));
        expected.sort_by(|a, b| a.name.cmp(&b.name));
        assert_eq!((lists.as_slice(), skipped), (expected.as_slice(), 0));
        for name in names {
            remove(&inside, name).unwrap();
        }
        assert_eq!(fs::read_dir(&inside).unwrap().count(), 0);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no name leads out of the folder");
    }

    #[test]
    fn a_name_that_cannot_be_kept_is_not_good() {
        for name in ["", " a", "a\nb", &"x".repeat(MAX_NAME + 1)] {
            assert!(!is_good_name(name), "{name:?}");
        }
    }

    fn text_of(list: &List) -> String {
        let mut text = Vec::new();
        fill(&mut text, list).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn a_damaged_line_costs_only_itself() {
        let text = text_of(&list("a")).replace("192.0.2.9/32", "192.0.\u{0}.9");
        let (read, skipped) = parse(&text).unwrap();
        assert_eq!((read.prefixes.len(), skipped), (2, 1));
        assert_eq!(parse("192.0.2.1\n"), None);
    }
}
