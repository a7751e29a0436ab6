//! The client's end of the socket. In: a [`Command`]. Out: the [`Reply`] lines of its answer, one at a time.
//!
//! Blocking and bounded: no call waits longer than [`PATIENCE`] for the daemon, [`PATIENCE_WITH_MANY`] where it is about many
//! bans, and only for events without end; and no reply line is longer than [`MAX_REPLY`]. It never prints and never exits.

use std::fmt;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::{Command, MAX_REQUEST, Reply, Request, VERSION};

/// How long the daemon may take to accept a connection or to write the next reply line. A reload under load takes seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// The same where a million bans come or go. On a busy machine the kernel takes a while, and the daemon itself answers when
/// nothing goes on.
const PATIENCE_WITH_MANY: Duration = Duration::from_secs(900);

/// Longest reply line in bytes. The longest is a status with hundreds of jails and sources.
const MAX_REPLY: u64 = 4 << 20;

/// An open connection to the daemon. It carries one command after another.
pub(crate) struct Connection {
    path: PathBuf,
    stream: BufReader<UnixStream>,
    /// The reply line being read, kept for its memory.
    line: Vec<u8>,
    /// Parts of a request were sent that the daemon knows by this connection.
    under_way: bool,
}

impl Connection {
    pub(crate) fn open(path: &Path) -> Result<Connection, Error> {
        Ok(Connection { path: path.to_owned(), stream: buffered(path)?, line: Vec::new(), under_way: false })
    }

    /// Sends a command. The answer must be read to its end before the next command is sent.
    pub(crate) fn ask(&mut self, command: Command) -> Result<Answer<'_>, Error> {
        self.ask_written(Written::of(command)?)
    }

    /// The same for one that was written before, perhaps while the last answer was waited for.
    pub(crate) fn ask_written(&mut self, written: Written) -> Result<Answer<'_>, Error> {
        self.send(&written)?;
        Ok(Answer { connection: self, written, asked: Instant::now(), over: false })
    }

    fn send(&mut self, written: &Written) -> Result<(), Error> {
        self.stream.get_ref().set_read_timeout(written.patience).map_err(Error::from_io)?;
        match self.stream.get_mut().write_all(&written.request) {
            // A daemon that does not listen says why before it hangs up.
            Err(reason) if is_hang_up(&reason) => Ok(()),
            sent => sent.map_err(Error::from_io),
        }
    }

    fn read_reply(&mut self) -> Result<Reply, Error> {
        self.line.clear();
        let mut bounded = (&mut self.stream).take(MAX_REPLY);
        bounded.read_until(b'\n', &mut self.line).map_err(Error::from_io)?;
        match self.line.last() {
            Some(b'\n') => serde_json::from_slice(&self.line).map_err(Error::Malformed),
            Some(_) if bounded.limit() == 0 => Err(Error::ReplyTooLong),
            _ => Err(Error::HungUp),
        }
    }
}

/// A command as it is sent.
pub(crate) struct Written {
    request: Vec<u8>,
    /// How long the daemon may take for each line of the answer; for ever where there is none.
    patience: Option<Duration>,
}

impl Written {
    pub(crate) fn of(command: Command) -> Result<Written, Error> {
        let patience = match command {
            Command::Events => None,
            Command::Import { .. } | Command::TakeOver { .. } | Command::Unban { .. } => Some(PATIENCE_WITH_MANY),
            _ => Some(PATIENCE),
        };
        let mut request = serde_json::to_vec(&Request { version: VERSION, command }).map_err(Error::Malformed)?;
        request.push(b'\n');
        if request.len() > MAX_REQUEST {
            return Err(Error::RequestTooLong(request.len()));
        }
        Ok(Written { request, patience })
    }
}

fn buffered(path: &Path) -> Result<BufReader<UnixStream>, Error> {
    let stream = open_stream(path).map_err(|reason| Error::of_connect(path, reason))?;
    Ok(BufReader::with_capacity(64 * 1024, stream))
}

/// Connects with a time limit: a daemon that is stopped lets its queue of connections fill up, and then
/// `connect` waits as long as the send timeout of the socket (`unix_stream_connect` in `net/unix/af_unix.c`).
fn open_stream(path: &Path) -> io::Result<UnixStream> {
    let address = SocketAddrUnix::new(path)?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE))?;
    connect(&socket, &address)?;
    Ok(UnixStream::from(socket))
}

