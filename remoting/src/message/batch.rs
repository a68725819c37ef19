//! The body of a batch send: messages back to back, sharing the header's topic, queue and flags.
//!
//! ```text
//! total size 4 | magic 4 | body crc 4 | flag 4 | body length 4 + body | properties length 2 + properties
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Bytes of a message beyond body and properties.
const FIXED: usize = 22;

/// One message of a batch; both byte strings share the batch's body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchItem {
    pub flag: i32,
    pub body: Bytes,
    pub properties: Bytes,
}

/// Why a batch body cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    #[error("message {0} of the batch is cut off")]
    Truncated(usize),
    #[error("message {index} of the batch has the {what} length {length}")]
    Length {
        index: usize,
        what: &'static str,
        length: i32,
    },
    #[error("more than {0} messages in one batch")]
    TooMany(usize),
    #[error("properties of {0} bytes in a batch message exceed 32767")]
    Properties(usize),
}

/// Reads all messages. The size, magic and checksum fields are not trusted, as stock brokers ignore them.
pub fn decode(mut body: Bytes, max_messages: usize) -> Result<Vec<BatchItem>, BatchError> {
    let mut items = Vec::new();
    while !body.is_empty() {
        let index = items.len();
        if index == max_messages {
            return Err(BatchError::TooMany(max_messages));
        }
        if body.len() < FIXED {
            return Err(BatchError::Truncated(index));
        }
        body.advance(12);
        let flag = body.get_i32();
        let length = body.get_i32();
        let message = take(&mut body, length, 2, index, "body")?;
        let length = body.get_i16().into();
        let properties = take(&mut body, length, 0, index, "properties")?;
        items.push(BatchItem {
            flag,
            body: message,
            properties,
        });
    }
    Ok(items)
}

/// The next `length` bytes, with at least `after` bytes left behind them.
fn take(
    body: &mut Bytes,
    length: i32,
    after: usize,
    index: usize,
    what: &'static str,
) -> Result<Bytes, BatchError> {
    let n = usize::try_from(length).map_err(|_| BatchError::Length {
        index,
        what,
        length,
    })?;
    if body.len() < n.saturating_add(after) {
        return Err(BatchError::Truncated(index));
    }
    Ok(body.split_to(n))
}

/// Writes messages as a batch body.
pub fn encode<'a>(items: impl IntoIterator<Item = &'a BatchItem>) -> Result<Bytes, BatchError> {
    let mut out = BytesMut::new();
    for item in items {
        let properties = i16::try_from(item.properties.len())
            .map_err(|_| BatchError::Properties(item.properties.len()))?;
        let total = FIXED + item.body.len() + item.properties.len();
        out.reserve(total);
        out.put_u32(total as u32);
        out.put_u64(0);
        out.put_i32(item.flag);
        out.put_u32(item.body.len() as u32);
        out.put_slice(&item.body);
        out.put_i16(properties);
        out.put_slice(&item.properties);
    }
    Ok(out.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items() -> Vec<BatchItem> {
        (0..3)
            .map(|i| BatchItem {
                flag: i,
                body: Bytes::from(vec![i as u8; i as usize * 10]),
                properties: Bytes::from_static(b"a\x01b\x02"),
            })
            .collect()
    }

    #[test]
    fn batches_round_trip() {
        let body = encode(&items()).unwrap();
        assert_eq!(decode(body, 3).unwrap(), items());
        assert_eq!(decode(Bytes::new(), 3).unwrap(), []);
    }

    #[test]
    fn bad_batches_are_refused() {
        let body = encode(&items()).unwrap();
        assert_eq!(decode(body.clone(), 2), Err(BatchError::TooMany(2)));
        for n in 1..body.len() {
            if let Ok(read) = decode(body.slice(..n), 10) {
                assert!(read.len() < 3);
            }
        }
        let mut lying = BytesMut::from(&body[..]);
        lying[16..20].copy_from_slice(&(-1i32).to_be_bytes());
        assert!(matches!(
            decode(lying.freeze(), 10),
            Err(BatchError::Length { .. })
        ));
        let mut lying = BytesMut::from(&body[..]);
        lying[16..20].copy_from_slice(&i32::MAX.to_be_bytes());
        assert_eq!(decode(lying.freeze(), 10), Err(BatchError::Truncated(0)));
    }
}
