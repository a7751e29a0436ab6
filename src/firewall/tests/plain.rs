//! A rule for each entry: which get in when there are too many, and what a time with ipset has left.

use super::*;

const LEFT_OUT: &str = "the bans that end last are not in force";

fn held(net: &Net, backend: &mut dyn Backend) -> Vec<String> {
    let mut held: Vec<String> =
        net.guard(|| backend.held(Timestamp::now()).unwrap().iter().map(|entry| entry.prefix.to_string()).collect());
    held.sort();
    held
}

#[test]
fn of_more_bans_than_there_is_room_for_those_that_end_first_are_in_force_and_the_rest_is_said() {
    let net = Net::new();
    let [guard, bad, ..] = SIDES[0];
    let mut backend = net.open(Flavour::Plain, |settings| settings.ceiling = 2);
    let list = Entry { until: Until::Forever, ..entry("192.0.2.9", 1) };
    let first = [list.clone(), entry("2001:db8::/64", 900)];
    net.guard(|| backend.sync(&first, Timestamp::now()).unwrap());
    assert_eq!((backend.shortage(), backend.installed(Timestamp::now())), (None, 2));
    // Who attacks now takes the place of what is banned for ever.
    net.guard(|| backend.apply(&[Change::Set(entry(bad, 3))], Timestamp::now()).unwrap());
    assert!(backend.shortage().is_some_and(|text| text.contains(LEFT_OUT)));
    assert_eq!(held(&net, &mut *backend), ["10.99.1.2/32", "2001:db8::/64"]);
    assert_eq!(net.connect(bad, guard, 80), Err(Errno::TIMEDOUT));
    let late = net.guard(|| {
        backend.apply(&[Change::Set(Entry { until: Until::Forever, ..entry("192.0.2.8", 1) })], Timestamp::now())
    });
    assert_eq!(late, Err(FirewallError::Full { ceiling: 2 }), "nobody is told that this one is in force");
    net.guard(|| backend.apply(&[clear("192.0.2.8")], Timestamp::now()).unwrap());
    eventually("the ban is over, and another one gets in", || {
        net.guard(|| backend.rearm(Timestamp::now()).unwrap());
        backend.shortage().is_none()
    });
    assert_eq!(held(&net, &mut *backend), ["192.0.2.9/32", "2001:db8::/64"]);
    assert!(net.guard(|| intact(&mut *backend)));
}

#[test]
fn plain_rules_take_over_from_ipset_and_give_back_without_a_packet_passing() {
    let net = Net::new();
    let [guard, bad, good, ..] = SIDES[0];
    let entries = [entry(bad, 600)];
    for flavour in [Flavour::Nft, Flavour::Plain, Flavour::Nft] {
        let mut backend = net.open(flavour, |_| ());
        net.guard(|| backend.sync(&entries, Timestamp::now()).unwrap());
        assert_eq!(net.connect(bad, guard, 80), Err(Errno::TIMEDOUT), "{flavour:?}");
        assert!(net.reaches(good, guard), "{flavour:?}");
        let rules = net.rules();
        assert_eq!(rules.contains("BANWARD-00s"), flavour == Flavour::Plain, "{rules}");
        assert_eq!(rules.contains("BANWARD-4-all"), flavour == Flavour::Nft, "{rules}");
    }
}

#[test]
fn where_the_kernel_lacks_sets_plain_rules_are_taken_and_said() {
    let lacking = FirewallError::ModuleMissing { complaint: "no ipset with the type hash:net".to_owned() };
    assert!(is_lacking(&lacking));
    for passing in [FirewallError::LockHeld { tool: "iptables" }, FirewallError::NoPermission] {
        assert!(!is_lacking(&passing), "{passing}");
    }
    let net = Net::new();
    let (backend, why) = net.guard(|| open_plain(&settings(), &lacking).unwrap());
    assert_eq!(backend.name(), "plain");
    for part in
        ["iptables (nf_tables) works, with a rule for each ban, 10000 at most", "no ipset with the type hash:net"]
    {
        assert!(why.contains(part), "{why}");
    }
}

#[test]
fn a_packet_meets_few_of_ten_thousand_rules() {
    for flavour in [Flavour::Plain, Flavour::PlainLegacy] {
        let net = Net::new();
        let [guard, bad, good, ..] = SIDES[0];
        let mut backend = net.open(flavour, |_| ());
        let spread = |number: u32| IpAddr::V4(std::net::Ipv4Addr::from(number.wrapping_mul(0x9E37_79B1) | 0x8000_0000));
        let mut entries: Vec<Entry> = (0..9_999).map(|number| entry(&spread(number).to_string(), 600)).collect();
        entries.push(entry(bad, 600));
        net.guard(|| backend.sync(&entries, Timestamp::now()).unwrap());
        assert_eq!(backend.installed(Timestamp::now()), 10_000, "{flavour:?}");
        assert_eq!(net.connect(bad, guard, 80), Err(Errno::TIMEDOUT), "{flavour:?}");
        assert!(net.reaches(good, guard), "{flavour:?}");
        let variant = if flavour.is_legacy() { "iptables-legacy" } else { "iptables-nft" };
        for chain in ["BANWARD-00s", "BANWARD-00s00c8", "BANWARD-00s000a"] {
            let rules = net.run(&format!("{variant} -S {chain}")).lines().count();
            assert!((2..=260).contains(&rules), "{flavour:?} {chain}: {rules}");
        }
        let start = Instant::now();
        net.guard(|| backend.apply(&[clear(bad)], Timestamp::now()).unwrap());
        println!("{flavour:?}: one unban of 10,000 took {:?}", start.elapsed());
        assert!(net.reaches(bad, guard), "{flavour:?}");
        assert!(net.guard(|| intact(&mut *backend)), "{flavour:?}");
    }
}
