use super::*;

#[test]
fn after_a_rename_the_old_file_is_read_to_its_end_and_the_new_one_from_its_beginning() {
    let world = World::new(&["a.log"]);
    let mut harness = world.start();
    world.append("a.log", "one\n");
    expect(&mut harness, &["one"]);
    world.append("a.log", "two\n");
    world.rename("a.log", "a.log.1");
    world.append("a.log.1", "three\n");
    world.append("a.log", "four\n");
    expect(&mut harness, &["one", "two", "three", "four"]);
}

#[test]
fn a_writer_that_goes_on_in_the_renamed_file_is_followed_there() {
    let world = World::new(&["a.log"]);
    let mut harness = world.start();
    world.append("a.log", "one\n");
    expect(&mut harness, &["one"]);
    world.rename("a.log", "a.log.1");
    File::create(world.path("a.log")).unwrap();
    world.append("a.log.1", "two\n");
    expect(&mut harness, &["one", "two"]);
    world.append("a.log", "three\n");
    expect(&mut harness, &["one", "two", "three"]);
    world.append("a.log.1", "a straggler\n");
    expect(&mut harness, &["one", "two", "three", "a straggler"]);
}

#[test]
fn two_rotations_between_two_looks_lose_nothing() {
    let world = World::new(&["a.log"]);
    world.append("a.log", "one\n");
    let mut harness = world.start();
    let resume = harness.stop();
    world.append("a.log", "two\n");
    world.rename("a.log", "a.log.2");
    after_a_clock_tick(&world);
    world.append("a.log", "three\n");
    world.rename("a.log", "a.log.1");
    world.append("a.log", "four\n");
    let mut harness = world.start_with(|spec| spec.resume = resume);
    expect(&mut harness, &["two", "three", "four"]);
}

/// Waits until files that are made have a later time than those that were made before.
pub(super) fn after_a_clock_tick(world: &World) {
    let born = |name| {
        File::create(world.path(name)).unwrap();
        fs::metadata(world.path(name)).unwrap().created().unwrap()
    };
    let _ = fs::remove_file(world.path("clock"));
    let first = born("clock");
    loop {
        fs::remove_file(world.path("clock")).unwrap();
        if born("clock") > first {
            return;
        }
    }
}

#[test]
fn after_copytruncate_the_rest_is_read_in_the_copy() {
    let world = World::new(&["a.log"]);
    world.append("a.log", "one\n");
    let mut harness = world.start();
    let resume = harness.stop();
    world.append("a.log", "two\n");
    world.copytruncate("a.log", "a.log.1");
    world.append("a.log", "three\n");
    let mut harness = world.start_with(|spec| spec.resume = resume);
    expect(&mut harness, &["two", "three"]);
    world.copytruncate("a.log", "a.log.1");
    world.append("a.log", "four\n");
    expect(&mut harness, &["two", "three", "four"]);
}

#[test]
fn a_file_that_is_truncated_and_has_grown_beyond_the_offset_is_read_from_its_beginning() {
    let world = World::new(&["a.log"]);
    world.append("a.log", "one\n");
    let mut harness = world.start();
    expect(&mut harness, &["one"]);
    fs::write(world.path("a.log"), "a longer line\n").unwrap();
    expect(&mut harness, &["one", "a longer line"]);
}

#[test]
fn a_renamed_file_that_matches_the_glob_is_not_read_twice() {
    let world = World::new(&["a.log*"]);
    let mut harness = world.start();
    world.append("a.log", "one\n");
    expect(&mut harness, &["one"]);
    for (number, line) in ["two\n", "three\n", "four\n"].into_iter().enumerate() {
        for generation in (1..=number).rev() {
            world.rename(&format!("a.log.{generation}"), &format!("a.log.{}", generation + 1));
        }
        world.rename("a.log", "a.log.1");
        world.append("a.log", line);
        harness.await_until("the line", |harness| harness.seen.len() == number + 2);
    }
    let resume = harness.stop();
    assert_eq!(harness.seen, ["one", "two", "three", "four"]);
    // After a restart neither.
    let mut harness = world.start_with(|spec| spec.resume = resume);
    world.append("a.log", "five\n");
    expect(&mut harness, &["five"]);
}

