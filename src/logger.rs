//! What the daemon says: one line per message on standard error, with the priority in front where the journal reads
//! it (sd-daemon(3)), with the time where a person does.

use std::io::Write;

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::text::escape;
use crate::time::Timestamp;

struct Logger {
    /// Whether standard error is the journal.
    journal: bool,
}

/// Starts logging. To be called once.
pub(crate) fn start() {
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    // A second call in one process changes nothing.
    let _already = log::set_boxed_logger(Box::new(Logger { journal }));
    log::set_max_level(LevelFilter::Info);
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("banward")
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let message = record.args().to_string();
        let text = escape(&message);
        let line = match (self.journal, record.level()) {
            (true, level) => format!("<{}>{text}\n", priority(level)),
            (false, Level::Info) => format!("{} {text}\n", Timestamp::now()),
            (false, level) => format!("{} {}: {text}\n", Timestamp::now(), level.as_str().to_ascii_lowercase()),
        };
        // In one piece: several processes write there. Nobody is left to be told when standard error is gone.
        let _lost = std::io::stderr().write_all(line.as_bytes());
    }

    fn flush(&self) {}
}

/// syslog(3) priorities.
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}
