//! Files that are read line by line, as people name them. One that is compressed has no lines: it is refused, for what is
//! found in it would be nothing. No more has a folder.

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};

/// What the formats of compressed files begin with, and what makes text of them.
const COMPRESSED: [(&[u8], &str); 4] = [
    (b"\x1f\x8b", "zcat"),
    (b"\xfd7zXZ\x00", "xzcat"),
    (b"\x28\xb5\x2f\xfd", "zstdcat"),
    // The digit says how large its blocks are.
    (b"BZh?1A", "bzcat"),
];

/// As many bytes as the longest of these has.
const HEAD: u64 = 6;

/// Paths of one pattern that are looked at.
const MOST_PATHS: usize = 1000;

/// Opens a file, or standard input for `-`. `command` is how this program reads it, for the advice.
pub(super) fn open(path: &Path, command: &str) -> io::Result<Box<dyn Read>> {
    let mut file: Box<dyn Read> =
        if path == Path::new("-") { Box::new(io::stdin().lock()) } else { Box::new(File::open(path)?) };
    let mut head = Vec::new();
    file.by_ref().take(HEAD).read_to_end(&mut head)?;
    match tool(&head) {
        None => Ok(Box::new(Cursor::new(head).chain(file))),
        Some(tool) if path == Path::new("-") => {
            Err(io::Error::other(format!("it is compressed; put '{tool} |' before banctl")))
        }
        Some(tool) => {
            let advice = format!("it is compressed; '{tool} {} | banctl {command} -' reads it", path.display());
            Err(io::Error::other(advice))
        }
    }
}

/// What makes text of a file that begins like this; `None` where it may be text.
fn tool(head: &[u8]) -> Option<&'static str> {
    let is_like = |magic: &[u8]| {
        head.len() >= magic.len() && magic.iter().zip(head).all(|(wanted, byte)| wanted == byte || *wanted == b'?')
    };
    COMPRESSED.into_iter().find(|(magic, _)| is_like(magic)).map(|(_, tool)| tool)
}

/// The folders that stand where files are meant: what a pattern of log files leads to is folders only.
pub(super) fn folders(patterns: &[String]) -> Vec<PathBuf> {
    let folder = |pattern: &String| {
        let found: Vec<PathBuf> = glob::glob(pattern).ok()?.flatten().take(MOST_PATHS).collect();
        found.iter().all(|path| path.is_dir()).then(|| found.into_iter().next())?
    };
    patterns.iter().filter_map(folder).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_compressed_is_told_from_text() {
        let heads: [&[u8]; 6] =
            [b"\x1f\x8b\x08\0\0\0", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd\x04\0", b"BZh91A", b"BZh is", b"\x1f"];
        let expected = [Some("zcat"), Some("xzcat"), Some("zstdcat"), Some("bzcat"), None, None];
        assert_eq!(heads.map(tool), expected);
    }

    #[test]
    fn a_file_is_read_from_its_first_byte_on() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["", "a\n", "a line that is longer than the head of a file\n"] {
            let (path, mut read) = (folder.path().join("log"), String::new());
            std::fs::write(&path, text).unwrap();
            open(&path, "scan").unwrap().read_to_string(&mut read).unwrap();
            assert_eq!(read, text);
        }
    }
    #[test]
    fn a_folder_is_told_from_files_and_from_what_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        std::fs::create_dir(at("logs")).unwrap();
        std::fs::write(at("log"), "").unwrap();
        assert_eq!(folders(&[at("log"), at("log*"), at("none"), at("logs")]), [PathBuf::from(at("logs"))]);
    }
}
