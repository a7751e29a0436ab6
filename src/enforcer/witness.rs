//! A third process, which looks who is logged in: it alone may look into the processes of others (`CAP_SYS_PTRACE`), to
//! see which connection belongs to which session. It also reads what others replace while the daemon runs (the resolvers,
//! users and groups), because no file is closed to it. In: one of three questions. Out: addresses, or yes or no. It writes
//! nothing, changes nothing and starts nothing.
//!
//! The brain could not tell without it, and an administrator whom nobody protects can be locked out.

use std::cmp::Ordering;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::lane::Lane;
use super::message::Message;
use super::wire::{Rest, Wire};
use crate::lock::lock;
use crate::policy::protected::{Probed, Protect, Unreadable, probe, probe_again};
use crate::policy::sessions::Processes;
use crate::sandbox::identity::is_member;

/// Most addresses of a kind that are protected: a message has room for them.
const MOST: usize = 4096;

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is asked for. Questions are numbered, so that an answer which came too late is never taken for the next one.
pub(super) struct Question {
    number: u64,
    wanted: Wanted,
}

/// What the witness may be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Who is logged in?
    Sessions,
    /// Who resolves names for this machine?
    Resolvers,
    /// Is this user in this group?
    Member { user: u32, group: String },
}

/// The answer.
pub(super) struct Answer {
    /// Of the question.
    number: u64,
    told: Told,
}

/// What could not be read, and why.
type Trouble = (String, String);

/// What was found.
pub(super) enum Told {
    /// Addresses, and what could not be read, if anything.
    Addresses {
        addresses: Vec<IpAddr>,
        unreadable: Option<Trouble>,
    },
    Member(bool),
}

impl Message for Question {
    fn encode(&self, out: &mut Vec<u8>) {
        self.number.put(out);
        match &self.wanted {
            Wanted::Sessions => out.push(1),
            Wanted::Resolvers => out.push(2),
            Wanted::Member { user, group } => {
                out.push(3);
                user.put(out);
                group.put(out);
            }
        }
    }

    fn read(rest: &mut Rest<'_>) -> Option<Self> {
        let number = u64::take(rest)?;
        let wanted = match u8::take(rest)? {
            1 => Wanted::Sessions,
            2 => Wanted::Resolvers,
            3 => Wanted::Member { user: Wire::take(rest)?, group: Wire::take(rest)? },
            _ => return None,
        };
        Some(Question { number, wanted })
    }
}

impl Message for Answer {
    fn encode(&self, out: &mut Vec<u8>) {
        self.number.put(out);
        match &self.told {
            Told::Addresses { addresses, unreadable } => {
                out.push(1);
                unreadable.is_some().put(out);
                if let Some((path, error)) = unreadable {
                    path.put(out);
                    error.put(out);
                }
                for address in addresses {
                    address.put(out);
                }
            }
            Told::Member(member) => {
                out.push(2);
                member.put(out);
            }
        }
    }

