//! Whose sessions are open, and which resolvers there are, as the witness tells the enforcer by itself: a brain that was
//! taken over could keep silent about an administrator. In: what was just banned. Out: what of it is in the way of a session
//! or a resolver, which is taken out again.
//!
//! A ban does not wait for a look through all processes: the look comes right after it. Before a long list it comes first.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use super::server::{Open, Shared};
use super::witness::Witness;
use crate::lock::lock;
use crate::time::Timestamp;

/// Between two looks at least, however many bans there are.
const LOOK_AT_MOST: Duration = Duration::from_secs(1);

/// Has the sessions looked up.
#[derive(Clone)]
pub(super) struct Sessions(Option<Asking>);

#[derive(Clone)]
struct Asking {
    law: Shared,
    witness: Witness,
    /// Whether it should be soon.
    waker: SyncSender<bool>,
}

impl Sessions {
    /// For a lane on which nothing is banned.
    pub(super) fn unknown() -> Sessions {
        Sessions(None)
    }

    /// Looks after what is put into this backend, from a thread of its own.
    pub(super) fn watch(law: &Shared, witness: Witness, open: &Open) -> io::Result<Sessions> {
        // One waiting wake-up stands for all bans meanwhile.
        let (waker, wake) = sync_channel(1);
        let asking = Asking { law: Arc::clone(law), witness, waker };
        let (watching, open) = (asking.clone(), Arc::clone(open));
        std::thread::Builder::new().name("sessions".to_owned()).spawn(move || {
            let ended = watching.run(&wake, &open);
            let gone = matches!(ended.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe);
            if !gone {
                log::error!("the witness does not tell the enforcer whose sessions are open ({ended}); both end");
            }
            // Rather no new ban than one of an administrator.
            std::process::exit(i32::from(!gone));
        })?;
        Ok(Sessions(Some(asking)))
    }

    /// Something was banned; so much that one should not wait for the next turn.
    pub(super) fn wake(&self, soon: bool) {
        if let Some(asking) = &self.0 {
            // It is awake already.
            let _waiting = asking.waker.try_send(soon);
        }
    }

    /// Looks them up now, and keeps those that are known where that fails.
    pub(super) fn look_up(&self) {
        if let Some(asking) = &self.0 {
            // Who knows no better goes by what was known.
            let _known = asking.ask();
        }
    }
}

impl Asking {
    /// Until the witness is gone; why it is taken for gone.
    fn run(&self, wake: &Receiver<bool>, open: &Open) -> io::Error {
        while wake.recv().is_ok() {
            // As long as something was banned meanwhile.
            while let Some(next) = self.look_after(open).transpose() {
                match next {
                    Ok(begun) => wait(wake, begun + LOOK_AT_MOST),
                    Err(gone) => return gone,
                }
            }
        }
        io::ErrorKind::BrokenPipe.into()
    }

    /// Asks the witness for all that it tells and that is protected.
    fn ask(&self) -> io::Result<()> {
        let kinds = lock(&self.law).asks_for();
        for kind in kinds {
            if let Some(addresses) = self.witness.addresses(kind)? {
                lock(&self.law).set_told(kind, &addresses);
            }
        }
        Ok(())
    }

    /// Takes out what was banned before this and is in the way of a session. When it began; `None` where nothing was.
    fn look_after(&self, open: &Open) -> io::Result<Option<Instant>> {
        let (begun, fresh) = (Instant::now(), lock(&self.law).take_fresh());
        if fresh.is_empty() {
            return Ok(None);
        }
        self.ask()?;
        let wrong = lock(&self.law).take_back(fresh);
        let mut open = lock(open);
        if let Some(backend) = open.as_mut().filter(|_| !wrong.is_empty())
            && let Err(why) = backend.apply(&wrong, Timestamp::now())
        {
            log::error!("a ban in the way of a session could not be taken back: {why}");
        }
        Ok(Some(begun))
    }
}

/// Until this moment, or until so much was banned that it should be sooner.
fn wait(wake: &Receiver<bool>, until: Instant) {
    while let Ok(soon) = wake.recv_timeout(until.saturating_duration_since(Instant::now())) {
        if soon {
            return;
        }
    }
}
