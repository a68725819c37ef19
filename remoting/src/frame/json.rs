//! The JSON header, written in the key order of Java peers and read leniently.
//!
//! Reading: unknown keys are skipped at any depth up to [`MAX_JSON_DEPTH`]; numbers and booleans among the extension
//! fields count as their text; nulls count as absent; numbers may come as strings. The header is copied once and strings are
//! unescaped in that copy, so that all of them are places in one text.

use std::ops::Range;

use bytes::Bytes;

use super::{FrameError, Head, MAX_JSON_DEPTH, Value};
use crate::bytestr::ByteStr;
use crate::command::{Body, LanguageCode, RemotingCommand, SerializeType};
use crate::ext::{ExtBuilder, ExtFields};
use crate::scan;

pub(super) fn encode<'a>(
    head: &Head<'_>,
    fields: impl ExactSizeIterator<Item = (&'a str, Value<'a>)>,
    out: &mut Vec<u8>,
) {
    out.reserve(384);
    out.extend_from_slice(b"{\"code\":");
    number(out, head.code);
    if fields.len() > 0 {
        let mut before: &[u8] = b",\"extFields\":{";
        for (name, value) in fields {
            out.extend_from_slice(before);
            string(out, name);
            out.push(b':');
            match value {
                Value::Text(text) => string(out, text),
                Value::Number(n) => {
                    out.push(b'"');
                    number(out, n);
                    out.push(b'"');
                }
            }
            before = b",";
        }
        out.push(b'}');
    }
    out.extend_from_slice(b",\"flag\":");
    number(out, head.flag);
    out.extend_from_slice(b",\"language\":\"");
    out.extend_from_slice(head.language.name().as_bytes());
    out.extend_from_slice(b"\",\"opaque\":");
    number(out, head.opaque);
    if let Some(remark) = head.remark {
        out.extend_from_slice(b",\"remark\":");
        string(out, remark);
    }
    out.extend_from_slice(b",\"serializeTypeCurrentRPC\":\"JSON\",\"version\":");
    number(out, head.version);
    out.push(b'}');
}

fn number(out: &mut Vec<u8>, n: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
}

fn string(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    out.push(b'"');
    // Looks at every byte, which is quicker than to stop early: it is done many at a time.
    if bytes.iter().fold(false, |any, &b| any | is_escaped(b)) {
        escaped(out, bytes);
    } else {
        out.extend_from_slice(bytes);
    }
    out.push(b'"');
}

fn is_escaped(b: u8) -> bool {
    (b < b' ') | (b == b'"') | (b == b'\\') | (b == 0x7F)
}

fn escaped(out: &mut Vec<u8>, bytes: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut plain = 0;
    for (i, &b) in bytes.iter().enumerate() {
        if !is_escaped(b) {
            continue;
        }
        out.extend_from_slice(&bytes[plain..i]);
        plain = i + 1;
        let escape = match b {
            b'"' => b'"',
            b'\\' => b'\\',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x08 => b'b',
            0x0C => b'f',
            _ => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]);
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', escape]);
    }
    out.extend_from_slice(&bytes[plain..]);
}

pub(super) fn decode(header: &[u8]) -> Result<RemotingCommand, FrameError> {
    let mut p = Parser {
        text: header.to_vec(),
        at: 0,
    };
    let mut cmd = RemotingCommand {
        code: 0,
        language: LanguageCode::Other,
        version: 0,
        opaque: 0,
        flag: 0,
        remark: None,
        ext: ExtFields::new(),
        body: Body::Empty,
        serialize: SerializeType::Json,
    };
    let mut first = true;
    let mut remark = None;
    let mut ext = None;
    p.expect(b'{')?;
    while p.next_key(&mut first)? {
        let key = p.string()?;
        p.expect(b':')?;
        match &p.text[key] {
            b"code" => cmd.code = p.int()?.unwrap_or_default(),
            b"version" => cmd.version = p.int()?.unwrap_or_default(),
            b"opaque" => cmd.opaque = p.int()?.unwrap_or_default(),
            b"flag" => cmd.flag = p.int()?.unwrap_or_default(),
            b"language" => cmd.language = p.language()?,
            b"remark" => remark = p.value()?,
            b"extFields" => ext = p.ext()?,
            _ => p.skip_value()?,
        }
    }
    p.white_space();
    if p.at != p.text.len() {
        return Err(p.error("text after the header"));
    }
    let text = ByteStr::from_utf8(Bytes::from(p.text)).map_err(|_| FrameError::NotUtf8)?;
    cmd.remark = remark.map(|place| text[place].to_owned());
    if let Some(ext) = ext {
        cmd.ext = ext.finish(text);
    }
    Ok(cmd)
}

