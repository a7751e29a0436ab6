//! What many bans have in common, kept once: whose they are, which packets they drop, why, and on what evidence. A million
//! bans have some thousand causes, because a cause names neither the address nor the time.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Scope;
use crate::filters::Evidence;
use crate::keyed::Keys;

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Cause {
    pub(super) jail: Arc<str>,
    pub(super) scope: Scope,
    pub(super) reason: Arc<str>,
    pub(super) evidence: Evidence,
}

/// Number of a cause that is in use.
pub(super) type CauseId = u32;

/// All causes in use, each with the number of its bans.
#[derive(Clone, Debug, Default)]
pub(super) struct Causes {
    known: HashMap<Arc<Cause>, CauseId, Keys>,
    slots: Vec<Slot>,
    free: Vec<CauseId>,
}

#[derive(Clone, Debug)]
struct Slot {
    cause: Arc<Cause>,
    /// How many bans have it; a slot without any is free.
    used: u32,
}

impl Causes {
    /// The number of this cause, for one more ban.
    pub(super) fn take(&mut self, cause: Cause) -> CauseId {
        if let Some(id) = self.known.get(&cause).copied() {
            self.share(id);
            return id;
        }
        let cause = Arc::new(cause);
        let slot = Slot { cause: Arc::clone(&cause), used: 1 };
        let id = if let Some(id) = self.free.pop() {
            self.slots[id as usize] = slot;
            id
        } else {
            self.slots.push(slot);
            CauseId::try_from(self.slots.len() - 1).expect("there are fewer causes than bans, and those fit in memory")
        };
        self.known.insert(cause, id);
        id
    }

    /// One more ban has it.
    pub(super) fn share(&mut self, id: CauseId) {
        self.slots[id as usize].used += 1;
    }

    /// One ban less has it.
    pub(super) fn release(&mut self, id: CauseId) {
        let slot = &mut self.slots[id as usize];
        slot.used -= 1;
        if slot.used == 0 {
            self.known.remove(&slot.cause);
            self.free.push(id);
        }
    }

    pub(super) fn get(&self, id: CauseId) -> &Cause {
        &self.slots[id as usize].cause
    }

    /// Every cause in use with the number of its bans.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Cause, usize)> {
        self.slots.iter().filter(|slot| slot.used > 0).map(|slot| (&*slot.cause, slot.used as usize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause(reason: &str) -> Cause {
        Cause { jail: "sshd".into(), scope: Scope::default(), reason: reason.into(), evidence: Evidence::Proven }
    }

    #[test]
    fn a_cause_is_kept_once_and_only_as_long_as_a_ban_has_it() {
        let mut causes = Causes::default();
        let (first, same, other) = (causes.take(cause("a")), causes.take(cause("a")), causes.take(cause("b")));
        assert_eq!(first, same);
        assert_eq!(causes.iter().map(|(_, used)| used).collect::<Vec<_>>(), [2, 1]);
        causes.release(first);
        assert_eq!(causes.get(first), &cause("a"));
        causes.release(first);
        assert_eq!(causes.iter().map(|(cause, _)| cause).collect::<Vec<_>>(), [&cause("b")]);
        assert_eq!(causes.take(cause("c")), first, "its slot is used again");
        assert_eq!(causes.get(other), &cause("b"));
        assert_eq!(causes.known.len(), 2);
    }
}
