use std::net::Ipv4Addr;
use std::ops::Range;
use std::sync::LazyLock;

use crate::config::problem::Problems;
use crate::filters::{Filter, Filters, Hit, Matcher, Memory, Mode};
use crate::sources::lines;
use crate::sources::tests::clock;

use super::*;

/// Filters with joins and without; read once, for that takes a while.
static MATCHER: LazyLock<Arc<Matcher>> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("filters");
    let wanted = ["sshd", "nginx-http-auth"];
    let filters = Filters::load_those(&[folder], |name| wanted.contains(&name), &Problems::default());
    let aggressive = |name: &str| -> Arc<Filter> { filters.get(name).unwrap().with_mode(Mode::Aggressive) };
    Arc::new(Matcher::new(wanted.iter().map(|name| aggressive(name)).collect()))
});

/// A log in which lines belong together: `often` of a thousand name a connection or accuse one by its process, say how
/// often the line before them came again, are torn by a container's engine, or are too long.
fn log(random: &mut Random, lines: Range<u64>, often: u64) -> Vec<u8> {
    let mut log = Vec::new();
    for number in lines {
        let (minute, second, process) = (number / 60 % 60, number % 60, random.below(6));
        let address = Ipv4Addr::from(u32::try_from(random.below(1 << 32)).unwrap());
        let head = format!("Nov 20 01:{minute:02}:{second:02} web sshd[{process}]: ");
        let docker = |text: &str, end| {
            format!(
                "{{\"log\":\"{text}{end}\",\"stream\":\"stdout\",\"time\":\"2026-11-20T01:{minute:02}:{second:02}Z\"}}"
            )
        };
        let line = match (random.below(1000) < often, random.below(6)) {
            (true, 0) => format!("{head}Connection from {address} port 1 on 198.51.100.1 port 22"),
            (true, 1) => {
                format!("{head}error: kex_exchange_identification: client sent invalid protocol identifier \"\"")
            }
            (true, 2) => format!("Nov 20 01:{minute:02}:{second:02} web last message repeated 3 times"),
            (true, 3) => docker(&format!("{head}Invalid user a from {address} port 1"), ""),
            (true, 4) => docker(&format!("{head}Invalid user b from {address} port 1"), "\\n"),
            (true, _) => format!("{head}{}", "x".repeat(MAX_LINE + 9)),
            (false, 0..3) => format!("{head}Failed password for root from {address} port 4711 ssh2"),
            (false, _) => format!("{head}session opened for user bob by (uid=0)"),
        };
        log.extend_from_slice(line.as_bytes());
        log.push(b'\n');
    }
    log
}

/// As one thread finds them that reads the blocks between these line ends.
fn one_by_one(log: &[u8], ends: &[usize]) -> Vec<Hit> {
    let (mut memory, mut hits, mut start) = (Memory::default(), Vec::new(), 0);
    for end in ends {
        hits.extend(lines::take(&**MATCHER, &clock(), &mut memory, &log[start..*end], false).hits);
        start = *end;
    }
    hits
}

#[test]
fn blocks_that_are_scanned_by_themselves_give_the_same_hits_wherever_they_are_cut() {
    let mut random = Random::new(3);
    for round in 0..60 {
        let log = log(&mut random, 0..150, [5, 50, 500][round % 3]);
        let line_ends = memchr::memchr_iter(b'\n', &log).map(|newline| newline + 1);
        let mut ends: Vec<usize> = line_ends.filter(|_| random.below(4) == 0).collect();
        ends.push(log.len());
        let (mut memory, mut hits, mut start, mut alone) = (Memory::default(), Vec::new(), 0, 0);
        for end in &ends {
            let (block, mut own) = (&log[start..*end], Memory::default());
            let taken = lines::take(&**MATCHER, &clock(), &mut own, block, false);
            if memory.reaches(block, &own) {
                hits.extend(lines::take(&**MATCHER, &clock(), &mut memory, block, false).hits);
            } else {
                memory.adopt(own);
                hits.extend(taken.hits);
                alone += 1;
            }
            start = *end;
        }
        assert_eq!(hits, one_by_one(&log, &ends), "round {round}");
        assert!(alone > 0, "round {round}");
    }
}

/// What a source reports of a log: the hits, where the batches end, how many lines were too long.
fn reported(world: &World) -> (Vec<Hit>, Vec<u64>, u64, u64) {
    let mut harness = world.spawn(|spec| spec.scan = Arc::clone(&*MATCHER) as Arc<dyn Scan>);
    let (mut hits, mut ends) = (Vec::new(), Vec::new());
    loop {
        match harness.await_report("the next report", |_| true) {
            Report::Batch(batch) => {
                hits.extend(batch.hits);
                let Some(Position::File { offset, .. }) = batch.position else { panic!("a file has positions") };
                ends.push(offset);
            }
            Report::CaughtUp { .. } => break,
            _ => {}
        }
    }
    let (lines, cut) = (harness.lines, harness.cut);
    harness.stop();
    (hits, ends, lines, cut)
}

#[test]
fn a_log_that_is_far_behind_is_reported_by_several_threads_as_by_one() {
    let log = log(&mut Random::new(9), 0..90_000, 2);
    assert!(log.len() > 20 * BLOCK);
    let world = World::new(&["a.log"]);
    fs::write(world.path("a.log"), &log).unwrap();
    let (hits, ends, lines, cut) = reported(&world);
    assert!(ends.is_sorted(), "positions only move on");
    assert_eq!(ends.last(), Some(&(log.len() as u64)));
    let ends: Vec<usize> = ends.iter().map(|end| usize::try_from(*end).unwrap()).collect();
    assert!(ends.iter().all(|end| *end == 0 || log[end - 1] == b'\n'));
    let expected = one_by_one(&log, &ends);
    assert!(hits == expected, "{} hits instead of {}", hits.len(), expected.len());
    let too_long = log.split(|byte| *byte == b'\n').filter(|line| line.len() > MAX_LINE).count() as u64;
    assert_eq!((lines, cut), (90_000, too_long));
}
