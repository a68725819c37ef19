//! The commit log record: also the body of every response that carries messages, records back to back.
//!
//! ```text
//!  0 total size 4 | 4 magic 4 | 8 body crc 4 | 12 queue id 4 | 16 flag 4 | 20 queue offset 8 | 28 physical offset 8
//! 36 sys flag 4 | 40 born timestamp 8 | 48 born host 8 or 20 | store timestamp 8 | store host 8 or 20
//!    reconsume times 4 | prepared transaction offset 8 | body 4+n | topic 1+n (V1) or 2+n (V2) | properties 2+n
//! ```
//!
//! A record is encoded once, when it is accepted; the log then stamps queue offset, physical offset and store time in
//! place.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::{BufMut, Bytes};

use super::{body_crc, properties, sysflag};
use crate::bytestr::ByteStr;

/// Record with a one-byte topic length.
pub const MAGIC_V1: i32 = 0xDAA3_20A7_u32 as i32;
/// Record with a two-byte topic length.
pub const MAGIC_V2: i32 = 0xDAA3_20AB_u32 as i32;
/// Fills the end of a log file.
pub const MAGIC_BLANK: i32 = 0xCBD4_3194_u32 as i32;

pub const QUEUE_OFFSET_POSITION: usize = 20;
pub const PHYSICAL_OFFSET_POSITION: usize = 28;
pub const SYS_FLAG_POSITION: usize = 36;
const BORN_HOST_POSITION: usize = 48;

/// Longest topic of a V1 record, in bytes.
pub const MAX_V1_TOPIC_LENGTH: usize = 127;
/// Longest topic of any record, in bytes.
pub const MAX_TOPIC_LENGTH: usize = i16::MAX as usize;
/// Longest encoded properties, in bytes.
pub const MAX_PROPERTIES_LENGTH: usize = i16::MAX as usize;

/// Bytes of a V1 record with IPv4 hosts and no body, topic and properties.
pub const FIXED_LENGTH: usize = 91;

/// A message about to be stored: everything but what the log stamps.
#[derive(Clone, Debug)]
pub struct NewMessage {
    pub topic: ByteStr,
    pub queue_id: i32,
    pub flag: i32,
    /// The IPv6 bits are set from the hosts when the record is encoded.
    pub sys_flag: i32,
    pub born_timestamp: i64,
    pub born_host: SocketAddr,
    pub store_host: SocketAddr,
    pub reconsume_times: i32,
    pub prepared_transaction_offset: i64,
    pub body: Bytes,
    /// [`body_crc`] of `body`.
    pub body_crc: u32,
    /// Encoded as in [`properties`].
    pub properties: Bytes,
}

fn host_length(host: SocketAddr) -> usize {
    if host.is_ipv4() { 8 } else { 20 }
}

fn put_host(host: SocketAddr, out: &mut impl BufMut) {
    match host.ip() {
        IpAddr::V4(ip) => out.put_slice(&ip.octets()),
        IpAddr::V6(ip) => out.put_slice(&ip.octets()),
    }
    out.put_u32(host.port().into());
}

impl NewMessage {
    fn is_v2(&self) -> bool {
        self.topic.len() > MAX_V1_TOPIC_LENGTH
    }

    /// Bytes of the encoded record.
    pub fn encoded_len(&self) -> usize {
        FIXED_LENGTH - 16
            + host_length(self.born_host)
            + host_length(self.store_host)
            + usize::from(self.is_v2())
            + self.body.len()
            + self.topic.len()
            + self.properties.len()
    }

    /// Appends the record with zeros where the log stamps.
    ///
    /// # Errors
    /// Topic or properties longer than their length fields can say, or a body beyond 2 GiB; nothing is appended.
    pub fn try_encode_into(&self, out: &mut impl BufMut) -> Result<(), RecordError> {
        let bounded = [
            ("topic", self.topic.len(), MAX_TOPIC_LENGTH),
            ("properties", self.properties.len(), MAX_PROPERTIES_LENGTH),
            ("record", self.encoded_len(), i32::MAX as usize),
        ];
        for (field, length, max) in bounded {
            if length > max {
                return Err(RecordError::TooLong { field, length, max });
            }
        }
        let total = self.encoded_len();
        let mut sys_flag = self.sys_flag & !(sysflag::BORN_HOST_V6 | sysflag::STORE_HOST_V6);
        if self.born_host.is_ipv6() {
            sys_flag |= sysflag::BORN_HOST_V6;
        }
        if self.store_host.is_ipv6() {
            sys_flag |= sysflag::STORE_HOST_V6;
        }
        out.put_u32(total as u32);
        out.put_i32(if self.is_v2() { MAGIC_V2 } else { MAGIC_V1 });
        out.put_u32(self.body_crc & 0x7FFF_FFFF);
        out.put_i32(self.queue_id);
        out.put_i32(self.flag);
        out.put_bytes(0, 16);
        out.put_i32(sys_flag);
        out.put_i64(self.born_timestamp);
        put_host(self.born_host, out);
        out.put_i64(0);
        put_host(self.store_host, out);
        out.put_i32(self.reconsume_times);
        out.put_i64(self.prepared_transaction_offset);
        out.put_u32(self.body.len() as u32);
        out.put_slice(&self.body);
        if self.is_v2() {
            out.put_u16(self.topic.len() as u16);
        } else {
            out.put_u8(self.topic.len() as u8);
        }
        out.put_slice(self.topic.as_bytes());
        out.put_u16(self.properties.len() as u16);
        out.put_slice(&self.properties);
        Ok(())
    }

