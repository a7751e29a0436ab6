//! Netlink, as far as the two backends need it: messages in, the kernel's verdict on each out.
//!
//! It knows the framing of `linux/netlink.h` and `linux/netfilter/nfnetlink.h` and nothing about bans. It never waits
//! without a limit: the kernel answers some refused batches once, others not at all.

use std::os::fd::OwnedFd;

use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};

/// `nlmsghdr`: length, type, flags, sequence number, port.
const HEADER: usize = 16;
/// `nfgenmsg`: family, version, resource.
const NETFILTER_HEADER: usize = 4;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 0x01;
pub(super) const NLM_F_ACK: u16 = 0x04;
pub(super) const NLM_F_CREATE: u16 = 0x400;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_DUMP_INTR: u16 = 0x10;
pub(super) const NLA_F_NESTED: u16 = 0x8000;
pub(super) const NLA_F_NET_BYTEORDER: u16 = 0x4000;
const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFNL_MSG_BATCH_END: u16 = 0x11;

/// How long the kernel may take for one answer. Bulk loads of a large message take some ten milliseconds.
const PATIENCE: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };
/// Asked of the kernel for both directions: the largest batch, and an answer for each message of it.
const SOCKET_BUFFER: usize = 4 << 20;
/// One datagram from the kernel. An error quotes the refused message, which is at most 64 KiB and a header.
const DATAGRAM: usize = 128 << 10;

/// Why a conversation with the kernel ended without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NetlinkError {
    /// The kernel said no. Negative codes of ipset beyond 4095 included, sign removed.
    Refused(i32),
    /// The socket failed.
    Socket(Errno),
    /// Nothing came within the time allowed.
    Silent,
}

impl From<Errno> for NetlinkError {
    fn from(errno: Errno) -> Self {
        NetlinkError::Socket(errno)
    }
}

/// Messages that travel in one datagram.
#[derive(Debug, Default)]
pub(super) struct Messages {
    bytes: Vec<u8>,
    /// Where each message starts.
    starts: Vec<usize>,
    /// Where the attributes that are open start.
    open: Vec<usize>,
}

impl Messages {
    pub(super) fn len(&self) -> usize {
        self.starts.len()
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.starts.clear();
    }

    /// Starts a message; `kind` is the subsystem in its upper byte and the command in its lower one.
    pub(super) fn begin(&mut self, kind: u16, flags: u16, family: u8, resource: u16) {
        self.finish();
        self.starts.push(self.bytes.len());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 8]);
        self.bytes.extend_from_slice(&[family, 0]);
        self.bytes.extend_from_slice(&resource.to_be_bytes());
    }

    pub(super) fn attribute(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(value.len() + 4).expect("single values are names and numbers, far below 64 KiB");
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.pad();
    }

    /// A name, with the NUL at its end.
    pub(super) fn text(&mut self, kind: u16, text: &str) {
        let mut value = text.as_bytes().to_vec();
        value.push(0);
        self.attribute(kind, &value);
    }

    /// Opens an attribute that holds others, until [`Messages::close`].
    pub(super) fn open(&mut self, kind: u16) {
        self.open.push(self.bytes.len());
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&(kind | NLA_F_NESTED).to_ne_bytes());
    }

    pub(super) fn close(&mut self) {
        if let Some(start) = self.open.pop() {
            let length = u16::try_from(self.bytes.len() - start).expect("callers count elements so that lists fit");
            self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        }
    }

    /// As they would be sent.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn into_bytes(mut self) -> Vec<u8> {
        self.finish();
        self.bytes
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// Writes the length of the last message.
    fn finish(&mut self) {
        if let Some(&start) = self.starts.last() {
            let length = u32::try_from(self.bytes.len() - start).expect("a message is below 4 GiB");
            self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
        }
    }

    /// Numbers the messages from `first`, asks for an answer to the last but `tail`, and gives the datagram.
    fn seal(&mut self, first: u32, tail: usize) -> &[u8] {
        self.finish();
        let answered = self.starts.len().checked_sub(1 + tail);
        let mut number = first;
        for (index, &start) in self.starts.iter().enumerate() {
            self.bytes[start + 8..start + 12].copy_from_slice(&number.to_ne_bytes());
            if Some(index) == answered {
                let [low, _] = NLM_F_ACK.to_ne_bytes();
                self.bytes[start + 6] |= low;
            }
            number = number.wrapping_add(1);
        }
        &self.bytes
    }
}

/// One message from the kernel.
struct Incoming<'a> {
    kind: u16,
    flags: u16,
    number: u32,
    payload: &'a [u8],
}

