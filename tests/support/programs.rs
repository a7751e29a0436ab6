//! Programs to be run that a test makes itself. A process of its own writes them: a file that this one has open for writing is
//! inherited by whatever another test starts at that moment, and while it is open there the program cannot be run (`ETXTBSY`).

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// Copies a program, so that whoever may enter its folder may run it.
pub(crate) fn copy(program: &str, to: &Path) {
    let copied = Command::new("install").arg(program).arg(to).status();
    assert!(copied.is_ok_and(|status| status.success()), "{program} cannot be copied to {}", to.display());
}

/// Writes a shell script without its first line.
pub(crate) fn script(text: &str, to: &Path) {
    let mut writer = Command::new("sh");
    writer.args(["-c", "{ echo '#!/bin/sh'; cat; } >\"$0\" && chmod 755 \"$0\""]).arg(to).stdin(Stdio::piped());
    let mut writer = writer.spawn().expect("a shell");
    writer.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("it reads");
    assert!(writer.wait().is_ok_and(|status| status.success()), "{} cannot be written", to.display());
}
