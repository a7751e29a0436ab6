//! Messages are read as they were written, and nothing else is one; and the enforcer, asked over its own socket by a
//! brain that was taken over.

use std::io::Read;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ipnet::IpNet;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::lane::Lane;
use super::law::Law;
use super::message::{At, Message, Noted, PART, Reply, Request, Which};
use super::server::{Open, Server, Shared};
use super::sessions::Sessions;
use super::wire::{Rest, Wire};
use super::witness::{Told, Wanted};
use super::*;
use crate::firewall::{Backend, Count, FirewallError, Inspection, Refused};
use crate::ledger::limit::{LONGEST_REFILL, Limit, Unit};
use crate::ledger::{Change, Direction, Entry, Extent, Port, Protocol, Scope, Target};
use crate::time::{Timestamp, Until};

fn prefixes() -> impl Strategy<Value = IpNet> {
    let v4 = (any::<[u8; 4]>(), 0_u8..=32).prop_map(|(ip, length)| IpNet::new(IpAddr::from(ip), length).unwrap());
    let v6 = (any::<[u8; 16]>(), 0_u8..=128).prop_map(|(ip, length)| IpNet::new(IpAddr::from(ip), length).unwrap());
    prop_oneof![v4, v6]
}

fn scopes() -> impl Strategy<Value = Scope> {
    let port = any::<(bool, u16)>()
        .prop_map(|(udp, number)| Port { protocol: if udp { Protocol::Udp } else { Protocol::Tcp }, number });
    let interface = option::of("[a-z]{1,9}[0-9]".prop_map(|name| name.parse().unwrap()));
    let direction = option::of(prop_oneof![Just(Direction::In), Just(Direction::Both)]);
    let target = option::of(prop_oneof![Just(Target::Drop), Just(Target::Reject), Just(Target::Prohibit)]);
    let limit = (1..99_u32, 0..Unit::ALL.len(), 1..9_u32);
    let limit = option::of(limit.prop_map(|(packets, unit, burst)| Limit { packets, per: Unit::ALL[unit], burst }));
    (vec(port, 0..5), interface, direction, target, limit).prop_map(|(ports, interface, direction, target, limit)| {
        let limit = limit.filter(|limit| limit.refill() <= LONGEST_REFILL);
        Scope::from(Extent { ports, interface, direction, target, limit })
    })
}

fn entries() -> impl Strategy<Value = Entry> {
    let until = option::of(any::<i64>())
        .prop_map(|end| end.map_or(Until::Forever, |micros| Until::At(Timestamp::from_micros(micros))));
    (prefixes(), scopes(), until).prop_map(|(prefix, scope, until)| Entry { prefix, scope, until })
}

fn changes() -> impl Strategy<Value = Change> {
    let clear = (prefixes(), scopes()).prop_map(|(prefix, scope)| Change::Clear { prefix, scope });
    prop_oneof![entries().prop_map(Change::Set), clear]
}

fn whiches() -> impl Strategy<Value = Which> {
    (any::<u64>(), 0..Choice::WORDS.len())
        .prop_map(|(settings, place)| Which { settings, backend: Choice::WORDS[place].1 })
}

fn moments() -> impl Strategy<Value = At> {
    any::<(u32, i64)>().prop_map(|(session, micros)| At { session, now: Timestamp::from_micros(micros) })
}

fn requests() -> impl Strategy<Value = Request> {
    prop_oneof![
        whiches().prop_map(Request::Open),
        (moments(), any::<bool>(), vec(entries(), 0..9)).prop_map(|(at, last, entries)| Request::Sync {
            at,
            last,
            entries
        }),
        (moments(), any::<bool>(), vec(changes(), 0..9)).prop_map(|(at, last, changes)| Request::Apply {
            at,
            last,
            changes
        }),
        moments().prop_map(|at| Request::Inspect { at }),
        whiches().prop_map(Request::Remove),
        whiches().prop_map(Request::Held),
        (whiches(), vec(scopes(), 0..9)).prop_map(|(which, scopes)| Request::Look { which, scopes }),
        whiches().prop_map(Request::Traces),
        prefixes().prop_map(|prefix| Request::Handshake(prefix.addr())),
        Just(Request::Reread),
        "[a-zA-Z-]{0,30}".prop_map(Request::Recall),
    ]
}

fn refusals() -> impl Strategy<Value = Option<Refused>> {
    option::of(any::<(u64, String)>().prop_map(|(count, first)| Refused { count, first }))
}

