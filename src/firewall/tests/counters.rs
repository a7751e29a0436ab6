//! What entries count, and that nothing makes them forget it.

use std::collections::BTreeSet;

use super::*;

/// What the kernel holds, in order.
fn seen(net: &Net, flavour: Flavour) -> Vec<(String, Option<Count>)> {
    let backend = flavour.choice();
    let settings = Settings { backend, ..settings() };
    let mut found = Vec::new();
    net.guard(|| {
        look(&settings, &BTreeSet::from([Scope::default()]), &mut |seen| {
            assert!(seen.left.is_some_and(|left| left > Duration::from_secs(500)), "{seen:?}");
            found.push((seen.prefix.to_string(), seen.count));
        })
    })
    .unwrap();
    found.sort_by(|one: &(String, _), other| one.0.cmp(&other.0));
    found
}

#[test]
fn entries_count_what_they_drop_and_go_on_when_they_are_renewed_or_synced_again() {
    for flavour in WITH_BOTH_NFTABLES {
        let net = Net::new();
        let [guard, one, two, ..] = SIDES[0];
        let mut backend = net.open(flavour, |_| ());
        let entries = [entry("10.99.1.2/32", 600), entry("10.99.1.3/32", 600), entry("2001:db8::/64", 600)];
        net.guard(|| backend.sync(&entries, Timestamp::now())).unwrap();
        assert!(!net.ping(one, guard));
        let counted = seen(&net, flavour);
        let first = counted[0].1.unwrap();
        assert!(first.packets >= 1 && first.bytes >= 84, "{flavour:?}: {counted:?}");
        let nothing = Some(Count::default());
        assert_eq!(counted[1..], [("10.99.1.3/32".to_owned(), nothing), ("2001:db8::/64".to_owned(), nothing)]);
        let renewed = Change::Set(entry("10.99.1.2/32", 900));
        net.guard(|| backend.apply(&[renewed], Timestamp::now())).unwrap();
        assert_eq!(seen(&net, flavour), counted, "{flavour:?}: renewed");
        net.guard(|| backend.sync(&entries, Timestamp::now())).unwrap();
        assert_eq!(seen(&net, flavour), counted, "{flavour:?}: synced");
        let gone = [clear("10.99.1.2/32"), Change::Set(entry("10.99.1.2/32", 600))];
        net.guard(|| gone.iter().try_for_each(|change| backend.apply(std::slice::from_ref(change), Timestamp::now())))
            .unwrap();
        assert_eq!(seen(&net, flavour)[0].1, nothing, "{flavour:?}: a new ban counts from nothing");
        let short = Change::Set(entry("10.99.1.3/32", 2));
        net.guard(|| backend.apply(&[short], Timestamp::now())).unwrap();
        assert!(!net.ping(two, guard));
        eventually("the ban is over", || net.ping(two, guard));
        std::thread::sleep(Duration::from_secs(1));
        net.guard(|| backend.apply(&[Change::Set(entry("10.99.1.3/32", 600))], Timestamp::now())).unwrap();
        assert_eq!(seen(&net, flavour)[1].1, nothing, "{flavour:?}: so does one after a ban that has ended by itself");
    }
}

