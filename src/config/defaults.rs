//! What holds where nothing is written: the same as in the shipped `config/banward.toml`, which a test asserts.

use std::path::Path;
use std::time::Duration;

use super::{Allow, Blocklist, Budget, Config, Control, Daemon, Jail, JailSpots, Mode, Protect, Stages};
use crate::ledger::Scope;
use crate::ledger::limit::{Limit, Unit};
use crate::policy::widen::Widen;
use crate::policy::{BanSpec, Corroborate, PrefixLengths, breaker};
use crate::time::Length;
use crate::{filters, firewall, sources, windows};

/// All settings, and no jail.
pub(super) fn config(path: &Path) -> Config {
    use Protect::{AdminSessions, Gateways, OwnAddresses, Resolvers};
    let loopback = ["127.0.0.0/8", "::1/128"];
    Config {
        path: path.to_owned(),
        daemon: Daemon {
            mode: Mode::Enforce,
            state_dir: "/var/lib/banward".into(),
            socket: "/run/banward/control.sock".into(),
            user: "banward".to_owned(),
            groups: ["adm", "systemd-journal"].map(str::to_owned).to_vec(),
            sandbox: true,
            filters: vec!["/usr/share/banward/filters".into(), "/etc/banward/filters".into()],
        },
        control: Control::default(),
        firewall: firewall::Settings {
            backend: firewall::Choice::Auto,
            chain: firewall::Chain::default(),
            hooks: ["INPUT", "FORWARD", "DOCKER-USER"].map(str::to_owned).to_vec(),
            egress: true,
            target: firewall::Target::Drop,
            conntrack: true,
            on_stop: firewall::OnStop::Keep,
            ceiling: crate::firewall::CEILING,
        },
        blocklist: Blocklist {
            write: Some("/var/lib/banward/ip.blocked".into()),
            forgeable: true,
            read: vec!["/etc/banward/ip.blocked".into()],
        },
        allow: Allow {
            networks: loopback.map(|text| text.parse().expect("loopback prefixes are well-formed")).to_vec(),
            protect: [OwnAddresses, Gateways, Resolvers, AdminSessions].into(),
            widest: crate::policy::prefix::WIDEST,
            together: PrefixLengths { ipv4: 2, ipv6: 14 },
        },
        budget: Budget {
            max: Duration::from_secs(600),
            per_minute: 60,
            at_a_time: 10_000,
            corroborate: Corroborate { hits: true, handshakes: false },
        },
        breaker: breaker::Limits { per_minute: 3000, bans: 200_000, addresses: 1 << 24, most: 1_000_000 },
        host: None,
        jails: Vec::new(),
    }
}

/// What a jail is before anything of it is read. `[defaults]` is read over it.
pub(super) fn jail() -> Jail {
    let day = Duration::from_secs(86_400);
    Jail {
        name: String::new(),
        enabled: true,
        filter: String::new(),
        mode: filters::Mode::Normal,
        source: sources::Choice::Auto,
        scope: Scope::default(),
        stages: Stages { gentle: false, limit: Limit { packets: 10, per: Unit::Second, burst: 20 } },
        log_prefix: Vec::new(),
        window: windows::Spec::Recent { hitcount: 5, seconds: Duration::from_secs(600), check: windows::Check::Rcheck },
        ban: BanSpec {
            time: Length::For(Duration::from_secs(600)),
            factor: 4,
            max: Length::For(30 * day),
            forget: Length::For(90 * day),
            decay: Length::Forever,
            jitter: 0,
            mercy: true,
        },
        prefix: PrefixLengths { ipv4: 32, ipv6: 64 },
        widen: Widen {
            neighbours: 0,
            seconds: Duration::from_secs(3600),
            ipv4: vec![24],
            ipv6: vec![56, 48],
            threshold: 100,
        },
        track: 100_000,
        spots: JailSpots::default(),
    }
}
