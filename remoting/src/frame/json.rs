//! The JSON header, written in the key order of Java peers and read leniently.
//!
//! Reading: unknown keys are skipped at any depth up to [`MAX_JSON_DEPTH`]; numbers and booleans among the extension
//! fields count as their text; nulls count as absent; numbers may come as strings.

use std::borrow::Cow;

use bytes::BytesMut;

use super::{FrameError, MAX_JSON_DEPTH};
use crate::command::{Body, LanguageCode, RemotingCommand, SerializeType};
use crate::ext::{ExtBuilder, ExtFields};

pub(super) fn encode(cmd: &RemotingCommand, out: &mut BytesMut) {
    out.reserve(128);
    out.extend_from_slice(b"{\"code\":");
    number(out, cmd.code);
    if !cmd.ext.is_empty() {
        out.extend_from_slice(b",\"extFields\":{");
        for (i, (key, value)) in cmd.ext.iter().enumerate() {
            if i > 0 {
                out.extend_from_slice(b",");
            }
            string(out, key);
            out.extend_from_slice(b":");
            string(out, value);
        }
        out.extend_from_slice(b"}");
    }
    out.extend_from_slice(b",\"flag\":");
    number(out, cmd.flag);
    out.extend_from_slice(b",\"language\":\"");
    out.extend_from_slice(cmd.language.name().as_bytes());
    out.extend_from_slice(b"\",\"opaque\":");
    number(out, cmd.opaque);
    if let Some(remark) = &cmd.remark {
        out.extend_from_slice(b",\"remark\":");
        string(out, remark);
    }
    out.extend_from_slice(b",\"serializeTypeCurrentRPC\":\"JSON\",\"version\":");
    number(out, cmd.version);
    out.extend_from_slice(b"}");
}

fn number(out: &mut BytesMut, n: i32) {
    out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
}

fn string(out: &mut BytesMut, text: &str) {
    out.extend_from_slice(b"\"");
    let bytes = text.as_bytes();
    let mut plain = 0;
    for (i, &b) in bytes.iter().enumerate() {
        if b >= b' ' && b != b'"' && b != b'\\' && b != 0x7F {
            continue;
        }
        let escape = match b {
            b'"' => b'"',
            b'\\' => b'\\',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x08 => b'b',
            0x0C => b'f',
            _ => 0,
        };
        out.extend_from_slice(&bytes[plain..i]);
        plain = i + 1;
        if escape != 0 {
            out.extend_from_slice(&[b'\\', escape]);
        } else {
            const HEX: &[u8; 16] = b"0123456789ABCDEF";
            out.extend_from_slice(&[
                b'\\',
                b'u',
                b'0',
                b'0',
                HEX[usize::from(b >> 4)],
                HEX[usize::from(b & 15)],
            ]);
        }
    }
    out.extend_from_slice(&bytes[plain..]);
    out.extend_from_slice(b"\"");
}

pub(super) fn decode(header: &[u8]) -> Result<RemotingCommand, FrameError> {
    let text = std::str::from_utf8(header).map_err(|_| FrameError::NotUtf8)?;
    let mut p = Parser { text, at: 0 };
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
    p.expect(b'{')?;
    while p.next_key(&mut first)? {
        let key = p.string()?;
        p.expect(b':')?;
        match &*key {
            "code" => cmd.code = p.int()?.unwrap_or_default(),
            "version" => cmd.version = p.int()?.unwrap_or_default(),
            "opaque" => cmd.opaque = p.int()?.unwrap_or_default(),
            "flag" => cmd.flag = p.int()?.unwrap_or_default(),
            "language" => cmd.language = p.language()?,
            "remark" => {
                let mut remark = String::new();
                cmd.remark = p.text_into(&mut remark)?.then_some(remark);
            }
            "extFields" => cmd.ext = p.ext()?,
            _ => p.skip_value()?,
        }
    }
    p.white_space();
    if p.at != text.len() {
        return Err(p.error("text after the header"));
    }
    Ok(cmd)
}

struct Parser<'a> {
    text: &'a str,
    /// Always at a character boundary: it only ever steps over ASCII or over whole runs between ASCII bytes.
    at: usize,
}

