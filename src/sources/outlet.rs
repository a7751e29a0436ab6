//! How a source's thread waits and reports, so that it can be stopped while it does either. Reports go out, nothing
//! comes in; it knows nothing of logs.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use tokio::sync::mpsc::Sender;

use super::{Batch, Report};
use crate::filters::Memory;

/// The source was asked to end, or nobody receives its reports any more.
#[derive(Debug)]
pub(super) struct Stopped;

/// What a waiting source is woken by: an eventfd, and whether it was rung to stop.
pub(super) struct Bell {
    fd: OwnedFd,
    stopped: AtomicBool,
}

impl Bell {
    pub(super) fn new() -> io::Result<Bell> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Bell { fd, stopped: AtomicBool::new(false) })
    }

    pub(super) fn ring(&self) {
        // It can fail only with EAGAIN, when the counter is at its end: then the bell rings already.
        let _already_rings = rustix::io::write(&self.fd, &1_u64.to_ne_bytes());
    }

    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.ring();
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Waits until the bell rings, one of `others` is readable or at its end, or the time is over (`None`: for ever).
    /// Says which of the others are.
    pub(super) fn wait<const N: usize>(
        &self,
        others: [BorrowedFd<'_>; N],
        timeout: Option<Duration>,
    ) -> Result<[bool; N], Stopped> {
        let mut polled = vec![PollFd::new(&self.fd, PollFlags::IN)];
        polled.extend(others.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)));
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        // An interrupted wait is like one that was over early: every caller looks again.
        let _interrupted = poll(&mut polled, timeout.as_ref());
        let mut ready = polled.iter().map(|fd| !fd.revents().is_empty());
        if ready.next() == Some(true) {
            let _drained = rustix::io::read(&self.fd, &mut [0; 8]);
        }
        if self.is_stopped() {
            return Err(Stopped);
        }
        let mut answer = [false; N];
        answer.iter_mut().zip(ready).for_each(|(answer, ready)| *answer = ready);
        Ok(answer)
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Wakes a thread that waits for room in the channel.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Hits that are few: to count them takes no longer than to wake another thread that does.
const FEW: usize = 32;

/// Takes what sources bring.
pub(crate) trait Taker: Send + Sync {
    /// Never waits: gives back what is to be queued.
    fn take(&self, batch: Batch) -> Option<Batch>;
}

/// Where the reports of all sources go: into a bounded queue, or at once to the one who empties it.
#[derive(Clone)]
pub(crate) struct Inbox {
    queue: Sender<Report>,
    /// Reports on their way through the queue: nothing overtakes them.
    queued: Arc<AtomicUsize>,
    taker: Weak<dyn Taker>,
}

impl Inbox {
    pub(crate) fn new(queue: Sender<Report>, taker: Weak<dyn Taker>) -> Inbox {
        Inbox { queue, queued: Arc::default(), taker }
    }

    /// To be said of each report that came through the queue, by the taker while nobody else can take; and of one that
    /// was not sent after all.
    pub(crate) fn taken(&self) {
        self.queued.fetch_sub(1, Ordering::Release);
    }

    /// Hands over a small batch on this thread; gives back what is to be queued.
    fn hand_over(&self, batch: Batch) -> Option<Batch> {
        if batch.hits.len() > FEW || self.queued.load(Ordering::Acquire) > 0 {
            return Some(batch);
        }
        match self.taker.upgrade() {
            Some(taker) => taker.take(batch),
            None => Some(batch),
        }
    }
}

/// Where the reports of one source go.
pub(super) struct Outlet {
    source: usize,
    inbox: Inbox,
    bell: Arc<Bell>,
    /// The last trouble that was reported and is not over, per log.
    troubles: HashMap<Arc<str>, String>,
}

impl Outlet {
    pub(super) fn new(source: usize, inbox: Inbox, bell: Arc<Bell>) -> Outlet {
        Outlet { source, inbox, bell, troubles: HashMap::new() }
    }

    pub(super) fn source(&self) -> usize {
        self.source
    }

