mod stages;

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use super::*;
use crate::config::problem::Problems;
use crate::filters::{Evidence, Filters};
use crate::sources::Place;
use crate::time::Until;

const NOW: Timestamp = Timestamp::from_secs(1_795_224_600);
const MINUTE: Duration = Duration::from_secs(60);

/// Jails in the order of their names, which is that of the filters in the matcher: a ping flood needs 5 hits, SSH 4 and
/// FTP 3.
const JAILS: &str = "
    [jail.a-ping]
    filter = 'ping-drop'
    source = 'kernel'
    window = { hitcount = 5, seconds = 60 }
    [jail.b-ssh]
    filter = 'sshd'
    window = { hitcount = 4, seconds = 600 }
    [jail.c-ftp]
    filter = 'vsftpd'
    window = { hitcount = 3, seconds = 600 }
";
const PING: u16 = 0;
const SSH: u16 = 1;
const FTP: u16 = 2;

/// Read once: that takes a second.
static FILTERS: LazyLock<Filters> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("filters");
    Filters::load_those(&[folder], |name| ["ping-drop", "sshd", "vsftpd"].contains(&name), &Problems::default())
});

fn pipeline(config: &str) -> Pipeline {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("banward.toml");
    std::fs::write(&path, format!("{config}\n{JAILS}")).unwrap();
    let problems = Problems::default();
    let config = Config::load(&path, &problems).filter(|_| !problems.has_errors());
    let config = config.unwrap_or_else(|| panic!("{:?}", problems.into_sorted()));
    let wiring = Wiring::new(&config, &FILTERS, |_, _| Place::Stdin);
    let mut allowlist = Allowlist::default();
    allowlist.set_given(&config.allow.networks);
    allowlist.set_widest(config.allow.widest);
    Pipeline::new(&config, &wiring, Ledger::in_memory(), allowlist)
}

fn hit(filter: u16, address: &str, time: Timestamp) -> Hit {
    let evidence = if filter == PING { Evidence::Forgeable } else { Evidence::Proven };
    Hit {
        address: address.parse().unwrap(),
        time,
        filter,
        pattern: 0,
        user: None,
        port: None,
        evidence,
        effect: Effect::Count(1),
        repeat: 1,
        line: crate::filters::Excerpt::default(),
    }
}

/// So many hits at once.
fn hits(pipeline: &mut Pipeline, filter: u16, address: &str, count: usize, now: Timestamp) -> Outcome {
    pipeline.on_hits(0, &vec![hit(filter, address, now); count], false, now)
}

/// The bans that stand: prefix, minutes that are left, evidence, reason.
fn bans(pipeline: &Pipeline, now: Timestamp) -> Vec<String> {
    let shown = |ban: Ban| {
        let left = ban.until.remaining(now).map_or(u64::MAX, |left| left.as_secs() / 60);
        let evidence = if ban.evidence == Evidence::Proven { "proven" } else { "forgeable" };
        format!("{} {left}m {evidence} {}: {}", ban.prefix, ban.jail, ban.reason)
    };
    pipeline.ledger.bans().map(shown).collect()
}

fn kinds(outcome: &Outcome) -> Vec<Kind> {
    outcome.events.iter().map(|event| event.kind).collect()
}

#[test]
fn what_was_counted_before_a_person_unbanned_it_does_not_count_after_a_restart_either() {
    let mut pipeline = pipeline("");
    let banned = hits(&mut pipeline, SSH, "192.0.2.9", 4, NOW);
    assert_eq!(kinds(&banned), [Kind::Banned]);
    pipeline.unban(&["192.0.2.9/32".parse().unwrap()], None, NOW + MINUTE).unwrap();
    pipeline.pardons = Pardons::of(&pipeline.ledger);
    let again: Vec<Hit> = ["192.0.2.9", "192.0.2.10"].into_iter().map(|address| hit(SSH, address, NOW)).collect();
    for _ in 0..3 {
        pipeline.on_hits(0, &again, true, NOW + 2 * MINUTE);
    }
    let later = NOW + 3 * MINUTE;
    assert!(hits(&mut pipeline, SSH, "192.0.2.9", 3, later).events.is_empty());
    assert_eq!(kinds(&hits(&mut pipeline, SSH, "192.0.2.10", 1, later)), [Kind::Banned], "others' lines count again");
    assert_eq!(kinds(&hits(&mut pipeline, SSH, "192.0.2.9", 1, later)), [Kind::Banned]);
}

