use super::*;
use crate::filters::{Effect, User};

/// A failed log-in as this user from this address, at a second.
fn failure(user: &str, address: &str, second: i64) -> Hit {
    Hit {
        address: address.parse().unwrap(),
        time: Timestamp::from_secs(1_795_224_600 + second),
        filter: 0,
        pattern: 0,
        user: User::new(user.as_bytes()),
        port: None,
        evidence: Evidence::Proven,
        effect: Effect::Count(1),
        repeat: 1,
        line: crate::filters::Excerpt::default(),
    }
}

fn window(of: Option<Distinct>) -> Window {
    let (hitcount, seconds) = (3, Duration::from_secs(600));
    Window::new(
        &match of {
            None => Spec::Recent { hitcount, seconds, check: Check::Rcheck },
            Some(of) => Spec::Distinct { hitcount, seconds, of },
        },
        100,
    )
}

/// Counts it by its address, or by the network where there is an IPv6 one.
fn source(hit: &Hit) -> IpNet {
    IpNet::new(hit.address, if hit.address.is_ipv4() { 32 } else { 64 }).unwrap()
}

fn fails(window: &mut Window, user: &str, address: &str, second: i64) -> Option<(u32, &'static str)> {
    let hit = failure(user, address, second);
    window.hit(source(&hit), &hit).map(|offence| (offence.count, offence.unit))
}

fn logs_in(window: &mut Window, user: &str, address: &str, second: i64) {
    let hit = Hit { effect: Effect::Forgive, ..failure(user, address, second) };
    window.forgive(source(&hit), &hit);
}

#[test]
fn who_mistypes_and_then_logs_in_begins_anew() {
    let mut window = window(None);
    for round in 0..5 {
        assert_eq!(fails(&mut window, "bob", "192.0.2.1", round * 10), None);
        assert_eq!(fails(&mut window, "bob", "192.0.2.1", round * 10 + 1), None);
        logs_in(&mut window, "bob", "192.0.2.1", round * 10 + 2);
    }
    assert_eq!(window.tracked(), 0);
}

#[test]
fn an_attacker_with_an_account_cannot_wash_away_what_he_tries_as_others() {
    let mut window = window(None);
    fails(&mut window, "root", "192.0.2.1", 0);
    logs_in(&mut window, "mallory", "192.0.2.1", 1);
    fails(&mut window, "root", "192.0.2.1", 2);
    logs_in(&mut window, "mallory", "192.0.2.1", 3);
    assert_eq!(fails(&mut window, "root", "192.0.2.1", 4), Some((3, "hit")));
}

#[test]
fn a_login_forgives_nothing_of_another_address_even_in_the_same_network() {
    let mut window = window(None);
    fails(&mut window, "bob", "2001:db8::1", 0);
    fails(&mut window, "bob", "2001:db8::1", 1);
    logs_in(&mut window, "bob", "2001:db8::2", 2);
    assert_eq!(fails(&mut window, "bob", "2001:db8::1", 3), Some((3, "hit")));
}

#[test]
fn what_names_no_user_is_not_forgiven() {
    let mut window = window(None);
    fails(&mut window, "", "192.0.2.1", 0);
    fails(&mut window, "", "192.0.2.1", 1);
    logs_in(&mut window, "bob", "192.0.2.1", 2);
    logs_in(&mut window, "", "192.0.2.1", 2);
    assert_eq!(fails(&mut window, "", "192.0.2.1", 3), Some((3, "hit")));
}

#[test]
fn what_may_be_forged_forgives_nothing() {
    let mut window = window(None);
    let forged = |effect| Hit { evidence: Evidence::Forgeable, effect, ..failure("bob", "192.0.2.1", 0) };
    let (failure, login) = (forged(Effect::Count(1)), forged(Effect::Forgive));
    window.hit(source(&failure), &failure);
    window.hit(source(&failure), &failure);
    window.forgive(source(&login), &login);
    assert!(window.hit(source(&failure), &failure).is_some());
}

#[test]
fn a_hit_weighs_what_its_pattern_says_each_time_it_was_repeated() {
    let mut window = window(None);
    let heavy = Hit { effect: Effect::Count(2), ..failure("", "192.0.2.1", 0) };
    assert!(window.hit(source(&heavy), &heavy).is_none());
    assert!(window.hit(source(&heavy), &heavy).is_some());
    let repeated = Hit { repeat: 2, ..Hit { effect: Effect::Count(2), ..failure("", "192.0.2.2", 0) } };
    assert!(window.hit(source(&repeated), &repeated).is_some());
}

#[test]
fn of_distinct_users_one_may_be_tried_as_often_as_one_likes() {
    let mut window = window(Some(Distinct::Users));
    for second in 0..100 {
        assert_eq!(fails(&mut window, "bob", "192.0.2.1", second), None);
        assert_eq!(fails(&mut window, "", "192.0.2.1", second), None);
    }
    assert_eq!(fails(&mut window, "root", "192.0.2.1", 100), None);
    assert_eq!(fails(&mut window, "admin", "192.0.2.1", 101), Some((3, "user")));
}

#[test]
fn of_distinct_ports_a_packet_without_one_says_nothing() {
    let mut window = window(Some(Distinct::Ports));
    let mut sends = |port, second| {
        let hit = Hit { port, evidence: Evidence::Forgeable, ..failure("", "192.0.2.1", second) };
        window.hit(source(&hit), &hit).map(|offence| (offence.count, offence.unit))
    };
    for second in 0..50 {
        assert_eq!(sends(Some(22), second), None);
        assert_eq!(sends(None, second), None);
    }
    assert_eq!(sends(Some(23), 50), None);
    assert_eq!(sends(Some(0), 51), Some((3, "port")));
}

#[test]
fn of_distinct_sources_only_proven_ones_take_part() {
    let mut window = window(Some(Distinct::Sources));
    let forged = Hit { evidence: Evidence::Forgeable, ..failure("bob", "192.0.2.9", 0) };
    assert!(window.hit(source(&forged), &forged).is_none());
    assert_eq!(fails(&mut window, "bob", "192.0.2.1", 0), None);
    assert_eq!(fails(&mut window, "bob", "192.0.2.2", 0), None);
    assert_eq!(fails(&mut window, "", "192.0.2.3", 0), None);
    let last = failure("bob", "192.0.2.4", 1);
    let offence = window.hit(source(&last), &last).unwrap();
    assert_eq!((offence.count, offence.unit), (3, "source"));
    assert_eq!(offence.others.len(), 2);
}

#[test]
fn a_limit_forgives_nothing() {
    let mut window = Window::new(&Spec::Limit { interval: Duration::from_secs(60), burst: 2 }, 10);
    fails(&mut window, "bob", "192.0.2.1", 0);
    fails(&mut window, "bob", "192.0.2.1", 0);
    logs_in(&mut window, "bob", "192.0.2.1", 0);
    assert!(fails(&mut window, "bob", "192.0.2.1", 0).is_some());
}
