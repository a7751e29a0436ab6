//! A third process, which looks who is logged in: it alone may look into the processes of others (`CAP_SYS_PTRACE`), to
//! see which connection belongs to which session. In: a question without content. Out: addresses. It writes nothing,
//! changes nothing and starts nothing.
//!
//! The brain could not tell without it, and an administrator whom nobody protects can be locked out.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::lane::Lane;
use super::message::Message;
use super::wire::{Rest, Wire};
use crate::policy::protected::{Probed, Protect, Unreadable, probe};

/// Most sessions that are protected: a message has room for them.
const MOST: usize = 4096;

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who is logged in?
pub(super) struct Question;

/// The other ends of sessions, and what could not be read, if anything.
pub(super) struct Peers {
    addresses: Vec<IpAddr>,
    unreadable: Option<(String, String)>,
}

impl Message for Question {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(1);
    }

    fn read(rest: &mut Rest<'_>) -> Option<Self> {
        (u8::take(rest)? == 1).then_some(Question)
    }
}

impl Message for Peers {
    fn encode(&self, out: &mut Vec<u8>) {
        self.unreadable.is_some().put(out);
        if let Some((path, error)) = &self.unreadable {
            path.put(out);
            error.put(out);
        }
        for address in &self.addresses {
            address.put(out);
        }
    }

    fn read(rest: &mut Rest<'_>) -> Option<Self> {
        let unreadable = if bool::take(rest)? { Some((Wire::take(rest)?, Wire::take(rest)?)) } else { None };
        Some(Peers { addresses: rest.all()?, unreadable })
    }
}

/// The brain's end.
#[derive(Clone, Debug)]
pub(crate) struct Witness(Arc<Mutex<Lane>>);

impl Witness {
    pub(super) fn at(lane: Lane) -> io::Result<Witness> {
        lane.set_patience(PATIENCE)?;
        Ok(Witness(Arc::new(Mutex::new(lane))))
    }

    /// Everything of these kinds that is to be protected now.
    pub(crate) fn probe(&self, which: &[Protect]) -> Probed {
        let plain: Vec<Protect> = which.iter().copied().filter(|what| *what != Protect::AdminSessions).collect();
        let mut probed = probe(&plain);
        if plain.len() == which.len() {
            return probed;
        }
        let protect = Protect::AdminSessions;
        let mut unreadable = |path: &str, error| {
            probed.troubles.push(Unreadable { path: PathBuf::from(path), error, protect });
        };
        match self.ask() {
            Ok(peers) => {
                if let Some((path, error)) = peers.unreadable {
                    unreadable(&path, io::Error::other(error));
                }
                probed.networks.extend(peers.addresses.into_iter().map(|address| (address.into(), protect)));
            }
            Err(error) => unreadable("/proc", error),
        }
        probed
    }

    fn ask(&self) -> io::Result<Peers> {
        let mut lane = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lane.send(&Question)?;
        lane.receive()?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

/// Answers until the lane is closed.
pub(super) fn serve(lane: &mut Lane) -> io::Result<()> {
    while let Some(Question) = lane.receive()? {
        let probed = probe(&[Protect::AdminSessions]);
        let trouble = probed.troubles.into_iter().next();
        let unreadable = trouble.map(|trouble| (shown(&trouble.path), trouble.error.to_string()));
        let addresses = probed.networks.into_iter().map(|(network, _)| network.addr()).take(MOST).collect();
        lane.send(&Peers { addresses, unreadable })?;
    }
    Ok(())
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_witness_says_is_read_as_it_was_written() {
        let addresses: Vec<IpAddr> = (0..MOST as u128).map(|number| IpAddr::from(number.to_be_bytes())).collect();
        let peers = Peers { addresses: addresses.clone(), unreadable: Some(("/proc/1/fd".into(), "no".into())) };
        let mut bytes = Vec::new();
        peers.encode(&mut bytes);
        assert!(bytes.len() <= super::super::message::LONGEST);
        let read = Peers::decode(&bytes).unwrap();
        assert_eq!((read.addresses, read.unreadable.unwrap().1), (addresses, "no".to_owned()));
    }
}