fn replies() -> impl Strategy<Value = Reply> {
    let count = option::of(any::<(u64, u64)>().prop_map(|(packets, bytes)| Count { packets, bytes }));
    let left = option::of(any::<u64>().prop_map(std::time::Duration::from_secs));
    let noted = ("[a-z]{0,9}", prefixes(), scopes(), left, count).prop_map(|(set, prefix, scope, left, count)| Noted {
        set,
        prefix,
        scope,
        left,
        count,
    });
    prop_oneof![
        any::<String>().prop_map(Reply::Failed),
        (any::<(u32, String)>(), whiches()).prop_map(|((session, why), which)| Reply::Opened {
            session,
            backend: which.backend,
            why
        }),
        (any::<u64>(), refusals(), any::<Option<String>>()).prop_map(|(installed, refused, shortage)| Reply::Done {
            installed,
            refused,
            shortage
        }),
        (any::<u64>(), refusals(), any::<Option<String>>()).prop_map(|(ceiling, refused, shortage)| Reply::Full {
            ceiling,
            refused,
            shortage
        }),
        "[a-z ]{0,40}".prop_map(Reply::Mended),
        any::<String>().prop_map(Reply::Damaged),
        (any::<bool>(), vec(entries(), 0..9)).prop_map(|(last, entries)| Reply::Entries { last, entries }),
        (any::<bool>(), vec(noted, 0..9)).prop_map(|(last, seen)| Reply::Seen { last, seen }),
        vec(whiches().prop_map(|which| which.backend), 0..5).prop_map(Reply::Backends),
        any::<bool>().prop_map(Reply::Handshake),
    ]
}

fn written(message: &impl Message) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    bytes
}

proptest! {
    #[test]
    fn a_request_is_read_as_it_was_written(request in requests()) {
        prop_assert_eq!(Request::decode(&written(&request)), Some(request));
    }

    #[test]
    fn a_reply_is_read_as_it_was_written(reply in replies()) {
        prop_assert_eq!(Reply::decode(&written(&reply)), Some(reply));
    }

    #[test]
    fn whatever_is_read_as_a_message_is_written_the_same_again(bytes in vec(any::<u8>(), 0..60)) {
        if let Some(request) = Request::decode(&bytes) {
            prop_assert_eq!(written(&request), bytes.clone());
        }
        if let Some(reply) = Reply::decode(&bytes) {
            prop_assert_eq!(written(&reply), bytes);
        }
    }
}

#[test]
fn a_time_that_is_none_is_refused() {
    let mut bytes = Vec::new();
    i64::MAX.put(&mut bytes);
    assert_eq!(Timestamp::take(&mut Rest::of(&bytes)), None);
}

#[test]
fn the_longest_part_fits_into_a_message_and_a_text_is_cut() {
    let most = u16::try_from(crate::config::MAX_PORTS).unwrap();
    let ports: Vec<Port> = (0..most).map(|number| Port { protocol: Protocol::Tcp, number }).collect();
    let limit = Some(Limit { packets: 1, per: Unit::Second, burst: 1 });
    let (interface, direction, target) =
        (Some("abcdefghijklmno".parse().unwrap()), Some(Direction::In), Some(Target::Drop));
    let scope = Scope::from(Extent { ports, interface, direction, target, limit });
    let entry = Entry { prefix: "2001:db8::/64".parse().unwrap(), scope, until: Until::Forever };
    let part = Request::Sync { at: At { session: 1, now: Timestamp::EPOCH }, last: true, entries: vec![entry; PART] };
    assert!(written(&part).len() <= message::LONGEST);
    let ports = (0..=most).map(|number| Port { protocol: Protocol::Tcp, number }).collect();
    let scope = Scope::from(Extent { ports, ..Extent::default() });
    let changes = vec![Change::Clear { prefix: "192.0.2.1/32".parse().unwrap(), scope }];
    let more = Request::Apply { at: At { session: 1, now: Timestamp::EPOCH }, last: true, changes };
    assert_eq!(Request::decode(&written(&more)), None, "more ports than the configuration can name are no message");
    let Some(Reply::Failed(text)) = Reply::decode(&written(&Reply::Failed("ä".repeat(5000)))) else {
        panic!("no reply")
    };
    assert_eq!(text.len(), wire::MAX_TEXT);
}

/// What an enforcer goes by with this configuration.
fn law_of(config: &str) -> (tempfile::TempDir, PathBuf, Shared) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("banward.toml");
    std::fs::write(&path, config).unwrap();
    let law = Law::read(&path).unwrap();
    (folder, path, Arc::new(Mutex::new(law)))
}

/// An enforcer in a thread, by this configuration, and the lane to it.
fn enforcer(config: &str) -> (tempfile::TempDir, PathBuf, Lane) {
    let (folder, path, law) = law_of(config);
    let (ours, theirs) = Lane::pair().unwrap();
    std::thread::spawn(move || Server::new(Lane::of(theirs), law, Open::default(), Sessions::unknown(), None).run());
    (folder, path, ours)
}

