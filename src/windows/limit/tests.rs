use proptest::prelude::*;

use super::*;
use crate::filters::Evidence;

fn source(number: u32) -> IpNet {
    IpNet::from(std::net::IpAddr::from(number.to_be_bytes()))
}

fn key(number: u32) -> Key {
    Key::of(source(number), Evidence::Proven)
}

fn millis(millis: i64) -> Timestamp {
    Timestamp::from_micros(1_795_224_600_000_000 + millis * 1000)
}

/// `--limit 1/s --limit-burst N`
fn one_a_second(burst: u32) -> Limit {
    Limit::new(Duration::from_secs(1), burst, 100)
}

fn passes(window: &mut Limit, hits: impl IntoIterator<Item = i64>) -> usize {
    hits.into_iter().filter(|hit| window.hit(key(1), millis(*hit), 1).is_none()).count()
}

#[test]
fn of_55_pings_in_5_7_seconds_eight_pass_one_a_second_with_burst_3() {
    assert_eq!(passes(&mut one_a_second(3), (0..55).map(|ping| ping * 5700 / 54)), 8);
}

#[test]
fn a_pause_gives_back_what_it_lasted_and_no_more_than_the_burst() {
    let mut window = one_a_second(3);
    assert_eq!(passes(&mut window, [0; 10]), 3);
    assert_eq!(passes(&mut window, [1500; 10]), 1);
    assert_eq!(passes(&mut window, [6500; 10]), 3);
    assert_eq!(passes(&mut window, [100_000; 10]), 3);
}

#[test]
fn an_offence_names_the_hits_since_the_bucket_was_full() {
    let mut window = one_a_second(3);
    passes(&mut window, [0, 10_000, 10_100, 10_200]);
    assert_eq!(window.hit(key(1), millis(10_300), 1), Some((4, millis(10_000))));
}

#[test]
fn a_repeated_line_takes_as_many_tokens_as_it_says() {
    let mut window = one_a_second(3);
    assert_eq!(window.hit(key(1), millis(0), 3), None);
    assert!(window.hit(key(2), millis(0), 4).is_some());
    assert!(window.hit(key(3), millis(0), u32::MAX).is_some());
    assert_eq!(window.hit(key(4), millis(0), 0), None);
}

#[test]
fn a_late_hit_from_before_the_bucket_was_full_costs_nothing() {
    let mut window = one_a_second(3);
    assert_eq!(passes(&mut window, [100_000, 100_000, 100_000, 50_000, 98_000]), 5);
    assert!(window.hit(key(1), millis(100_000), 1).is_some());
}

#[test]
fn a_late_hit_since_the_bucket_was_full_is_judged_at_the_latest_time() {
    let mut window = one_a_second(3);
    assert_eq!(passes(&mut window, [0, 0, 0, 2000]), 4);
    assert_eq!(passes(&mut window, [500]), 1, "one token was left at 2 s");
    assert_eq!(passes(&mut window, [500, 1000, 2000]), 0, "going back does not fill the bucket");
    assert_eq!(passes(&mut window, [3000, 3000]), 1, "nor does it empty it");
}

#[test]
fn what_was_forgotten_has_a_full_bucket_again() {
    let mut window = one_a_second(1);
    window.hit(key(1), millis(0), 1);
    window.forget(source(1));
    assert_eq!(window.table.len(), 0);
    assert_eq!(window.hit(key(1), millis(1), 1), None);
}

#[test]
fn after_the_clock_was_set_back_hits_count_again() {
    let mut window = one_a_second(2);
    passes(&mut window, [0, 3_600_000]);
    assert_eq!(passes(&mut window, [1000; 10]), 10, "before the bucket was full nothing counts");
    window.rewind(millis(1000));
    assert_eq!(passes(&mut window, [1000; 10]), 2);
}

#[test]
fn at_the_bound_the_fullest_bucket_goes_first() {
    let mut window = Limit::new(Duration::from_secs(1), 3, 2);
    window.hit(key(1), millis(0), 3);
    window.hit(key(2), millis(100), 1);
    window.hit(key(3), millis(200), 1);
    assert_eq!((window.table.len(), window.table.evicted()), (2, 1));
    assert!(window.hit(key(1), millis(300), 1).is_some());
}

#[test]
fn a_spoofed_source_never_takes_the_room_of_a_proven_one_that_has_no_credit() {
    let mut window = Limit::new(Duration::from_secs(100), 3, 2);
    window.hit(key(1), millis(0), 3);
    window.hit(key(2), millis(100), 1);
    assert_eq!(window.hit(Key::of(source(3), Evidence::Forgeable), millis(200), 9), None);
    assert_eq!((window.table.len(), window.table.evicted()), (2, 1));
    assert!(window.hit(key(1), millis(300), 1).is_some());
}

#[test]
fn a_hundred_thousand_sources_stay_within_64_bytes_each_and_within_the_capacity() {
    let mut window = Limit::new(Duration::from_secs(1), 30, 100_000);
    for number in 0..105_000 {
        window.hit(key(number), millis(0), 1);
    }
    assert_eq!((window.table.len(), window.table.evicted()), (100_000, 5_000));
    assert!(window.table.bytes() <= 6_400_000, "{}", window.table.bytes());
}

proptest! {
    #[test]
    fn limit_decides_as_an_exact_bucket_does(
        interval in 1_u128..3_000_000_000,
        burst in 1_u32..40,
        steps in prop::collection::vec(prop_oneof![Just(0_i64), 0_i64..200_000, 0_i64..20_000_000], 1..300),
    ) {
        let nanos = u64::try_from(interval).unwrap();
        let mut tested = Limit::new(Duration::from_nanos(nanos), burst, 10);
        // Credit in nanoseconds: a hit costs an interval, the bucket holds `burst` of them.
        let full = interval * u128::from(burst);
        let mut credit = full;
        let mut now = 1_795_224_600_000_000;
        for step in steps {
            now += step;
            credit = full.min(credit + u128::try_from(step).unwrap() * 1000);
            let pass = credit >= interval;
            if pass {
                credit -= interval;
            }
            prop_assert_eq!(tested.hit(key(1), Timestamp::from_micros(now), 1).is_none(), pass);
        }
    }

    #[test]
    fn a_hit_that_is_read_late_adds_no_offence(
        burst in 1_u32..10,
        steps in prop::collection::vec(0_i64..1500, 2..100),
        late in 0_usize..100,
    ) {
        let mut times: Vec<i64> = steps.iter().scan(0, |now, step| { *now += step; Some(*now) }).collect();
        let in_order = passes(&mut one_a_second(burst), times.iter().copied());
        let moved = times.remove(late % times.len());
        times.push(moved);
        let out_of_order = passes(&mut one_a_second(burst), times);
        prop_assert!(out_of_order >= in_order, "{out_of_order} < {in_order}");
    }
}

#[test]
fn a_tally_is_what_was_taken_and_not_given_back() {
    let mut window = one_a_second(5);
    assert_eq!(window.tally(&key(1), millis(0)), None);
    passes(&mut window, [0, 0, 0]);
    let hits = |time| window.tally(&key(1), millis(time)).unwrap().hits;
    assert_eq!((hits(0), hits(1000), hits(2000), hits(9000)), (3, 2, 1, 0));
    assert_eq!(window.tally(&key(1), millis(9000)).unwrap().last, millis(0));
}
