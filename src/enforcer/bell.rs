//! Rung by the enforcer when it has something to tell that it was not asked for: the brain then asks. In: nothing. Out: that
//! it rang.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::{SendFlags, send};
use tokio::net::UnixStream;

/// Rings that are taken as one.
const AT_ONCE: usize = 64;

/// The enforcer's end.
#[derive(Debug)]
pub(super) struct Rope(OwnedFd);

/// The brain's end.
#[derive(Debug)]
pub(crate) struct Bell(UnixStream);

impl Rope {
    pub(super) fn of(socket: OwnedFd) -> Rope {
        Rope(socket)
    }

    /// Never waits.
    pub(super) fn ring(&self) {
        // Where there is no room it rings already, and that nobody listens the lanes tell.
        let _rings = send(&self.0, &[1], SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
    }
}

impl Bell {
    /// Within the event loop.
    pub(crate) fn new(socket: std::os::unix::net::UnixStream) -> io::Result<Bell> {
        socket.set_nonblocking(true)?;
        UnixStream::from_std(socket).map(Bell)
    }

    /// Waits until it rings.
    pub(crate) async fn rung(&self) {
        while self.0.readable().await.is_ok() {
            match self.0.try_read(&mut [0; AT_ONCE]) {
                Ok(1..) => return,
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => {}
                // The enforcer is gone, which others notice.
                Ok(_) | Err(_) => break,
            }
        }
        std::future::pending::<()>().await;
    }
}
