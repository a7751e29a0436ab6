//! The database, which nothing else knows. Keys and values come in and go out as bytes.
//!
//! sled 0.34 alone is not enough for a promise: its `flush` is `sync_file_range` (pagecache/iobuf.rs), which leaves out the
//! file's size and the disk's cache, so an `fdatasync` of its file `db` follows. And when it finds a broken record
//! in its log at start it drops the rest of the log without a word (pagecache/snapshot.rs), so a file `mark` beside it
//! keeps the number of the last group that was promised: a database that knows less is damaged.

use std::any::Any;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::num::NonZeroU64;
use std::ops::Deref;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use super::files::{make_directory, sync_directory_of};

/// The format of keys and values. Raise it when an older Banward must not read them.
pub(super) const FORMAT: u32 = 2;

/// Keys of the store's own records; the ledger's keys begin with a lower-case letter.
const FORMAT_KEY: &[u8] = b"=format";
const GROUP_KEY: &[u8] = b"=group";

/// sled keeps seven idle threads that look once a second whether they should end. Their timers may be this late, in
/// nanoseconds (prctl(2), `PR_SET_TIMERSLACK`), so that they do not wake an idle machine seven times a second. What sled
/// gives them to do wakes them at once all the same.
const TIMER_SLACK: u64 = 60_000_000_000;

/// How often, and how far apart, a locked database is tried again. The state directory has a lock of its own, so who
/// holds sled's is a thread of an earlier ledger of this process that is ending.
const LOCKED_TRIES: u32 = 250;
const LOCKED_PAUSE: Duration = Duration::from_millis(20);

/// Bytes of sled's page cache: a million bans are read once, at the start, and then only written.
const CACHE: u64 = 2 << 20;

/// Most records that are written as one indivisible batch; larger ones cost sled memory out of proportion.
const MAX_BATCH: usize = 256;

/// What to write, by key, `None` to delete. In the order of keys when a group is too large to be indivisible.
pub(super) type Records = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

#[derive(Debug)]
pub(super) enum StoreError {
    /// What is there is not a whole database.
    Damaged(String),
    /// It was written by a newer version, in this format.
    Newer(u32),
    /// The database may be whole, but the system does not let us use it.
    Refused(io::Error),
}

/// sled's handle. After damage its end may panic as well.
#[derive(Debug)]
struct Database(Option<sled::Db>);

impl Deref for Database {
    type Target = sled::Db;
    fn deref(&self) -> &sled::Db {
        self.0.as_ref().expect("the handle is taken out when it is dropped, not before")
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let db = self.0.take();
        if let Err(why) = guarded(|| drop(db)) {
            log::debug!("while the ledger was closed {why}");
        }
    }
}

#[derive(Debug)]
pub(super) struct Store {
    db: Database,
    /// sled's own data file, opened a second time: an `fdatasync` is about a file, not about a descriptor.
    data: File,
    mark: File,
    /// Number of the last durable group.
    group: u64,
}

impl Store {
    /// Opens or makes the database.
    pub(super) fn open(path: &Path) -> Result<Store, StoreError> {
        make_directory(path).map_err(StoreError::Refused)?;
        remove_half_snapshots(path).map_err(StoreError::Refused)?;
        let slack = rustix::thread::current_timer_slack().ok().and_then(NonZeroU64::new);
        // The threads that sled starts inherit it. Where it cannot be set they wake up more often, that is all.
        let _set = rustix::thread::set_current_timer_slack(NonZeroU64::new(TIMER_SLACK));
        let opened = guarded(|| Store::open_unguarded(path)).unwrap_or_else(|why| Err(StoreError::Damaged(why)));
        let _restored = rustix::thread::set_current_timer_slack(slack);
        opened
    }

    /// Shows every record, by key and value.
    pub(super) fn scan(&self, mut visit: impl FnMut(&[u8], &[u8])) -> Result<(), StoreError> {
        let scanned = guarded(|| {
            for record in self.db.iter() {
                let (key, value) = record.map_err(classify)?;
                if !key.starts_with(b"=") {
                    visit(&key, &value);
                }
            }
            Ok(())
        });
        scanned.unwrap_or_else(|why| Err(StoreError::Damaged(why)))
    }

    fn open_unguarded(path: &Path) -> Result<Store, StoreError> {
        let config = sled::Config::new().path(path).cache_capacity(CACHE).mode(sled::Mode::HighThroughput);
        // No thread of sled's own that wakes up all the time: every write here is followed by a flush.
        let db = open_patiently(&config.flush_every_ms(None)).map(|db| Database(Some(db))).map_err(classify)?;
        let data = File::open(path.join("db")).map_err(StoreError::Refused)?;
        let mark = open_mark(&path.join("mark")).map_err(StoreError::Refused)?;
        let mut store = Store { db, data, mark, group: 0 };
        store.check_format()?;
        store.check_group()?;
        store.make_durable(path).map_err(StoreError::Refused)?;
        store.start_threads()?;
        Ok(store)
    }

    /// sled starts its threads at its first write: let that be now, so that they inherit our timer slack.
    fn start_threads(&self) -> Result<(), StoreError> {
        self.db.insert(FORMAT_KEY, &u64::from(FORMAT).to_be_bytes()).map_err(classify)?;
        self.db.flush().map_err(classify)?;
        Ok(())
    }

    /// sled leaves the files that it makes, and their names, to the page cache.
    fn make_durable(&self, path: &Path) -> io::Result<()> {
        File::open(path.join("conf"))?.sync_all()?;
        self.data.sync_all()?;
        sync_directory_of(&path.join("db"))
    }

