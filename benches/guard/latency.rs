//! From the deciding line to the first packet that is dropped.

use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::report::{Report, median_and_p99};
use crate::support::guard::{Guard, failed_password};
use crate::support::lab::Lab;
use crate::support::{PATIENCE, eventually};

/// Bans that are timed one by one.
const ROUNDS: usize = 50;

/// Hits that make a ban.
pub(crate) const HITS: usize = 5;

pub(crate) fn config(backend: &str) -> String {
    format!(
        "[firewall]\nbackend = \"{backend}\"\n[breaker]\nmost = 3000000\n[defaults]\ntrack = 1000000\n\
         [jail.sshd]\nfilter = \"sshd\"\nsource = {{ files = [\"DIR/auth.log\"] }}\n\
         window = {{ hitcount = {HITS}, seconds = 600 }}\n"
    )
}

pub(crate) fn measure(report: &mut Report) {
    for backend in ["iptables", "nftables"] {
        let lab = Lab::new();
        let mut guard = Guard::new(&config(backend));
        guard.append("auth.log", "");
        guard.start(&lab.server);
        let (median, p99) = of_file(&lab, &guard, ROUNDS);
        let beside = format!("p99 {p99:.2} ms of {ROUNDS}; starting one {}", exec(&lab, backend));
        report.row(&format!("{backend}: append to first dropped packet, median"), &format!("{median:.2} ms"), &beside);
        let (median, p99) = of_kernel(backend);
        let beside = format!("p99 {p99:.2} ms of {ROUNDS}");
        report.row(
            &format!("{backend}: LOG rule to first dropped packet, median"),
            &format!("{median:.2} ms"),
            &beside,
        );
    }
}

/// What one process per ban costs here and now, at least.
fn exec(lab: &Lab, backend: &str) -> String {
    let list = if backend == "iptables" { "ipset list -n" } else { "nft list tables" };
    let start = Instant::now();
    for _ in 0..20 {
        lab.server.on(|| Command::new("sh").args(["-c", &format!("exec {list}")]).output()).expect("it runs");
    }
    format!("`{list}` takes {:.2} ms", start.elapsed().as_secs_f64() * 1e3 / 20.0)
}

/// Median and 99th of a hundred, in milliseconds, from the append of the deciding line.
pub(crate) fn of_file(lab: &Lab, guard: &Guard, rounds: usize) -> (f64, f64) {
    let address = lab.attacker.v4.to_string();
    // Written at that moment: what is older than an unban does not count.
    let line = || failed_password("root", &address);
    time(lab, guard, rounds, &|stage| match stage {
        Stage::Prepare => guard.append("auth.log", &line().repeat(HITS - 1)),
        Stage::Decide => guard.append("auth.log", &line()),
    })
}

/// The same from the packet that a LOG rule reports.
fn of_kernel(backend: &str) -> (f64, f64) {
    let lab = Lab::new();
    let mut guard = Guard::new(&format!(
        "[firewall]\nbackend = \"{backend}\"\n[budget]\nper_minute = 100000\n[jail.syn-flood]\nfilter = \"syn-flood\"\n\
         source = \"kernel\"\nwindow = {{ hitcount = 1, seconds = 60 }}\n"
    ));
    guard.start(&lab.server);
    lab.server.sh("iptables -A INPUT -p tcp --dport 9998 --syn -j LOG --log-prefix syn_flood");
    let target = SocketAddr::new(lab.attacker.server(false), 9998);
    time(&lab, &guard, ROUNDS, &|stage| {
        if matches!(stage, Stage::Decide) {
            // Nobody listens there: it is refused, or its answer is dropped.
            let _refused = lab.attacker.on(|| TcpStream::connect_timeout(&target, Duration::from_millis(20)));
        }
    })
}

#[derive(Clone, Copy)]
enum Stage {
    Prepare,
    Decide,
}

/// Lets the attacker send packets all the time, has him banned again and again, and looks when the last packet came.
fn time(lab: &Lab, guard: &Guard, rounds: usize, act: &(dyn Fn(Stage) + Sync)) -> (f64, f64) {
    let receiver = lab.server.on(|| UdpSocket::bind("0.0.0.0:9999").expect("the port is free"));
    receiver.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
    let sender = lab.attacker.on(|| UdpSocket::bind("0.0.0.0:0").expect("a port"));
    let target = SocketAddr::new(lab.attacker.server(false), 9999);
    let (start, arrived, stop) = (Instant::now(), AtomicU64::new(0), AtomicBool::new(false));
    let mut times: Vec<f64> = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                // Dropped packets are what is measured.
                let _dropped = sender.send_to(b"x", target);
                std::thread::sleep(Duration::from_micros(10));
            }
        });
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                if receiver.recv(&mut [0; 8]).is_ok() {
                    arrived.store(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
                }
            }
        });
        for _ in 0..rounds {
            let before = arrived.load(Ordering::Relaxed);
            eventually("packets arrive", || arrived.load(Ordering::Relaxed) > before);
            act(Stage::Prepare);
            std::thread::sleep(Duration::from_millis(30));
            let decided = start.elapsed();
            act(Stage::Decide);
            let last = quiet_since(&arrived, start + decided);
            times.push((Duration::from_nanos(last).as_secs_f64() - decided.as_secs_f64()).max(0.0) * 1e3);
            unban(guard, lab.attacker.v4);
        }
        stop.store(true, Ordering::Relaxed);
    });
    median_and_p99(&mut times)
}

/// When the last packet came, once no more do.
fn quiet_since(arrived: &AtomicU64, decided: Instant) -> u64 {
    loop {
        let last = arrived.load(Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(50));
        if arrived.load(Ordering::Relaxed) == last {
            return last;
        }
        assert!(decided.elapsed() < PATIENCE, "never banned");
    }
}

fn unban(guard: &Guard, address: IpAddr) {
    guard.ctl(&["unban", &address.to_string()]);
}