struct Parser {
    /// What was read of it may be changed, to ASCII or to characters moved as a whole: it stays as good UTF-8 as it was.
    text: Vec<u8>,
    /// Only ever steps over ASCII or over whole runs between ASCII bytes.
    at: usize,
}

impl Parser {
    #[cold]
    fn error(&self, what: &'static str) -> FrameError {
        FrameError::Json { at: self.at, what }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn white_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, wanted: u8) -> Result<(), FrameError> {
        self.white_space();
        if self.peek() != Some(wanted) {
            return Err(self.error(match wanted {
                b'{' => "an object is wanted",
                b':' => "a colon is wanted",
                _ => "a string is wanted",
            }));
        }
        self.at += 1;
        Ok(())
    }

    /// Steps to the next member's key, or over the closing brace.
    fn next_key(&mut self, first: &mut bool) -> Result<bool, FrameError> {
        self.white_space();
        match self.peek() {
            Some(b'}') => {
                self.at += 1;
                return Ok(false);
            }
            Some(b',') if !*first => {
                self.at += 1;
                self.white_space();
                if self.peek() == Some(b'}') {
                    self.at += 1;
                    return Ok(false);
                }
            }
            _ if *first => {}
            _ => return Err(self.error("a comma or closing brace is wanted")),
        }
        *first = false;
        Ok(true)
    }

    /// Steps behind the next quote or backslash; its place, and whether it is a backslash.
    fn plain_run(&mut self) -> Result<(usize, bool), FrameError> {
        let Some(length) = scan::first_of(b'"', b'\\', &self.text[self.at..]) else {
            return Err(self.error("the string does not end"));
        };
        let end = self.at + length;
        self.at = end + 1;
        Ok((end, self.text[end] == b'\\'))
    }

    /// The string at the cursor: where its text is, now without escapes.
    fn string(&mut self) -> Result<Range<usize>, FrameError> {
        self.expect(b'"')?;
        let start = self.at;
        let (mut end, mut escaped) = self.plain_run()?;
        if !escaped {
            return Ok(start..end);
        }
        while escaped {
            // A character is never longer than its escape, so this stays behind the cursor.
            let c = self.escape()?;
            end += c.encode_utf8(&mut self.text[end..]).len();
            let from = self.at;
            let run_end;
            (run_end, escaped) = self.plain_run()?;
            self.text.copy_within(from..run_end, end);
            end += run_end - from;
        }
        // Nobody looks at what is left, but it must not be half of a character.
        self.text[end..self.at - 1].fill(b' ');
        Ok(start..end)
    }

