//! The blocklist file, `ip.blocked`: read it, write it, notice that it changed.
//!
//! It is written so that the shell loop of old (`grep -Ev "^#"`, then one rule per word) still works on it: what we
//! know of an entry stands on a `#` line of its own above it, and nothing trails an address.

mod read;
mod watch;
mod write;
mod writer;

#[cfg(test)]
mod tests;

pub(crate) use read::{Known, Line, LineProblem, Parsed, parse};
pub(crate) use watch::Watch;
pub(crate) use write::rewrite;
pub(crate) use writer::Blocklist;

/// What our own lines begin with.
const MARKER: &str = "# banward: ";

/// Largest file that is read, in bytes; two million prefixes fit.
pub(crate) const MAX_BYTES: usize = 128 << 20;
