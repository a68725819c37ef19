//! Answers, as far as they matter here: the header's text is searched, not parsed. What looks unusual goes to the real decoder.

use bytes::Bytes;
use memchr::memmem::Finder;
use raftmq_remoting::frame::decode_frame;

/// Bit 0 of the flag: a response.
const RESPONSE: i64 = 1;
/// Where a binary header has its opaque and its flag.
const BINARY_OPAQUE: usize = 5;
const BINARY_FLAG: usize = 9;
/// Characters of a remark that are told.
const SHOWN_REMARK: usize = 120;

/// One answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    pub code: i32,
    pub opaque: i32,
    /// Of a pull: where to go on.
    pub next_offset: Option<i64>,
    pub body: &'a [u8],
    frame: &'a [u8],
}

impl Answer<'_> {
    /// Code and remark, for who looks at what went wrong.
    pub fn what(&self) -> String {
        let command = decode_frame(Bytes::copy_from_slice(self.frame)).ok();
        match command.and_then(|c| c.remark) {
            Some(remark) => {
                let remark: String = remark.chars().take(SHOWN_REMARK).collect();
                format!("code {}, {remark}", self.code)
            }
            None => format!("code {}", self.code),
        }
    }
}

/// Reads answers.
pub struct Reader {
    code: Finder<'static>,
    opaque: Finder<'static>,
    flag: Finder<'static>,
    next_offset: Finder<'static>,
    binary_next_offset: Finder<'static>,
    /// Whether anybody wants to know [`Answer::next_offset`].
    pulls: bool,
}

impl Reader {
    /// With `pulls`, [`Answer::next_offset`] is looked for.
    pub fn new(pulls: bool) -> Self {
        // A quotation mark inside a JSON text is escaped, so that these match keys only.
        Self {
            code: Finder::new("\"code\":"),
            opaque: Finder::new("\"opaque\":"),
            flag: Finder::new("\"flag\":"),
            next_offset: Finder::new("\"nextBeginOffset\":\""),
            binary_next_offset: Finder::new("nextBeginOffset\0\0\0"),
            pulls,
        }
    }

    /// The answer in a frame; None for anything else.
    pub fn read<'a>(&self, frame: &'a [u8]) -> Option<Answer<'a>> {
        let (marked, rest) = frame.split_first_chunk::<4>()?;
        let [serialize, length @ ..] = *marked;
        let length = u32::from_be_bytes([0, length[0], length[1], length[2]]) as usize;
        let (header, body) = rest.split_at_checked(length)?;
        let found = match serialize {
            0 => self.json(header, body, frame),
            1 => self.binary(header, body, frame),
            _ => None,
        };
        found.or_else(|| self.decoded(frame, body))
    }

    fn json<'a>(&self, header: &[u8], body: &'a [u8], frame: &'a [u8]) -> Option<Answer<'a>> {
        let after = |finder: &Finder<'_>| {
            let at = finder.find(header)? + finder.needle().len();
            number(&header[at..])
        };
        if after(&self.flag)? & RESPONSE == 0 {
            return None;
        }
        Some(Answer {
            code: after(&self.code)?.try_into().ok()?,
            opaque: after(&self.opaque)?.try_into().ok()?,
            next_offset: self.pulls.then(|| after(&self.next_offset)).flatten(),
            body,
            frame,
        })
    }

    fn binary<'a>(&self, header: &[u8], body: &'a [u8], frame: &'a [u8]) -> Option<Answer<'a>> {
        let int = |at: usize| Some(i32::from_be_bytes(*header.get(at..)?.first_chunk()?));
        if i64::from(int(BINARY_FLAG)?) & RESPONSE == 0 {
            return None;
        }
        let next_offset = || {
            let finder = &self.binary_next_offset;
            let (length, value) =
                header[finder.find(header)? + finder.needle().len()..].split_first()?;
            number(value.get(..usize::from(*length))?)
        };
        Some(Answer {
            code: i16::from_be_bytes(*header.first_chunk()?).into(),
            opaque: int(BINARY_OPAQUE)?,
            next_offset: self.pulls.then(next_offset).flatten(),
            body,
            frame,
        })
    }

    fn decoded<'a>(&self, frame: &'a [u8], body: &'a [u8]) -> Option<Answer<'a>> {
        let command = decode_frame(Bytes::copy_from_slice(frame)).ok()?;
        command.is_response().then(|| Answer {
            code: command.code,
            opaque: command.opaque,
            next_offset: command
                .ext
                .get("nextBeginOffset")
                .and_then(|offset| offset.parse().ok()),
            body,
            frame,
        })
    }
}

/// The number that a text begins with.
fn number(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let mut value = None;
    for digit in digits.iter().take_while(|b| b.is_ascii_digit()) {
        let so_far = value.unwrap_or(0_i64).checked_mul(10)?;
        value = Some(so_far.checked_add(i64::from(digit - b'0'))?);
    }
    value.map(|v| if negative { -v } else { v })
}

#[cfg(test)]
mod tests {
    use raftmq_remoting::frame::encode;
    use raftmq_remoting::{RemotingCommand, SerializeType};

    use super::*;

    fn frame(serialize: SerializeType, command: RemotingCommand) -> Vec<u8> {
        let mut out = Vec::new();
        let command = RemotingCommand {
            serialize,
            ..command
        };
        encode(&command, &mut out).unwrap();
        out[4..].to_vec()
    }

    #[test]
    fn both_forms_are_read() {
        for serialize in [SerializeType::Json, SerializeType::RocketMq] {
            let mut command = RemotingCommand::response(21)
                .with_remark("\"code\":5,\"opaque\":6 }")
                .with_ext("minOffset", "3")
                .with_ext("nextBeginOffset", "-77")
                .with_body("body");
            command.opaque = 1_234_567_890;
            let frame = frame(serialize, command);
            let wanted = |next_offset| Answer {
                code: 21,
                opaque: 1_234_567_890,
                next_offset,
                body: b"body",
                frame: &frame,
            };
            assert_eq!(wanted(None).what(), "code 21, \"code\":5,\"opaque\":6 }");
            assert_eq!(Reader::new(true).read(&frame), Some(wanted(Some(-77))));
            assert_eq!(Reader::new(false).read(&frame), Some(wanted(None)));
        }
    }

    #[test]
    fn what_is_no_answer_is_left_alone() {
        for serialize in [SerializeType::Json, SerializeType::RocketMq] {
            let request = frame(serialize, RemotingCommand::request(40));
            assert_eq!(Reader::new(true).read(&request), None);
        }
        assert_eq!(Reader::new(true).read(&[0, 0, 0, 9, b'{']), None);
        assert_eq!(Reader::new(true).read(b"abc"), None);
    }

    #[test]
    fn an_unusual_header_is_decoded() {
        let header =
            br#"{ "flag" : 1, "opaque" : "7", "code" : 0, "extFields":{"nextBeginOffset":"8"}}"#;
        let mut bytes = vec![0, 0, 0, header.len() as u8];
        bytes.extend_from_slice(header);
        let answer = Reader::new(true).read(&bytes).unwrap();
        assert_eq!(
            (answer.code, answer.opaque, answer.next_offset),
            (0, 7, Some(8))
        );
    }
}
