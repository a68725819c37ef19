//! The body of REGISTER_BROKER (103), plain JSON or deflated.
//!
//! ```text
//! zlib( length 4 + DataVersion JSON | count 4 | (length 4 + topic line)* | length 4 + filter servers JSON
//!     | [count 4 | (length 4 + mapping JSON)*]   from version 413 on )
//! ```

use std::collections::BTreeMap;
use std::io::{Read, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;

use super::{DataVersion, TopicConfig, TopicConfigSerializeWrapper, shapes};
use crate::json::{self, JsonError, Limits};
use crate::version::{V3_0_11, V5_0_0};

/// Largest registration after inflation, in bytes: about half a million topics.
pub const MAX_INFLATED: usize = 64 * 1024 * 1024;

shapes! {
    #[derive(Default)]
    pub struct RegisterBrokerBody {
        filter_server_list: Vec<String>,
        topic_config_serialize_wrapper: TopicConfigSerializeWrapper,
    }
}

/// Why a registration cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RegisterBodyError {
    #[error(transparent)]
    Json(#[from] JsonError),
    #[error("the body does not inflate: {0}")]
    Inflate(std::io::Error),
    #[error("the body inflates to more than {MAX_INFLATED} bytes")]
    TooLarge,
    #[error("the body ends inside {0}")]
    Truncated(&'static str),
    #[error("bad topic line {0:?}")]
    Topic(String),
}

impl RegisterBrokerBody {
    /// As plain JSON.
    pub fn encode(&self) -> Bytes {
        json::to_bytes(self)
    }

    /// Deflated, for a name server of any version: mappings follow only from 413 on.
    pub fn encode_compressed(&self, version: i32) -> Bytes {
        let wrapper = &self.topic_config_serialize_wrapper;
        let mut raw = Vec::with_capacity(64 + wrapper.topic_config_table.len() * 64);
        put(&mut raw, &json::to_bytes(&wrapper.data_version));
        raw.extend_from_slice(&(wrapper.topic_config_table.len() as u32).to_be_bytes());
        for config in wrapper.topic_config_table.values() {
            put(&mut raw, config.encode().as_bytes());
        }
        put(&mut raw, &json::to_bytes(&self.filter_server_list));
        if version >= V5_0_0 {
            raw.extend_from_slice(
                &(wrapper.topic_queue_mapping_info_map.len() as u32).to_be_bytes(),
            );
            for mapping in wrapper.topic_queue_mapping_info_map.values() {
                put(&mut raw, &json::to_bytes(mapping));
            }
        }
        let mut zlib = ZlibEncoder::new(Vec::with_capacity(raw.len() / 4), Compression::best());
        // Writing to memory cannot fail.
        let _ = zlib.write_all(&raw);
        zlib.finish().unwrap_or_default().into()
    }

    /// Reads either form, whatever the header's `compressed` says: plain JSON starts with a brace, a zlib stream never
    /// does. A sender before V3_0_11 sends the topic table alone.
    pub fn decode(body: &[u8], version: i32) -> Result<Self, RegisterBodyError> {
        if body.is_empty() {
            return Ok(Self::default());
        }
        let first = body.iter().find(|b| !b.is_ascii_whitespace());
        if first != Some(&b'{') {
            return Self::decode_compressed(body, version);
        }
        if version >= V3_0_11 {
            return Ok(json::from_request(body, Limits::REGISTRATION)?);
        }
        Ok(Self {
            topic_config_serialize_wrapper: json::from_request(body, Limits::REGISTRATION)?,
            ..Self::default()
        })
    }

    fn decode_compressed(body: &[u8], version: i32) -> Result<Self, RegisterBodyError> {
        let mut raw = Vec::new();
        ZlibDecoder::new(body)
            .take(MAX_INFLATED as u64 + 1)
            .read_to_end(&mut raw)
            .map_err(RegisterBodyError::Inflate)?;
        if raw.len() > MAX_INFLATED {
            return Err(RegisterBodyError::TooLarge);
        }
        let mut rest = &raw[..];
        let mut wrapper = TopicConfigSerializeWrapper {
            data_version: json::from_request::<DataVersion>(
                sized(&mut rest, "the data version")?,
                Limits::REQUEST,
            )?,
            ..Default::default()
        };
        let topics = number(&mut rest, "the topic count")?;
        if topics > Limits::REGISTRATION.objects {
            return Err(RegisterBodyError::TooLarge);
        }
        for _ in 0..topics {
            let line = String::from_utf8_lossy(sized(&mut rest, "a topic")?);
            let config = TopicConfig::decode(&line)
                .ok_or_else(|| RegisterBodyError::Topic(line.chars().take(300).collect()))?;
            wrapper
                .topic_config_table
                .insert(config.topic_name.clone(), config);
        }
        let filter_server_list = match sized(&mut rest, "the filter servers")? {
            [] => Vec::new(),
            list => {
                let list: Option<Vec<String>> = json::from_request(list, Limits::REQUEST)?;
                list.unwrap_or_default()
            }
        };
        if version >= V5_0_0 && !rest.is_empty() {
            let mut mappings = BTreeMap::new();
            let count = number(&mut rest, "the mapping count")?;
            if count > Limits::REQUEST.objects {
                return Err(RegisterBodyError::TooLarge);
            }
            for _ in 0..count {
                let text = sized(&mut rest, "a mapping")?;
                let mapping: serde_json::Value = json::from_request(text, Limits::REQUEST)?;
                let topic = mapping
                    .get("topic")
                    .and_then(|t| t.as_str())
                    .unwrap_or_default()
                    .to_owned();
                mappings.insert(topic, mapping);
            }
            wrapper.topic_queue_mapping_info_map = mappings;
        }
        Ok(Self {
            filter_server_list,
            topic_config_serialize_wrapper: wrapper,
        })
    }
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    out.extend_from_slice(bytes);
}

fn number(rest: &mut &[u8], what: &'static str) -> Result<usize, RegisterBodyError> {
    let (head, tail) = rest
        .split_first_chunk::<4>()
        .ok_or(RegisterBodyError::Truncated(what))?;
    *rest = tail;
    usize::try_from(i32::from_be_bytes(*head)).map_err(|_| RegisterBodyError::Truncated(what))
}

fn sized<'a>(rest: &mut &'a [u8], what: &'static str) -> Result<&'a [u8], RegisterBodyError> {
    let n = number(rest, what)?;
    let (head, tail) = rest
        .split_at_checked(n)
        .ok_or(RegisterBodyError::Truncated(what))?;
    *rest = tail;
    Ok(head)
}
