//! The thread that keeps the blocklist file as the ledger is: the latest state wins, at most one write a second, and less
//! often the longer a write takes.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::{MAX_BYTES, rewrite};
use crate::filters::Evidence;
use crate::ledger::Snapshot;
use crate::ledger::files::replace;
use crate::lock::lock;

/// Time between two writes, and before a failed one is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// Writing may take this share of the time: one in so many. A million bans are a file of a hundred megabytes.
const SHARE: u32 = 20;

/// Everybody may read a blocklist: it is made to be used by other programs.
const MODE: u32 = 0o644;

#[derive(Debug, Default)]
struct Desk {
    /// What the file is to hold, as long as that is not written.
    wanted: Option<Wanted>,
    /// When the next write may begin.
    again: Option<Instant>,
    closing: bool,
    trouble: Option<String>,
}

/// What is to stand in the file.
#[derive(Debug)]
struct Wanted {
    snapshot: Snapshot,
    /// Also what rests on evidence that may be forged.
    forgeable: bool,
}

#[derive(Debug, Default)]
struct Shared {
    desk: Mutex<Desk>,
    wake: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Desk> {
        lock(&self.desk)
    }
}

/// The blocklist file, written beside any backend. Dropping it writes what is left to write.
#[derive(Debug)]
pub(crate) struct Blocklist {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Blocklist {
    pub(crate) fn spawn(path: &Path) -> io::Result<Blocklist> {
        let shared = Arc::new(Shared::default());
        let (theirs, path) = (Arc::clone(&shared), path.to_owned());
        let thread = thread::Builder::new().name("blocklist".to_owned()).spawn(move || run(&theirs, &path))?;
        Ok(Blocklist { shared, thread: Some(thread) })
    }

    /// These bans are to stand in the file; replaces what was wanted before. Never waits.
    pub(crate) fn show(&self, snapshot: Snapshot, forgeable: bool) {
        self.shared.lock().wanted = Some(Wanted { snapshot, forgeable });
        self.shared.wake.notify_one();
    }

    /// When it is worth while to [show](Blocklist::show) more: what is shown before only waits.
    pub(crate) fn next(&self, now: Instant) -> Instant {
        let desk = self.shared.lock();
        if desk.wanted.is_some() { now + PAUSE } else { desk.again.unwrap_or(now).max(now) }
    }

    /// Why the file cannot be written at the moment, with the remedy.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.shared.lock().trouble.clone()
    }
}

impl Drop for Blocklist {
    fn drop(&mut self) {
        self.shared.lock().closing = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was shown by the panic hook when it happened.
            let _ = thread.join();
        }
    }
}

fn run(shared: &Shared, path: &Path) {
    loop {
        let idle = |desk: &mut Desk| desk.wanted.is_none() && !desk.closing;
        let mut desk = shared.wake.wait_while(shared.lock(), idle).unwrap_or_else(PoisonError::into_inner);
        let (wanted, last) = (desk.wanted.take(), desk.closing);
        // Who asks meanwhile asks again after a while.
        desk.again = Some(Instant::now() + PAUSE);
        drop(desk);
        if let Some(wanted) = wanted {
            let start = Instant::now();
            let outcome = write(path, &wanted);
            let mut desk = shared.lock();
            desk.again = Some(Instant::now() + PAUSE.max(start.elapsed() * SHARE));
            desk.trouble = outcome.as_ref().err().map(|error| in_words(path, error));
            if outcome.is_err() && desk.wanted.is_none() {
                desk.wanted = Some(wanted);
            }
        }
        if last {
            return;
        }
        let paused = shared.wake.wait_timeout_while(shared.lock(), PAUSE, |desk| !desk.closing);
        drop(paused);
    }
}

/// An empty file is written once, so that programs that read it find it.
fn write(path: &Path, wanted: &Wanted) -> io::Result<()> {
    let mut old = open(path)?;
    let bans = wanted.snapshot.bans().filter(|ban| wanted.forgeable || ban.evidence == Evidence::Proven);
    replace(path, MODE, |new| rewrite(&mut old, bans, new))
}

/// The blocklist file as it is; nothing where there is none. One that is longer than any blocklist is refused.
fn open(path: &Path) -> io::Result<Box<dyn BufRead>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Box::new(io::empty())),
        file => file?,
    };
    if file.metadata()?.len() > MAX_BYTES as u64 {
        return Err(io::Error::other(format!("it is longer than {} MiB already", MAX_BYTES >> 20)));
    }
    Ok(Box::new(BufReader::new(file)))
}

fn in_words(path: &Path, error: &io::Error) -> String {
    let path: PathBuf = path.to_owned();
    format!(
        "The blocklist file {} cannot be written: {error}. Mend that, or set blocklist.write to another file; writing is \
         tried again every second.",
        path.display()
    )
}