    fn read(rest: &mut Rest<'_>) -> Option<Self> {
        let number = u64::take(rest)?;
        let told = match u8::take(rest)? {
            1 => {
                let unreadable = if bool::take(rest)? { Some((Wire::take(rest)?, Wire::take(rest)?)) } else { None };
                Told::Addresses { addresses: rest.all()?, unreadable }
            }
            2 => Told::Member(bool::take(rest)?),
            _ => return None,
        };
        Some(Answer { number, told })
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

    /// Whether addresses of this kind are the witness's to tell.
    pub(super) fn tells(kind: Protect) -> bool {
        Wanted::addresses(kind).is_some()
    }

    /// Everything of these kinds that is to be protected now.
    pub(crate) fn probe(&self, which: &[Protect]) -> Probed {
        let (told, seen): (Vec<Protect>, Vec<Protect>) = which.iter().partition(|kind| Witness::tells(**kind));
        let mut probed = probe(&seen);
        for protect in told {
            let mut unreadable = |path: &str, error| {
                probed.troubles.push(Unreadable { path: PathBuf::from(path), error, protect });
            };
            match self.look(protect) {
                Ok((addresses, trouble)) => {
                    if let Some((path, error)) = trouble {
                        unreadable(&path, io::Error::other(error));
                    }
                    probed.networks.extend(addresses.into_iter().map(|address| (address.into(), protect)));
                }
                Err(error) if protect == Protect::Resolvers => unreadable("/etc/resolv.conf", error),
                Err(error) => unreadable("/proc", error),
            }
        }
        probed
    }

    /// All addresses of this kind now; `None` where that cannot be found out.
    pub(super) fn addresses(&self, kind: Protect) -> io::Result<Option<Vec<IpAddr>>> {
        self.look(kind).map(|(addresses, unreadable)| unreadable.is_none().then_some(addresses))
    }

    fn look(&self, kind: Protect) -> io::Result<(Vec<IpAddr>, Option<Trouble>)> {
        let wanted = Wanted::addresses(kind).ok_or(io::ErrorKind::InvalidInput)?;
        match self.ask(wanted)? {
            Told::Addresses { addresses, unreadable } => Ok((addresses, unreadable)),
            Told::Member(_) => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Whether a user is in a group now. Where that cannot be found out, nobody is.
    pub(crate) fn is_member(&self, user: u32, group: &str) -> bool {
        matches!(self.ask(Wanted::Member { user, group: group.to_owned() }), Ok(Told::Member(true)))
    }

    fn ask(&self, wanted: Wanted) -> io::Result<Told> {
        let mut asking = lock(&self.0);
        asking.number += 1;
        let number = asking.number;
        asking.lane.send(&Question { number, wanted })?;
        loop {
            let answer: Answer = asking.lane.receive()?.ok_or(io::ErrorKind::UnexpectedEof)?;
            match answer.number.cmp(&number) {
                // The answer to a question that is no longer waited for.
                Ordering::Less => {}
                Ordering::Equal => return Ok(answer.told),
                Ordering::Greater => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
    }
}

impl Wanted {
    /// The question for addresses of this kind; the others whoever asks can see.
    fn addresses(kind: Protect) -> Option<Wanted> {
        match kind {
            Protect::AdminSessions => Some(Wanted::Sessions),
            Protect::Resolvers => Some(Wanted::Resolvers),
            Protect::OwnAddresses | Protect::Gateways => None,
        }
    }
}

/// Answers whoever has the other ends of these lanes, until one is closed.
pub(super) fn serve([mut brain, mut enforcer]: [Lane; 2]) -> io::Result<()> {
    let processes = Arc::new(Mutex::new(Processes::default()));
    let same = Arc::clone(&processes);
    std::thread::Builder::new().name("enforcer".to_owned()).spawn(move || {
        let ended = answer(&mut enforcer, |wanted| look(wanted, &same));
        // When one process ends, so do the others.
        std::process::exit(i32::from(ended.is_err()));
    })?;
    answer(&mut brain, |wanted| look(wanted, &processes))
}

/// Answers until the lane is closed.
pub(super) fn answer(lane: &mut Lane, look: impl Fn(Wanted) -> Told) -> io::Result<()> {
    while let Some(Question { number, wanted }) = lane.receive()? {
        lane.send(&Answer { number, told: look(wanted) })?;
    }
    Ok(())
}

fn look(wanted: Wanted, processes: &Mutex<Processes>) -> Told {
    let kind = match wanted {
        Wanted::Sessions => Protect::AdminSessions,
        Wanted::Resolvers => Protect::Resolvers,
        Wanted::Member { user, group } => return Told::Member(is_member(user, &group)),
    };
    let mut processes = lock(processes);
    let probed = probe_again(&[kind], &mut processes, Instant::now());
    let trouble = probed.troubles.into_iter().next();
    let unreadable = trouble.map(|trouble| (shown(&trouble.path), trouble.error.to_string()));
    let addresses = probed.networks.into_iter().map(|(network, _)| network.addr()).take(MOST).collect();
    Told::Addresses { addresses, unreadable }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
impl Told {
    pub(super) fn of(addresses: Vec<IpAddr>) -> Told {
        Told::Addresses { addresses, unreadable: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_witness_says_is_read_as_it_was_written() {
        let addresses: Vec<IpAddr> = (0..MOST as u128).map(|number| IpAddr::from(number.to_be_bytes())).collect();
        let trouble = Some(("/proc/1/fd".to_owned(), "no".to_owned()));
        let told = Told::Addresses { addresses: addresses.clone(), unreadable: trouble.clone() };
        let mut bytes = Vec::new();
        Answer { number: 7, told }.encode(&mut bytes);
        assert!(bytes.len() <= super::super::message::LONGEST);
        let Answer { number: 7, told: Told::Addresses { addresses: read, unreadable } } =
            Answer::decode(&bytes).unwrap()
        else {
            panic!("another answer")
        };
        assert_eq!((read, unreadable), (addresses, trouble));
    }

    #[test]
    fn what_the_witness_is_asked_is_read_as_it_was_written() {
        let member = Wanted::Member { user: 1000, group: "adm".to_owned() };
        for wanted in [Wanted::Sessions, Wanted::Resolvers, member] {
            let mut bytes = Vec::new();
            Question { number: 7, wanted: wanted.clone() }.encode(&mut bytes);
            let read = Question::decode(&bytes).unwrap();
            assert_eq!((read.number, read.wanted), (7, wanted));
        }
    }

    #[test]
    fn an_answer_that_comes_too_late_is_not_taken_for_the_next_one() {
        let (ours, theirs) = Lane::pair().unwrap();
        let witness = Witness::waiting(ours, Duration::from_millis(200)).unwrap();
        let mut theirs = Lane::of(theirs);
        let told = |last| Told::of(vec![IpAddr::from([192, 0, 2, last])]);
        let answer = |number: u64, last| Answer { number, told: told(last) };
        let sessions = || witness.addresses(Protect::AdminSessions);
        assert!(sessions().is_err(), "nobody answers");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for number in [1, 2] {
                    let asked: Question = theirs.receive().unwrap().unwrap();
                    assert_eq!(asked.number, number);
                    theirs.send(&answer(number, u8::try_from(number).unwrap())).unwrap();
                }
            });
            assert_eq!(sessions().unwrap(), Some(vec![IpAddr::from([192, 0, 2, 2])]));
        });
        theirs.send(&answer(99, 1)).unwrap();
        assert!(sessions().is_err(), "nobody has asked that");
    }
}
