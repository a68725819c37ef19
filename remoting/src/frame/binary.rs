//! RocketMQ's binary header (serialize type 1).
//!
//! ```text
//! code 2 | language 1 | version 2 | opaque 4 | flag 4 | remark 4+n | fields length 4 | (name 2+n, value 4+n)*
//! ```
//!
//! A length of zero stands for null, which we treat as absent. Codes above 32767 do not fit and arrive folded
//! ([`request::unfold`]). Bytes that are no UTF-8 become the replacement character, as when Java makes a string of them.

use std::borrow::Cow;

use bytes::BufMut;

use super::{FrameError, Head, Value};
use crate::bytestr::ByteStr;
use crate::codes::request;
use crate::command::{Body, FLAG_RESPONSE, LanguageCode, RemotingCommand, SerializeType};
use crate::ext::{ExtBuilder, ExtFields};

pub(super) fn encode<'a>(
    head: &Head<'_>,
    fields: impl Iterator<Item = (&'a str, Value<'a>)>,
    out: &mut Vec<u8>,
) {
    out.reserve(256);
    out.put_i16(head.code as i16);
    out.put_u8(head.language as u8);
    out.put_i16(head.version as i16);
    out.put_i32(head.opaque);
    out.put_i32(head.flag);
    let remark = head.remark.unwrap_or("");
    out.put_u32(remark.len() as u32);
    out.put_slice(remark.as_bytes());
    let length_at = out.len();
    out.put_u32(0);
    let mut digits = itoa::Buffer::new();
    for (name, value) in fields {
        let Ok(name_length) = i16::try_from(name.len()) else {
            // Cannot be said in this format, and no peer has names of 32 KiB.
            continue;
        };
        let value = match value {
            Value::Text(text) => text,
            Value::Number(n) => digits.format(n),
        };
        out.put_i16(name_length);
        out.put_slice(name.as_bytes());
        out.put_u32(value.len() as u32);
        out.put_slice(value.as_bytes());
    }
    let length = (out.len() - length_at - 4) as u32;
    out[length_at..length_at + 4].copy_from_slice(&length.to_be_bytes());
}

pub(super) fn decode(header: &[u8]) -> Result<RemotingCommand, FrameError> {
    let mut r = Reader(header);
    let code = i32::from(r.i16("the code")?);
    let language = LanguageCode::from_ordinal(r.take(1, "the language")?[0]);
    let version = i32::from(r.i16("the version")?);
    let opaque = r.i32("the opaque")?;
    let flag = r.i32("the flag")?;
    let remark_length = r.length("the remark")?;
    let remark = r.text(remark_length, "the remark")?;
    let ext_length = r.length("the extension fields")?;
    let mut fields = Reader(r.take(ext_length, "the extension fields")?);
    let ext = if ext_length == 0 {
        ExtFields::new()
    } else {
        ext(&mut fields)?
    };
    Ok(RemotingCommand {
        code: if flag & FLAG_RESPONSE == 0 {
            request::unfold(code)
        } else {
            code
        },
        language,
        version,
        opaque,
        flag,
        remark: (!remark.is_empty()).then(|| remark.into_owned()),
        ext,
        body: Body::Empty,
        serialize: SerializeType::RocketMq,
    })
}

fn ext(r: &mut Reader<'_>) -> Result<ExtFields, FrameError> {
    let mut text = String::with_capacity(r.0.len());
    let mut ext = ExtBuilder::new();
    while !r.0.is_empty() {
        let key_length = r.i16("a field name")?;
        let key_length = usize::try_from(key_length).map_err(|_| FrameError::FieldLength {
            field: "a field name",
            length: key_length.into(),
        })?;
        let key = r.text(key_length, "a field name")?;
        let value_length = r.length("a field value")?;
        let value = r.text(value_length, "a field value")?;
        if key_length > 0 && value_length > 0 {
            let start = text.len();
            text.push_str(&key);
            let middle = text.len();
            text.push_str(&value);
            ext.add(text.as_bytes(), start..middle, middle..text.len())?;
        }
    }
    Ok(ext.finish(ByteStr::from(text)))
}

/// Takes fields off the front, never past the end.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize, field: &'static str) -> Result<&'a [u8], FrameError> {
        let (head, tail) = self
            .0
            .split_at_checked(n)
            .ok_or(FrameError::Truncated(field))?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], FrameError> {
        let (head, tail) = self
            .0
            .split_first_chunk::<N>()
            .ok_or(FrameError::Truncated(field))?;
        self.0 = tail;
        Ok(*head)
    }

    fn i16(&mut self, field: &'static str) -> Result<i16, FrameError> {
        self.array(field).map(i16::from_be_bytes)
    }

    fn i32(&mut self, field: &'static str) -> Result<i32, FrameError> {
        self.array(field).map(i32::from_be_bytes)
    }

    fn length(&mut self, field: &'static str) -> Result<usize, FrameError> {
        let length = self.i32(field)?;
        usize::try_from(length).map_err(|_| FrameError::FieldLength {
            field,
            length: length.into(),
        })
    }

    fn text(&mut self, n: usize, field: &'static str) -> Result<Cow<'a, str>, FrameError> {
        self.take(n, field).map(String::from_utf8_lossy)
    }
}