fn ask(lane: &mut Lane, request: &Request) -> Reply {
    lane.send(request).unwrap();
    lane.receive().unwrap().expect("an answer")
}

fn set(prefix: &str) -> Change {
    Change::Set(Entry { prefix: prefix.parse().unwrap(), scope: Scope::default(), until: Until::Forever })
}

fn settings_in(path: &Path) -> Settings {
    crate::config::Config::load(path, &crate::config::problem::Problems::default()).unwrap().firewall
}

#[test]
fn a_brain_that_was_taken_over_bans_nobody_who_is_protected_and_not_everybody() {
    let (_folder, path, mut lane) =
        enforcer("[firewall]\nbackend = \"none\"\n[allow]\nnetworks = [\"192.0.2.0/24\"]\n");
    let which = Which { settings: fingerprint(&settings_in(&path)), backend: Choice::None };
    let Reply::Opened { session, .. } = ask(&mut lane, &Request::Open(which)) else { panic!("not opened") };
    let at = At { session, now: Timestamp::EPOCH };
    for prefix in ["0.0.0.0/0", "::/0", "0.0.0.0/1", "192.0.2.9/32", "127.0.0.1/32", "192.0.0.0/8"] {
        let entries = vec![Entry { prefix: prefix.parse().unwrap(), scope: Scope::default(), until: Until::Forever }];
        for request in
            [Request::Apply { at, last: true, changes: vec![set(prefix)] }, Request::Sync { at, last: true, entries }]
        {
            let reply = ask(&mut lane, &request);
            let refused = matches!(&reply, Reply::Done { refused: Some(why), .. } if why.count == 1);
            assert!(refused, "{prefix}: {reply:?}");
        }
    }
    let fine = Request::Apply { at, last: true, changes: vec![set("198.51.100.7/32")] };
    assert_eq!(ask(&mut lane, &fine), Reply::Done { installed: 0, refused: None, shortage: None });
}

#[test]
fn a_brain_that_was_taken_over_bans_no_administrator_even_where_it_is_the_first_to_know() {
    let (_folder, _path, law) = law_of("[firewall]\nbackend = \"none\"\n[allow]\nwidest = { ipv4 = 16 }\n");
    let (ours, asking) = Lane::ends().unwrap();
    let admin: Arc<Mutex<Vec<IpAddr>>> = Arc::default();
    let known = Arc::clone(&admin);
    std::thread::spawn(move || {
        let addresses = |wanted| if wanted == Wanted::Sessions { known.lock().unwrap().clone() } else { Vec::new() };
        witness::answer(&mut Lane::of(asking), |wanted| Told::of(addresses(wanted)))
    });
    let kernel = Kept::default();
    let open: Open = Arc::new(Mutex::new(Some(Box::new(kernel.clone()))));
    let sessions = Sessions::watch(&law, Witness::at(Lane::of(ours)).unwrap(), &open).unwrap();
    let (mut lane, theirs) = Lane::pair().unwrap();
    std::thread::spawn(move || Server::new(Lane::of(theirs), law, open, sessions, None).run());

    let at = At { session: 0, now: Timestamp::EPOCH };
    let entry =
        |prefix: &str| Entry { prefix: prefix.parse().unwrap(), scope: Scope::default(), until: Until::Forever };
    let refused = |reply: Reply| match reply {
        Reply::Done { refused, .. } => refused.map(|refused| refused.to_string()).unwrap_or_default(),
        other => panic!("{other:?}"),
    };
    admin.lock().unwrap().push("192.0.2.9".parse().unwrap());
    let list = ["192.0.2.9/32", "192.0.0.0/16", "203.0.113.1/32", "203.0.0.0/15"].map(entry).to_vec();
    let said = refused(ask(&mut lane, &Request::Sync { at, last: true, entries: list }));
    assert!(said.contains("an administrator's session (and 2 more)"), "known before a list: {said}");
    assert_eq!(kernel.prefixes(), ["203.0.113.1/32"]);

    // Logged in since, and not known when the ban comes: it is taken back as soon as it is.
    admin.lock().unwrap().push("198.51.100.7".parse().unwrap());
    let changes = vec![set("198.51.100.0/24"), set("203.0.113.2/32")];
    assert_eq!(refused(ask(&mut lane, &Request::Apply { at, last: true, changes: changes.clone() })), "");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while kernel.prefixes() != ["203.0.113.1/32", "203.0.113.2/32"] {
        assert!(std::time::Instant::now() < deadline, "{:?}", kernel.prefixes());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let said = refused(ask(&mut lane, &Request::Inspect { at }));
    assert!(said.contains("198.51.100.7 is protected"), "and said: {said}");
    let said = refused(ask(&mut lane, &Request::Apply { at, last: true, changes }));
    assert!(said.contains("198.51.100.7 is protected"), "{said}");
}

/// A kernel that remembers what it was told.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<std::collections::BTreeSet<IpNet>>>);

impl Kept {
    fn prefixes(&self) -> Vec<String> {
        self.0.lock().unwrap().iter().map(ToString::to_string).collect()
    }
}

impl Backend for Kept {
    fn name(&self) -> &'static str {
        "none"
    }

    fn sync(&mut self, entries: &[Entry], _now: Timestamp) -> Result<(), FirewallError> {
        *self.0.lock().unwrap() = entries.iter().map(|entry| entry.prefix).collect();
        Ok(())
    }

    fn apply(&mut self, changes: &[Change], _now: Timestamp) -> Result<(), FirewallError> {
        let mut kept = self.0.lock().unwrap();
        for change in changes {
            match change {
                Change::Set(entry) => kept.insert(entry.prefix),
                Change::Clear { prefix, .. } => kept.remove(prefix),
            };
        }
        Ok(())
    }

    fn inspect(&mut self, _now: Timestamp) -> Result<Inspection, FirewallError> {
        Ok(Inspection::Intact)
    }

    fn installed(&mut self, _now: Timestamp) -> usize {
        self.0.lock().unwrap().len()
    }

    fn held(&mut self, _now: Timestamp) -> Result<Vec<Entry>, FirewallError> {
        Ok(Vec::new())
    }

    fn remove(&mut self) -> Result<(), FirewallError> {
        Ok(())
    }
}