#[test]
fn a_copy_that_matches_the_glob_is_not_read_twice() {
    let world = World::new(&["a.log*"]);
    let mut harness = world.start();
    world.append("a.log", "one\n");
    expect(&mut harness, &["one"]);
    world.copytruncate("a.log", "a.log.1");
    world.append("a.log", "two\n");
    expect(&mut harness, &["one", "two"]);
    world.rename("a.log.1", "a.log.2");
    world.copytruncate("a.log", "a.log.1");
    world.append("a.log", "three\n");
    expect(&mut harness, &["one", "two", "three"]);
    // Into the same file, as logrotate never does but people do.
    world.copytruncate("a.log", "a.log.1");
    world.append("a.log", "four\n");
    expect(&mut harness, &["one", "two", "three", "four"]);
    harness.await_until("a position in the copy", |harness| {
        harness.positions.contains_key(world.path("a.log.1").to_str().unwrap())
    });
    let resume = harness.stop();
    let mut harness = world.start_with(|spec| spec.resume = resume);
    world.append("a.log", "five\n");
    expect(&mut harness, &["five"]);
}

#[test]
fn a_fragment_at_the_end_of_a_rotated_file_is_never_taken_for_a_line() {
    let world = World::new(&["a.log"]);
    let mut harness = world.start();
    world.append("a.log", "one\nfrom 192.0.2.1");
    expect(&mut harness, &["one"]);
    world.rename("a.log", "a.log.1");
    world.append("a.log", "two\n");
    expect(&mut harness, &["one", "two"]);
    harness.await_until("the loss", |harness| harness.lost == 1);
    assert_eq!(harness.seen, ["one", "two"]);
}

/// Appends numbered lines as fast as it can until `rotate` has rotated a few times, and checks that each came once.
fn under_load(copytruncate: bool) {
    const ROTATIONS: u64 = 20;
    let world = World::new(&["a.log"]);
    let mut harness = world.start();
    let (done, writing) = (AtomicBool::new(false), Mutex::new(0_u64));
    let written = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let open = || OpenOptions::new().create(true).append(true).open(world.path("a.log")).unwrap();
            let mut file = open();
            let start = Instant::now();
            while !done.load(Ordering::Relaxed) && start.elapsed() < Duration::from_secs(15) {
                // The lock keeps lines from falling between the copy and the truncation, where rotation itself loses them.
                let mut number = writing.lock().unwrap();
                if *number % 64 == 0 {
                    file = open();
                }
                writeln!(file, "{number} some text of usual length, as of a log").unwrap();
                *number += 1;
            }
            *writing.lock().unwrap()
        });
        let mut rotated_at = 0;
        for rotation in 1..=ROTATIONS {
            let made = || world.path("a.log").exists();
            harness.await_until("progress", |harness| harness.seen.len() as u64 > rotated_at + 500 && made());
            let written = writing.lock().unwrap();
            rotated_at = *written;
            if copytruncate {
                world.copytruncate("a.log", &format!("a.log.{rotation}"));
            } else {
                drop(written);
                world.rename("a.log", &format!("a.log.{rotation}"));
            }
        }
        done.store(true, Ordering::Relaxed);
        writer.join().unwrap()
    });
    harness.await_until("all lines", |harness| harness.seen.len() as u64 >= written);
    let mut numbers: Vec<u64> =
        harness.seen.iter().map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..written).collect::<Vec<_>>());
}

#[test]
fn every_line_counts_once_under_load_when_files_are_renamed_while_the_writer_goes_on() {
    under_load(false);
}

#[test]
fn every_line_counts_once_under_load_with_copytruncate() {
    under_load(true);
}