    pub(super) fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }

    /// Waits for room in the channel, or until the source is stopped: `blocking_send` could not be interrupted.
    pub(super) fn send(&self, report: Report) -> Result<(), Stopped> {
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut context = Context::from_waker(&waker);
        let mut sending = pin!(self.inbox.queue.send(report));
        self.inbox.queued.fetch_add(1, Ordering::Relaxed);
        while !self.bell.is_stopped() {
            match sending.as_mut().poll(&mut context) {
                Poll::Ready(Ok(())) => return Ok(()),
                Poll::Ready(Err(_closed)) => return Err(Stopped),
                Poll::Pending => std::thread::park(),
            }
        }
        // It never came.
        self.inbox.taken();
        Err(Stopped)
    }

    pub(super) fn batch(&self, batch: Batch) -> Result<(), Stopped> {
        match self.inbox.hand_over(batch) {
            Some(batch) => self.send(Report::Batch(batch)),
            None => Ok(()),
        }
    }

    /// Reports what is wrong with a log, unless just that was said last.
    pub(super) fn trouble(&mut self, log: &Arc<str>, text: String) -> Result<(), Stopped> {
        if self.troubles.get(log) == Some(&text) {
            return Ok(());
        }
        self.troubles.insert(Arc::clone(log), text.clone());
        self.send(Report::Trouble { source: self.source, log: Arc::clone(log), text })
    }

    /// Reports that the trouble with a log is over, if there was any.
    pub(super) fn recovered(&mut self, log: &Arc<str>) -> Result<(), Stopped> {
        if self.troubles.remove(log).is_none() {
            return Ok(());
        }
        self.send(Report::Recovered { source: self.source, log: Arc::clone(log) })
    }

    pub(super) fn lost(&self, log: &Arc<str>, lines: u64, text: String) -> Result<(), Stopped> {
        self.send(Report::Lost { source: self.source, log: Arc::clone(log), lines, text })
    }

    /// Reports what the log has said of missing lines. Of lines that were applied before, it was reported then.
    pub(super) fn suppressed(&self, log: &Arc<str>, memory: &mut Memory, warm: bool) -> Result<(), Stopped> {
        match memory.take_suppressed().filter(|_| !warm) {
            Some(suppressed) => self.send(Report::Suppressed { source: self.source, log: Arc::clone(log), suppressed }),
            None => Ok(()),
        }
    }

    pub(super) fn cut(&self, lines: u64) -> Result<(), Stopped> {
        if lines == 0 { Ok(()) } else { self.send(Report::Cut { source: self.source, lines }) }
    }

    pub(super) fn caught_up(&self) -> Result<(), Stopped> {
        self.send(Report::CaughtUp { source: self.source })
    }

    pub(super) fn ended(&self) -> Result<(), Stopped> {
        self.send(Report::Ended { source: self.source })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::sync::mpsc::channel;

    use super::*;
    use crate::sources::tests::hit;
    use crate::time::Timestamp;

    /// Takes what comes, but only while it is free.
    #[derive(Default)]
    struct Desk {
        is_free: AtomicBool,
        taken: Mutex<Vec<u64>>,
    }

    impl Taker for Desk {
        fn take(&self, batch: Batch) -> Option<Batch> {
            if !self.is_free.load(Ordering::Relaxed) {
                return Some(batch);
            }
            self.taken.lock().unwrap().push(batch.lines);
            None
        }
    }

    fn batch(lines: u64, hits: usize) -> Batch {
        let hits = (0..hits).map(|_| hit(Timestamp::EPOCH, b"")).collect();
        Batch { source: 0, log: "a.log".into(), hits, position: None, warm: false, lines, bytes: 0, latest: None }
    }

    #[test]
    fn a_small_batch_is_taken_at_once_unless_another_one_queues() {
        let desk = Arc::new(Desk::default());
        let taker: Weak<Desk> = Arc::downgrade(&desk);
        let (queue, mut reports) = channel(4);
        let inbox = Inbox::new(queue, taker);
        let outlet = Outlet::new(0, inbox.clone(), Arc::new(Bell::new().unwrap()));
        let mut queued = |inbox: &Inbox| {
            let Ok(Report::Batch(batch)) = reports.try_recv() else { return None };
            inbox.taken();
            Some(batch.lines)
        };
        outlet.batch(batch(1, 1)).unwrap();
        desk.is_free.store(true, Ordering::Relaxed);
        outlet.batch(batch(2, 1)).unwrap();
        assert!(desk.taken.lock().unwrap().is_empty(), "none overtakes the first, which queues");
        assert_eq!([queued(&inbox), queued(&inbox), queued(&inbox)], [Some(1), Some(2), None]);
        outlet.batch(batch(3, FEW)).unwrap();
        outlet.batch(batch(4, FEW + 1)).unwrap();
        outlet.batch(batch(5, 0)).unwrap();
        assert_eq!(*desk.taken.lock().unwrap(), [3]);
        assert_eq!([queued(&inbox), queued(&inbox)], [Some(4), Some(5)]);
        drop(desk);
        outlet.batch(batch(6, 0)).unwrap();
        assert_eq!(queued(&inbox), Some(6), "nobody is there to take it");
    }
}