#[test]
fn sets_of_a_version_that_counted_otherwise_are_replaced_and_no_packet_passes_meanwhile() {
    for flavour in [Flavour::Nft, Flavour::Nftables] {
        let net = Net::new();
        let [guard, one, ..] = SIDES[0];
        let mut backend = net.open(flavour, |_| ());
        net.guard(|| backend.sync(&[entry("10.99.1.2/32", 600)], Timestamp::now())).unwrap();
        if flavour == Flavour::Nftables {
            // Bans that count themselves.
            let old = "flags timeout; counter; elements = { 10.99.1.2 timeout 600s }";
            let script = format!(
                "delete table inet banward
                 table inet banward {{
                   set c4_32_all {{ type ipv4_addr; {old} }}
                   chain sources {{ ip saddr @c4_32_all drop; }}
                   chain input {{ type filter hook input priority -10; jump sources; }}
                 }}"
            );
            let file = std::env::temp_dir().join(&net.guarded);
            std::fs::write(&file, script).unwrap();
            net.run(&format!("nft -f {}", file.display()));
            std::fs::remove_file(file).unwrap();
        } else {
            // A set without counters.
            net.run("ipset create OLD hash:net timeout 0 hashsize 1024 maxelem 1048576");
            net.run("ipset add OLD 10.99.1.2 timeout 600");
            net.run("ipset swap OLD BANWARD-4-all");
            net.run("ipset destroy OLD");
            assert_eq!(seen(&net, flavour), [("10.99.1.2/32".to_owned(), None)], "{flavour:?}: it does not count");
        }
        drop(backend);
        let flood = net.flood(one, guard);
        let mut backend = net.open(flavour, |_| ());
        net.guard(|| backend.sync(&[entry("10.99.1.2/32", 600)], Timestamp::now())).unwrap();
        eventually("it counts", || seen(&net, flavour)[0].1.is_some_and(|count| count.packets > 0));
        assert_eq!(flood.answered(), 0, "{flavour:?}: no ping was answered while the sets were replaced");
        assert!(net.guard(|| intact(&mut *backend)));
        if flavour == Flavour::Nft {
            assert!(net.run("ipset save").contains("counters"));
        } else {
            assert!(!net.run("nft list table inet banward").contains("c4_32_all"));
        }
    }
}

#[test]
fn a_source_that_finds_no_room_to_be_counted_is_shut_out_all_the_same() {
    for flavour in [Flavour::Nftables, Flavour::OldNftables] {
        let net = Net::new();
        let [guard, one, two, other, guard_too] = SIDES[0];
        let mut backend = net.open(flavour, |_| ());
        net.guard(|| backend.sync(&[one, two].map(|bad| entry(bad, 600)), Timestamp::now())).unwrap();
        assert!(!net.ping(one, guard));
        let others = (1..65_535_u32).map(|number| format!("20.0.{}.{}", number >> 8, number & 255));
        let file = std::env::temp_dir().join(&net.guarded);
        let others = others.collect::<Vec<_>>().join(", ");
        std::fs::write(&file, format!("add element inet banward n4_32_all {{ {others} }}")).unwrap();
        net.run(&format!("nft -f {}", file.display()));
        std::fs::remove_file(file).unwrap();
        assert!(!net.reaches(two, guard), "{flavour:?}: there is no room for it");
        let packets = seen(&net, flavour).into_iter().map(|(_, count)| count.unwrap().packets);
        assert_eq!(packets.map(|packets| packets > 0).collect::<Vec<_>>(), [true, false], "{flavour:?}");
        let changes = [clear(two), Change::Set(entry(other, 600))];
        net.guard(|| backend.apply(&changes, Timestamp::now())).unwrap();
        assert!(net.reaches(two, guard) && !net.reaches(other, guard_too), "{flavour:?}");
        net.guard(|| backend.sync(&[entry(one, 600)], Timestamp::now())).unwrap();
        assert!(!net.run("nft list set inet banward n4_32_all").contains("20.0.0.1"), "{flavour:?}");
    }
}

/// Pings that go on.
struct Flood(std::process::Child);

impl Net {
    fn flood(&self, from: &str, to: &str) -> Flood {
        let arguments = ["netns", "exec", &self.senders, "ping", "-q", "-i0.002", "-W0.3", "-I", from, to];
        Flood(Process::new("ip").args(arguments).stdout(std::process::Stdio::piped()).spawn().unwrap())
    }
}

impl Flood {
    /// Ends it; how many of the pings were answered.
    fn answered(self) -> u32 {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        let output = self.0.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let received = said.split(" received").next().and_then(|text| text.rsplit(' ').next());
        received.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{said}"))
    }
}
