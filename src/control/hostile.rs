//! Laws of what reads requests, for fuzzers (see `hostile.rs`).

use super::{Request, VERSION, server};

/// A request is refused with a reason, or is the same when it was written and read again.
pub(crate) fn control(data: &[u8]) {
    let command = match server::parse(data) {
        Ok(command) => command,
        Err(why) => return assert!(!why.is_empty(), "refused without a word"),
    };
    let shown = format!("{command:?}");
    let written = serde_json::to_vec(&Request { version: VERSION, command }).expect("requests can be written");
    let again = server::parse(&written).expect("a request that was read can be read again");
    assert_eq!(format!("{again:?}"), shown, "written and read, it is another one");
}