impl<'a> Parser<'a> {
    fn error(&self, what: &'static str) -> FrameError {
        FrameError::Json { at: self.at, what }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
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

    /// The text up to the next quote or backslash, and whether it is a backslash; the cursor goes behind it.
    fn plain_run(&mut self) -> Result<(&'a str, bool), FrameError> {
        let start = self.at;
        let rest = &self.text.as_bytes()[start..];
        let Some(length) = memchr::memchr2(b'"', b'\\', rest) else {
            return Err(self.error("the string does not end"));
        };
        self.at = start + length + 1;
        Ok((&self.text[start..start + length], rest[length] == b'\\'))
    }

    /// The string at the cursor; borrowed unless something in it is escaped.
    fn string(&mut self) -> Result<Cow<'a, str>, FrameError> {
        self.expect(b'"')?;
        let (mut run, mut escaped) = self.plain_run()?;
        if !escaped {
            return Ok(Cow::Borrowed(run));
        }
        let mut out = String::new();
        loop {
            out.push_str(run);
            if !escaped {
                return Ok(Cow::Owned(out));
            }
            self.escape(&mut out)?;
            (run, escaped) = self.plain_run()?;
        }
    }

    /// Appends the string at the cursor to `out`.
    fn string_into(&mut self, out: &mut String) -> Result<(), FrameError> {
        self.expect(b'"')?;
        loop {
            let (run, escaped) = self.plain_run()?;
            out.push_str(run);
            if !escaped {
                return Ok(());
            }
            self.escape(out)?;
        }
    }

    fn escape(&mut self, out: &mut String) -> Result<(), FrameError> {
        let plain = match self.peek() {
            Some(b'n') => '\n',
            Some(b't') => '\t',
            Some(b'r') => '\r',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'v') => '\u{b}',
            Some(b'0') => '\0',
            Some(c @ (b'"' | b'\\' | b'/' | b'\'')) => char::from(c),
            Some(b'u') => {
                self.at += 1;
                let unit = self.hex4()?;
                let c = match unit {
                    0xD800..=0xDBFF if self.text.as_bytes()[self.at..].starts_with(b"\\u") => {
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
                out.push(c.unwrap_or(char::REPLACEMENT_CHARACTER));
                return Ok(());
            }
            _ => return Err(self.error("unknown escape")),
        };
        self.at += 1;
        out.push(plain);
        Ok(())
    }

    fn hex4(&mut self) -> Result<u32, FrameError> {
        let digits = self
            .text
            .as_bytes()
            .get(self.at..self.at + 4)
            .ok_or_else(|| self.error("a short \\u escape"))?;
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

    /// The text of a number, `true`, `false` or `null`.
    fn bare_word(&mut self) -> Result<&'a str, FrameError> {
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
            Ok(&self.text[start..self.at])
        }
    }

    /// Appends a value's text; false for null. Objects and arrays count as their JSON text.
    fn text_into(&mut self, out: &mut String) -> Result<bool, FrameError> {
        self.white_space();
        match self.peek() {
            Some(b'"') => self.string_into(out)?,
            Some(b'{' | b'[') => {
                let start = self.at;
                self.skip_value()?;
                out.push_str(&self.text[start..self.at]);
            }
            _ => match self.bare_word()? {
                "null" => return Ok(false),
                word => out.push_str(word),
            },
        }
        Ok(true)
    }

    fn int(&mut self) -> Result<Option<i32>, FrameError> {
        self.white_space();
        if self.peek() == Some(b'"') {
            return self
                .string()?
                .trim()
                .parse()
                .map(Some)
                .map_err(|_| self.error("a number is wanted"));
        }
        match self.bare_word()? {
            "null" => Ok(None),
            word => word
                .parse()
                .map(Some)
                .map_err(|_| self.error("a 32-bit number is wanted")),
        }
    }

    fn language(&mut self) -> Result<LanguageCode, FrameError> {
        self.white_space();
        let text = match self.peek() {
            Some(b'"') => self.string()?,
            Some(b'{' | b'[') => {
                self.skip_value()?;
                return Ok(LanguageCode::Other);
            }
            _ => Cow::Borrowed(self.bare_word()?),
        };
        Ok(match text.parse::<u8>() {
            Ok(ordinal) => LanguageCode::from_ordinal(ordinal),
            Err(_) => LanguageCode::from_name(&text),
        })
    }

    fn ext(&mut self) -> Result<ExtFields, FrameError> {
        self.white_space();
        if self.peek() != Some(b'{') {
            let word = self.bare_word()?;
            return if word == "null" {
                Ok(ExtFields::new())
            } else {
                Err(self.error("an object is wanted"))
            };
        }
        self.at += 1;
        let mut ext = ExtBuilder::with_capacity(self.text.len() - self.at);
        let mut first = true;
        while self.next_key(&mut first)? {
            ext.add(|text| {
                self.string_into(text)?;
                let middle = text.len();
                self.expect(b':')?;
                Ok::<_, FrameError>(self.text_into(text)?.then_some(middle))
            })?;
        }
        Ok(ext.finish())
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
                Some(_) => drop(self.bare_word()?),
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