/// Splits a datagram; stops at the first message that does not fit.
fn split(mut datagram: &[u8]) -> impl Iterator<Item = Incoming<'_>> {
    std::iter::from_fn(move || {
        let header = datagram.get(..HEADER)?;
        let length = usize::try_from(number_at(header, 0)?).ok()?;
        let payload = datagram.get(HEADER..length)?;
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        let flags = u16::from_ne_bytes([header[6], header[7]]);
        let number = number_at(header, 8)?;
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Incoming { kind, flags, number, payload })
    })
}

fn number_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

/// What messages of a datagram hold behind the header of netfilter (see `hostile.rs`).
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn payloads(datagram: &[u8]) -> impl Iterator<Item = &[u8]> {
    split(datagram).filter_map(|message| message.payload.get(4..))
}

/// The attributes of a message or of a nested attribute: kind without flags, and value.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes([*bytes.first()?, *bytes.get(1)?]));
        let kind = u16::from_ne_bytes([*bytes.get(2)?, *bytes.get(3)?]);
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & !(NLA_F_NESTED | NLA_F_NET_BYTEORDER), value))
    })
}

/// The value of the first attribute of this kind.
pub(super) fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// A text attribute without its NUL; empty when it is not text.
pub(super) fn text(value: &[u8]) -> &str {
    std::str::from_utf8(value).unwrap_or_default().trim_end_matches('\0')
}

/// A conversation with netfilter in the network namespace of the thread that opened it.
#[derive(Debug)]
pub(super) struct Socket {
    fd: OwnedFd,
    next: u32,
    buffer: Vec<u8>,
}

impl Socket {
    pub(super) fn open() -> Result<Socket, NetlinkError> {
        let protocol = Some(netlink::NETFILTER);
        let flags = SocketFlags::CLOEXEC;
        let fd = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
        rustix::net::bind(&fd, &SocketAddrNetlink::new(0, 0))?;
        // Beyond the system's limit if we may, up to it if not: smaller buffers only mean smaller batches fail loudly.
        if sockopt::set_socket_send_buffer_size_force(&fd, SOCKET_BUFFER).is_err() {
            sockopt::set_socket_send_buffer_size(&fd, SOCKET_BUFFER)?;
        }
        if sockopt::set_socket_recv_buffer_size_force(&fd, SOCKET_BUFFER).is_err() {
            sockopt::set_socket_recv_buffer_size(&fd, SOCKET_BUFFER)?;
        }
        Ok(Socket { fd, next: 1, buffer: Vec::with_capacity(DATAGRAM) })
    }

    /// Sends messages that stand alone, and gives the refused ones: their index and code, sign removed. The others
    /// were done: an error in the middle does not stop those behind it.
    pub(super) fn send(&mut self, messages: &mut Messages) -> Result<Vec<(usize, i32)>, NetlinkError> {
        self.converse(messages, 0, 0)
    }

    /// Sends one message; any error is the answer.
    pub(super) fn send_one(&mut self, messages: &mut Messages) -> Result<(), NetlinkError> {
        match self.send(messages)?.first() {
            Some((_, code)) => Err(NetlinkError::Refused(*code)),
            None => Ok(()),
        }
    }

    /// Sends messages between a begin and an end as one transaction of `subsystem`: all are done or none.
    /// `fill` writes them.
    pub(super) fn transaction(&mut self, subsystem: u8, fill: impl FnOnce(&mut Messages)) -> Result<(), NetlinkError> {
        let mut messages = Messages::default();
        messages.begin(NFNL_MSG_BATCH_BEGIN, 0, 0, u16::from(subsystem));
        fill(&mut messages);
        messages.begin(NFNL_MSG_BATCH_END, 0, 0, u16::from(subsystem));
        if messages.len() == 2 {
            return Ok(());
        }
        match self.converse(&mut messages, 1, 1)?.first() {
            Some((_, code)) => Err(NetlinkError::Refused(*code)),
            None => Ok(()),
        }
    }

    /// Sends, and reads until the last message but `tail` is answered, or one of the first `heads` is refused: the
    /// kernel then says nothing about the rest (a batch without privilege is refused at its begin, once).
    fn converse(
        &mut self,
        messages: &mut Messages,
        heads: usize,
        tail: usize,
    ) -> Result<Vec<(usize, i32)>, NetlinkError> {
        let mut refused = Vec::new();
        let Some(last) = messages.len().checked_sub(1 + tail) else { return Ok(refused) };
        let first = self.dispatch(messages, tail)?;
        loop {
            self.receive()?;
            for incoming in split(&self.buffer) {
                // Answers to an earlier conversation that was given up have numbers outside of this one.
                let index = usize::try_from(incoming.number.wrapping_sub(first)).unwrap_or(usize::MAX);
                if incoming.kind != NLMSG_ERROR || index >= messages.len() {
                    continue;
                }
                let code = code_of(incoming.payload);
                if code != 0 {
                    refused.push((index, code));
                }
                if index == last || (index < heads && code != 0) {
                    return Ok(refused);
                }
            }
        }
    }

