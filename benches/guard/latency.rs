//! From the deciding line to the first packet that is dropped.

use std::cell::RefCell;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crate::report::{Report, median_and_p99};
use crate::support::guard::{Guard, failed_password, open_log};
use crate::support::lab::Lab;
use crate::support::{PATIENCE, eventually};

/// Bans that are timed one by one.
const ROUNDS: usize = 50;

/// After which what was written before has been read.
const SETTLED: Duration = Duration::from_millis(30);

/// Hits that make a ban.
pub(crate) const HITS: usize = 5;

/// In a folder of its own, as on a host: there what the daemon itself writes does not wake its readers.
pub(crate) const LOG: &str = "log/auth.log";

pub(crate) fn config(backend: &str) -> String {
    format!(
        "[firewall]\nbackend = \"{backend}\"\n[breaker]\nmost = 3000000\n[defaults]\ntrack = 1000000\n\
         [jail.sshd]\nfilter = \"sshd\"\nsource = {{ files = [\"DIR/{LOG}\"] }}\n\
         window = {{ hitcount = {HITS}, seconds = 600 }}\n"
    )
}

/// A daemon that is to work on a log that is empty.
pub(crate) fn prepare(config: &str) -> Guard {
    let guard = Guard::new(config);
    std::fs::create_dir(guard.path("log")).expect("a folder");
    guard.append(LOG, "");
    guard
}

/// The same, at work.
pub(crate) fn start(lab: &Lab, config: &str) -> Guard {
    let mut guard = prepare(config);
    guard.start(&lab.server);
    guard
}

pub(crate) fn measure(report: &mut Report) {
    for backend in ["iptables", "nftables"] {
        let lab = Lab::new();
        let guard = start(&lab, &config(backend));
        let (median, p99) = of_file(&lab, &guard, ROUNDS);
        let beside = format!("p99 {p99:.2} ms of {ROUNDS}; starting one {}", exec(&lab, backend));
        report.row(&format!("{backend}: append to first dropped packet, median"), &format!("{median:.2} ms"), &beside);
        let (shown, (median, p99)) = of_kernel(backend);
        let beside = format!("p99 {p99:.2} ms of {ROUNDS}; the kernel shows the record {shown:.2} ms after the packet");
        report.row(
            &format!("{backend}: LOG record to first dropped packet, median"),
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
    time(lab, guard, rounds, &|| {
        let line = failed_password("root", &address);
        guard.append(LOG, &line.repeat(HITS - 1));
        let mut log = open_log(&guard.path(LOG));
        std::thread::sleep(SETTLED);
        let decided = Instant::now();
        log.write_all(line.as_bytes()).expect("written");
        decided
    })
}

/// How long a packet's LOG record takes until anybody can read it, and the same as above from then on. The kernel wakes
/// who reads its log at the next timer tick of the processor that logged, when that is busy: `wake_up_klogd` of
/// kernel/printk/printk.c is lazy work.
fn of_kernel(backend: &str) -> (f64, (f64, f64)) {
    let lab = Lab::new();
    let mut guard = Guard::new(&format!(
        "[firewall]\nbackend = \"{backend}\"\n[budget]\nper_minute = 100000\n[jail.syn-flood]\nfilter = \"syn-flood\"\n\
         source = \"kernel\"\nwindow = {{ hitcount = 1, seconds = 60 }}\n"
    ));
    guard.start(&lab.server);
    lab.server.sh("iptables -A INPUT -p tcp --dport 9998 --syn -j LOG --log-prefix syn_flood");
    let target = SocketAddr::new(lab.attacker.server(false), 9998);
    let (records, shown) = (kernel_log("syn_flood"), RefCell::new(Vec::new()));
    let times = time(&lab, &guard, ROUNDS, &|| {
        let packet = lab.attacker.on(|| {
            std::thread::sleep(SETTLED);
            let packet = Instant::now();
            // Nobody listens there: it is refused, or its answer is dropped.
            let _refused = TcpStream::connect_timeout(&target, Duration::from_millis(20));
            packet
        });
        let read = records.recv_timeout(PATIENCE).expect("the packet is logged");
        shown.borrow_mut().push(read.duration_since(packet).as_secs_f64() * 1e3);
        read
    });
    (median_and_p99(&mut shown.into_inner()).0, times)
}

/// When each new record that contains `prefix` could be read. The reader ends with the program.
fn kernel_log(prefix: &'static str) -> Receiver<Instant> {
    let mut log = File::open("/dev/kmsg").expect("the kernel's log can be read");
    log.seek(SeekFrom::End(0)).expect("its end");
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        // One record at a time, of 8 KiB at most.
        let mut record = vec![0; 8192];
        while let Ok(length) = log.read(&mut record) {
            let read = Instant::now();
            if String::from_utf8_lossy(&record[..length]).contains(prefix) && sender.send(read).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Lets the attacker send packets all the time, has him banned again and again, and looks when the last packet came.
/// `offend` says at which moment it did what decides.
fn time(lab: &Lab, guard: &Guard, rounds: usize, offend: &dyn Fn() -> Instant) -> (f64, f64) {
    let receiver = lab.server.on(|| UdpSocket::bind("0.0.0.0:0").expect("a port"));
    receiver.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
    let sender = lab.attacker.on(|| UdpSocket::bind("0.0.0.0:0").expect("a port"));
    let port = receiver.local_addr().expect("its address").port();
    let target = SocketAddr::new(lab.attacker.server(false), port);
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
        let _stop = StopAtEnd(&stop);
        for _ in 0..rounds {
            let before = arrived.load(Ordering::Relaxed);
            eventually("packets arrive", || arrived.load(Ordering::Relaxed) > before);
            let decided = offend();
            let last = start + Duration::from_nanos(quiet_since(&arrived, decided));
            times.push(last.saturating_duration_since(decided).as_secs_f64() * 1e3);
            unban(guard, lab.attacker.v4);
        }
    });
    median_and_p99(&mut times)
}

/// Ends what goes on beside, also where it is given up: nobody would wait for its end in vain.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
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
