//! `target = "REJECT"`: who is banned is told so, at once, over TCP and UDP, with and without ports.

use super::*;

/// What comes of a datagram: an answer of the kernel's that nobody is there, or nothing.
fn datagram(net: &Net, from: &str, to: &str, port: u16) -> Result<(), Errno> {
    let (from, to): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
    within(&net.senders, || {
        let family = if from.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = rustix::net::socket(family, SocketType::DGRAM, None)?;
        rustix::net::bind(&socket, &SocketAddr::new(from, 0))?;
        rustix::net::connect(&socket, &SocketAddr::new(to, port))?;
        rustix::net::send(&socket, b"?", rustix::net::SendFlags::empty())?;
        let patience = Timespec { tv_sec: 0, tv_nsec: 330_000_000 };
        if poll(&mut [PollFd::new(&socket, PollFlags::IN)], Some(&patience))? == 0 {
            return Err(Errno::TIMEDOUT);
        }
        sockopt::socket_error(&socket)?
    })
}

#[test]
fn reject_answers_and_drop_does_not() {
    for flavour in ALL {
        for (egress, scope) in [(false, ""), (true, ""), (true, "80t_8081u")] {
            let net = Net::new();
            let mut backend = net.open(flavour, |settings| {
                settings.target = Target::Reject;
                settings.egress = egress;
            });
            let scope = if scope.is_empty() { Scope::default() } else { scope::parse_long_name(scope).unwrap() };
            let banned = SIDES.map(|[_, bad, ..]| Entry { scope: scope.clone(), ..entry(bad, 600) });
            net.guard(|| backend.sync(&banned, Timestamp::now()).unwrap());
            let _service = net.guard(|| std::net::UdpSocket::bind(("::", 8081)).unwrap());
            for [guard, bad, good, ..] in SIDES {
                let way = format!("{flavour:?}, egress {egress}, {bad}");
                assert_eq!(net.connect(bad, guard, 80), Err(Errno::CONNREFUSED), "{way}");
                assert_eq!(datagram(&net, bad, guard, 8081), Err(Errno::CONNREFUSED), "{way}");
                assert_eq!(datagram(&net, good, guard, 8081), Err(Errno::TIMEDOUT), "{way}: the service says nothing");
                assert_eq!(net.connect(good, guard, 80), Ok(()), "{way}");
                assert_eq!(net.ping(bad, guard), !scope.ports.is_empty(), "{way}");
            }
            net.guard(|| assert!(intact(&mut *backend)));
        }
    }
}
