//! What a bad network does to packets: when each of them goes on, how often, and whether as what it was.

use std::time::{Duration, Instant};

use crate::random::Random;

/// A relayed stretch of network. All zero: packets pass.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Weather {
    pub delay: Duration,
    /// A packet takes up to so much more or less.
    pub jitter: Duration,
    /// Parts of all packets, 0.0 to 1.0.
    pub loss: f64,
    pub duplicate: f64,
    /// Packets that wait until others have overtaken them.
    pub reorder: f64,
    /// Packets of TCP that become resets.
    pub reset: f64,
    /// 0: as many as come.
    pub bytes_per_second: u64,
}

/// Longest queue before a slow stretch; what comes then is dropped, as routers do.
const QUEUE: Duration = Duration::from_millis(250);
/// How late a packet is that others overtake.
const OVERTAKEN: Duration = Duration::from_millis(20);

/// What happens to one packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fate {
    /// When it goes on, once for each time; lost without one.
    pub due: Vec<Instant>,
    /// As a reset.
    pub reset: bool,
    /// Something was done to it.
    pub touched: bool,
}

/// Decides, in the order in which packets come.
#[derive(Debug)]
pub struct Forecast {
    random: Random,
    /// When the slow stretch is free again.
    free: Option<Instant>,
    /// Jitter alone does not let a packet overtake another.
    last: Option<Instant>,
}

impl Forecast {
    pub fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            free: None,
            last: None,
        }
    }

    /// What becomes of a packet of `bytes` that came at `now`.
    pub fn fate(&mut self, weather: &Weather, now: Instant, bytes: usize) -> Fate {
        let random = &mut self.random;
        if random.chance(weather.loss) {
            return lost();
        }
        let mut due = now;
        if weather.bytes_per_second > 0 {
            let free = self.free.unwrap_or(now).max(now);
            if free - now > QUEUE {
                return lost();
            }
            due = free + Duration::from_secs_f64(bytes as f64 / weather.bytes_per_second as f64);
            self.free = Some(due);
        }
        if !weather.delay.is_zero() {
            let least = weather.delay.saturating_sub(weather.jitter);
            due += random.between(least, weather.delay + weather.jitter);
            due = due.max(self.last.unwrap_or(due));
            self.last = Some(due);
        }
        let overtaken = random.chance(weather.reorder);
        if overtaken {
            due += OVERTAKEN;
        }
        let again = random.chance(weather.duplicate);
        let reset = random.chance(weather.reset);
        Fate {
            due: if again { vec![due, due] } else { vec![due] },
            reset,
            touched: due > now || again || reset,
        }
    }
}

fn lost() -> Fate {
    Fate {
        touched: true,
        ..Fate::default()
    }
}

const TCP: u8 = 6;
const SYN: u8 = 2;
const RST_ACK: u8 = 0x14;

/// Makes a TCP segment over IPv4 a reset of its connection. None: it is something else, or opens a connection.
pub fn reset_of(packet: &[u8]) -> Option<Vec<u8>> {
    let ip = usize::from(packet.first()? & 15) * 4;
    let is_first_fragment = u16::from_be_bytes([*packet.get(6)?, *packet.get(7)?]) & 0x1fff == 0;
    if packet.first()? >> 4 != 4 || *packet.get(9)? != TCP || !is_first_fragment || ip < 20 {
        return None;
    }
    let tcp = usize::from(packet.get(ip + 12)? >> 4) * 4;
    if packet.get(ip + 13)? & SYN != 0 || tcp < 20 {
        return None;
    }
    let mut reset = packet.get(..ip + tcp)?.to_vec();
    let length = u16::try_from(reset.len()).ok()?;
    reset[2..4].copy_from_slice(&length.to_be_bytes());
    reset[10..12].fill(0);
    let sum = checksum(&[&reset[..ip]]);
    reset[10..12].copy_from_slice(&sum.to_be_bytes());
    reset[ip + 13] = RST_ACK;
    reset[ip + 16..ip + 18].fill(0);
    let tail = [0, TCP, 0, u8::try_from(tcp).ok()?];
    let sum = checksum(&[&reset[12..20], &tail, &reset[ip..]]);
    reset[ip + 16..ip + 18].copy_from_slice(&sum.to_be_bytes());
    Some(reset)
}