#[test]
fn forgeable_evidence_bans_one_customer_for_a_short_time_whatever_a_jail_counts() {
    let mut pipeline = pipeline("[defaults]\nprefix = { ipv4 = 24, ipv6 = 48 }\nban.time = '10m'");
    hits(&mut pipeline, PING, "192.0.2.9", 5, NOW);
    hits(&mut pipeline, PING, "2001:db8::9", 5, NOW);
    hits(&mut pipeline, SSH, "198.51.100.9", 4, NOW);
    let said = ": 5 hits at once";
    assert_eq!(
        bans(&pipeline, NOW),
        [
            format!("192.0.2.9/32 10m forgeable a-ping{said}"),
            "198.51.100.0/24 10m proven b-ssh: 4 hits at once".to_owned(),
            format!("2001:db8::/64 10m forgeable a-ping{said}"),
        ]
    );
}

#[test]
fn a_proven_hit_within_the_hour_before_makes_forgeable_evidence_as_good_as_proven() {
    for (minutes, witness, expected) in [
        (59, "192.0.2.9", "192.0.2.9/32 10m proven a-ping: 5 hits at once; confirmed by a hit that cannot be forged"),
        (61, "192.0.2.9", "192.0.2.9/32 10m forgeable a-ping: 5 hits at once"),
        (1, "192.0.2.8", "192.0.2.9/32 10m forgeable a-ping: 5 hits at once"),
    ] {
        let mut pipeline = pipeline("");
        hits(&mut pipeline, SSH, witness, 1, NOW);
        let later = NOW + minutes * MINUTE;
        hits(&mut pipeline, PING, "192.0.2.9", 5, later);
        assert_eq!(bans(&pipeline, later), [expected], "{minutes}");
    }
}

#[test]
fn corroboration_can_be_switched_off() {
    let mut pipeline = pipeline("[budget]\ncorroborate = []");
    hits(&mut pipeline, SSH, "192.0.2.9", 1, NOW);
    hits(&mut pipeline, PING, "192.0.2.9", 5, NOW);
    assert_eq!(bans(&pipeline, NOW), ["192.0.2.9/32 10m forgeable a-ping: 5 hits at once"]);
}

#[test]
fn forgeable_evidence_confirms_no_other() {
    let mut pipeline = pipeline("");
    hits(&mut pipeline, PING, "192.0.2.9", 4, NOW);
    hits(&mut pipeline, PING, "192.0.2.9", 1, NOW);
    assert_eq!(bans(&pipeline, NOW), ["192.0.2.9/32 10m forgeable a-ping: 5 hits at once"]);
}

#[test]
fn a_handshake_that_the_kernel_has_seen_confirms_the_standing_ban() {
    let mut pipeline = pipeline("[budget]\nmax = '1m'");
    let asked = hits(&mut pipeline, PING, "192.0.2.9", 5, NOW).doubted;
    assert_eq!(asked, ["192.0.2.9".parse::<IpAddr>().unwrap()]);
    assert_eq!(bans(&pipeline, NOW), ["192.0.2.9/32 1m forgeable a-ping: 5 hits at once"]);
    let outcome = pipeline.on_handshake(asked[0], NOW);
    assert_eq!(kinds(&outcome), [Kind::Confirmed]);
    let said = "5 hits at once; confirmed by a connection of the same address";
    assert_eq!(bans(&pipeline, NOW), [format!("192.0.2.9/32 10m proven a-ping: {said}")]);
    assert!(pipeline.on_handshake(asked[0], NOW).events.is_empty(), "once is enough");
    assert!(hits(&mut pipeline, SSH, "192.0.2.8", 4, NOW).doubted.is_empty(), "nobody asks about proven evidence");
}

