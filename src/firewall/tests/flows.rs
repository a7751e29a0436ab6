//! What a banned source has open leaves the kernel's connection tracking; what others have open stays.

use std::net::TcpStream;

use super::super::handshakes::seen;
use super::super::netlink::Socket;
use super::*;

/// A connection that stays open.
fn opened(net: &Net, from: &str, to: &str, port: u16) -> TcpStream {
    let (from, to): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
    within(&net.senders, || {
        let family = if from.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = rustix::net::socket(family, SocketType::STREAM, None).unwrap();
        rustix::net::bind(&socket, &SocketAddr::new(from, 0)).unwrap();
        rustix::net::connect(&socket, &SocketAddr::new(to, port)).unwrap();
        TcpStream::from(socket)
    })
}

fn is_tracked(net: &Net, address: &str) -> bool {
    net.guard(|| seen(&mut Socket::open().unwrap(), address.parse().unwrap()).unwrap())
}

#[test]
fn what_a_banned_source_has_open_ends_in_connection_tracking_if_wanted() {
    for (flavour, conntrack) in [(Flavour::Nft, true), (Flavour::Nftables, true), (Flavour::Nft, false)] {
        let net = Net::new();
        for tool in ["iptables", "ip6tables"] {
            net.run(&format!("{tool} -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT"));
        }
        let mut owner = Owner::with(&net, flavour, Vec::new(), |settings| settings.conntrack = conntrack);
        owner.until(|report| matches!(report, Report::Synced { .. }));
        for [guard, bad, good, ..] in SIDES {
            let _open = [opened(&net, bad, guard, 80), opened(&net, good, guard, 80)];
            eventually("both are tracked", || is_tracked(&net, bad) && is_tracked(&net, good));
            let web = Scope::of_ports(vec![Port { protocol: Protocol::Tcp, number: 8080 }]);
            assert_eq!(owner.apply(Change::Set(Entry { scope: web, ..entry(bad, 600) })), Ok(()));
            std::thread::sleep(Duration::from_millis(600));
            assert!(is_tracked(&net, bad), "{flavour:?}: a ban from another port does not concern it");
            assert_eq!(owner.apply(Change::Set(entry(bad, 600))), Ok(()));
            if conntrack {
                eventually("its connection is forgotten", || !is_tracked(&net, bad));
            } else {
                std::thread::sleep(Duration::from_millis(600));
                assert!(is_tracked(&net, bad), "{flavour:?}: it is not wanted");
            }
            assert!(is_tracked(&net, good), "{flavour:?}: its neighbour's stays");
        }
        owner.stop(OnStop::Remove);
    }
}
