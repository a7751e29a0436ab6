//! The thread that keeps the blocklist file as the ledger is: the latest state wins, at most one write a second.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::{MAX_BYTES, rewrite};
use crate::ledger::Ban;
use crate::ledger::files::write_atomically;

/// Time between two writes, and before a failed one is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// Everybody may read a blocklist: it is made to be used by other programs.
const MODE: u32 = 0o644;

#[derive(Debug, Default)]
struct Desk {
    /// What the file is to hold, as long as that is not written.
    wanted: Option<Vec<Ban>>,
    closing: bool,
    trouble: Option<String>,
}

#[derive(Debug, Default)]
struct Shared {
    desk: Mutex<Desk>,
    wake: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
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
    pub(crate) fn show(&self, bans: Vec<Ban>) {
        self.shared.lock().wanted = Some(bans);
        self.shared.wake.notify_one();
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
        drop(desk);
        if let Some(bans) = wanted {
            let outcome = write(path, &bans);
            let mut desk = shared.lock();
            desk.trouble = outcome.as_ref().err().map(|error| in_words(path, error));
            if outcome.is_err() && desk.wanted.is_none() {
                desk.wanted = Some(bans);
            }
        }
        if last {
            return;
        }
        let paused = shared.wake.wait_timeout_while(shared.lock(), PAUSE, |desk| !desk.closing);
        drop(paused);
    }
}

fn write(path: &Path, bans: &[Ban]) -> io::Result<()> {
    let old = read(path)?;
    let new = rewrite(old.as_deref().unwrap_or_default(), bans);
    // An empty file is written once, so that programs that read it find it.
    if old.as_ref() == Some(&new) { Ok(()) } else { write_atomically(path, &new, MODE) }
}

/// A blocklist file whole, `None` where there is none. One that is longer than any blocklist is refused.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut bytes = Vec::new();
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_BYTES {
        return Err(io::Error::other(format!("it is longer than {} MiB already", MAX_BYTES >> 20)));
    }
    Ok(Some(bytes))
}

fn in_words(path: &Path, error: &io::Error) -> String {
    let path: PathBuf = path.to_owned();
    format!(
        "The blocklist file {} cannot be written: {error}. Mend that, or set blocklist.write to another file; writing is \
         tried again every second.",
        path.display()
    )
}