#[test]
fn a_handshake_of_an_address_with_good_log_ins_confirms_nothing() {
    let mut pipeline = pipeline("");
    let address = "192.0.2.9".parse().unwrap();
    pipeline.on_login(address, NOW);
    hits(&mut pipeline, PING, "192.0.2.9", 5, NOW);
    assert!(pipeline.on_handshake(address, NOW).events.is_empty());
    assert_eq!(pipeline.ledger.standing().forgeable, 1);
}

const WIDEN: &str = "[defaults]\nwiden = { neighbours = 3, seconds = 3600 }";

#[test]
fn the_third_neighbour_bans_the_prefix_and_each_keeps_a_ban_of_its_own() {
    let mut pipeline = pipeline(WIDEN);
    hits(&mut pipeline, SSH, "192.0.2.1", 4, NOW);
    hits(&mut pipeline, FTP, "192.0.2.2", 3, NOW);
    let outcome = hits(&mut pipeline, SSH, "192.0.2.3", 4, NOW);
    assert_eq!(kinds(&outcome), [Kind::Banned, Kind::Widened, Kind::Banned]);
    let wide = "192.0.2.0/24".parse().unwrap();
    let reason = pipeline.ledger.bans_of(&wide)[0].reason.clone();
    assert_eq!(&*reason, "4 hits at once from 192.0.2.3; 3 neighbours in 192.0.2.0/24 have offended within 1h");
    assert_eq!(pipeline.ledger.ban_count(), 4);
    pipeline.unban(&[wide], None, NOW).unwrap();
    assert_eq!(pipeline.ledger.ban_count(), 3, "its inhabitants have what is left of their own");
}

#[test]
fn ipv6_neighbours_widen_rung_by_rung() {
    let mut pipeline = pipeline(WIDEN);
    for network in ["2001:db8:0:10", "2001:db8:0:11", "2001:db8:0:12"] {
        hits(&mut pipeline, SSH, &format!("{network}::9"), 4, NOW);
    }
    let widest = |pipeline: &Pipeline| pipeline.ledger.bans().map(|ban| ban.prefix.prefix_len()).min();
    assert_eq!(widest(&pipeline), Some(56));
    for network in ["2001:db8:0:210", "2001:db8:0:310"] {
        hits(&mut pipeline, SSH, &format!("{network}::9"), 4, NOW);
    }
    assert_eq!(widest(&pipeline), Some(48));
}

#[test]
fn nothing_is_widened_by_default_or_by_forgeable_evidence() {
    for (config, filter, count) in [("", SSH, 4), (WIDEN, PING, 5)] {
        let mut pipeline = pipeline(config);
        for last in 1..10 {
            hits(&mut pipeline, filter, &format!("192.0.2.{last}"), count, NOW);
        }
        assert_eq!(pipeline.ledger.ban_count(), 9, "{config}");
        assert!(pipeline.ledger.bans().all(|ban| ban.prefix.prefix_len() == 32));
    }
}

#[test]
fn corroborated_evidence_does_not_widen_either() {
    let mut pipeline = pipeline(WIDEN);
    for last in 1..5 {
        hits(&mut pipeline, SSH, &format!("192.0.2.{last}"), 1, NOW);
        hits(&mut pipeline, PING, &format!("192.0.2.{last}"), 5, NOW);
    }
    assert!(pipeline.ledger.bans().all(|ban| ban.prefix.prefix_len() == 32 && ban.evidence == Evidence::Proven));
}

#[test]
fn no_prefix_with_an_allowed_address_or_a_good_log_in_is_widened_to() {
    let allowed = format!("[allow]\nnetworks = ['192.0.2.200']\n{WIDEN}");
    for (config, login) in [(allowed.as_str(), false), (WIDEN, true)] {
        let mut pipeline = pipeline(config);
        if login {
            pipeline.on_login("192.0.2.200".parse().unwrap(), NOW);
        }
        for last in 1..10 {
            hits(&mut pipeline, SSH, &format!("192.0.2.{last}"), 4, NOW);
        }
        assert_eq!(pipeline.ledger.ban_count(), 9, "{config}");
    }
}

