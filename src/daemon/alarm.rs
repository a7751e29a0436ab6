//! Wakes the loop when something is due, whoever made it so. One timer of the kernel: tokio's wheel of timers wakes three
//! times for one that is seconds off, and an idle machine is to sleep.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::net::unix::pipe::Receiver;
use tokio::time::Instant;

/// A moment that differs by less is the same one: ends of bans are moments of another clock.
const SAME: Duration = Duration::from_millis(1);

/// Sets it, on whatever thread.
pub(super) struct Alarm {
    timer: OwnedFd,
    /// For when it is set; `None` once it has gone off.
    at: Option<Instant>,
}

/// Hears it.
pub(super) struct Rings(
    /// Readable once it has gone off, as a pipe would be.
    Receiver,
);

impl Alarm {
    /// Within the event loop.
    pub(super) fn new() -> io::Result<(Alarm, Rings)> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        let rings = Rings(Receiver::from_owned_fd_unchecked(timer.try_clone()?)?);
        Ok((Alarm { timer, at: None }, rings))
    }

    /// Has it go off then and at no other time, a little earlier or later.
    pub(super) fn set(&mut self, at: Instant) {
        if self.at.is_some_and(|set| set.max(at) - set.min(at) < SAME) {
            return;
        }
        // Nothing at all would be never.
        let left = at.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
        let once = Timespec { tv_sec: 0, tv_nsec: 0 };
        // Farther off than the kernel counts is never, too.
        let it_value = Timespec::try_from(left).unwrap_or(once);
        let set = timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &Itimerspec { it_interval: once, it_value });
        self.at = set.is_ok().then_some(at);
    }

    /// To be said once it was heard.
    pub(super) fn went_off(&mut self) {
        self.at = None;
    }
}

impl Rings {
    /// Waits until it goes off.
    pub(super) async fn heard(&self) {
        while self.0.readable().await.is_ok() {
            if self.0.try_read(&mut [0; 8]).is_ok() {
                return;
            }
        }
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_off_for_the_moment_that_was_wanted_last() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (mut alarm, rings) = Alarm::new().unwrap();
            let begun = Instant::now();
            for far in [Duration::from_secs(60), Duration::from_millis(20), Duration::from_secs(90)] {
                alarm.set(begun + far);
                let heard = tokio::select! {
                    biased;
                    () = rings.heard() => true,
                    () = tokio::time::sleep(Duration::from_millis(200)) => false,
                };
                assert_eq!(heard, far < Duration::from_secs(1), "{far:?}");
            }
            alarm.set(begun);
            rings.heard().await;
            alarm.went_off();
            alarm.set(Instant::now() + Duration::from_millis(20));
            rings.heard().await;
            assert!(begun.elapsed() >= Duration::from_millis(400), "what had gone off before is over");
        });
    }
}