    /// Asks for a list: the one message is a request whose answers go to `each`, without the netfilter header.
    /// `Ok(false)` when the kernel's state changed meanwhile and the list may be inconsistent.
    pub(super) fn dump(
        &mut self,
        messages: &mut Messages,
        mut each: impl FnMut(u16, &[u8]),
    ) -> Result<bool, NetlinkError> {
        let [low, high] = NLM_F_DUMP.to_ne_bytes();
        if let Some(flags) = messages.bytes.get_mut(6..8) {
            flags[0] |= low;
            flags[1] |= high;
        }
        self.ask(messages, &mut each)
    }

    /// Sends one request, and hands its answers out until the kernel says that it was all.
    pub(super) fn ask(
        &mut self,
        messages: &mut Messages,
        each: &mut dyn FnMut(u16, &[u8]),
    ) -> Result<bool, NetlinkError> {
        let first = self.dispatch(messages, 0)?;
        let mut consistent = true;
        loop {
            self.receive()?;
            for incoming in split(&self.buffer).filter(|incoming| incoming.number == first) {
                consistent &= incoming.flags & NLM_F_DUMP_INTR == 0;
                match incoming.kind {
                    NLMSG_DONE => return Ok(consistent),
                    NLMSG_ERROR => match code_of(incoming.payload) {
                        0 => return Ok(consistent),
                        code => return Err(NetlinkError::Refused(code)),
                    },
                    kind => each(kind, incoming.payload.get(NETFILTER_HEADER..).unwrap_or_default()),
                }
            }
        }
    }

    fn dispatch(&mut self, messages: &mut Messages, tail: usize) -> Result<u32, NetlinkError> {
        let first = self.next;
        self.next = first.wrapping_add(u32::try_from(messages.len()).expect("a batch has few thousand messages"));
        rustix::io::retry_on_intr(|| rustix::net::send(&self.fd, messages.seal(first, tail), SendFlags::empty()))?;
        Ok(first)
    }

    /// What is there already, as nearly always, is not waited for.
    fn receive(&mut self) -> Result<(), NetlinkError> {
        self.buffer.clear();
        match rustix::net::recv(&self.fd, spare_capacity(&mut self.buffer), RecvFlags::DONTWAIT) {
            Err(Errno::AGAIN) => {}
            received => return Ok(received.map(drop)?),
        }
        let mut waiting = [PollFd::new(&self.fd, PollFlags::IN)];
        if rustix::io::retry_on_intr(|| poll(&mut waiting, Some(&PATIENCE)))? == 0 {
            return Err(NetlinkError::Silent);
        }
        rustix::net::recv(&self.fd, spare_capacity(&mut self.buffer), RecvFlags::DONTWAIT)?;
        Ok(())
    }
}

/// The code of an `nlmsgerr`, sign removed; 0 is an acknowledgement.
fn code_of(payload: &[u8]) -> i32 {
    let code = payload.get(..4).and_then(|bytes| bytes.try_into().ok()).map_or(0, i32::from_ne_bytes);
    code.checked_neg().unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_back_as_they_were_written() {
        let mut messages = Messages::default();
        messages.begin(0x0601, 0, 2, 0);
        messages.text(2, "abc");
        messages.open(7);
        messages.attribute(6 | NLA_F_NET_BYTEORDER, &600u32.to_be_bytes());
        messages.close();
        let datagram = messages.seal(9, 0).to_vec();
        let incoming: Vec<_> = split(&datagram).collect();
        assert_eq!(incoming.len(), 1);
        assert_eq!((incoming[0].kind, incoming[0].number), (0x0601, 9));
        assert_eq!(incoming[0].flags, NLM_F_REQUEST | NLM_F_ACK);
        let body = &incoming[0].payload[NETFILTER_HEADER..];
        assert_eq!(text(attribute(body, 2).unwrap()), "abc");
        assert_eq!(attribute(attribute(body, 7).unwrap(), 6).unwrap(), 600u32.to_be_bytes());
    }

    #[test]
    fn cut_and_absurd_bytes_end_the_list_and_nothing_else() {
        assert_eq!(attributes(&[0, 0, 0, 0, 1]).count(), 0);
        assert_eq!(attributes(&[200, 0, 1, 0, 1]).count(), 0);
        assert_eq!(attributes(&[4]).count(), 0);
        assert_eq!(split(&[255; 64]).count(), 0);
        assert_eq!(split(&[0; 64]).count(), 0);
    }
}
