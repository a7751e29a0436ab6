//! The daemon's end of the control socket: accepts, checks who asks, bounds what is asked, and hands each command to
//! the daemon's loop. It never decides anything.

use std::collections::VecDeque;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, BufWriter};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, broadcast, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::roles::{Role, Roles};
use super::{Command, Listed, MAX_REQUEST, Reply, Request, VERSION};
use crate::lock::lock;
use crate::pipeline::event::Event;

/// Clients served at the same time. One more takes the place of the one that we have waited for the longest, or waits in
/// the listen queue while there is none that has had its [`TURN`].
const MAX_CLIENTS: usize = 64;
/// How long a client may keep its place without a word when others want it.
const TURN: Duration = Duration::from_millis(100);
/// How soon a place is looked for again.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// A client that says nothing for this long, or does not take what it asked for, is let go.
const PATIENCE: Duration = Duration::from_secs(30);
/// Most prefixes in one imported list.
const MAX_IMPORT: usize = 4_000_000;

/// One command of one client, for the daemon's loop to answer.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) command: Command,
    pub(crate) peer: Peer,
    pub(crate) answer: oneshot::Sender<Answer>,
}

/// Who asks, as the kernel says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    pub(crate) uid: u32,
    pub(crate) pid: i32,
}

/// What the loop hands back.
#[derive(Debug)]
pub(crate) enum Answer {
    Reply(Reply),
    /// Rows, then [`Reply::Done`].
    Rows(Vec<Reply>),
    /// The same; there may be a million of these.
    Bans(Vec<Listed>),
    /// Everything that happens from now on.
    Follow(broadcast::Receiver<Arc<Event>>),
}

/// Why the socket cannot be had.
#[derive(Debug)]
pub(crate) enum BindError {
    InUse(PathBuf),
    NotASocket(PathBuf),
    Io(PathBuf, io::Error),
}

impl std::fmt::Display for BindError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            BindError::InUse(path) => write!(f, "another daemon answers on {}; stop it first", path.display()),
            BindError::NotASocket(path) => {
                write!(f, "{} is not a socket; remove it or set another `socket` in [daemon]", path.display())
            }
            BindError::Io(path, why) => write!(f, "the control socket {} cannot be made: {why}", path.display()),
        }
    }
}

/// Makes the socket, for its owner alone where no group may ask. A stale one is replaced, anything else at its path is
/// left alone.
pub(crate) fn bind(path: &Path, roles: &Roles) -> Result<UnixListener, BindError> {
    let failed = |why| BindError::Io(path.to_owned(), why);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => return Err(BindError::NotASocket(path.to_owned())),
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
            return Err(BindError::InUse(path.to_owned()));
        }
        Ok(_) => std::fs::remove_file(path).map_err(failed)?,
        Err(_) => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(roles.mode())).map_err(failed)?;
    Ok(listener)
}

