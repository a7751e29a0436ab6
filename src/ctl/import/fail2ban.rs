//! What fail2ban's database knows: who is banned by which jail, and until when, and who was. In: the file, opened for
//! reading only. Out: the latest ban of each address and jail that stands, and of each address whose bans are over.
//!
//! Since 0.11 the table `bips` holds the bans that stand and `bans` all of the last days, with their lengths and how
//! often each address was banned; before, there was only `bans`, without lengths.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, Row};

use crate::control::Former;
use crate::ctl::target;
use crate::time::{Length, Timestamp, Until};

/// Longest wait for a fail2ban that is writing.
const PATIENCE: Duration = Duration::from_secs(10);

/// Longest name of a jail that is taken, in bytes; as of our own.
const LONGEST_JAIL: usize = 64;

/// Most bad rows that are named; the rest is counted.
const MOST_NAMED: usize = 20;

/// A time of ban so far ahead of now is no wrong clock but no time of ban.
const CLOCK_ERROR: Duration = Duration::from_secs(86_400);

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Those that stand first.
    pub(super) bans: Vec<Former>,
    pub(super) standing: usize,
    /// Rows without a usable address, jail or time, the first of them in sentences.
    pub(super) bad_rows: Vec<String>,
    pub(super) bad: usize,
}

/// A row that can be used.
struct Entry {
    prefix: IpNet,
    jail: String,
    since: Timestamp,
    until: Until,
    /// Which ban of this address it is; 1 where fail2ban did not count.
    count: u32,
}

/// How often an address was banned, and the last time.
struct Past {
    rows: u32,
    latest: Entry,
}

/// Reads a database. `length_of` says how long the bans of a jail are, for rows that do not.
pub(super) fn read(path: &Path, length_of: impl Fn(&str) -> Length, now: Timestamp) -> rusqlite::Result<Found> {
    let database = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    database.busy_timeout(PATIENCE)?;
    // A file from elsewhere may hold views and functions of its own.
    database.pragma_update(None, "trusted_schema", false)?;
    // Of a fail2ban that runs, both tables are to be of the same moment.
    let database = database.unchecked_transaction()?;
    let has_live = has_table(&database, "bips")?;
    let (mut found, mut pasts) = (Found::default(), BTreeMap::new());
    let mut standing: BTreeMap<(IpNet, String), Entry> = BTreeMap::new();
    let mut each = |table: &str, take: &mut dyn FnMut(Entry)| -> rusqlite::Result<()> {
        let mut statement = database.prepare(&format!("SELECT rowid, * FROM {table}"))?;
        let columns = Columns::of(&statement);
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            match columns.entry(row, &length_of, now) {
                Ok(entry) => take(entry),
                Err(why) => found.complain(format!("{table}, row {}: {why}", shown(row.get_ref(0)?))),
            }
        }
        Ok(())
    };
    let mut stand = |entry: Entry| {
        let key = (entry.prefix, entry.jail.clone());
        if standing.get(&key).is_none_or(|other| other.until < entry.until) {
            standing.insert(key, entry);
        }
    };
    if has_live {
        each("bips", &mut |entry| {
            if !entry.until.is_over(now) {
                stand(entry);
            }
        })?;
    }
    each("bans", &mut |entry| match entry.until.is_over(now) {
        true => remember(&mut pasts, entry),
        false if has_live => {}
        false => stand(entry),
    })?;
    for ((prefix, _), mut entry) in standing {
        // The database forgets old rows, but still counts: the greater number is the better one.
        let before = pasts.get(&prefix).map_or(0, |past: &Past| past.rows.max(past.latest.count));
        entry.count = entry.count.max(before.saturating_add(1));
        found.bans.push(entry.into());
    }
    found.standing = found.bans.len();
    found.bans.extend(pasts.into_values().map(|Past { rows, mut latest }| {
        latest.count = latest.count.max(rows);
        latest.into()
    }));
    Ok(found)
}

