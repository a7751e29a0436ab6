//! What the daemon says: one line per message on standard error, with the priority in front where the journal reads
//! it (sd-daemon(3)), with the time where a person does.

use std::io::Write;

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::text::escape;

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
        let mut out = std::io::stderr().lock();
        // Nobody is left to be told when standard error is gone.
        let _lost = match (self.journal, record.level()) {
            (true, level) => writeln!(out, "<{}>{text}", priority(level)),
            (false, Level::Info) => writeln!(out, "{} {text}", crate::time::Timestamp::now()),
            (false, level) => {
                let level = level.as_str().to_ascii_lowercase();
                writeln!(out, "{} {level}: {text}", crate::time::Timestamp::now())
            }
        };
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