/// The internet checksum over parts of even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks_exact(2));
    let mut sum: u32 = words
        .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fates(weather: Weather, packets: usize) -> Vec<Fate> {
        let (mut forecast, now) = (Forecast::new(7), Instant::now());
        (0..packets)
            .map(|_| forecast.fate(&weather, now, 1000))
            .collect()
    }

    #[test]
    fn nothing_happens_in_fair_weather() {
        assert!(
            fates(Weather::default(), 100)
                .iter()
                .all(|f| !f.touched && f.due.len() == 1)
        );
    }

    #[test]
    fn as_many_are_lost_and_doubled_as_was_asked_for() {
        let weather = Weather {
            loss: 0.2,
            duplicate: 0.1,
            ..Weather::default()
        };
        let fates = fates(weather, 10_000);
        let with = |n| fates.iter().filter(|f| f.due.len() == n).count();
        assert!((1800..2200).contains(&with(0)), "{}", with(0));
        assert!((650..950).contains(&with(2)), "{}", with(2));
    }

    #[test]
    fn delay_keeps_the_order_and_reorder_does_not() {
        let delay = Duration::from_millis(100);
        let weather = Weather {
            delay,
            jitter: delay / 2,
            ..Weather::default()
        };
        let now = Instant::now();
        let dues = |weather| -> Vec<_> {
            fates(weather, 200)
                .into_iter()
                .flat_map(|f| f.due)
                .collect()
        };
        let due = dues(weather);
        assert!(due.is_sorted());
        assert!(
            due.iter()
                .all(|d| *d - now <= delay * 2 && *d - now >= delay / 4)
        );
        let due = dues(Weather {
            reorder: 0.3,
            ..Weather::default()
        });
        assert!(!due.is_sorted());
    }

    #[test]
    fn a_slow_stretch_passes_its_rate_and_drops_what_queues_too_long() {
        let weather = Weather {
            bytes_per_second: 1_000_000,
            ..Weather::default()
        };
        let fates = fates(weather, 1000);
        let passed = fates.iter().filter(|f| !f.due.is_empty()).count();
        // 1000 bytes take a millisecond, and a quarter of a second may wait.
        assert!((250..=252).contains(&passed), "{passed}");
    }

    #[test]
    fn a_segment_becomes_a_reset_with_right_checksums() {
        let mut packet = vec![
            0x45, 0, 0, 44, 1, 2, 0x40, 0, 64, TCP, 9, 9, 10, 87, 1, 2, 10, 87, 2, 2,
        ];
        packet.extend([
            0x2a, 0xf9, 0xd4, 0x31, 0, 0, 0, 5, 0, 0, 0, 9, 0x50, 0x18, 1, 0, 9, 9, 0, 0,
        ]);
        packet.extend(*b"body");
        let reset = reset_of(&packet).unwrap();
        assert_eq!(
            (reset.len(), reset[33], &reset[24..28]),
            (40, RST_ACK, &[0, 0, 0, 5][..])
        );
        // Over a right checksum and what it covers the sum is zero.
        assert_eq!(checksum(&[&reset[..20]]), 0);
        assert_eq!(
            checksum(&[&reset[12..20], &[0, TCP, 0, 20], &reset[20..]]),
            0
        );
        packet[33] = SYN;
        assert_eq!(reset_of(&packet), None);
        packet[9] = 17;
        assert_eq!(reset_of(&packet), None);
        assert_eq!(reset_of(&[0x45]), None);
    }
}
