//! The remoting frame: how a command lies on the wire.
//!
//! ```text
//! total length 4 | serialize type 1 | header length 3 | header | body
//! ```
//!
//! The total length does not count itself. The header is JSON or RocketMQ's binary form ([`SerializeType`]); the body is
//! opaque and, once decoded, a view of the frame. A bad frame is an error that closes its connection: nothing after it can
//! be trusted.

mod binary;
mod json;
mod reader;

use bytes::{Buf, Bytes};

pub use reader::{FrameReader, INITIAL_READ_BUFFER, MAX_READ_CHUNK};

use crate::command::{FLAG_RESPONSE, LanguageCode, RemotingCommand, SerializeType};
use crate::ext::TooManyFields;
use crate::version::CURRENT_VERSION;

/// The largest frame accepted or sent, in bytes after the length field; the limit of stock peers.
pub const MAX_FRAME_LENGTH: usize = 16 * 1024 * 1024;

/// The largest header accepted, in bytes. A header is copied and taken apart; properties, the largest thing in one, have
/// 32 KiB, six times that as JSON.
pub const MAX_HEADER_LENGTH: usize = 1024 * 1024;

/// Deepest nesting of values in a JSON header; a stock header has two levels.
pub const MAX_JSON_DEPTH: usize = 32;

/// Why a frame cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("frame length {0} is not between 4 and {MAX_FRAME_LENGTH}")]
    Length(i32),
    #[error("the peer starts a TLS handshake on a plain connection")]
    Tls,
    #[error("the peer speaks HTTP/2, perhaps gRPC, which is not served on this port")]
    Http2,
    #[error("the peer speaks HTTP, which is not served on this port")]
    Http,
    #[error("header of {0} bytes exceeds the limit of {MAX_HEADER_LENGTH}")]
    HeaderTooLarge(usize),
    #[error("frame of {0} bytes exceeds the limit of {MAX_FRAME_LENGTH}")]
    TooLarge(usize),
    #[error("header length {header} exceeds the {frame} bytes of its frame")]
    HeaderLength { header: usize, frame: usize },
    #[error("unknown serialize type {0}")]
    SerializeType(u8),
    #[error("the header is not UTF-8")]
    NotUtf8,
    #[error("the header ends inside {0}")]
    Truncated(&'static str),
    #[error("{field} has the length {length}")]
    FieldLength { field: &'static str, length: i64 },
    #[error("bad JSON header at byte {at}: {what}")]
    Json { at: usize, what: &'static str },
    #[error("JSON header nested deeper than {MAX_JSON_DEPTH}")]
    TooDeep,
    #[error("more than {} extension fields", crate::ext::MAX_EXT_FIELDS)]
    TooManyFields,
    #[error("the connection ended inside a frame")]
    UnexpectedEnd,
    #[error("read failed: {0}")]
    Io(#[from] std::io::Error),
}

impl From<TooManyFields> for FrameError {
    fn from(_: TooManyFields) -> Self {
        Self::TooManyFields
    }
}

/// What a header says besides its extension fields.
struct Head<'a> {
    code: i32,
    language: LanguageCode,
    version: i32,
    opaque: i32,
    flag: i32,
    remark: Option<&'a str>,
}

/// The value of an extension field that is about to be written.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    Text(&'a str),
    /// Its digits.
    Number(i64),
}

/// An answer without remark and body, with fields that differ: for what is answered so often that a [`RemotingCommand`],
/// which can be looked into, costs too much.
pub struct Answer<'a> {
    pub code: i32,
    pub fields: &'a [(&'static str, Value<'a>)],
}

/// Appends the whole frame, body included, to `out`.
///
/// # Errors
/// [`FrameError::TooLarge`] when the frame exceeds [`MAX_FRAME_LENGTH`]; `out` is then unchanged.
pub fn encode(cmd: &RemotingCommand, out: &mut Vec<u8>) -> Result<(), FrameError> {
    encode_head(cmd, out)?;
    cmd.body
        .parts()
        .iter()
        .for_each(|part| out.extend_from_slice(part));
    Ok(())
}

/// Appends everything but the body; the length fields count the body.
///
/// # Errors
/// As [`encode`].
pub fn encode_head(cmd: &RemotingCommand, out: &mut Vec<u8>) -> Result<(), FrameError> {
    let head = Head {
        code: cmd.code,
        language: cmd.language,
        version: cmd.version,
        opaque: cmd.opaque,
        flag: cmd.flag,
        remark: cmd.remark.as_deref(),
    };
    let fields = cmd.ext.iter().map(|(name, text)| (name, Value::Text(text)));
    write(&head, fields, cmd.serialize, cmd.body.len(), out)
}

/// Appends an answer to the request with this opaque and serialize type.
///
/// # Errors
/// As [`encode`].
pub(crate) fn encode_answer(
    answer: &Answer<'_>,
    opaque: i32,
    serialize: SerializeType,
    out: &mut Vec<u8>,
) -> Result<(), FrameError> {
    let head = Head {
        code: answer.code,
        language: LanguageCode::Java,
        version: CURRENT_VERSION,
        opaque,
        flag: FLAG_RESPONSE,
        remark: None,
    };
    write(&head, answer.fields.iter().copied(), serialize, 0, out)
}

fn write<'a>(
    head: &Head<'_>,
    fields: impl ExactSizeIterator<Item = (&'a str, Value<'a>)>,
    serialize: SerializeType,
    body: usize,
    out: &mut Vec<u8>,
) -> Result<(), FrameError> {
    let start = out.len();
    out.extend_from_slice(&[0; 8]);
    match serialize {
        SerializeType::Json => json::encode(head, fields, out),
        SerializeType::RocketMq => binary::encode(head, fields, out),
    }
    let header = out.len() - start - 8;
    let total = 4 + header + body;
    if total > MAX_FRAME_LENGTH {
        out.truncate(start);
        return Err(FrameError::TooLarge(total));
    }
    let marked = (serialize as u32) << 24 | header as u32;
    out[start..start + 4].copy_from_slice(&(total as u32).to_be_bytes());
    out[start + 4..start + 8].copy_from_slice(&marked.to_be_bytes());
    Ok(())
}

/// Decodes the bytes that follow the total length. The body shares `frame`.
pub fn decode_frame(mut frame: Bytes) -> Result<RemotingCommand, FrameError> {
    if frame.len() < 4 {
        return Err(FrameError::Truncated("the header length"));
    }
    let marked = frame.get_u32();
    let header_length = (marked & 0x00FF_FFFF) as usize;
    if header_length > frame.len() {
        return Err(FrameError::HeaderLength {
            header: header_length,
            frame: frame.len(),
        });
    }
    if header_length > MAX_HEADER_LENGTH {
        return Err(FrameError::HeaderTooLarge(header_length));
    }
    let header = &frame[..header_length];
    let mut cmd = match (marked >> 24) as u8 {
        0 => match json::decode(header) {
            // As Java reads it: the replacement character for each byte that is part of none.
            Err(FrameError::NotUtf8) => json::decode(String::from_utf8_lossy(header).as_bytes())?,
            decoded => decoded?,
        },
        1 => binary::decode(header)?,
        other => return Err(FrameError::SerializeType(other)),
    };
    frame.advance(header_length);
    cmd.body = frame.into();
    Ok(cmd)
}
