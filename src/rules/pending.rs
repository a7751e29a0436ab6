//! Rules on trial: a process of its own holds what was there before, and puts it back unless somebody says in time
//! that the new rules stay. It outlives the session that began the trial, for the new rules may be what ends that.
//!
//! A trial is a file, locked by its watcher. To keep the rules is to rename it, and so is to begin going back: of the
//! two only one can succeed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use tokio::signal::unix::{SignalKind, signal};

use super::live::{Kernel, State};

const PENDING: &str = "rules.pending";
const KEPT: &str = "rules.kept";
const GOING_BACK: &str = "rules.undone";

/// How often the watcher looks whether the rules are to stay.
const GLANCE: Duration = Duration::from_millis(100);

/// How often it tries to go back before it gives up, once a second.
const ATTEMPTS: u32 = 300;

/// How long the watcher may take to begin, or to notice an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// A trial that was begun here.
#[derive(Debug)]
pub(crate) struct Trial {
    folder: PathBuf,
}

/// What has become of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Running,
    Kept,
    Undone,
}

/// Whether rules of this folder are on trial.
pub(crate) fn is_running(folder: &Path) -> bool {
    let Ok(file) = File::open(folder.join(PENDING)) else { return false };
    // A watcher that died holds nothing any more.
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err()
}

impl Trial {
    /// Starts a watcher that goes back to `before` after so many seconds. It stands when this returns.
    pub(crate) fn begin(folder: &Path, seconds: u32, before: &State) -> io::Result<Trial> {
        fs::create_dir_all(folder)?;
        for stale in [KEPT, GOING_BACK] {
            remove(&folder.join(stale))?;
        }
        let mut child = Command::new(std::env::current_exe()?)
            .args(["rules", "watch", "--seconds", &seconds.to_string(), "--folder"])
            .arg(folder)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        if let Some(stdin) = &mut child.stdin {
            stdin.write_all(&serde_json::to_vec(before)?)?;
        }
        drop(child.stdin.take());
        let mut word = String::new();
        if let Some(stdout) = &mut child.stdout {
            stdout.read_to_string(&mut word)?;
        }
        match word.trim() {
            "ready" => Ok(Trial { folder: folder.to_owned() }),
            _ => Err(io::Error::other(format!("its watcher did not start: {}", word.trim()))),
        }
    }

    pub(crate) fn standing(&self) -> Standing {
        if self.folder.join(PENDING).exists() {
            return Standing::Running;
        }
        if self.folder.join(GOING_BACK).exists() { Standing::Undone } else { Standing::Kept }
    }
}

/// Says that the rules on trial stay. `false` when there is no trial, or it was too late.
pub(crate) fn keep(folder: &Path) -> io::Result<bool> {
    if !is_running(folder) {
        return Ok(false);
    }
    match fs::rename(folder.join(PENDING), folder.join(KEPT)) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    }
    // The watcher takes the file away: then it is sure that nothing will be undone.
    let begin = Instant::now();
    while folder.join(KEPT).exists() {
        if begin.elapsed() > PATIENCE {
            return Err(io::Error::other("the watcher of the trial does not answer"));
        }
        std::thread::sleep(GLANCE / 2);
    }
    Ok(true)
}

/// The watcher: `banctl rules watch`. Says `ready` on standard output once it stands, and then nothing.
pub(crate) fn watch(folder: &Path, seconds: u32) -> io::Result<()> {
    // In a session of its own, no terminal that goes away takes it along.
    rustix::process::setsid()?;
    let mut text = Vec::new();
    io::stdin().read_to_end(&mut text)?;
    let before: State = serde_json::from_slice(&text)?;
    let pending = folder.join(PENDING);
    let mut file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&pending)?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| io::Error::other("other rules are on trial"))?;
    file.set_len(0)?;
    file.write_all(&text)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let kept = runtime.block_on(wait(folder, Duration::from_secs(u64::from(seconds))))?;
    if kept || fs::rename(&pending, folder.join(GOING_BACK)).is_err() && folder.join(KEPT).exists() {
        return remove(&folder.join(KEPT));
    }
    go_back(&before)?;
    drop(file);
    Ok(())
}

/// Waits for the answer, the end of the time, or somebody who ends this process; whether the rules stay.
async fn wait(folder: &Path, time: Duration) -> io::Result<bool> {
    let mut ends = [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?];
    // Noted and ignored: the session may go, this stays.
    let _hangup = signal(SignalKind::hangup())?;
    let deadline = tokio::time::Instant::now() + time;
    println!("ready");
    // The one who started this reads to the end.
    rustix::stdio::dup2_stdout(File::open("/dev/null")?)?;
    loop {
        let [terminate, interrupt] = &mut ends;
        tokio::select! {
            () = tokio::time::sleep(GLANCE) => {
                if folder.join(KEPT).exists() {
                    return Ok(true);
                }
                if tokio::time::Instant::now() >= deadline {
                    return Ok(false);
                }
            }
            _ = terminate.recv() => return Ok(false),
            _ = interrupt.recv() => return Ok(false),
        }
    }
}

/// Nobody is there to read an error: what helps is to try again.
fn go_back(before: &State) -> io::Result<()> {
    let mut last = String::new();
    for _ in 0..ATTEMPTS {
        match Kernel::open().and_then(|kernel| kernel.put(before)) {
            Ok(()) => return Ok(()),
            Err(error) => last = error.to_string(),
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    Err(io::Error::other(last))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