/// Serves clients until the loop is gone.
pub(crate) async fn serve(listener: UnixListener, roles: Roles, calls: mpsc::Sender<Call>) {
    let roles = Arc::new(roles);
    let mut places = Places::default();
    loop {
        while !places.make_room() {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        match listener.accept().await {
            Ok((stream, _)) => {
                let (calls, roles, wait) = (calls.clone(), roles.clone(), Wait::default());
                let waited_for = wait.clone();
                let task = tokio::spawn(async move {
                    // A client that went away is no news to anyone.
                    let _gone = converse(stream, roles, calls, wait).await;
                });
                places.0.push_back(Place { wait: waited_for, task });
            }
            // Out of descriptors, most likely: others will be closed.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// The clients that are served, oldest first. Those who only sit there must not keep out somebody who has something to
/// ask.
#[derive(Default)]
struct Places(VecDeque<Place>);

struct Place {
    wait: Wait,
    task: JoinHandle<()>,
}

/// What is known of the client while the daemon waits for it, to its task and to who gives out the places.
#[derive(Clone, Debug)]
struct Wait(Arc<Waited>);

#[derive(Debug)]
struct Waited {
    /// Since when we have waited for the client; nothing while it waits for us.
    since: Mutex<Option<Instant>>,
    /// Somebody else needs its place.
    sent_away: Notify,
}

impl Default for Wait {
    fn default() -> Wait {
        Wait(Arc::new(Waited { since: Mutex::new(Some(Instant::now())), sent_away: Notify::new() }))
    }
}

impl Wait {
    fn set(&self, since: Option<Instant>) {
        *lock(&self.0.since) = since;
    }

    fn since(&self) -> Option<Instant> {
        *lock(&self.0.since)
    }

    /// Waits for the client for as long as there is patience, and nobody else needs its place. What it has done already
    /// counts first: a request that has arrived is answered.
    async fn patiently<T>(&self, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        self.set(Some(Instant::now()));
        let done = tokio::select! {
            biased;
            done = tokio::time::timeout(PATIENCE, work) => done.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
            () = self.0.sent_away.notified() => Err(SENT_AWAY.into()),
        };
        self.set(None);
        done
    }
}

/// How waiting for a client ends whose place somebody else needs.
const SENT_AWAY: io::ErrorKind = io::ErrorKind::ConnectionAborted;

impl Places {
    /// Sees to it that there is room for one more; `false` where nobody can be sent away.
    fn make_room(&mut self) -> bool {
        self.0.retain(|place| !place.task.is_finished());
        if self.0.len() < MAX_CLIENTS {
            return true;
        }
        let waits = self.0.iter().enumerate().filter_map(|(place, client)| Some((client.wait.since()?, place)));
        let longest = waits.min().filter(|(since, _)| since.elapsed() >= TURN);
        let sent_away = longest.and_then(|(_, place)| self.0.remove(place));
        sent_away.inspect(|place| place.wait.0.sent_away.notify_one()).is_some()
    }
}

async fn converse(stream: UnixStream, roles: Arc<Roles>, calls: mpsc::Sender<Call>, wait: Wait) -> io::Result<()> {
    let credentials = stream.peer_cred()?;
    let peer = Peer { uid: credentials.uid(), pid: credentials.pid().unwrap_or(0) };
    let (reader, writer) = stream.into_split();
    let role = Arc::clone(&roles).of(peer).await;
    let (reader, writer) = (BufReader::new(reader), BufWriter::new(writer));
    let mut client = Client { reader, writer, peer, changes: role == Some(Role::Change), calls, wait };
    if role.is_none() {
        return client.refuse(&roles.refusal()).await;
    }
    while let Some(line) = client.next_line().await? {
        if !client.on_line(&line).await? {
            break;
        }
    }
    Ok(())
}

struct Client {
    reader: BufReader<OwnedReadHalf>,
    writer: BufWriter<OwnedWriteHalf>,
    peer: Peer,
    /// Whether it may change something.
    changes: bool,
    calls: mpsc::Sender<Call>,
    wait: Wait,
}

impl Client {
    /// The next request line; `None` at the end. One that is too long ends the conversation.
    async fn next_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        let limit = MAX_REQUEST as u64;
        let mut bounded = (&mut self.reader).take(limit);
        match self.wait.patiently(bounded.read_until(b'\n', &mut line)).await {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(why) if why.kind() == SENT_AWAY => {
                self.say_busy()?;
                return Ok(None);
            }
            Err(why) => return Err(why),
        }
        if line.last() != Some(&b'\n') && line.len() >= MAX_REQUEST {
            self.refuse(&format!("a request may be {MAX_REQUEST} bytes long at most")).await?;
            return Ok(None);
        }
        Ok(Some(line))
    }

    /// Nothing was asked, or not to its end, so that it can be asked again. It is said if there is room for it right away.
    fn say_busy(&self) -> io::Result<()> {
        let mut line = serde_json::to_vec(&Reply::Busy)?;
        line.push(b'\n');
        self.writer.get_ref().try_write(&line).map(drop)
    }

    /// Answers one request; `false` when nothing further is to be read.
    async fn on_line(&mut self, line: &[u8]) -> io::Result<bool> {
        match parse(line) {
            Ok(command) if command.changes() && !self.changes => {
                self.refuse("you may ask this daemon, and not change anything; see change_group in [control]").await?;
                Ok(false)
            }
            Ok(command) if command.has_more() => self.collect(command).await,
            Ok(command) => self.call(command).await,
            Err(why) => self.refuse(&why).await.map(|()| false),
        }
    }

    /// What is long comes in pieces; the loop sees it whole.
    async fn collect(&mut self, mut whole: Command) -> io::Result<bool> {
        while whole.has_more() {
            self.reply(&Reply::Continue).await?;
            let Some(line) = self.next_line().await? else { return Ok(false) };
            if !parse(&line).is_ok_and(|next| whole.join(next)) {
                return self.refuse("an import was begun and not finished").await.map(|()| false);
            }
            if whole.entries() > MAX_IMPORT {
                let why = format!("a list may have {MAX_IMPORT} entries at most");
                return self.refuse(&why).await.map(|()| false);
            }
        }
        self.call(whole).await
    }

    async fn call(&mut self, command: Command) -> io::Result<bool> {
        let (answer, answered) = oneshot::channel();
        let call = Call { command, peer: self.peer, answer };
        if self.calls.send(call).await.is_err() {
            return self.refuse("the daemon is stopping").await.map(|()| false);
        }
        match answered.await {
            Ok(Answer::Reply(reply)) => self.reply(&reply).await?,
            Ok(Answer::Rows(rows)) => self.send_rows(rows).await?,
            Ok(Answer::Bans(bans)) => self.send_rows(bans.into_iter().map(Reply::Ban)).await?,
            Ok(Answer::Follow(events)) => {
                self.follow(events).await?;
                return Ok(false);
            }
            Err(_) => self.refuse("the daemon is stopping").await?,
        }
        Ok(true)
    }

    async fn send_rows(&mut self, rows: impl IntoIterator<Item = Reply>) -> io::Result<()> {
        for row in rows {
            self.write(&row).await?;
        }
        self.reply(&Reply::Done { message: String::new(), warnings: Vec::new() }).await
    }

    /// Sends events until the client hangs up. One that reads too slowly misses some, and is told how many.
    async fn follow(&mut self, mut events: broadcast::Receiver<Arc<Event>>) -> io::Result<()> {
        let mut sink = [0u8; 64];
        loop {
            self.wait.set(Some(Instant::now()));
            tokio::select! {
                () = self.wait.0.sent_away.notified() => return Err(SENT_AWAY.into()),
                event = events.recv() => match event {
                    Ok(event) => self.reply(&Reply::Event(event)).await?,
                    Err(broadcast::error::RecvError::Lagged(missed)) => {
                        let text = format!("{missed} events were missed: this client reads too slowly");
                        let event = Event::new(crate::time::Timestamp::now(), crate::pipeline::event::Kind::Lost, text);
                        self.reply(&Reply::Event(Arc::new(event))).await?;
                    }
                    Err(broadcast::error::RecvError::Closed) => return Ok(()),
                },
                read = self.reader.read(&mut sink) => if read? == 0 { return Ok(()) },
            }
        }
    }

    async fn refuse(&mut self, why: &str) -> io::Result<()> {
        self.reply(&Reply::Refused { message: why.to_owned() }).await
    }

    async fn reply(&mut self, reply: &Reply) -> io::Result<()> {
        self.write(reply).await?;
        self.wait.patiently(self.writer.flush()).await
    }

    async fn write(&mut self, reply: &Reply) -> io::Result<()> {
        let mut line = serde_json::to_vec(reply)?;
        line.push(b'\n');
        self.wait.patiently(self.writer.write_all(&line)).await
    }
}

/// Reads a request; the error is for the client.
pub(super) fn parse(line: &[u8]) -> Result<Command, String> {
    #[derive(serde::Deserialize)]
    struct Versioned {
        version: u32,
    }
    let speaks = serde_json::from_slice::<Versioned>(line).map_err(|why| format!("not a request: {why}"))?;
    if speaks.version != VERSION {
        let theirs = speaks.version;
        return Err(format!("this daemon speaks version {VERSION} of the protocol, the client version {theirs}"));
    }
    serde_json::from_slice::<Request>(line).map(|r| r.command).map_err(|why| format!("not a request: {why}"))
}
