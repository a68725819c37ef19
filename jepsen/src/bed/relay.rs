//! Bad weather for packets: the hub of the namespaces sends those of chosen pairs to a TUN device, and a thread here drops, delays,
//! doubles, resets them and writes them back, from where they are routed as usual. (Most kernels could do it themselves, with netem;
//! ours have to do without.)

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use raftmq_benches::BenchError;
use raftmq_benches::netns::{Detour, Namespaces, Pair};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tappers::{Interface, Tun};

use super::packet::{Forecast, Weather, reset_of};

/// Packets that wait at most; what comes then is dropped.
const WAITING: usize = 32_768;
/// Longest sleep: how late an end is noticed.
const SLEEP: Duration = Duration::from_millis(100);
/// Packets read at a time before those that are due go on.
const BURST: usize = 64;

#[derive(Debug)]
struct Shared {
    weather: Mutex<Weather>,
    /// Packets that something was done to.
    touched: AtomicU64,
    end: AtomicBool,
}

/// The device and its thread; both end when this is dropped.
pub struct Relay {
    namespaces: Arc<Namespaces>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// The weather's present stretch.
    pairs: Mutex<Vec<Pair>>,
}

/// Orders packets by when they are due, then by when they came.
type Waiting = BinaryHeap<Reverse<(Instant, u64, Vec<u8>)>>;

impl Relay {
    /// Makes the device. It relays nothing yet.
    ///
    /// # Errors
    /// Not root, or a kernel without TUN devices.
    pub fn make(namespaces: Arc<Namespaces>, seed: u64) -> Result<Self, BenchError> {
        let name = namespaces.relay_name();
        let failed = || BenchError::io("/dev/net/tun");
        let interface = Interface::new(&name).map_err(failed())?;
        let mut tun = Tun::new_named(interface).map_err(failed())?;
        tun.set_nonblocking(true).map_err(failed())?;
        namespaces.adopt(&name)?;
        let shared = Arc::new(Shared {
            weather: Mutex::default(),
            touched: AtomicU64::new(0),
            end: AtomicBool::new(false),
        });
        let of_thread = shared.clone();
        let thread = std::thread::spawn(move || {
            if let Err(error) = relay(&tun, &of_thread, seed) {
                eprintln!("the relay of packets has ended: {error}");
            }
        });
        Ok(Self {
            namespaces,
            shared,
            thread: Some(thread),
            pairs: Mutex::default(),
        })
    }

