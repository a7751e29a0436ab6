//! A third process, which looks who is logged in: it alone may look into the processes of others (`CAP_SYS_PTRACE`), to
//! see which connection belongs to which session. In: a question without content. Out: addresses. It writes nothing,
//! changes nothing and starts nothing.
//!
//! The brain could not tell without it, and an administrator whom nobody protects can be locked out.

use std::cmp::Ordering;
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

/// Who is logged in? Questions are numbered, so that an answer which came too late is never taken for the next one.
pub(super) struct Question(u64);

/// The answer.
pub(super) struct Peers {
    /// Of the question.
    number: u64,
    found: Found,
}

/// The other ends of sessions, and what could not be read, if anything.
pub(super) struct Found {
    addresses: Vec<IpAddr>,
    unreadable: Option<(String, String)>,
}

impl Message for Question {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.put(out);
    }

    fn read(rest: &mut Rest<'_>) -> Option<Self> {
        u64::take(rest).map(Question)
    }
}

impl Message for Peers {
    fn encode(&self, out: &mut Vec<u8>) {
        self.number.put(out);
        self.found.unreadable.is_some().put(out);
        if let Some((path, error)) = &self.found.unreadable {
            path.put(out);
            error.put(out);
        }
        for address in &self.found.addresses {
            address.put(out);
        }
    }

    fn read(rest: &mut Rest<'_>) -> Option<Self> {
        let number = u64::take(rest)?;
        let unreadable = if bool::take(rest)? { Some((Wire::take(rest)?, Wire::take(rest)?)) } else { None };
        Some(Peers { number, found: Found { addresses: rest.all()?, unreadable } })
    }
}

/// The end of whoever asks: the brain, and the enforcer, each with a lane of its own.
#[derive(Clone, Debug)]
pub(crate) struct Witness(Arc<Mutex<Asking>>);

#[derive(Debug)]
struct Asking {
    lane: Lane,
    /// Of the last question.
    number: u64,
}

impl Witness {
    pub(super) fn at(lane: Lane) -> io::Result<Witness> {
        Witness::waiting(lane, PATIENCE)
    }

    fn waiting(lane: Lane, patience: Duration) -> io::Result<Witness> {
        lane.set_patience(patience)?;
        Ok(Witness(Arc::new(Mutex::new(Asking { lane, number: 0 }))))
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
            Ok(found) => {
                if let Some((path, error)) = found.unreadable {
                    unreadable(&path, io::Error::other(error));
                }
                probed.networks.extend(found.addresses.into_iter().map(|address| (address.into(), protect)));
            }
            Err(error) => unreadable("/proc", error),
        }
        probed
    }

    /// The other ends of sessions now; `None` where that cannot be found out.
    pub(super) fn sessions(&self) -> io::Result<Option<Vec<IpAddr>>> {
        self.ask().map(|found| found.unreadable.is_none().then_some(found.addresses))
    }

    fn ask(&self) -> io::Result<Found> {
        let mut asking = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        asking.number += 1;
        let number = asking.number;
        asking.lane.send(&Question(number))?;
        loop {
            let peers: Peers = asking.lane.receive()?.ok_or(io::ErrorKind::UnexpectedEof)?;
            match peers.number.cmp(&number) {
                // The answer to a question that is no longer waited for.
                Ordering::Less => {}
                Ordering::Equal => return Ok(peers.found),
                Ordering::Greater => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
    }
}

/// Answers whoever has the other ends of these lanes, until one is closed.
pub(super) fn serve([mut brain, mut enforcer]: [Lane; 2]) -> io::Result<()> {
    std::thread::Builder::new().name("enforcer".to_owned()).spawn(move || {
        let ended = answer(&mut enforcer, look);
        // When one process ends, so do the others.
        std::process::exit(i32::from(ended.is_err()));
    })?;
    answer(&mut brain, look)
}

/// Answers until the lane is closed.
pub(super) fn answer<T: Into<Found>>(lane: &mut Lane, look: impl Fn() -> T) -> io::Result<()> {
    while let Some(Question(number)) = lane.receive()? {
        lane.send(&Peers { number, found: look().into() })?;
    }
    Ok(())
}

fn look() -> Found {
    let probed = probe(&[Protect::AdminSessions]);
    let trouble = probed.troubles.into_iter().next();
    let unreadable = trouble.map(|trouble| (shown(&trouble.path), trouble.error.to_string()));
    let addresses = probed.networks.into_iter().map(|(network, _)| network.addr()).take(MOST).collect();
    Found { addresses, unreadable }
}

#[cfg(test)]
impl From<Vec<IpAddr>> for Found {
    fn from(addresses: Vec<IpAddr>) -> Found {
        Found { addresses, unreadable: None }
    }
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
        let found = Found { addresses: addresses.clone(), unreadable: Some(("/proc/1/fd".into(), "no".into())) };
        let peers = Peers { number: 7, found };
        let mut bytes = Vec::new();
        peers.encode(&mut bytes);
        assert!(bytes.len() <= super::super::message::LONGEST);
        let read = Peers::decode(&bytes).unwrap();
        assert_eq!(
            (read.number, read.found.addresses, read.found.unreadable.unwrap().1),
            (7, addresses, "no".to_owned())
        );
    }

    #[test]
    fn an_answer_that_comes_too_late_is_not_taken_for_the_next_one() {
        let (ours, theirs) = Lane::pair().unwrap();
        let witness = Witness::waiting(ours, Duration::from_millis(200)).unwrap();
        let mut theirs = Lane::of(theirs);
        let answer = |number: u64, last| Peers { number, found: vec![IpAddr::from([192, 0, 2, last])].into() };
        assert!(witness.sessions().is_err(), "nobody answers");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for number in [1, 2] {
                    let Question(asked) = theirs.receive().unwrap().unwrap();
                    assert_eq!(asked, number);
                    theirs.send(&answer(number, u8::try_from(number).unwrap())).unwrap();
                }
            });
            assert_eq!(witness.sessions().unwrap(), Some(vec![IpAddr::from([192, 0, 2, 2])]));
        });
        theirs.send(&answer(99, 1)).unwrap();
        assert!(witness.sessions().is_err(), "nobody has asked that");
    }
}
