//! Scopes beside ports: what the kernel takes, what it gives back, and what of a limited source's packets passes.

use super::*;

/// Every part of a scope, and the ends of what a limit may be.
const SCOPES: [&str; 8] = [
    "all_iv0",
    "80t_iv/2b_din",
    "all_dboth_tREJECT",
    "8081u_tPROHIBIT",
    "all_l1h24",
    "80t_8081u_iv0_l10000s1",
    "443u_iother.0/2d1/5f_din_tDROP",
    "80t",
];

fn scoped(prefix: &str, scope: &str) -> Entry {
    Entry { scope: scope::parse_long_name(scope).unwrap(), ..entry(prefix, 600) }
}

#[test]
fn every_scope_is_read_back_from_the_kernel() {
    for flavour in ALL {
        for egress in [true, false] {
            let net = Net::new();
            let mut backend = net.open(flavour, |settings| settings.egress = egress);
            let mut wanted = Vec::new();
            for (number, name) in SCOPES.into_iter().enumerate() {
                wanted.push(scoped(&format!("192.0.2.{number}"), name));
                wanted.push(scoped(&format!("2001:db8:{number}::/64"), name));
            }
            let (now, changes) = (Timestamp::now(), wanted.iter().cloned().map(Change::Set).collect::<Vec<_>>());
            net.guard(|| backend.sync(&wanted[..4], now).unwrap());
            net.guard(|| backend.apply(&changes, now).unwrap());
            net.guard(|| assert!(intact(&mut *backend), "{flavour:?}"));
            let held = net.guard(|| backend.held(now).unwrap());
            let place = |entry: &Entry| (entry.prefix, entry.scope.clone());
            let sorted = |entries: &[Entry]| {
                let mut places: Vec<_> = entries.iter().map(place).collect();
                places.sort();
                places
            };
            assert_eq!(sorted(&held), sorted(&wanted), "{flavour:?}, egress {egress}");
            net.guard(|| backend.sync(&wanted, now).unwrap());
            net.guard(|| backend.remove().unwrap());
            assert!(!net.rules().to_lowercase().contains("banward"), "{flavour:?} leaves nothing behind");
        }
    }
}

#[test]
fn a_limited_source_has_its_burst_and_no_more_until_it_is_banned() {
    for flavour in ALL {
        let net = Net::new();
        let mut backend = net.open(flavour, |_| ());
        let limited = SIDES.map(|[_, bad, ..]| scoped(bad, "all_l1h24"));
        net.guard(|| backend.sync(&limited, Timestamp::now()).unwrap());
        for [guard, bad, good, ..] in SIDES {
            assert!(net.reaches(bad, guard), "{flavour:?} {bad} at first");
            assert!((0..20).any(|_| net.connect(bad, guard, 80).is_err()), "{flavour:?} {bad} has a limit");
            assert!(!net.ping(bad, guard), "{flavour:?} {bad}: of all packets");
            assert!(net.reaches(good, guard), "{flavour:?} {good} has none");
        }
        // Renewed, as after a restart: what passed before does not pass again in iptables, whose table goes on.
        net.guard(|| backend.sync(&limited, Timestamp::now()).unwrap());
        net.guard(|| assert!(intact(&mut *backend)));
        for (entry, [guard, bad, ..]) in limited.iter().zip(SIDES) {
            let clear = Change::Clear { prefix: entry.prefix, scope: entry.scope.clone() };
            net.guard(|| backend.apply(&[clear], Timestamp::now()).unwrap());
            assert!(net.reaches(bad, guard), "{flavour:?} {bad} is no longer limited");
        }
    }
}