    /// As [`Self::try_encode_into`], for a message whose lengths were checked when it was accepted.
    ///
    /// # Panics
    /// When topic or properties are longer than [`MAX_TOPIC_LENGTH`] or [`MAX_PROPERTIES_LENGTH`].
    pub fn encode_into(&self, out: &mut impl BufMut) {
        if let Err(e) = self.try_encode_into(out) {
            panic!("an unchecked message reached the log: {e}");
        }
    }
}

/// Sets the stamped fields of an encoded record in place.
///
/// # Panics
/// When `record` is shorter than a record's fixed part: the log only stamps what it encoded.
pub fn stamp(record: &mut [u8], queue_offset: i64, physical_offset: i64, store_timestamp: i64) {
    assert!(
        record.len() >= FIXED_LENGTH,
        "a record has at least {FIXED_LENGTH} bytes, this one {}",
        record.len()
    );
    record[QUEUE_OFFSET_POSITION..QUEUE_OFFSET_POSITION + 8]
        .copy_from_slice(&queue_offset.to_be_bytes());
    record[PHYSICAL_OFFSET_POSITION..PHYSICAL_OFFSET_POSITION + 8]
        .copy_from_slice(&physical_offset.to_be_bytes());
    // The sys flag is big-endian and the bit is in its last byte.
    let born_v6 = i32::from(record[SYS_FLAG_POSITION + 3]) & sysflag::BORN_HOST_V6 != 0;
    let at = BORN_HOST_POSITION + if born_v6 { 20 } else { 8 };
    record[at..at + 8].copy_from_slice(&store_timestamp.to_be_bytes());
}

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("record cut off in {0}")]
    Truncated(&'static str),
    #[error("record size {0} is impossible")]
    Size(i32),
    #[error("unknown record magic {0:#010x}")]
    Magic(i32),
    #[error("{field} length {length} does not fit its record")]
    Length { field: &'static str, length: i64 },
    #[error("port {0} in a host field")]
    Port(u32),
    #[error("the topic is not UTF-8")]
    Topic,
    #[error("{0} bytes after the properties")]
    Excess(usize),
    #[error("{field} of {length} bytes exceeds {max}")]
    TooLong {
        field: &'static str,
        length: usize,
        max: usize,
    },
}

/// A borrowed view of one stored record, checked when it is made.
#[derive(Clone, Copy, Debug)]
pub struct StoredRecord<'a> {
    bytes: &'a [u8],
    magic: i32,
    born_host: SocketAddr,
    store_timestamp_at: usize,
    store_host: SocketAddr,
    reconsume_times_at: usize,
    body: &'a [u8],
    topic: &'a str,
    properties: &'a [u8],
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, n: usize, field: &'static str) -> Result<&'a [u8], RecordError> {
        let end = self
            .at
            .checked_add(n)
            .ok_or(RecordError::Truncated(field))?;
        let taken = self
            .bytes
            .get(self.at..end)
            .ok_or(RecordError::Truncated(field))?;
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], RecordError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, field)?);
        Ok(array)
    }

    fn i32(&mut self, field: &'static str) -> Result<i32, RecordError> {
        Ok(i32::from_be_bytes(self.array(field)?))
    }

    fn sized(&mut self, length: i64, field: &'static str) -> Result<&'a [u8], RecordError> {
        let bad = RecordError::Length { field, length };
        let n = usize::try_from(length).map_err(|_| bad)?;
        self.take(n, field).map_err(|_| bad)
    }

    fn host(&mut self, v6: bool, field: &'static str) -> Result<SocketAddr, RecordError> {
        let ip: IpAddr = if v6 {
            Ipv6Addr::from(self.array::<16>(field)?).into()
        } else {
            Ipv4Addr::from(self.array::<4>(field)?).into()
        };
        let port = u32::from_be_bytes(self.array(field)?);
        Ok(SocketAddr::new(
            ip,
            u16::try_from(port).map_err(|_| RecordError::Port(port))?,
        ))
    }
}