#[test]
fn who_offended_before_a_restart_is_still_a_neighbour() {
    let mut before = pipeline(WIDEN);
    hits(&mut before, SSH, "192.0.2.1", 4, NOW);
    hits(&mut before, SSH, "192.0.2.2", 4, NOW);
    before.expire(NOW + 20 * MINUTE);
    let mut after = pipeline(WIDEN);
    after.offenders = offenders(&before.ledger);
    let outcome = hits(&mut after, SSH, "192.0.2.3", 4, NOW + 30 * MINUTE);
    assert!(kinds(&outcome).contains(&Kind::Widened));
}

#[test]
fn of_more_offenders_than_are_remembered_the_latest_are_known_after_a_restart() {
    let mut ledger = Ledger::in_memory();
    let number = |number: usize| u32::try_from(number).unwrap();
    for place in 0..recall::MOST + 9 {
        let (prefix, since) = (IpNet::from(IpAddr::from(Ipv4Addr::from(number(place)))), NOW + MINUTE * number(place));
        let (jail, reason) = ("b-ssh".into(), "".into());
        let (scope, until, evidence) = (Scope::default(), Until::Forever, Evidence::Proven);
        ledger.ban(Ban { prefix, jail, scope, since, until, reason, count: 1, evidence });
    }
    let known = offenders(&ledger);
    let mut known = known.within("0.0.0.0/0".parse().unwrap(), NOW).map(|(prefix, _)| prefix.addr());
    assert_eq!(known.next(), Some(Ipv4Addr::from(9).into()), "those before are the oldest");
    assert_eq!(known.count(), recall::MOST - 1);
}

#[test]
fn a_lifted_prefix_is_not_banned_again_for_those_who_offended_before() {
    let mut pipeline = pipeline(WIDEN);
    for last in 1..4 {
        hits(&mut pipeline, SSH, &format!("192.0.2.{last}"), 4, NOW);
    }
    pipeline.unban(&["192.0.2.0/24".parse().unwrap()], None, NOW + MINUTE).unwrap();
    for offenders in [None, Some(offenders(&pipeline.ledger))] {
        pipeline.offenders = offenders.unwrap_or(std::mem::take(&mut pipeline.offenders));
        let next = format!("192.0.2.{}", pipeline.ledger.ban_count() + 1);
        hits(&mut pipeline, SSH, &next, 4, NOW + 2 * MINUTE);
    }
    assert!(pipeline.ledger.bans().all(|ban| ban.prefix.prefix_len() == 32), "{:?}", bans(&pipeline, NOW));
    assert_eq!(pipeline.ledger.ban_count(), 5);
}

#[test]
fn among_banned_neighbours_fewer_hits_are_enough() {
    let lower = "[defaults]\nwiden = { threshold = 50 }";
    for (config, filter, neighbour, expected) in [
        (lower, SSH, "192.0.2.1", true),
        (lower, SSH, "192.0.3.1", false),
        (lower, PING, "192.0.2.1", false),
        ("", SSH, "192.0.2.1", false),
    ] {
        let mut pipeline = pipeline(config);
        hits(&mut pipeline, filter, neighbour, 5, NOW);
        hits(&mut pipeline, SSH, "192.0.2.9", 1, NOW);
        assert_eq!(pipeline.ledger.ban_count(), 1);
        hits(&mut pipeline, SSH, "192.0.2.9", 1, NOW + MINUTE);
        assert_eq!(pipeline.ledger.ban_count() == 2, expected, "{config} {neighbour}");
        if expected {
            let reason = bans(&pipeline, NOW).pop().unwrap();
            assert!(
                reason.ends_with("2 hits in 1m; fewer than usual, as others in 192.0.2.0/24 are banned"),
                "{reason}"
            );
        }
    }
}

