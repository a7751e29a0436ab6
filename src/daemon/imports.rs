//! Lists on their way: judged on a thread of the moment, taken by the ledger at once, and handed to the firewall a part at
//! a time, so that neither a line nor a ban waits for a million prefixes.

use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::calls::{Ack, answer_once_done, reply};
use super::guard::Guard;
use crate::control::Reply;
use crate::control::server::Answer;
use crate::ledger::Change;
use crate::pipeline::BLOCKLIST;
use crate::pipeline::import::{Basis, Import, Taken, Wish};
use crate::time::{Timestamp, Until};

/// Prefixes that are handed on in one turn of the loop: some milliseconds' work.
const PART: usize = 8192;

/// A list goes on after this time, however many lines there are.
const PART_AFTER: Duration = Duration::from_millis(20);

/// A list that was judged, and who waits for it.
pub(super) type Judged = (Import, oneshot::Sender<Answer>);

/// A list that the ledger has, and the firewall in part.
pub(super) struct Load {
    touched: Vec<IpNet>,
    /// How many of them are handed on.
    handed: usize,
    /// Whether it may be that what stands is not in force.
    all: bool,
    waiting: Option<Waiting>,
}

/// Who waits for a list, and for what.
struct Waiting {
    message: String,
    warnings: Vec<String>,
    disk: Ack,
    /// One for each part.
    kernel: Vec<Ack>,
    answer: oneshot::Sender<Answer>,
}

/// How many of those that are left come next. The last part takes what would be a small one: that would be done as a ban is,
/// before what of the list is still to be loaded, and may take out what that is to replace.
fn next_part(left: usize) -> usize {
    if left < 2 * PART { left } else { PART }
}

impl Guard {
    /// A list that a person wants banned.
    pub(super) fn import(
        &self,
        name: String,
        prefixes: Vec<IpNet>,
        seconds: Option<u64>,
        answer: oneshot::Sender<Answer>,
    ) {
        if name.starts_with(BLOCKLIST) || name.is_empty() || name.len() > 100 {
            let message = format!("'{name}' cannot be the name of a list");
            return reply(answer, Answer::Reply(Reply::Refused { message }));
        }
        let since = Timestamp::now();
        let until = seconds.map_or(Until::Forever, |s| Until::At(since + Duration::from_secs(s)));
        let basis = self.pipeline.basis(&name);
        let wish = Wish { name, prefixes, since, until, all: self.firewall.lacks() };
        self.have_judged(basis, answer, |basis| Import::prepare(wish, basis));
    }

    fn have_judged(
        &self,
        basis: Basis,
        answer: oneshot::Sender<Answer>,
        judge: impl FnOnce(Basis) -> Import + Send + 'static,
    ) {
        let importer = self.channels.importer.clone();
        tokio::task::spawn_blocking(move || {
            // Unheard where the daemon is stopping.
            let _heard = importer.blocking_send((judge(basis), answer));
        });
    }

    /// Takes a list, unless what it was judged by is no longer so.
    pub(super) fn on_judged(&mut self, (import, answer): Judged) {
        if !self.pipeline.fits(&import) {
            let basis = self.pipeline.basis(import.name());
            return self.have_judged(basis, answer, |basis| import.prepare_again(basis));
        }
        let Taken { touched, all, event, refused: warnings } = match self.pipeline.import(import, Timestamp::now()) {
            Ok(taken) => taken,
            Err(message) => return reply(answer, Answer::Reply(Reply::Refused { message })),
        };
        let (on_disk, disk) = oneshot::channel();
        self.store(Some(on_disk));
        let message = event.text.clone();
        self.chronicle.tell(event);
        let waiting = Some(Waiting { message, warnings, disk, kernel: Vec::new(), answer });
        self.load(Load { touched, handed: 0, all, waiting });
    }

    /// The same for what a file says; nobody waits. What was left out of it.
    pub(super) fn take_list(
        &mut self,
        name: String,
        prefixes: Vec<IpNet>,
        now: Timestamp,
    ) -> Result<Vec<String>, String> {
        let basis = self.pipeline.basis(&name);
        let wish = Wish { name, prefixes, since: now, until: Until::Forever, all: false };
        let Taken { touched, all, event, refused } = self.pipeline.import(Import::prepare(wish, basis), now)?;
        self.store(None);
        self.chronicle.tell(event);
        self.load(Load { touched, handed: 0, all, waiting: None });
        Ok(refused)
    }

    fn load(&mut self, load: Load) {
        self.loads.push_back(load);
        self.due.part.get_or_insert(Instant::now() + PART_AFTER);
    }

    /// Hands the next part of the lists to the firewall. After the last one, whoever waits is answered once ledger and kernel
    /// have all.
    pub(super) fn hand_on(&mut self) {
        let Some(load) = self.loads.front_mut() else {
            self.due.part = None;
            return;
        };
        self.due.part = Some(Instant::now() + PART_AFTER);
        let end = load.handed + next_part(load.touched.len() - load.handed);
        let mut changes = self.pipeline.ledger.steps(&load.touched[load.handed..end]);
        load.handed = end;
        if load.all {
            // What is part of a wider ban is in force when that is.
            let folded = changes.iter().filter(|change| matches!(change, Change::Clear { .. })).map(Change::prefix);
            let around = folded.flat_map(|prefix| self.pipeline.ledger.wanted_around(&prefix));
            changes.extend(around.map(Change::Set).collect::<Vec<_>>());
        }
        let ack = load.waiting.as_mut().map(|waiting| {
            let (done, ack) = oneshot::channel();
            waiting.kernel.push(ack);
            done
        });
        self.firewall.apply(changes, ack);
        self.firewall.finish();
        if load.handed < load.touched.len() {
            return;
        }
        if let Some(Load { waiting: Some(waiting), .. }) = self.loads.pop_front() {
            let Waiting { message, warnings, disk, kernel, answer } = waiting;
            answer_once_done(disk, kernel, self.firewall.progress(), Reply::Done { message, warnings }, answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_the_whole_list_and_none_of_several_is_small() {
        for count in [0, 1, PART - 1, PART, PART + 1, 2 * PART - 1, 2 * PART, 3 * PART + 1, 1_000_000] {
            let (mut left, mut parts) = (count, Vec::new());
            while left > 0 {
                parts.push(next_part(left));
                left -= next_part(left);
            }
            assert_eq!(parts.iter().sum::<usize>(), count);
            assert!(parts.len() < 2 || parts.iter().all(|part| *part >= PART), "{count}: {parts:?}");
        }
    }
}
