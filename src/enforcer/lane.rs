//! A lane between the processes: a socket pair that keeps messages apart. Each lane carries one conversation at a time,
//! so a long answer on one never keeps a ban on another waiting.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recv, recvmsg, send, sendmsg, socketpair, sockopt,
};

use super::message::{LONGEST, Message};

/// What a socket is handed over with.
const HANDED: &[u8] = b"lane";

/// Shortest wait for a message: what the kernel tells apart.
const LEAST_WAIT: Duration = Duration::from_millis(1);

/// One end.
#[derive(Debug)]
pub(super) struct Lane {
    socket: OwnedFd,
    out: Vec<u8>,
    into: Vec<u8>,
}

impl Lane {
    pub(super) fn of(socket: OwnedFd) -> Lane {
        Lane { socket, out: Vec::new(), into: vec![0; LONGEST] }
    }

    /// Our end, and the one to hand to the other process.
    pub(super) fn pair() -> io::Result<(Lane, OwnedFd)> {
        let (ours, theirs) = Lane::ends()?;
        Ok((Lane::of(ours), theirs))
    }

    /// Both ends, to hand to others.
    pub(super) fn ends() -> io::Result<(OwnedFd, OwnedFd)> {
        Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
    }

    /// Hands a socket to the process at the other end, which [takes it over](Lane::take_over).
    pub(super) fn hand_over(&self, socket: &OwnedFd) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let sockets = [socket.as_fd()];
        control.push(SendAncillaryMessage::ScmRights(&sockets));
        sendmsg(&self.socket, &[IoSlice::new(HANDED)], &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    pub(super) fn take_over(&self) -> io::Result<OwnedFd> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut word = [0; HANDED.len()];
        recvmsg(&self.socket, &mut [IoSliceMut::new(&mut word)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        let sockets = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(sockets) => Some(sockets),
            _ => None,
        });
        sockets.flatten().next().ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// How long an answer may take.
    pub(super) fn set_patience(&self, patience: Duration) -> io::Result<()> {
        sockopt::set_socket_timeout(&self.socket, sockopt::Timeout::Recv, Some(patience))?;
        sockopt::set_socket_timeout(&self.socket, sockopt::Timeout::Send, Some(patience))?;
        Ok(())
    }

    pub(super) fn send(&mut self, message: &impl Message) -> io::Result<()> {
        self.out.clear();
        message.encode(&mut self.out);
        loop {
            match send(&self.socket, &self.out, SendFlags::NOSIGNAL) {
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
                Ok(_) => return Ok(()),
            }
        }
    }

    /// How long the next message is waited for; nearly that at least.
    pub(super) fn wait_for(&self, rest: Option<Duration>) -> io::Result<()> {
        // Nothing at all would be for ever.
        let rest = rest.map(|rest| rest.max(LEAST_WAIT));
        Ok(sockopt::set_socket_timeout(&self.socket, sockopt::Timeout::Recv, rest)?)
    }

    /// The next message; `None` when the other end is closed. What is no message is an error.
    pub(super) fn receive<T: Message>(&mut self) -> io::Result<Option<T>> {
        let (length, whole) = loop {
            match recv(&self.socket, self.into.as_mut_slice(), RecvFlags::TRUNC) {
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
                Ok(lengths) => break lengths,
            }
        };
        if whole == 0 {
            return Ok(None);
        }
        let message = self.into.get(..length).filter(|_| whole <= LONGEST).and_then(T::decode);
        message.map(Some).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

impl AsFd for Lane {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
