//! Wakes the loop when something is due. One timer of the kernel: tokio's wheel of timers wakes three times for one that is
//! seconds off, and an idle machine is to sleep.

use std::io;
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::net::unix::pipe::Receiver;
use tokio::time::Instant;

/// A moment that differs by less is the same one: ends of bans are moments of another clock.
const SAME: Duration = Duration::from_millis(1);

pub(super) struct Alarm {
    /// Readable once it has gone off, as a pipe would be.
    timer: Receiver,
    /// For when it is set.
    at: Option<Instant>,
}

impl Alarm {
    /// Within the event loop.
    pub(super) fn new() -> io::Result<Alarm> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        Ok(Alarm { timer: Receiver::from_owned_fd_unchecked(timer)?, at: None })
    }

    /// Waits until then, or a little less.
    pub(super) async fn until(&mut self, at: Instant) {
        let left = at.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        let is_set = self.at.is_some_and(|set| set.max(at) - set.min(at) < SAME);
        if !is_set && self.set(left).is_err() {
            return tokio::time::sleep(left).await;
        }
        self.at.get_or_insert(at);
        while self.timer.readable().await.is_ok() {
            if self.timer.try_read(&mut [0; 8]).is_ok() {
                break;
            }
        }
        self.at = None;
    }

    fn set(&mut self, left: Duration) -> io::Result<()> {
        self.at = None;
        let once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &Itimerspec { it_interval: once, it_value: left })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_off_for_the_moment_that_was_wanted_last() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut alarm = Alarm::new().unwrap();
            let begun = Instant::now();
            for far in [Duration::from_secs(60), Duration::from_millis(20), Duration::from_secs(90)] {
                let woken = tokio::select! {
                    biased;
                    () = alarm.until(begun + far) => true,
                    () = tokio::time::sleep(Duration::from_millis(200)) => false,
                };
                assert_eq!(woken, far < Duration::from_secs(1), "{far:?}");
            }
            alarm.until(begun).await;
            alarm.until(Instant::now() + Duration::from_millis(20)).await;
            assert!(begun.elapsed() >= Duration::from_millis(400), "what had gone off before is over");
        });
    }
}