#[test]
fn forgeable_hits_never_profit_from_a_lower_threshold() {
    let mut pipeline = pipeline("[defaults]\nwiden = { threshold = 20 }");
    hits(&mut pipeline, SSH, "192.0.2.1", 4, NOW);
    hits(&mut pipeline, PING, "192.0.2.9", 4, NOW);
    assert_eq!(pipeline.ledger.ban_count(), 1);
}

#[test]
fn past_bans_by_other_jails_count_too() {
    let mut pipeline = pipeline("");
    hits(&mut pipeline, SSH, "192.0.2.9", 4, NOW);
    let later = NOW + 11 * MINUTE;
    pipeline.expire(later);
    hits(&mut pipeline, FTP, "192.0.2.9", 3, later);
    assert_eq!(bans(&pipeline, later), ["192.0.2.9/32 40m proven c-ftp: 3 hits at once"]);
}

#[test]
fn quiet_takes_bans_off_the_count_for_good() {
    let mut pipeline = pipeline("[defaults]\nban.decay = '1h'");
    let mut now = NOW;
    for minutes in [10, 40, 160] {
        hits(&mut pipeline, SSH, "192.0.2.9", 4, now);
        assert_eq!(pipeline.ledger.next_expiry(), Some(now + minutes * MINUTE));
        now = now + minutes * MINUTE;
        pipeline.expire(now);
    }
    now = now + 120 * MINUTE;
    hits(&mut pipeline, SSH, "192.0.2.9", 4, now);
    assert_eq!(pipeline.ledger.next_expiry(), Some(now + 40 * MINUTE), "three bans less two");
    now = now + 40 * MINUTE;
    pipeline.expire(now);
    hits(&mut pipeline, SSH, "192.0.2.9", 4, now);
    assert_eq!(pipeline.ledger.next_expiry(), Some(now + 160 * MINUTE), "what quiet took off does not come back");
}

#[test]
fn jitter_follows_the_seed() {
    let ends = |seed| {
        let mut pipeline = Pipeline { seed, ..pipeline("[defaults]\nban.jitter = 50") };
        hits(&mut pipeline, SSH, "192.0.2.9", 4, NOW);
        pipeline.ledger.next_expiry().unwrap()
    };
    assert_eq!(ends(7), ends(7));
    assert_ne!(ends(7), ends(8));
    for seed in 0..50 {
        assert!(ends(seed) >= NOW + 10 * MINUTE && ends(seed) <= NOW + 15 * MINUTE);
    }
}

#[test]
fn an_address_with_good_log_ins_is_banned_shorter_and_from_the_service_only() {
    let mut pipeline = pipeline("");
    pipeline.on_login("192.0.2.9".parse().unwrap(), NOW - MINUTE);
    hits(&mut pipeline, SSH, "192.0.2.9", 4, NOW);
    hits(&mut pipeline, SSH, "192.0.2.8", 4, NOW);
    let all: Vec<Ban> = pipeline.ledger.bans().collect();
    assert!(all[0].scope.is_all() && all[0].until == Until::At(NOW + 10 * MINUTE));
    let ports: Vec<String> = all[1].scope.ports.iter().map(ToString::to_string).collect();
    assert_eq!((ports, all[1].until), (vec!["22/tcp".to_owned()], Until::At(NOW + Duration::from_secs(150))));
    assert!(all[1].reason.ends_with("; with mercy, as people log in from there too"));
}

#[test]
fn a_good_log_in_counts_for_a_day_and_where_mercy_is_wanted() {
    let day = Duration::from_secs(86_400);
    for (config, login, expected) in
        [("", NOW - day, false), ("[defaults]\nban.mercy = false", NOW, true), ("", NOW - day - MINUTE, true)]
    {
        let mut pipeline = pipeline(config);
        pipeline.on_login("192.0.2.9".parse().unwrap(), login);
        hits(&mut pipeline, SSH, "192.0.2.9", 4, NOW);
        assert_eq!(pipeline.ledger.bans().all(|ban| ban.scope.is_all()), expected, "{config}");
    }
}

