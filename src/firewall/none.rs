//! The backend that does nothing: for observing, and for those who enforce from the blocklist file.

use super::{Backend, FirewallError, Inspection};
use crate::ledger::{Change, Entry};
use crate::time::Timestamp;

#[derive(Debug)]
pub(super) struct Nothing;

impl Backend for Nothing {
    fn name(&self) -> &'static str {
        "none"
    }

    fn sync(&mut self, _entries: &[Entry], _now: Timestamp) -> Result<(), FirewallError> {
        Ok(())
    }

    fn apply(&mut self, _changes: &[Change], _now: Timestamp) -> Result<(), FirewallError> {
        Ok(())
    }

    fn inspect(&mut self, _now: Timestamp) -> Result<Inspection, FirewallError> {
        Ok(Inspection::Intact)
    }

    fn installed(&mut self, _now: Timestamp) -> usize {
        0
    }

    fn held(&mut self, _now: Timestamp) -> Result<Vec<Entry>, FirewallError> {
        Ok(Vec::new())
    }

    fn remove(&mut self) -> Result<(), FirewallError> {
        Ok(())
    }
}