/// A kernel in which somebody meddles: what looks at it find, in their order.
struct Meddled(std::collections::VecDeque<Inspection>);

impl Backend for Meddled {
    fn name(&self) -> &'static str {
        "iptables"
    }

    fn look_every(&self) -> Duration {
        Duration::from_millis(20)
    }

    fn sync(&mut self, _entries: &[Entry], _now: Timestamp) -> Result<(), FirewallError> {
        Ok(())
    }

    fn apply(&mut self, _changes: &[Change], _now: Timestamp) -> Result<(), FirewallError> {
        Ok(())
    }

    fn inspect(&mut self, _now: Timestamp) -> Result<Inspection, FirewallError> {
        Ok(self.0.pop_front().unwrap_or(Inspection::Intact))
    }

    fn installed(&mut self, _now: Timestamp) -> usize {
        0
    }

    fn held(&mut self, _now: Timestamp) -> Result<Vec<Entry>, FirewallError> {
        Ok(Vec::new())
    }

    fn remove(&mut self) -> Result<(), FirewallError> {
        Ok(())
    }
}

#[test]
fn what_others_change_is_found_without_a_question_and_told_when_it_is_asked_for() {
    let (_folder, _path, law) = law_of("");
    let found = [Inspection::Intact, Inspection::Mended("one".into()), Inspection::Damaged("two".into())];
    let open: Open = Arc::new(Mutex::new(Some(Box::new(Meddled(found.into())))));
    let (mut lane, theirs) = Lane::pair().unwrap();
    let (mut bell, rope) = UnixStream::pair().unwrap();
    bell.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let rope = Some(Rope::of(rope.into()));
    std::thread::spawn(move || Server::new(Lane::of(theirs), law, open, Sessions::unknown(), rope).run());

    let at = At { session: 0, now: Timestamp::EPOCH };
    let all_well = Reply::Done { installed: 0, refused: None, shortage: None };
    assert_eq!(ask(&mut lane, &Request::Sync { at, last: true, entries: Vec::new() }), all_well);
    let mut rings = |wanted: Reply| {
        bell.read_exact(&mut [0]).expect("it rings");
        assert_eq!(ask(&mut lane, &Request::Inspect { at }), wanted);
    };
    rings(Reply::Mended("one".into()));
    rings(Reply::Damaged("two".into()));
    assert_eq!(ask(&mut lane, &Request::Inspect { at }), all_well, "it is told once");
}

#[test]
fn rules_of_the_brain_s_own_making_are_refused() {
    let (_folder, _path, mut lane) = enforcer("[firewall]\nbackend = \"none\"\n");
    let which = Which { settings: 42, backend: Choice::Iptables };
    for request in [Request::Open(which), Request::Remove(which), Request::Held(which), Request::Traces(which)] {
        let reply = ask(&mut lane, &request);
        assert!(matches!(&reply, Reply::Failed(why) if why.contains("other rules")), "{reply:?}");
    }
}

#[test]
fn what_is_no_message_ends_the_conversation() {
    let (_folder, _path, mut lane) = enforcer("");
    rustix::net::send(&lane, &[77, 1, 2], rustix::net::SendFlags::empty()).unwrap();
    assert!(lane.receive::<Reply>().unwrap().is_none(), "the enforcer has hung up");
}