    /// Bad weather between these pairs; there was none.
    ///
    /// # Errors
    /// The rules cannot be made; the thread has ended.
    pub fn begin(&self, weather: Weather, pairs: Vec<Pair>) -> Result<(), BenchError> {
        if self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
            return Err(BenchError::Usage("the relay of packets has ended".into()));
        }
        self.end()?;
        *self.shared.weather.lock() = weather;
        self.namespaces.detour(Detour::Relay, &pairs, true)?;
        *self.pairs.lock() = pairs;
        Ok(())
    }

    /// Fair weather everywhere.
    ///
    /// # Errors
    /// The rules cannot be removed.
    pub fn end(&self) -> Result<(), BenchError> {
        let pairs = std::mem::take(&mut *self.pairs.lock());
        *self.shared.weather.lock() = Weather::default();
        self.namespaces.detour(Detour::Relay, &pairs, false)
    }

    /// Packets that something was done to so far.
    pub fn touched(&self) -> u64 {
        self.shared.touched.load(Ordering::Relaxed)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.end();
        self.shared.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn relay(tun: &Tun, shared: &Shared, seed: u64) -> std::io::Result<()> {
    let mut forecast = Forecast::new(seed);
    let mut waiting = Waiting::new();
    let mut number = 0;
    let mut buffer = vec![0; 65_536];
    while !shared.end.load(Ordering::Relaxed) {
        let now = Instant::now();
        while waiting.peek().is_some_and(|Reverse((due, ..))| *due <= now) {
            if let Some(Reverse((.., packet))) = waiting.pop() {
                // What the device does not take is lost, as packets are.
                let _ = tun.send(&packet);
            }
        }
        let sleep = waiting.peek().map_or(SLEEP, |Reverse((due, ..))| {
            due.saturating_duration_since(now).min(SLEEP)
        });
        let sleep = Timespec {
            tv_sec: 0,
            tv_nsec: sleep.as_nanos().min(999_999_999) as _,
        };
        let fd = tun.as_fd();
        match poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&sleep)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => continue,
            other => other?,
        };
        let weather = *shared.weather.lock();
        for _ in 0..BURST {
            let length = match tun.recv(&mut buffer) {
                Ok(length) => length,
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) => return Err(e),
            };
            let packet = &buffer[..length];
            let fate = forecast.fate(&weather, Instant::now(), length);
            let reset = if fate.reset { reset_of(packet) } else { None };
            if fate.touched && (!fate.reset || reset.is_some()) || waiting.len() >= WAITING {
                shared.touched.fetch_add(1, Ordering::Relaxed);
            }
            for due in fate.due {
                if waiting.len() < WAITING {
                    number += 1;
                    let packet = reset.as_deref().unwrap_or(packet).to_vec();
                    waiting.push(Reverse((due, number, packet)));
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};

    use raftmq_benches::netns::Party;

    use super::super::tools::is_root;
    use super::*;

    /// Time to connect to a broker's namespace from this one and back.
    fn round_trip(address: &str) -> Duration {
        let began = Instant::now();
        // Nobody listens: the refusal is the answer.
        let _ = TcpStream::connect_timeout(&address.parse().unwrap(), Duration::from_secs(5));
        began.elapsed()
    }

    #[test]
    fn weather_slows_loses_and_resets_and_ends() {
        if !is_root() {
            println!("skipped: root is needed");
            return;
        }
        let namespaces = Arc::new(Namespaces::make(2).unwrap());
        let relay = Relay::make(namespaces.clone(), 1).unwrap();
        let pairs = vec![(Party::Outside, Party::Node(0))];
        let address = format!("{}:9", namespaces.host(0));
        // A busy machine may be slow once, but not each time.
        let usual = || (0..10).map(|_| round_trip(&address)).min().unwrap();
        let limit = Duration::from_millis(250);
        assert!(usual() < limit);
        let delay = Weather {
            delay: Duration::from_millis(300),
            jitter: Duration::from_millis(50),
            ..Weather::default()
        };
        relay.begin(delay, pairs.clone()).unwrap();
        let late = usual();
        assert!(late >= limit, "{late:?}");
        assert!(relay.touched() > 0);
        let all = Weather {
            loss: 1.0,
            ..Weather::default()
        };
        relay.begin(all, pairs.clone()).unwrap();
        assert!(round_trip(&address) >= Duration::from_secs(4));
        relay.end().unwrap();
        let after = usual();
        assert!(after < limit, "{after:?}");

        // A connection whose next segment is made a reset: what listens here is asked from the namespace.
        let listener = TcpListener::bind((namespaces.own_host(), 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let script = format!(
            "exec 3<>/dev/tcp/{}/{port}; read -u 3; echo late >&3; sleep 5",
            namespaces.own_host()
        );
        let mut peer = std::process::Command::new("/sbin/ip")
            .args(["netns", "exec", &namespaces.name(0), "bash", "-c", &script])
            .spawn()
            .unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        let reset = Weather {
            reset: 1.0,
            ..Weather::default()
        };
        relay
            .begin(reset, vec![(Party::Node(0), Party::Outside)])
            .unwrap();
        std::io::Write::write_all(&mut stream, b"go\n").unwrap();
        let got = stream.read(&mut [0; 16]);
        assert_eq!(got.unwrap_err().kind(), ErrorKind::ConnectionReset);
        peer.kill().unwrap();
        peer.wait().unwrap();
    }
}