    /// The character behind a backslash.
    fn escape(&mut self) -> Result<char, FrameError> {
        let plain = match self.peek() {
            Some(b'u') => {
                self.at += 1;
                return self.unicode();
            }
            Some(b'n') => '\n',
            Some(b't') => '\t',
            Some(b'r') => '\r',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'v') => '\u{b}',
            Some(b'0') => '\0',
            Some(c @ (b'"' | b'\\' | b'/' | b'\'')) => char::from(c),
            _ => return Err(self.error("unknown escape")),
        };
        self.at += 1;
        Ok(plain)
    }

    /// The character whose code is at the cursor; of two surrogates both.
    fn unicode(&mut self) -> Result<char, FrameError> {
        let unit = self.hex4()?;
        let c = match unit {
            0xD800..=0xDBFF if self.text[self.at..].starts_with(b"\\u") => {
                let rewind = self.at;
                self.at += 2;
                let low = self.hex4()?;
                if (0xDC00..=0xDFFF).contains(&low) {
                    char::from_u32(0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00))
                } else {
                    self.at = rewind;
                    None
                }
            }
            _ => char::from_u32(unit),
        };
        // A lone surrogate is not a character: Java would write it as '?', the replacement mark says as much.
        Ok(c.unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn hex4(&mut self) -> Result<u32, FrameError> {
        let Some(digits) = self.text[self.at..].first_chunk::<4>() else {
            return Err(self.error("a short \\u escape"));
        };
        let mut unit = 0;
        for &d in digits {
            let value = char::from(d)
                .to_digit(16)
                .ok_or_else(|| self.error("a bad \\u escape"))?;
            unit = unit << 4 | value;
        }
        self.at += 4;
        Ok(unit)
    }

    /// A number, `true`, `false` or `null`.
    fn bare_word(&mut self) -> Result<Range<usize>, FrameError> {
        self.white_space();
        let start = self.at;
        while matches!(
            self.peek(),
            Some(b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'+' | b'.')
        ) {
            self.at += 1;
        }
        if start == self.at {
            Err(self.error("a value is wanted"))
        } else {
            Ok(start..self.at)
        }
    }

    /// Where a value's text is; none for null. Objects and arrays count as their JSON text.
    fn value(&mut self) -> Result<Option<Range<usize>>, FrameError> {
        self.white_space();
        match self.peek() {
            Some(b'"') => self.string().map(Some),
            Some(b'{' | b'[') => {
                let start = self.at;
                self.skip_value()?;
                Ok(Some(start..self.at))
            }
            _ => {
                let word = self.bare_word()?;
                Ok((self.text[word.clone()] != *b"null").then_some(word))
            }
        }
    }

    fn int(&mut self) -> Result<Option<i32>, FrameError> {
        self.white_space();
        let quoted = self.peek() == Some(b'"');
        let place = if quoted {
            self.string()?
        } else {
            self.bare_word()?
        };
        let text = &self.text[place];
        if text == b"null" && !quoted {
            return Ok(None);
        }
        let text = std::str::from_utf8(text).unwrap_or_default();
        match text.trim().parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(self.error("a 32-bit number is wanted")),
        }
    }

    fn language(&mut self) -> Result<LanguageCode, FrameError> {
        let text = match self.value()? {
            Some(place) => std::str::from_utf8(&self.text[place]).unwrap_or_default(),
            None => "null",
        };
        Ok(match text.parse::<u8>() {
            Ok(ordinal) => LanguageCode::from_ordinal(ordinal),
            Err(_) => LanguageCode::from_name(text),
        })
    }

    fn ext(&mut self) -> Result<Option<ExtBuilder>, FrameError> {
        self.white_space();
        if self.peek() != Some(b'{') {
            let word = self.bare_word()?;
            return if self.text[word] == *b"null" {
                Ok(None)
            } else {
                Err(self.error("an object is wanted"))
            };
        }
        self.at += 1;
        let mut ext = ExtBuilder::new();
        let mut first = true;
        while self.next_key(&mut first)? {
            let key = self.string()?;
            self.expect(b':')?;
            if let Some(value) = self.value()? {
                ext.add(&self.text, key, value)?;
            }
        }
        Ok(Some(ext))
    }

    /// Steps over one value of any kind, without recursion.
    fn skip_value(&mut self) -> Result<(), FrameError> {
        let mut depth = 0usize;
        loop {
            self.white_space();
            match self.peek() {
                None => return Err(self.error("the value does not end")),
                Some(b'{' | b'[') => {
                    depth += 1;
                    if depth > MAX_JSON_DEPTH {
                        return Err(FrameError::TooDeep);
                    }
                    self.at += 1;
                    continue;
                }
                Some(b'}' | b']') if depth > 0 => {
                    depth -= 1;
                    self.at += 1;
                }
                Some(b',' | b':') if depth > 0 => {
                    self.at += 1;
                    continue;
                }
                Some(b'"') => self.skip_string()?,
                Some(_) => {
                    self.bare_word()?;
                }
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }

    fn skip_string(&mut self) -> Result<(), FrameError> {
        self.at += 1;
        loop {
            match self.peek() {
                None => return Err(self.error("the string does not end")),
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                // The escaped byte is ASCII or the start of a character whose other bytes are no quote.
                Some(b'\\') => self.at += 2,
                Some(_) => self.at += 1,
            }
        }
    }
}
