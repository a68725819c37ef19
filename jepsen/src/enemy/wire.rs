//! Frames as nobody's library would write them: fields need not be UTF-8, lengths need not be true.

use crate::random::Random;

/// A request that is about to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub code: i32,
    pub opaque: i32,
    pub flag: i32,
    pub version: i32,
    /// Names and values, perhaps several of one name.
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
    pub body: Vec<u8>,
    /// The binary header, not the JSON one.
    pub binary: bool,
}

/// The opaque lies in the flag's place when a header says so; answers are matched by it.
impl Asked {
    fn json(&self) -> Vec<u8> {
        let mut out = format!(
            "{{\"code\":{},\"language\":\"JAVA\",\"version\":{},\"opaque\":{},\"flag\":{},\"extFields\":{{",
            self.code, self.version, self.opaque, self.flag
        )
        .into_bytes();
        for (n, (name, value)) in self.fields.iter().enumerate() {
            if n > 0 {
                out.push(b',');
            }
            quote(name, &mut out);
            out.push(b':');
            quote(value, &mut out);
        }
        out.extend_from_slice(b"},\"serializeTypeCurrentRPC\":\"JSON\"}");
        out
    }

    fn binary(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&(self.code as i16).to_be_bytes());
        out.push(0);
        out.extend_from_slice(&(self.version as i16).to_be_bytes());
        out.extend_from_slice(&self.opaque.to_be_bytes());
        out.extend_from_slice(&self.flag.to_be_bytes());
        out.extend_from_slice(&[0; 4]);
        let mut fields = Vec::new();
        for (name, value) in &self.fields {
            fields.extend_from_slice(&(name.len() as u16).to_be_bytes());
            fields.extend_from_slice(name);
            fields.extend_from_slice(&(value.len() as u32).to_be_bytes());
            fields.extend_from_slice(value);
        }
        out.extend_from_slice(&(fields.len() as u32).to_be_bytes());
        out.extend_from_slice(&fields);
        out
    }

    /// Appends the frame.
    pub fn write(&self, out: &mut Vec<u8>) {
        let header = match self.binary {
            true => self.binary(),
            false => self.json(),
        };
        let total = (4 + header.len() + self.body.len()) as u32;
        out.extend_from_slice(&total.to_be_bytes());
        out.extend_from_slice(&(u32::from(self.binary) << 24 | header.len() as u32).to_be_bytes());
        out.extend_from_slice(&header);
        out.extend_from_slice(&self.body);
    }
}

/// A JSON string; bytes that are not UTF-8 go as they are.
fn quote(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in bytes {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            0..0x20 => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(*byte),
        }
    }
    out.push(b'"');
}

/// What a spoiled frame does to its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoiled {
    /// It may be answered.
    Whole,
    /// Nothing after it can be understood.
    Over,
}

/// Breaks the frame that begins at `start`.
pub fn spoil(frame: &mut Vec<u8>, start: usize, random: &mut Random) -> Spoiled {
    let put = |frame: &mut Vec<u8>, at: usize, value: u32| {
        frame[start + at..start + at + 4].copy_from_slice(&value.to_be_bytes());
    };
    let len = frame.len() - start;
    match random.below(12) {
        0 => put(
            frame,
            0,
            [0, 1, 3, 0x7fff_ffff, 0x8000_0000, u32::MAX][random.below(6)],
        ),
        1 => put(
            frame,
            0,
            (len as u32).wrapping_add(random.below(2_000) as u32),
        ),
        2 => put(frame, 4, 0x00ff_ffff),
        3 => frame[start + 4] = 2 + random.below(253) as u8,
        4 => put(frame, 4, random.draw() as u32),
        5 => frame.truncate(start + 1 + random.below(len - 1)),
        6 => {
            frame.truncate(start);
            frame.extend_from_slice(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03");
        }
        7 => {
            frame.truncate(start);
            frame.extend_from_slice(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        }
        8 => {
            frame.truncate(start);
            frame.extend_from_slice(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
        }
        9 => {
            frame.truncate(start);
            let size = 8 + random.below(3_000);
            frame.extend((0..size).map(|_| random.draw() as u8));
        }
        // The other codec's header under this one's name.
        10 => frame[start + 4] ^= 1,
        _ => {
            for _ in 0..1 + random.below(4) {
                let at = start + 8 + random.below(len.saturating_sub(8));
                if let Some(byte) = frame.get_mut(at) {
                    *byte = random.draw() as u8;
                }
            }
            return Spoiled::Whole;
        }
    }
    Spoiled::Over
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use raftmq_remoting::frame::decode_frame;

    use super::*;

    #[test]
    fn both_forms_are_what_the_servers_read() {
        for binary in [false, true] {
            let asked = Asked {
                code: 310,
                opaque: 7,
                flag: 2,
                version: 475,
                fields: vec![
                    (b"a".to_vec(), b"q\"\\\n\0".to_vec()),
                    (b"b".to_vec(), b"2".to_vec()),
                ],
                body: b"body".to_vec(),
                binary,
            };
            let mut frame = Vec::new();
            asked.write(&mut frame);
            let read = decode_frame(Bytes::from(frame[4..].to_vec())).unwrap();
            assert_eq!(
                (read.code, read.opaque, read.flag, read.version),
                (310, 7, 2, 475)
            );
            assert_eq!(read.ext.get("a"), Some("q\"\\\n\0"));
            assert_eq!(read.body.to_bytes(), "body");
        }
    }
}