fn is_hang_up(reason: &io::Error) -> bool {
    matches!(reason.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
}

/// The reply lines of one command, in order; ends after the one that ends the answer, or after an error.
pub(crate) struct Answer<'a> {
    connection: &'a mut Connection,
    written: Written,
    asked: Instant,
    over: bool,
}

impl Iterator for Answer<'_> {
    type Item = Result<Reply, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let reply = self.read_reply();
        self.connection.under_way = matches!(reply, Ok(Reply::Continue));
        self.over = reply.as_ref().map_or(true, Reply::ends);
        Some(reply)
    }
}

impl Answer<'_> {
    /// The next reply. A daemon with too many clients may let go one that was slow to ask; it is asked again then, as it has
    /// taken nothing.
    fn read_reply(&mut self) -> Result<Reply, Error> {
        loop {
            match self.connection.read_reply()? {
                Reply::Busy if self.connection.under_way || self.asked.elapsed() >= PATIENCE => {
                    return Err(Error::Busy);
                }
                Reply::Busy => self.connection.stream = buffered(&self.connection.path)?,
                reply => return Ok(reply),
            }
            self.connection.send(&self.written)?;
        }
    }

    /// For commands that are answered by a single line.
    pub(crate) fn only(mut self) -> Result<Reply, Error> {
        self.next().unwrap_or(Err(Error::HungUp))
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Error {
    /// There is no socket at this path.
    Absent(PathBuf),
    /// Nobody listens on the socket at this path.
    Deserted(PathBuf),
    Forbidden(PathBuf),
    Connect(PathBuf, io::Error),
    /// Nothing came in time.
    Silent,
    HungUp,
    /// Others needed the place again and again, or in the middle of a request of many parts.
    Busy,
    Io(io::Error),
    ReplyTooLong,
    /// Bytes of the request.
    RequestTooLong(usize),
    Malformed(serde_json::Error),
    /// A reply that does not answer the command.
    Unexpected,
}

impl Error {
    fn of_connect(path: &Path, reason: io::Error) -> Error {
        let path = path.to_owned();
        match reason.kind() {
            ErrorKind::NotFound => Error::Absent(path),
            ErrorKind::ConnectionRefused => Error::Deserted(path),
            ErrorKind::PermissionDenied => Error::Forbidden(path),
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Error::Silent,
            _ => Error::Connect(path, reason),
        }
    }

    fn from_io(reason: io::Error) -> Error {
        match reason.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Error::Silent,
            _ if is_hang_up(&reason) => Error::HungUp,
            _ => Error::Io(reason),
        }
    }

    /// Whether the daemon could not be reached, or was lost before it had answered.
    pub(crate) fn is_unreachable(&self) -> bool {
        !matches!(self, Error::ReplyTooLong | Error::RequestTooLong(_) | Error::Malformed(_) | Error::Unexpected)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Absent(path) => write!(
                f,
                "the daemon is not running: there is no socket at {}. Start it with 'systemctl start banward', \
                 or name its socket with --socket.",
                path.display()
            ),
            Error::Deserted(path) => write!(
                f,
                "the daemon is not running: nobody listens at {}. Start it with 'systemctl start banward'.",
                path.display()
            ),
            Error::Forbidden(path) => {
                write!(f, "you may not use the socket {}. Run banctl as root.", path.display())
            }
            Error::Connect(path, reason) => write!(f, "the socket {} cannot be used: {reason}.", path.display()),
            Error::Silent => f.write_str("the daemon did not answer in time. See 'systemctl status banward'."),
            Error::HungUp => {
                f.write_str("the daemon closed the connection before it had answered. See 'systemctl status banward'.")
            }
            Error::Busy => f.write_str("the daemon has too many clients. Try again; 'ss -xp' shows who they are."),
            Error::Io(reason) => write!(f, "the connection to the daemon broke: {reason}."),
            Error::ReplyTooLong => write!(f, "the daemon sent a line longer than {MAX_REPLY} bytes."),
            Error::RequestTooLong(length) => {
                write!(f, "the request has {length} bytes; the daemon takes {MAX_REQUEST} at most.")
            }
            Error::Malformed(reason) => write!(
                f,
                "the daemon's answer cannot be read ({reason}). This banctl is {} and speaks protocol version \
                 {VERSION}: is the daemon of the same release?",
                env!("CARGO_PKG_VERSION")
            ),
            Error::Unexpected => f.write_str("the daemon's answer does not belong to the command."),
        }
    }
}

impl std::error::Error for Error {}