    fn check_format(&self) -> Result<(), StoreError> {
        match self.number(FORMAT_KEY)? {
            Some(found) if found > u64::from(FORMAT) => {
                Err(StoreError::Newer(u32::try_from(found).unwrap_or(u32::MAX)))
            }
            Some(_) => Ok(()),
            None if self.db.is_empty() => {
                self.db.insert(FORMAT_KEY, &u64::from(FORMAT).to_be_bytes()).map_err(classify)?;
                Ok(())
            }
            None => Err(StoreError::Damaged("it does not say in which format it is".to_owned())),
        }
    }

    fn check_group(&mut self) -> Result<(), StoreError> {
        self.group = self.number(GROUP_KEY)?.unwrap_or(0);
        let promised = read_mark(&self.mark).map_err(StoreError::Refused)?;
        if self.group >= promised {
            return Ok(());
        }
        let lost = promised - self.group;
        Err(StoreError::Damaged(format!("it ends early: the last {lost} of {promised} groups of changes are gone")))
    }

    fn number(&self, key: &[u8]) -> Result<Option<u64>, StoreError> {
        let Some(value) = self.db.get(key).map_err(classify)? else { return Ok(None) };
        let bytes = <[u8; 8]>::try_from(&*value);
        bytes
            .map(|bytes| Some(u64::from_be_bytes(bytes)))
            .map_err(|_| StoreError::Damaged("a number is cut".to_owned()))
    }

    /// Writes a group. When `durable`, a power cut after this returns loses nothing of it; else a crash of this process
    /// loses nothing of it.
    pub(super) fn write(&mut self, records: &Records, durable: bool) -> Result<(), String> {
        guarded(|| self.write_unguarded(records, durable)).unwrap_or_else(Err)
    }

    fn write_unguarded(&mut self, records: &Records, durable: bool) -> Result<(), String> {
        let group = if durable { self.group + 1 } else { self.group };
        self.insert(records, group).map_err(in_words)?;
        self.db.flush().map_err(in_words)?;
        if durable {
            self.data.sync_data().map_err(in_words)?;
            write_mark(&self.mark, group).map_err(in_words)?;
        }
        self.group = group;
        Ok(())
    }

    fn insert(&self, records: &Records, group: u64) -> sled::Result<()> {
        if records.len() <= MAX_BATCH {
            let mut batch = sled::Batch::default();
            for (key, value) in records {
                match value {
                    Some(value) => batch.insert(key.as_slice(), value.as_slice()),
                    None => batch.remove(key.as_slice()),
                }
            }
            batch.insert(GROUP_KEY, &group.to_be_bytes());
            return self.db.apply_batch(batch);
        }
        for (key, value) in records {
            match value {
                Some(value) => self.db.insert(key, value.as_slice())?,
                None => self.db.remove(key)?,
            };
        }
        self.db.insert(GROUP_KEY, &group.to_be_bytes()).map(drop)
    }
}

fn open_mark(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// sled takes a snapshot that a crash left half written for a whole one (config.rs, `get_snapshot_files`) and gives up on
/// it. The one before it is still there, and the log as well.
fn remove_half_snapshots(path: &Path) -> io::Result<()> {
    for file in fs::read_dir(path)? {
        let file = file?;
        let name = file.file_name();
        let name = name.as_encoded_bytes();
        if name.starts_with(b"snap.") && name.ends_with(b".generating") {
            fs::remove_file(file.path())?;
        }
    }
    Ok(())
}

/// The mark is one line of decimal digits, always of the same length, so that it is overwritten in one sector.
fn write_mark(mark: &File, group: u64) -> io::Result<()> {
    mark.write_all_at(format!("{group:020}\n").as_bytes(), 0)?;
    mark.sync_data()
}

/// 0 where nothing was promised yet, or where the mark itself is damaged.
fn read_mark(mark: &File) -> io::Result<u64> {
    let mut bytes = [0; 20];
    let length = mark.read_at(&mut bytes, 0)?;
    let text = bytes.get(..length).and_then(|bytes| std::str::from_utf8(bytes).ok());
    Ok(text.and_then(|text| text.parse().ok()).unwrap_or(0))
}

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Whether a panic of this thread is survived at the moment: a panic hook that ends the process asks this first.
/// sled's own threads catch theirs, and the next write fails.
pub(crate) fn survives_panic() -> bool {
    GUARDED.get() || std::thread::current().name().is_some_and(|name| name.starts_with("sled-io-"))
}

fn open_patiently(config: &sled::Config) -> sled::Result<sled::Db> {
    for _ in 0..LOCKED_TRIES {
        match config.open() {
            Err(sled::Error::Io(why)) if why.to_string().contains("could not acquire lock") => {
                std::thread::sleep(LOCKED_PAUSE);
            }
            opened => return opened,
        }
    }
    config.open()
}

/// sled panics on some damage instead of saying so. Nothing of the store is used after a panic.
fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let outer = GUARDED.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(outer);
    outcome.map_err(|panic| text_of_panic(&*panic))
}

/// Errors of the system are no damage: a good database must not be set aside because a disk is full.
fn classify(error: sled::Error) -> StoreError {
    use io::ErrorKind::{InvalidData, InvalidInput, Other, UnexpectedEof};
    match error {
        // sled says `Other` where it cannot lock its file.
        sled::Error::Io(error) if !matches!(error.kind(), UnexpectedEof | InvalidData | InvalidInput | Other) => {
            StoreError::Refused(error)
        }
        sled::Error::Io(error) if error.to_string().contains("lock") => StoreError::Refused(error),
        error => StoreError::Damaged(error.to_string()),
    }
}

fn in_words(error: impl Display) -> String {
    error.to_string()
}

fn text_of_panic(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    format!("the database gave up: {}", text.unwrap_or("it did not say why"))
}