impl<'a> StoredRecord<'a> {
    /// Views the record at the start of `bytes`; more may follow it.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, RecordError> {
        let mut c = Cursor { bytes, at: 0 };
        let size = c.i32("the size")?;
        let total = usize::try_from(size)
            .ok()
            .filter(|n| *n >= FIXED_LENGTH)
            .ok_or(RecordError::Size(size))?;
        let bytes = bytes
            .get(..total)
            .ok_or(RecordError::Truncated("the record"))?;
        c.bytes = bytes;
        let magic = c.i32("the magic")?;
        if magic != MAGIC_V1 && magic != MAGIC_V2 {
            return Err(RecordError::Magic(magic));
        }
        c.at = SYS_FLAG_POSITION;
        let sys_flag = c.i32("the sys flag")?;
        c.at = BORN_HOST_POSITION;
        let born_host = c.host(sys_flag & sysflag::BORN_HOST_V6 != 0, "the born host")?;
        let store_timestamp_at = c.at;
        c.take(8, "the store timestamp")?;
        let store_host = c.host(sys_flag & sysflag::STORE_HOST_V6 != 0, "the store host")?;
        let reconsume_times_at = c.at;
        c.take(12, "the prepared transaction offset")?;
        let length = c.i32("the body length")?;
        let body = c.sized(length.into(), "body")?;
        let length = if magic == MAGIC_V1 {
            i64::from(i8::from_be_bytes(c.array("the topic length")?))
        } else {
            i64::from(i16::from_be_bytes(c.array("the topic length")?))
        };
        let topic =
            std::str::from_utf8(c.sized(length, "topic")?).map_err(|_| RecordError::Topic)?;
        let length = i16::from_be_bytes(c.array("the properties length")?);
        let properties = c.sized(length.into(), "properties")?;
        if c.at != total {
            return Err(RecordError::Excess(total - c.at));
        }
        Ok(Self {
            bytes,
            magic,
            born_host,
            store_timestamp_at,
            store_host,
            reconsume_times_at,
            body,
            topic,
            properties,
        })
    }

    /// Views the records that lie back to back in `bytes`; ends after the first that cannot be read.
    pub fn all(bytes: &'a [u8]) -> impl Iterator<Item = Result<Self, RecordError>> {
        let mut rest = bytes;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let record = Self::parse(rest);
            rest = match &record {
                Ok(r) => &rest[r.total_size()..],
                Err(_) => &[],
            };
            Some(record)
        })
    }

    fn fixed<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut array = [0; N];
        array.copy_from_slice(&self.bytes[at..at + N]);
        array
    }

    fn i32_at(&self, at: usize) -> i32 {
        i32::from_be_bytes(self.fixed(at))
    }

    fn i64_at(&self, at: usize) -> i64 {
        i64::from_be_bytes(self.fixed(at))
    }

    /// The whole record.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    pub fn total_size(&self) -> usize {
        self.bytes.len()
    }

    pub fn magic(&self) -> i32 {
        self.magic
    }

    pub fn body_crc(&self) -> u32 {
        self.i32_at(8) as u32
    }

    pub fn queue_id(&self) -> i32 {
        self.i32_at(12)
    }

    pub fn flag(&self) -> i32 {
        self.i32_at(16)
    }

    pub fn queue_offset(&self) -> i64 {
        self.i64_at(QUEUE_OFFSET_POSITION)
    }

    pub fn physical_offset(&self) -> i64 {
        self.i64_at(PHYSICAL_OFFSET_POSITION)
    }

    pub fn sys_flag(&self) -> i32 {
        self.i32_at(SYS_FLAG_POSITION)
    }

    pub fn born_timestamp(&self) -> i64 {
        self.i64_at(40)
    }

    pub fn born_host(&self) -> SocketAddr {
        self.born_host
    }

    pub fn store_timestamp(&self) -> i64 {
        self.i64_at(self.store_timestamp_at)
    }

    pub fn store_host(&self) -> SocketAddr {
        self.store_host
    }

    pub fn reconsume_times(&self) -> i32 {
        self.i32_at(self.reconsume_times_at)
    }

    pub fn prepared_transaction_offset(&self) -> i64 {
        self.i64_at(self.reconsume_times_at + 4)
    }

    /// As sent: still compressed when the sys flag says so.
    pub fn body(&self) -> &'a [u8] {
        self.body
    }

    pub fn topic(&self) -> &'a str {
        self.topic
    }

    /// Encoded as in [`properties`].
    pub fn properties(&self) -> &'a [u8] {
        self.properties
    }

    pub fn property(&self, name: &str) -> Option<&'a str> {
        properties::get(self.properties, name)
    }

    pub fn tags_code(&self) -> i64 {
        super::tags_code(self.property(properties::TAGS))
    }

    /// Whether the body has the checksum the record says.
    pub fn body_crc_ok(&self) -> bool {
        body_crc(self.body) == self.body_crc()
    }
}
