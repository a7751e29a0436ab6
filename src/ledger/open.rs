//! Opening the ledger: what was kept is read back, what passed meanwhile has passed, what is damaged is set aside.

#[cfg(any(test, feature = "bench"))]
use std::path::Path;
use std::path::PathBuf;

use ipnet::IpNet;

use super::Ban;
use super::bans::Row;
use super::book::Ledger;
use super::causes::CauseId;
use super::history::Ended;
use super::home::{Home, LedgerError};
use super::listfile;
use super::pages::Page;
use super::records::{Key, Record};
use super::store::{FORMAT, Store, StoreError};
use super::writer::Writer;
use crate::time::Timestamp;

/// What was there when the ledger was opened.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Opened {
    /// Nothing: this is the first start.
    Fresh,
    Restored {
        /// Bans that stand.
        bans: usize,
        lists: usize,
        /// Bans whose time passed while nobody was there; they are not restored.
        ended_meanwhile: usize,
        /// Records that could not be read. They cost nothing else.
        skipped: u64,
    },
    /// The store was damaged and stands at `path` now. Lists are restored; bans must be read back from the kernel's sets
    /// and the blocklist file.
    SetAside { path: PathBuf, why: String },
}

/// What the store and the list files hold.
#[derive(Default)]
struct Kept {
    ledger: Ledger,
    /// Of pages, which are read from the last to the first: in falling order of prefixes.
    rows: Vec<(IpNet, Row)>,
    /// Bans that are not in pages yet.
    alone: Vec<Ban>,
    ended: Vec<(u64, Ended)>,
    skipped: u64,
}

impl Ledger {
    /// Opens the ledger of this state directory, which from now on belongs to this process.
    #[cfg(any(test, feature = "bench"))]
    pub(crate) fn open(state_dir: &Path, now: Timestamp) -> Result<(Ledger, Opened), LedgerError> {
        Ledger::open_in(Home::take(state_dir)?, now)
    }

    /// Opens the ledger of a state directory that belongs to this process.
    pub(crate) fn open_in(home: Home, now: Timestamp) -> Result<(Ledger, Opened), LedgerError> {
        let state_dir = home.path().to_owned();
        let fresh = !home.store().exists();
        let (store, kept, aside) = open_store(&home, now)?;
        let (mut ledger, alone, skipped) = kept.finish(&home)?;
        let writer = Writer::spawn(home, store);
        ledger.writer = Some(writer.map_err(|why| LedgerError::Directory { path: state_dir, why })?);
        for ban in alone {
            ledger.delete(&Key::Ban(ban.prefix, &ban.jail));
            ledger.ban(ban);
        }
        let (over, _) = ledger.expire(now);
        ledger.forget_positions();
        ledger.commit(None);
        let (bans, lists) = (ledger.ban_count(), ledger.lists().count());
        let opened = match aside {
            Some((path, why)) => Opened::SetAside { path, why },
            None if fresh => Opened::Fresh,
            None => Opened::Restored { bans, lists, ended_meanwhile: over.len(), skipped },
        };
        Ok((ledger, opened))
    }
}

/// Where a damaged store is now, and what was wrong with it.
type Aside = (PathBuf, String);

/// Opens the store, or a fresh one in the place of a damaged one.
fn open_store(home: &Home, now: Timestamp) -> Result<(Store, Kept, Option<Aside>), LedgerError> {
    let path = home.store();
    let mut kept = Kept::default();
    let opened = Store::open(&path);
    let read = opened.and_then(|store| store.scan(|key, value| kept.add(key, value)).map(|()| store));
    let why = match read {
        Ok(store) => return Ok((store, kept, None)),
        Err(StoreError::Damaged(why)) => why,
        Err(StoreError::Newer(found)) => return Err(LedgerError::Newer { path, found, known: FORMAT }),
        Err(StoreError::Refused(why)) => return Err(LedgerError::Directory { path, why }),
    };
    let aside = home.set_aside(now)?;
    match Store::open(&path) {
        Ok(store) => Ok((store, Kept::default(), Some((aside, why)))),
        Err(StoreError::Refused(why)) => Err(LedgerError::Directory { path, why }),
        Err(StoreError::Damaged(why)) => Err(LedgerError::Unusable { path, why }),
        Err(StoreError::Newer(found)) => Err(LedgerError::Newer { path, found, known: FORMAT }),
    }
}

impl Kept {
    fn add(&mut self, key: &[u8], value: &[u8]) {
        match Record::read(key, value) {
            Some(Record::Page { start, page }) => self.add_page(start, page),
            Some(Record::Ban(ban)) => self.alone.push(ban),
            Some(Record::Ended { sequence, ended }) => self.ended.push((sequence, ended)),
            Some(Record::Grant { prefix, grant }) => self.ledger.restore_grant(prefix, grant),
            Some(Record::Past { prefix, bans, last_end }) => self.ledger.history.remember(prefix, bans, last_end),
            Some(Record::Position { source, log, position, seen }) => {
                self.ledger.positions.load((source, log), position, seen);
            }
            None => self.skipped += 1,
        }
    }

    /// What lies behind the start of the next page belongs to that one.
    fn add_page(&mut self, start: IpNet, page: Page) {
        let next = self.ledger.pages.restore(start);
        let causes: Vec<CauseId> = page.causes.into_iter().map(|cause| self.ledger.bans.take_cause(cause)).collect();
        for (prefix, mut row) in page.bans.into_iter().rev() {
            let own = prefix >= start && next.is_none_or(|next| prefix < next);
            if let Some(cause) = causes.get(row.cause as usize).filter(|_| own) {
                row.cause = *cause;
                self.ledger.bans.share_cause(*cause);
                self.rows.push((prefix, row));
            }
        }
        for cause in causes {
            self.ledger.bans.release_cause(cause);
        }
    }

    fn finish(mut self, home: &Home) -> Result<(Ledger, Vec<Ban>, u64), LedgerError> {
        self.rows.reverse();
        self.ledger.bans.fill(self.rows);
        self.ledger.find_ends();
        self.ended.sort_by_key(|(sequence, _)| *sequence);
        for (sequence, ended) in self.ended {
            self.ledger.history.push(sequence, ended);
        }
        let lists = listfile::read_all(&home.lists());
        let (lists, bad) = lists.map_err(|why| LedgerError::Directory { path: home.lists(), why })?;
        for list in lists {
            self.ledger.restore_list(list);
        }
        Ok((self.ledger, self.alone, self.skipped + bad))
    }
}