const BREAKER: &str = "[breaker]\nper_minute = 3\nbans = 100\naddresses = 300\nmost = 100";

#[test]
fn a_storm_of_bans_opens_the_breaker_and_calm_closes_it() {
    let mut pipeline = pipeline(BREAKER);
    for last in 1..4 {
        assert_eq!(kinds(&hits(&mut pipeline, SSH, &format!("192.0.2.{last}"), 4, NOW)), [Kind::Banned]);
    }
    let fourth = hits(&mut pipeline, SSH, "192.0.2.4", 4, NOW);
    assert_eq!(kinds(&fourth), [Kind::Banned, Kind::BreakerOpened], "who is proven goes on being banned");
    let forged = hits(&mut pipeline, PING, "192.0.2.5", 5, NOW);
    let reason = "its evidence can be forged, and there are more than 3 bans a minute";
    assert_eq!((forged.events[0].kind, forged.events[0].text.as_str()), (Kind::Ignored, reason));
    assert_eq!(kinds(&pipeline.expire(NOW + MINUTE)), [Kind::BreakerClosed]);
    assert_eq!(kinds(&hits(&mut pipeline, PING, "192.0.2.5", 5, NOW + MINUTE)), [Kind::Banned]);
}

#[test]
fn nothing_is_widened_beyond_the_space_that_the_breaker_leaves() {
    for (addresses, expected) in [(300, true), (200, false)] {
        let breaker = BREAKER.replace("300", &addresses.to_string()).replace("per_minute = 3", "per_minute = 30");
        let mut pipeline = pipeline(&format!("{breaker}\n{WIDEN}"));
        for last in 1..6 {
            hits(&mut pipeline, SSH, &format!("192.0.2.{last}"), 4, NOW);
        }
        assert_eq!(pipeline.ledger.bans().any(|ban| ban.prefix.prefix_len() == 24), expected, "{addresses}");
    }
}

#[test]
fn at_the_hard_bound_newcomers_are_ignored_and_no_ban_makes_room() {
    let mut pipeline = pipeline("[breaker]\nbans = 5\nmost = 5");
    for last in 1..20 {
        hits(&mut pipeline, SSH, &format!("192.0.2.{last}"), 4, NOW);
    }
    let banned: Vec<String> = pipeline.ledger.bans().map(|ban| ban.prefix.to_string()).collect();
    assert_eq!(banned, (1..6).map(|last| format!("192.0.2.{last}/32")).collect::<Vec<_>>());
    pipeline.ban("203.0.113.1/32".parse().unwrap(), Length::Forever, "by hand", NOW).unwrap();
    assert_eq!(pipeline.ledger.ban_count(), 6, "a person is not held back");
}

#[test]
fn nobody_is_unbanned_who_stays_banned_with_the_neighbours() {
    let widened = || {
        let mut pipeline = pipeline(WIDEN);
        for last in 1..4 {
            hits(&mut pipeline, SSH, &format!("192.0.2.{last}"), 4, NOW);
        }
        pipeline
    };
    let (one, wide): (IpNet, IpNet) = ("192.0.2.1/32".parse().unwrap(), "192.0.2.0/24".parse().unwrap());
    let refused = widened().unban(&[one], None, NOW).map(drop);
    assert_eq!(refused, Err("192.0.2.1 is also banned as part of 192.0.2.0/24; unban 192.0.2.0/24 with it".to_owned()));
    let mut pipeline = widened();
    pipeline.unban(&[one, wide], None, NOW).unwrap();
    assert_eq!(pipeline.ledger.ban_count(), 2);
    let mut pipeline = widened();
    let grant = Grant { since: NOW, until: Until::At(NOW + MINUTE), by: None, comment: "".into() };
    pipeline.unban(&[one], Some(&grant), NOW).unwrap();
    assert_eq!(pipeline.ledger.ban_count(), 2, "a grant lifts what else reaches it");
}
