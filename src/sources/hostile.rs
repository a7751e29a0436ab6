//! Laws of what reads the records of kernel and journal, for fuzzers (see `hostile.rs`).

use super::{journal, kmsg};

/// A record of either kind: its message is one line, and the kernel's escapes come off once.
pub(crate) fn record(data: &[u8]) {
    if let Some(entry) = kmsg::parse(data) {
        assert!(!entry.message.contains(&b'\n'), "a message of two lines");
        let mut message = Vec::new();
        kmsg::unescape(entry.message, &mut message);
        assert!(message.len() <= entry.message.len(), "it grew");
        let written: Vec<u8> = message.iter().flat_map(|byte| format!("\\x{byte:02x}").into_bytes()).collect();
        let mut again = Vec::new();
        kmsg::unescape(&written, &mut again);
        assert_eq!(again, message, "escapes do not come off as the kernel puts them on");
    }
    journal::read_as_fuzzers_do(data);
}
