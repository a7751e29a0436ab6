//! What goes from memory to the disk: positions as they are set, everything else as it changes, in groups.

use std::collections::HashMap;
use std::sync::Arc;

use ipnet::IpNet;

use super::book::Ledger;
use super::records::{Key, Record};
use super::writer::{Ack, Writer};
use crate::sources::Position;
use crate::time::Timestamp;

impl Ledger {
    /// Notes how far a log of a source was read. `source` is a name that is the same after a restart.
    pub(crate) fn set_position(&mut self, source: &str, log: &str, position: &Position, now: Timestamp) {
        let moved = self.positions.set(source, log, position, now);
        if let Some((source, log)) = moved.set {
            self.record(&Record::Position { source, log, position: position.clone(), seen: now });
        }
        if let Some((source, log)) = moved.forgotten {
            self.delete(&Key::Position(&source, &log));
        }
    }

    /// How far each log of a source was read.
    pub(crate) fn positions(&self, source: &str) -> HashMap<Arc<str>, Position> {
        self.positions.of(source)
    }

    /// Hands everything that changed since the last commit to the writer, and never waits for it. `ack` hears when this
    /// and all before it is durable, or why it is not.
    pub(crate) fn commit(&mut self, ack: Option<Ack>) {
        let Some(writer) = &self.writer else {
            if let Some(ack) = ack {
                // Nobody waits any more: nothing to tell.
                let _ = ack.send(Ok(()));
            }
            return;
        };
        self.pending.acks.extend(ack);
        for name in std::mem::take(&mut self.pending_lists) {
            let list = self.lists.get(&name).cloned();
            self.pending.lists.insert(name, list);
        }
        self.pending.records.extend(self.pages.changed(&self.bans));
        if !self.pending.is_empty() {
            writer.queue(std::mem::take(&mut self.pending));
        }
    }

    /// Why the ledger cannot be written at the moment, with the remedy.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.writer.as_ref().and_then(Writer::trouble)
    }

    /// Commits, waits until everything is written, and lets the state directory go. Says what could not be written.
    pub(crate) fn close(mut self) -> Result<(), String> {
        self.commit(None);
        self.writer.take().map_or(Ok(()), Writer::close)
    }

    pub(super) fn record(&mut self, record: &Record) {
        if self.writer.is_some() {
            self.pending.records.insert(record.key().bytes(), Some(record.value()));
        }
    }

    /// What bans there are of this prefix at the next commit is written.
    pub(super) fn record_ban(&mut self, prefix: &IpNet) {
        if self.writer.is_some() {
            self.pages.touch(prefix);
        }
    }

    pub(super) fn delete(&mut self, key: &Key<'_>) {
        if self.writer.is_some() {
            self.pending.records.insert(key.bytes(), None);
        }
    }

    /// What the list is at the next commit is written: it may change many times until then.
    pub(super) fn record_list(&mut self, name: Arc<str>) {
        if self.writer.is_some() {
            self.pending_lists.insert(name);
        }
    }

    /// Drops what was not seen for long.
    pub(super) fn forget_positions(&mut self) {
        for (source, log) in self.positions.forget() {
            self.delete(&Key::Position(&source, &log));
        }
    }
}
