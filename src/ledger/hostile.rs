//! Laws of what reads the ledger's records, for fuzzers (see `hostile.rs`).

use super::records::Record;

/// What parts key and value in an input.
const PARTS: u8 = 0xff;

/// A record that can be read is the same when it was written and read again.
pub(crate) fn ledger(data: &[u8]) {
    let at = memchr::memchr(PARTS, data).unwrap_or(data.len());
    let (key, value) = (&data[..at], data.get(at + 1..).unwrap_or_default());
    let Some(record) = Record::read(key, value) else { return };
    let again = Record::read(&record.key().bytes(), &record.value());
    assert_eq!(again.as_ref(), Some(&record), "written and read, it is another one");
}
