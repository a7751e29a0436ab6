//! Packets as bytes, sent past the sender's own network stack.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketType, ipproto, sendto, socket};

use crate::support::lab::Host;

/// By this time to live the kernel's counters know a packet of these tests.
pub(crate) const MARK: u8 = 77;

/// A packet of TCP, UDP or ICMP.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) body: Body,
    /// In two pieces.
    pub(crate) fragmented: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Body {
    Tcp { from: u16, to: u16, flags: u8 },
    Udp { from: u16, to: u16 },
    Icmp { kind: u8 },
}

/// Enough for two pieces.
const PAYLOAD: [u8; 64] = [b'x'; 64];

impl Packet {
    pub(crate) fn send(&self, host: &Host) {
        let v6 = self.source.is_ipv6();
        let datagrams = if v6 { self.v6() } else { self.v4() };
        let destination = SocketAddr::new(self.destination, 0);
        host.on(move || {
            let family = if v6 { AddressFamily::INET6 } else { AddressFamily::INET };
            let raw: OwnedFd = socket(family, SocketType::RAW, Some(ipproto::RAW)).expect("root may send anything");
            for datagram in datagrams {
                match sendto(&raw, &datagram, SendFlags::empty(), &destination) {
                    // A rule of the sender's own host dropped it.
                    Ok(_) | Err(Errno::PERM) => (),
                    Err(error) => panic!("{error}"),
                }
            }
        });
    }

    fn octets(address: IpAddr) -> Vec<u8> {
        match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        }
    }

    /// The number of the protocol, and what follows the header of IP.
    fn segment(&self) -> (u8, Vec<u8>) {
        let v6 = self.source.is_ipv6();
        let (protocol, mut bytes, checksum_at) = match self.body {
            Body::Tcp { from, to, flags } => {
                let mut bytes = [from.to_be_bytes(), to.to_be_bytes()].concat();
                bytes.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0x20, 0, 0, 0, 0, 0]);
                (6, bytes, 16)
            }
            Body::Udp { from, to } => {
                let length = u16::try_from(8 + PAYLOAD.len()).expect("short");
                let mut bytes = [from.to_be_bytes(), to.to_be_bytes(), length.to_be_bytes(), [0, 0]].concat();
                bytes.extend(PAYLOAD);
                (17, bytes, 6)
            }
            Body::Icmp { kind } => {
                let mut bytes = vec![kind, 0, 0, 0, 0, 9, 0, 1];
                bytes.extend(PAYLOAD);
                (if v6 { 58 } else { 1 }, bytes, 2)
            }
        };
        let mut summed = Vec::new();
        if v6 || protocol != 1 {
            summed.extend(Packet::octets(self.source));
            summed.extend(Packet::octets(self.destination));
            summed.extend([0, protocol]);
            summed.extend(u16::try_from(bytes.len()).expect("short").to_be_bytes());
        }
        summed.extend(&bytes);
        bytes[checksum_at..checksum_at + 2].copy_from_slice(&checksum(&summed).to_be_bytes());
        (protocol, bytes)
    }

    fn v4(&self) -> Vec<Vec<u8>> {
        let (protocol, bytes) = self.segment();
        self.pieces(&bytes)
            .into_iter()
            .map(|(offset, more, piece)| {
                let length = u16::try_from(20 + piece.len()).expect("short").to_be_bytes();
                let place = (u16::try_from(offset / 8).expect("short") | if more { 0x2000 } else { 0 }).to_be_bytes();
                let mut header =
                    vec![0x45, 0, length[0], length[1], 0x12, 0x34, place[0], place[1], MARK, protocol, 0, 0];
                header.extend(Packet::octets(self.source));
                header.extend(Packet::octets(self.destination));
                let sum = checksum(&header).to_be_bytes();
                header[10..12].copy_from_slice(&sum);
                [header, piece].concat()
            })
            .collect()
    }

    fn v6(&self) -> Vec<Vec<u8>> {
        let (protocol, bytes) = self.segment();
        self.pieces(&bytes)
            .into_iter()
            .map(|(offset, more, piece)| {
                let mut extension = Vec::new();
                if self.fragmented {
                    let place = (u16::try_from(offset).expect("short") | u16::from(more)).to_be_bytes();
                    extension.extend([protocol, 0, place[0], place[1], 0, 0, 0x12, 0x34]);
                }
                let length = u16::try_from(extension.len() + piece.len()).expect("short").to_be_bytes();
                let next = if self.fragmented { 44 } else { protocol };
                let mut header = vec![0x60, 0, 0, 0, length[0], length[1], next, MARK];
                header.extend(Packet::octets(self.source));
                header.extend(Packet::octets(self.destination));
                [header, extension, piece].concat()
            })
            .collect()
    }

    /// Offset, whether more follows, and bytes of each piece.
    fn pieces(&self, bytes: &[u8]) -> Vec<(usize, bool, Vec<u8>)> {
        if !self.fragmented {
            return vec![(0, false, bytes.to_vec())];
        }
        let (first, second) = bytes.split_at(48);
        vec![(0, true, first.to_vec()), (48, false, second.to_vec())]
    }
}

/// The checksum of the internet: the complement of the sum of all words in ones' complement.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded")
}
