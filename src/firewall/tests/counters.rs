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
    for flavour in ALL {
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
fn sets_of_a_version_that_did_not_count_are_replaced_and_no_packet_passes_meanwhile() {
    for flavour in [Flavour::Nft, Flavour::Nftables] {
        let net = Net::new();
        let [guard, one, ..] = SIDES[0];
        // As version 0.1.0 left them: the same rules, sets without counters.
        let mut backend = net.open(flavour, |_| ());
        net.guard(|| backend.sync(&[entry("10.99.1.2/32", 600)], Timestamp::now())).unwrap();
        if flavour == Flavour::Nftables {
            let table = net
                .run("nft list table inet banward")
                .replace("c4_32_all", "v4_32_all")
                .replace("c6_64_all", "v6_64_all");
            let lines = table.lines().filter(|line| line.trim() != "counter");
            let old: Vec<String> = lines.map(|line| line.replace("counter packets 0 bytes 0 ", "")).collect();
            let file = std::env::temp_dir().join(&net.guarded);
            std::fs::write(&file, format!("delete table inet banward\n{}\n", old.join("\n"))).unwrap();
            net.run(&format!("nft -f {}", file.display()));
            std::fs::remove_file(file).unwrap();
        } else {
            net.run("ipset create OLD hash:net timeout 0 hashsize 1024 maxelem 1048576");
            net.run("ipset add OLD 10.99.1.2 timeout 600");
            net.run("ipset swap OLD BANWARD-4-all");
            net.run("ipset destroy OLD");
        }
        assert_eq!(seen(&net, flavour), [("10.99.1.2/32".to_owned(), None)], "{flavour:?}: it does not count");
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
            assert!(!net.run("nft list table inet banward").contains("v4_32_all"));
        }
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
