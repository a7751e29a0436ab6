//! Waiting that ends: at its limit, or when somebody interrupts.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// Whether somebody wants an end. What was made is cleared away then, too.
pub(super) struct Patience(Arc<AtomicBool>);

impl Patience {
    /// From now on SIGINT, SIGTERM and SIGHUP no longer end this process; they end its waiting.
    pub(super) fn new() -> io::Result<Patience> {
        let over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&over);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let [mut int, mut term, mut hup] = runtime.block_on(async { kinds.map(signal) }).map(Caught::from);
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! { () = int.next() => {}, () = term.next() => {}, () = hup.next() => {} }
            });
            told.store(true, Ordering::Relaxed);
        })?;
        Ok(Patience(over))
    }

    pub(super) fn is_over(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Looks until it is so, and says after what time; `None` when it never was.
    pub(super) fn until(
        &self,
        limit: Duration,
        mut is_so: impl FnMut() -> Result<bool, String>,
    ) -> Result<Option<Duration>, String> {
        let start = Instant::now();
        while start.elapsed() < limit {
            if self.is_over() {
                return Err("interrupted".to_owned());
            }
            if is_so()? {
                return Ok(Some(start.elapsed()));
            }
            std::thread::sleep(PAUSE);
        }
        Ok(None)
    }
}

/// A signal; one that cannot be caught never comes.
struct Caught(Option<Signal>);

impl From<io::Result<Signal>> for Caught {
    fn from(signal: io::Result<Signal>) -> Caught {
        Caught(signal.ok())
    }
}

impl Caught {
    async fn next(&mut self) {
        match &mut self.0 {
            Some(signal) => drop(signal.recv().await),
            None => std::future::pending().await,
        }
    }
}
