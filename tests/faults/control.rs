//! Clients of the control socket that are slow, silent, huge, malformed or thousands.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::support::guard::{Guard, SECOND};
use super::support::lab::Lab;
use super::support::random::Random;
use super::support::{Over, eventually};
use super::{attack, guarded, passes};

/// Clients at once.
const THOUSANDS: usize = 3000;

/// How long a person waits for `banctl` at most, while others misbehave on a busy machine.
const SOON: Duration = Duration::from_secs(10);

fn connect(guard: &Guard) -> UnixStream {
    let stream = UnixStream::connect(guard.path("control.sock")).unwrap();
    stream.set_write_timeout(Some(SECOND)).unwrap();
    stream
}

/// Whoever else is there: packets of attackers are dropped, and a person gets an answer.
#[track_caller]
fn all_is_as_ever(lab: &Lab, guard: &Guard) {
    attack(guard, "sshd.log", &lab.attacker.v4.to_string());
    eventually("guarding goes on", || !passes(&lab.attacker));
    for ask in [["status", "--json"], ["list", "--json"], ["ban", "192.0.2.1"], ["unban", "192.0.2.1"]] {
        let asked = Instant::now();
        guard.ctl(&ask);
        assert!(asked.elapsed() < SOON, "banctl {ask:?} took {:?}", asked.elapsed());
    }
}

#[test]
fn thousands_of_silent_clients_keep_nobody_from_being_answered() {
    let nothing_more = Rlimit { current: Some(THOUSANDS as u64 * 2), ..getrlimit(Resource::Nofile) };
    setrlimit(Resource::Nofile, nothing_more).unwrap();
    let lab = Lab::new();
    let guard = guarded(&lab, "nftables");
    let silent: Vec<UnixStream> = (0..THOUSANDS).map(|_| connect(&guard)).collect();
    all_is_as_ever(&lab, &guard);
    drop(silent);
    assert_eq!(guard.status()["health"], "ok");
}

#[test]
fn clients_that_send_one_byte_after_another_keep_nobody_from_being_answered() {
    let lab = Lab::new();
    let guard = guarded(&lab, "nftables");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _over = Over(&done);
        scope.spawn(|| {
            let mut slow: Vec<UnixStream> = (0..100).map(|_| connect(&guard)).collect();
            for byte in br#"{"version":1,"do":"import","name":""#.iter().chain(std::iter::repeat(&b'x')) {
                if done.load(Ordering::Relaxed) {
                    return;
                }
                for stream in &mut slow {
                    if stream.write_all(&[*byte]).is_err() {
                        *stream = connect(&guard);
                    }
                }
                std::thread::sleep(SECOND / 20);
            }
        });
        all_is_as_ever(&lab, &guard);
    });
}

#[test]
fn clients_that_ask_and_never_listen_keep_nobody_from_being_answered() {
    let lab = Lab::new();
    let guard = guarded(&lab, "nftables");
    let list: Vec<String> = (0..4000).map(|number| format!("198.18.{}.{}", number / 250, number % 250)).collect();
    std::fs::write(guard.path("list.txt"), list.join("\n")).unwrap();
    guard.ctl(&["import", &guard.path("list.txt").display().to_string()]);
    let ask = |what: &str| {
        let mut stream = connect(&guard);
        // It hangs up at some point, or reads no more.
        let _refused = stream.write_all(format!("{{\"version\":1,\"do\":\"{what}\"}}\n").repeat(200).as_bytes());
        stream
    };
    let deaf: Vec<UnixStream> = ["status", "events", "allowed"]
        .iter()
        .flat_map(|what| (0..40).map(|_| ask(what)).collect::<Vec<_>>())
        .collect();
    all_is_as_ever(&lab, &guard);
    drop(deaf);
    assert_eq!(guard.status()["health"], "ok");
}

#[test]
fn what_no_request_is_made_of_is_refused_and_harms_nobody() {
    let lab = Lab::new();
    let guard = guarded(&lab, "nftables");
    let mut random = Random::new(5);
    let valid = br#"{"version":1,"do":"ban","prefix":"203.0.113.7/32","seconds":60,"reason":"x"}"#;
    for _ in 0..300 {
        let mut request = valid.to_vec();
        for _ in 0..=random.below(4) {
            let place = random.index(request.len());
            match random.below(4) {
                0 => request[place] = u8::try_from(random.below(256)).unwrap(),
                1 => request.truncate(place.max(1)),
                2 => request.insert(place, b'['),
                _ => request = request.repeat(2),
            }
        }
        request.push(b'\n');
        let mut stream = connect(&guard);
        // What is refused early is not read to its end.
        let _refused = stream.write_all(&request);
        let _closed = stream.shutdown(std::net::Shutdown::Write);
        stream.set_read_timeout(Some(SOON)).unwrap();
        let mut answer = Vec::new();
        let _reset = stream.read_to_end(&mut answer);
    }
    for nested in ["[", "{\"a\":", "\"\\u0000"] {
        let mut stream = connect(&guard);
        let _refused = stream.write_all(nested.repeat(60_000).as_bytes());
    }
    all_is_as_ever(&lab, &guard);
    assert_eq!(guard.status()["health"], "ok");
}
