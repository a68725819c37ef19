//! Message ids: the offset id that names a place in a broker's log, and the client-made unique id.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// A text is not an offset message id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an offset message id: {0:?}")]
pub struct IdError(String);

/// Appends the digits of up to 16 bytes.
fn hex(bytes: &[u8], out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut text = [b'0'; 32];
    for (pair, b) in text.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
        *pair = [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]];
    }
    let text = &text[..2 * bytes.len().min(16)];
    out.push_str(std::str::from_utf8(text).unwrap_or_default());
}

/// The id of the record at `physical_offset` of the broker at `host`: upper-case hex of address, port (4 bytes) and
/// offset (8), 32 characters for IPv4 and 56 for IPv6.
pub fn offset_msg_id(host: SocketAddr, physical_offset: i64) -> String {
    let mut id = String::with_capacity(56);
    push_offset_msg_id(host, physical_offset, &mut id);
    id
}

/// Appends what [`offset_msg_id`] gives.
pub fn push_offset_msg_id(host: SocketAddr, physical_offset: i64, out: &mut String) {
    match host.ip() {
        IpAddr::V4(ip) => hex(&ip.octets(), out),
        IpAddr::V6(ip) => hex(&ip.octets(), out),
    }
    hex(&u32::from(host.port()).to_be_bytes(), out);
    hex(&physical_offset.to_be_bytes(), out);
}

/// Host and physical offset of an offset message id; hex digits in either case.
pub fn parse_offset_msg_id(id: &str) -> Result<(SocketAddr, i64), IdError> {
    let bad = || IdError(id.chars().take(64).collect());
    if !matches!(id.len(), 32 | 56) || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(bad());
    }
    let mut bytes = [0u8; 28];
    for (i, pair) in id.as_bytes().chunks_exact(2).enumerate() {
        let digit = |d: u8| char::from(d).to_digit(16).unwrap_or(0) as u8;
        bytes[i] = digit(pair[0]) << 4 | digit(pair[1]);
    }
    let number = |range: std::ops::Range<usize>| {
        bytes[range]
            .iter()
            .fold(0u128, |n, b| n << 8 | u128::from(*b))
    };
    let address = id.len() / 2 - 12;
    let ip: IpAddr = if address == 4 {
        Ipv4Addr::from(number(0..4) as u32).into()
    } else {
        Ipv6Addr::from(number(0..16)).into()
    };
    let port = u16::try_from(number(address..address + 4)).map_err(|_| bad())?;
    Ok((
        SocketAddr::new(ip, port),
        number(address + 4..address + 12) as i64,
    ))
}

/// A new unique message id (property UNIQ_KEY): address 4, pid 2, a value of this process 4, milliseconds since the start
/// of the month (UTC) 4, counter 2; 32 hex characters.
pub fn unique_id() -> String {
    static PREFIX: OnceLock<String> = OnceLock::new();
    static COUNTER: AtomicU16 = AtomicU16::new(0);
    let prefix = PREFIX.get_or_init(process_prefix);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_millis() as u64);
    let mut id = String::with_capacity(32);
    id.push_str(prefix);
    hex(&(since_month_start(now) as u32).to_be_bytes(), &mut id);
    hex(
        &COUNTER.fetch_add(1, Ordering::Relaxed).to_be_bytes(),
        &mut id,
    );
    id
}

fn process_prefix() -> String {
    use std::hash::{BuildHasher, RandomState};
    let mut prefix = String::with_capacity(20);
    hex(&local_ipv4().octets(), &mut prefix);
    hex(&(std::process::id() as u16).to_be_bytes(), &mut prefix);
    // In place of Java's class loader hash: tells two processes with the same short pid apart.
    hex(
        &(RandomState::new().hash_one(std::process::id()) as u32).to_be_bytes(),
        &mut prefix,
    );
    prefix
}

/// The address this machine would send from; connecting a datagram socket sends nothing.
fn local_ipv4() -> Ipv4Addr {
    let ask = || -> std::io::Result<SocketAddr> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        socket.local_addr()
    };
    match ask().map(|a| a.ip()) {
        Ok(IpAddr::V4(ip)) => ip,
        _ => Ipv4Addr::LOCALHOST,
    }
}

/// Milliseconds since the month of `unix_ms` began, in UTC.
fn since_month_start(unix_ms: u64) -> u64 {
    const DAY_MS: u64 = 86_400_000;
    let days = unix_ms / DAY_MS;
    // Days since 0000-03-01 in the proleptic Gregorian calendar, then the day within its month (Hinnant's algorithm).
    let day_of_era = (days + 719_468) % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5;
    day * DAY_MS + unix_ms % DAY_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offset_ids_round_trip() {
        let v4: SocketAddr = "127.0.0.1:10911".parse().unwrap();
        let id = offset_msg_id(v4, 0x1234);
        assert_eq!(id, "7F00000100002A9F0000000000001234");
        assert_eq!(parse_offset_msg_id(&id), Ok((v4, 0x1234)));
        assert_eq!(parse_offset_msg_id(&id.to_lowercase()), Ok((v4, 0x1234)));
        let v6: SocketAddr = "[2001:db8::7]:65535".parse().unwrap();
        let id = offset_msg_id(v6, i64::MAX);
        assert_eq!(id.len(), 56);
        assert_eq!(parse_offset_msg_id(&id), Ok((v6, i64::MAX)));
    }

    #[test]
    fn bad_ids_are_refused() {
        for bad in [
            "",
            "7F",
            "7F00000100002A9F000000000000123G",
            "7F000001FFFF2A9F0000000000001234",
            &"é".repeat(16),
        ] {
            assert!(parse_offset_msg_id(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn unique_ids_differ_and_have_32_digits() {
        let ids: std::collections::HashSet<String> = (0..1000).map(|_| unique_id()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(
            ids.iter()
                .all(|id| id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()))
        );
    }

    #[test]
    fn months_start_at_their_first_day() {
        // 2024-02-29T12:00:00Z and 2024-03-01T00:00:00.001Z
        assert_eq!(
            since_month_start(1_709_208_000_000),
            28 * 86_400_000 + 43_200_000
        );
        assert_eq!(since_month_start(1_709_251_200_001), 1);
        assert_eq!(since_month_start(0), 0);
    }
}
