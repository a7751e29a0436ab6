use super::*;

fn address(number: u32) -> IpAddr {
    IpAddr::from(number.to_be_bytes())
}

fn crowd(hitcount: u32) -> Crowd {
    Crowd::new(hitcount, Duration::from_secs(60), 100)
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_secs(1_795_224_600 + seconds)
}

/// Who is convicted by a hit of this source: with it, the others.
fn hit(crowd: &mut Crowd, user: &str, number: u32, seconds: i64) -> Vec<IpAddr> {
    let offence = crowd.hit(user, address(number).into(), address(number), at(seconds));
    let mut all = offence.map(|(_, _, others)| others).unwrap_or_default();
    all.sort_unstable();
    all
}

#[test]
fn the_source_that_is_one_too_many_convicts_all_that_took_part() {
    let mut crowd = crowd(3);
    assert!(hit(&mut crowd, "bob", 1, 0).is_empty());
    assert!(hit(&mut crowd, "bob", 1, 1).is_empty());
    assert!(hit(&mut crowd, "eve", 9, 1).is_empty());
    assert!(hit(&mut crowd, "bob", 2, 2).is_empty());
    assert_eq!(hit(&mut crowd, "bob", 3, 61), [address(1), address(2)]);
    assert_eq!(hit(&mut crowd, "bob", 4, 62), [address(2), address(3)]);
    assert!(hit(&mut crowd, "bob", 5, 200).is_empty());
}

#[test]
fn an_offence_says_how_many_sources_there_were_and_since_when() {
    let mut crowd = crowd(2);
    hit(&mut crowd, "bob", 1, 0);
    let source = "2001:db8::/64".parse().unwrap();
    let offence = crowd.hit("bob", source, "2001:db8::7".parse().unwrap(), at(5));
    assert_eq!(offence, Some((2, at(0), vec![address(1)])));
    assert!(crowd.hit("eve", source, "2001:db8::7".parse().unwrap(), at(5)).is_none());
    assert!(crowd.hit("eve", source, "2001:db8::8".parse().unwrap(), at(6)).is_none(), "one network is one source");
}

#[test]
fn a_source_from_which_the_user_logged_in_is_left_out_before_and_after() {
    let mut crowd = crowd(3);
    hit(&mut crowd, "bob", 1, 0);
    crowd.forgive("bob", address(1).into(), at(1));
    hit(&mut crowd, "bob", 2, 2);
    assert!(hit(&mut crowd, "bob", 1, 3).is_empty());
    assert!(hit(&mut crowd, "bob", 3, 4).is_empty());
    assert_eq!(hit(&mut crowd, "bob", 4, 5), [address(2), address(3)]);
    assert!(hit(&mut crowd, "bob", 1, 6).is_empty());
}

#[test]
fn a_login_of_one_user_says_nothing_for_another() {
    let mut crowd = crowd(2);
    hit(&mut crowd, "bob", 1, 0);
    crowd.forgive("eve", address(1).into(), at(1));
    assert_eq!(hit(&mut crowd, "bob", 2, 2), [address(1)]);
}

#[test]
fn what_was_unbanned_or_lies_in_the_future_has_not_taken_part() {
    let mut crowd = crowd(3);
    for number in 1..=2 {
        hit(&mut crowd, "bob", number, 0);
    }
    crowd.forget(address(1).into());
    assert!(hit(&mut crowd, "bob", 3, 1).is_empty());
    hit(&mut crowd, "eve", 1, 5000);
    hit(&mut crowd, "eve", 2, 5000);
    crowd.rewind(at(10));
    assert!(hit(&mut crowd, "eve", 3, 10).is_empty());
    assert_eq!(crowd.tried.len(), 2);
}

#[test]
fn any_number_of_users_and_logins_stays_within_the_capacity() {
    let mut crowd = crowd(3);
    hit(&mut crowd, "bob", 1, 0);
    hit(&mut crowd, "bob", 2, 0);
    for number in 0..10_000_u32 {
        hit(&mut crowd, &number.to_string(), 7, 1);
        crowd.forgive(&number.to_string(), address(number).into(), at(1));
    }
    assert_eq!((crowd.tried.len(), crowd.logged_in.len()), (100, 100));
    assert_eq!(hit(&mut crowd, "bob", 3, 2), [address(1), address(2)], "whom two tried is more suspicious");
}

#[test]
fn the_base_may_move() {
    let day = 86_400;
    let mut crowd = crowd(2);
    hit(&mut crowd, "eve", 1, 0);
    hit(&mut crowd, "bob", 1, 40 * day);
    assert_eq!(hit(&mut crowd, "bob", 2, 40 * day + 1), [address(1)]);
    hit(&mut crowd, "bob", 1, 80 * day);
    assert_eq!(hit(&mut crowd, "bob", 2, 80 * day + 1), [address(1)]);
    assert_eq!(crowd.tried.len(), 1);
}