fn has_table(database: &Connection, name: &str) -> rusqlite::Result<bool> {
    database.query_row("SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = ?1", [name], |row| {
        Ok(row.get::<_, i64>(0)? > 0)
    })
}

fn remember(pasts: &mut BTreeMap<IpNet, Past>, entry: Entry) {
    match pasts.get_mut(&entry.prefix) {
        Some(past) => {
            past.rows = past.rows.saturating_add(1);
            let count = past.latest.count.max(entry.count);
            if entry.until > past.latest.until {
                past.latest = entry;
            }
            past.latest.count = count;
        }
        None => drop(pasts.insert(entry.prefix, Past { rows: 1, latest: entry })),
    }
}

impl From<Entry> for Former {
    fn from(Entry { prefix, jail, since, until, count }: Entry) -> Former {
        Former { prefix, jail, since, until, count }
    }
}

impl Found {
    fn complain(&mut self, sentence: String) {
        self.bad += 1;
        if self.bad_rows.len() < MOST_NAMED {
            self.bad_rows.push(sentence);
        }
    }
}

/// Where the columns of a table stand; which there are depends on the version of fail2ban.
struct Columns(BTreeMap<String, usize>);

impl Columns {
    fn of(statement: &rusqlite::Statement<'_>) -> Columns {
        Columns(statement.column_names().into_iter().map(str::to_owned).zip(0..).collect())
    }

    fn value<'r>(&self, row: &'r Row<'_>, name: &str) -> ValueRef<'r> {
        let value = self.0.get(name).map(|column| row.get_ref(*column));
        value.and_then(Result::ok).unwrap_or(ValueRef::Null)
    }

    fn entry(&self, row: &Row<'_>, length_of: &impl Fn(&str) -> Length, now: Timestamp) -> Result<Entry, String> {
        let address = self.value(row, "ip");
        let Some(prefix) = text(address).and_then(|text| target::parse(text).ok()) else {
            return Err(format!("'{}' is not an address", shown(address)));
        };
        let jail = self.value(row, "jail");
        let usable = |name: &&str| !name.is_empty() && name.len() <= LONGEST_JAIL && !name.contains(char::is_control);
        let Some(jail) = text(jail).filter(usable) else {
            return Err(format!("'{}' is not the name of a jail", shown(jail)));
        };
        let time = self.value(row, "timeofban");
        let since = seconds(time).filter(|time| *time > 0).map(Timestamp::from_secs);
        let Some(since) = since.filter(|since| *since <= now + CLOCK_ERROR) else {
            return Err(format!("'{}' is not a time of ban", shown(time)));
        };
        let length = match self.value(row, "bantime") {
            ValueRef::Null => length_of(jail),
            value => match seconds(value).map(u64::try_from) {
                Some(Ok(length)) => Length::For(Duration::from_secs(length)),
                // -1
                Some(Err(_)) => Length::Forever,
                None => return Err(format!("'{}' is not a length", shown(value))),
            },
        };
        let count = seconds(self.value(row, "bancount")).unwrap_or(1).clamp(1, i64::from(u32::MAX));
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        Ok(Entry { prefix, jail: jail.to_owned(), since, until: length.from(since), count })
    }
}

fn text(value: ValueRef<'_>) -> Option<&str> {
    if let ValueRef::Text(bytes) = value { std::str::from_utf8(bytes).ok() } else { None }
}

/// A whole number; fail2ban has stored some as floating point.
fn seconds(value: ValueRef<'_>) -> Option<i64> {
    match value {
        ValueRef::Integer(number) => Some(number),
        #[expect(clippy::cast_possible_truncation, reason = "such a cast takes the nearest number there is")]
        ValueRef::Real(number) if number.is_finite() => Some(number as i64),
        _ => None,
    }
}

/// A value for a message, cut.
fn shown(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "nothing".to_owned(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
            String::from_utf8_lossy(bytes).chars().take(LONGEST_JAIL).collect()
        }
    }
}

#[cfg(test)]
mod tests;
