//! Tells what happens: to the log, and to everybody who follows `banctl events`.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;

use crate::control::server::Peer;
use crate::pipeline::event::{Event, Kind};
use crate::time::Timestamp;

/// A follower may be this many events behind before it misses some.
const BACKLOG: usize = 4096;
/// Decisions that are logged per second; what is more is summed up, so that a flood cannot fill the log.
const LINES_PER_SECOND: u32 = 100;

/// How long the end waits for those who follow.
const LAST_WORD: Duration = Duration::from_millis(100);

pub(super) struct Chronicle {
    /// Nothing is enforced: what is told only would be.
    pub(super) observing: bool,
    followers: broadcast::Sender<Arc<Event>>,
    /// What is to be told before anything else is.
    later: Vec<Event>,
    second: i64,
    told: u32,
    untold: u64,
}

impl Chronicle {
    pub(super) fn new(observing: bool) -> Chronicle {
        let (followers, _) = broadcast::channel(BACKLOG);
        Chronicle { observing, followers, later: Vec::new(), second: 0, told: 0, untold: 0 }
    }

    pub(super) fn follow(&mut self) -> broadcast::Receiver<Arc<Event>> {
        // Of what was there before, nothing.
        self.catch_up();
        self.followers.subscribe()
    }

    pub(super) fn tell_all(&mut self, events: Vec<Event>) {
        for event in events {
            self.tell(event);
        }
    }

    /// Tells it soon, in its turn: to write a line takes as long as to ban.
    pub(super) fn tell_later(&mut self, events: Vec<Event>) {
        for event in events {
            self.later.push(self.with_mode(event));
        }
    }

    pub(super) fn catch_up(&mut self) {
        for event in std::mem::take(&mut self.later) {
            self.log(&event);
            self.pass_on(event);
        }
    }

    pub(super) fn tell(&mut self, event: Event) {
        self.later.push(self.with_mode(event));
        self.catch_up();
    }

    fn with_mode(&self, mut event: Event) -> Event {
        event.observed = self.observing && event.prefix.is_some();
        event
    }

    /// Who asked for a change, and for what: in the log whatever else happens in that second.
    pub(super) fn audit(&mut self, peer: Peer, what: &str) {
        self.catch_up();
        let text = format!("by uid={} pid={}: {what}", peer.uid, peer.pid);
        log::info!("asked {text}");
        self.pass_on(Event::new(Timestamp::now(), Kind::Asked, text));
    }

    fn pass_on(&self, event: Event) {
        if self.followers.receiver_count() > 0 {
            // Nobody follows any more: nobody misses it.
            let _unheard = self.followers.send(Arc::new(event));
        }
    }

    /// Lets those who follow hear the last word.
    pub(super) async fn finish(mut self) {
        self.catch_up();
        if self.followers.receiver_count() > 0 {
            tokio::time::sleep(LAST_WORD).await;
        }
    }

    fn log(&mut self, event: &Event) {
        if matches!(event.kind, Kind::Trouble | Kind::Lost | Kind::Repaired) {
            log::warn!("{event}");
            return;
        }
        self.begin_second(event.time.as_secs());
        if self.told < LINES_PER_SECOND {
            self.told += 1;
            log::info!("{event}");
        } else {
            self.untold += 1;
        }
    }

    fn begin_second(&mut self, second: i64) {
        if second == self.second {
            return;
        }
        self.sum_up();
        (self.second, self.told) = (second, 0);
    }

    /// Says how many decisions were not logged one by one.
    pub(super) fn sum_up(&mut self) {
        let untold = std::mem::take(&mut self.untold);
        if untold > 0 {
            log::info!("and {untold} more decisions within that second; `banctl list` shows the bans");
        }
    }
}
