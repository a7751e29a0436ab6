//! The blocklist files: the one that is written, and those that people edit and we merge.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use super::folders::Folders;
use super::guard::{Guard, LISTEN_AFTER};
use crate::firewall::blocklist::{Blocklist, Known, Line, MAX_BYTES, Parsed, Watch, parse};
use crate::ledger::Ban;
use crate::pipeline::BLOCKLIST;
use crate::sandbox::trust;
use crate::time::Timestamp;

/// A file that was not changed for so long is taken as written.
const SETTLED: Duration = Duration::from_secs(1);
/// The same where its last line has no end, or it is empty.
const WRITTEN: Duration = Duration::from_secs(5);

impl Guard {
    /// Opens the file that is written and those that are read, as configured now.
    pub(super) fn open_files(&mut self) {
        let now = Timestamp::now();
        self.open_written();
        let read = self.config.blocklist.read.clone();
        self.end_unread_lists(&read, now);
        self.folders = Folders::of(&read, &self.channels.waker);
        self.watches = read.iter().map(|path| Watch::new(path)).collect();
        self.look_at_files(now);
    }

    fn open_written(&mut self) {
        let path = self.config.blocklist.write.clone();
        self.blocklist = match path.as_deref().map(Blocklist::spawn) {
            Some(Ok(blocklist)) => Some(blocklist),
            Some(Err(why)) => {
                self.trouble("blocklist".to_owned(), format!("the blocklist file cannot be written: {why}"));
                None
            }
            None => None,
        };
        // At the start the kernel comes first.
        let pause = if self.kernel.synced { Duration::ZERO } else { LISTEN_AFTER };
        self.due.blocklist = Some(Instant::now() + pause);
    }

    /// A file that is no longer configured no longer bans.
    fn end_unread_lists(&mut self, read: &[PathBuf], now: Timestamp) {
        let wanted: Vec<String> = read.iter().map(|path| list_name(path)).collect();
        let names = self.pipeline.ledger.lists().map(|list| list.name.to_string());
        let unread: Vec<String> = names.filter(|name| name.starts_with(BLOCKLIST) && !wanted.contains(name)).collect();
        for name in unread {
            let outcome = self.pipeline.end_list(&name, now);
            self.enact(outcome);
        }
    }

    /// Reads the files that have changed since they were last taken, and are no longer being written.
    pub(super) fn look_at_files(&mut self, now: Timestamp) {
        let mut watches = std::mem::take(&mut self.watches);
        for watch in &mut watches {
            let Some(still) = watch.changed() else { continue };
            if still >= SETTLED && self.merge_file(watch.path(), still, now) {
                watch.take();
            } else {
                self.due.look = self.due.look.min(Instant::now() + SETTLED);
            }
        }
        self.watches = watches;
    }

    /// Merges a file that people edit and that has been as it is for so long; `false` where it looks as if there were more to
    /// come. Its bad lines are named and cost nothing else; a file that is gone bans nobody.
    fn merge_file(&mut self, path: &Path, still: Duration, now: Timestamp) -> bool {
        let text = match trust::untrusted_list(path) {
            Some(why) => Err(format!("what this list says from now on is not gone by: {why}")),
            None => read(path).or_else(absent).map_err(|why| format!("{} cannot be read: {why}", path.display())),
        };
        match text {
            Ok(text) if still < WRITTEN && is_half(&text) && path.exists() => return false,
            Ok(text) => self.merge(path, &text, now),
            Err(why) => self.trouble(path.display().to_string(), why),
        }
        true
    }

    fn merge(&mut self, path: &Path, text: &[u8], now: Timestamp) {
        let key = path.display().to_string();
        let parsed = parse(text);
        for problem in &parsed.problems {
            log::warn!("{}:{}: {}", path.display(), problem.line, problem.message);
        }
        if text.is_empty() && !self.pipeline.ledger.lists().any(|list| *list.name == *list_name(path)) {
            return self.recovered(&key);
        }
        match self.take_list(list_name(path), theirs(&parsed), now) {
            Ok(refused) => {
                for why in refused {
                    log::warn!("{}: {why}", path.display());
                }
                self.recovered(&key);
            }
            Err(why) => self.trouble(key, why),
        }
    }

    /// Has the blocklist file follow the ledger.
    pub(super) fn write_blocklist(&mut self) {
        if let Some(blocklist) = &self.blocklist {
            blocklist.show(self.pipeline.ledger.snapshot(), self.config.blocklist.forgeable);
        }
    }

    /// The same when the file may be written again: a look at all bans for each one that changes would make it slow.
    pub(super) fn write_blocklist_in_turn(&mut self, now: Instant) {
        let next = self.blocklist.as_ref().map_or(now, |blocklist| blocklist.next(now.into_std()).into());
        self.due.blocklist = (next > now).then_some(next);
        if self.due.blocklist.is_none() {
            self.write_blocklist();
        }
    }
}

fn absent(why: io::Error) -> io::Result<Vec<u8>> {
    if why.kind() == io::ErrorKind::NotFound { Ok(Vec::new()) } else { Err(why) }
}

/// Whether it may be the beginning of what is being written: half an address may be another one.
fn is_half(text: &[u8]) -> bool {
    text.last() != Some(&b'\n')
}

/// The list that a file stands for.
fn list_name(path: &Path) -> String {
    format!("{BLOCKLIST}{}", path.display())
}

/// What people wrote into a file, without what we wrote ourselves.
fn theirs(parsed: &Parsed) -> Vec<ipnet::IpNet> {
    let theirs = parsed.lines.iter().filter(|line| line.known.is_none());
    theirs.flat_map(|line| line.prefixes.iter().copied()).collect()
}

/// The bans that we once wrote into the blocklist file and that are not over.
pub(super) fn known_bans(path: &Path, now: Timestamp) -> Vec<Ban> {
    let parsed = parse(&read(path).unwrap_or_default());
    parsed.lines.into_iter().flat_map(bans_of).filter(|ban| !ban.until.is_over(now)).collect()
}

fn bans_of(line: Line) -> Vec<Ban> {
    let Some(Known { jail, since, until, scope, evidence }) = line.known else { return Vec::new() };
    let ban = |prefix| Ban {
        prefix,
        jail: jail.clone(),
        scope: scope.clone(),
        since,
        until,
        reason: "read back from the blocklist file after the ledger was damaged".into(),
        count: 1,
        evidence,
    };
    line.prefixes.into_iter().map(ban).collect()
}

/// Reads a file that may be anything: what is no file would keep the loop waiting.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options().read(true).custom_flags(nonblocking).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut text = Vec::new();
    // One byte more, so that the parser can say that there was more.
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut text)?;
    Ok(text)
}
