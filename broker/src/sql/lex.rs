//! Tokens, made when they are asked for: what lies behind a complete expression is never looked at.

use super::SqlError;

/// One token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    /// Upper case.
    Word(&'static str),
    Name(String),
    Text(String),
    Decimal(String),
    Float(String),
    Sign(&'static str),
    End,
}

const WORDS: [&str; 12] = [
    "NOT",
    "AND",
    "OR",
    "BETWEEN",
    "IN",
    "TRUE",
    "FALSE",
    "NULL",
    "IS",
    "CONTAINS",
    "STARTSWITH",
    "ENDSWITH",
];
/// Longer ones first.
const SIGNS: [&str; 11] = ["<>", ">=", "<=", "=", ">", "<", "(", ")", ",", "+", "-"];

/// The first token of `text` and what follows it.
///
/// # Errors
/// No token begins there.
pub fn next(text: &str) -> Result<(Token, &str), SqlError> {
    let text = skip(text);
    let Some(first) = text.chars().next() else {
        return Ok((Token::End, text));
    };
    if first == '\'' {
        return quoted(text);
    }
    if let Some((token, length)) = number(text) {
        return Ok((token, &text[length..]));
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '$';
    if is_name(first) {
        let length = text.find(|c| !is_name(c)).unwrap_or(text.len());
        let (name, rest) = text.split_at(length);
        let word = WORDS.iter().find(|w| w.eq_ignore_ascii_case(name));
        let token = word.map_or_else(|| Token::Name(name.to_owned()), |w| Token::Word(w));
        return Ok((token, rest));
    }
    match SIGNS.iter().find(|sign| text.starts_with(**sign)) {
        Some(sign) => Ok((Token::Sign(sign), &text[sign.len()..])),
        None => Err(SqlError::new(format!("{first:?} begins nothing"))),
    }
}

/// Without spaces and comments at its start. A comment that does not end is none.
fn skip(mut text: &str) -> &str {
    loop {
        let rest = text.trim_start_matches([' ', '\t', '\n', '\r', '\u{c}']);
        let comment = if let Some(line) = rest.strip_prefix("--") {
            line.find(['\n', '\r']).map(|end| &line[end..])
        } else if let Some(block) = rest.strip_prefix("/*") {
            block.find("*/").map(|end| &block[end + 2..])
        } else {
            None
        };
        match comment {
            Some(behind) => text = behind,
            None => return rest,
        }
    }
}

/// `'it''s'`. The longest string that ends: where what begins with a doubled quote does not, the first of the two ends it.
fn quoted(text: &str) -> Result<(Token, &str), SqlError> {
    let mut value = String::new();
    let mut rest = &text[1..];
    let mut shorter = None;
    loop {
        let Some(end) = rest.find('\'') else {
            let (length, rest) = shorter.ok_or_else(|| SqlError::new("a string does not end"))?;
            value.truncate(length);
            return Ok((Token::Text(value), rest));
        };
        value.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('\'') {
            Some(behind) => {
                shorter = Some((value.len(), rest));
                value.push('\'');
                rest = behind;
            }
            None => return Ok((Token::Text(value), rest)),
        }
    }
}

/// The longest number at the start of `text`, and its length.
fn number(text: &str) -> Option<(Token, usize)> {
    let bytes = text.as_bytes();
    let digits = |from: usize| {
        let count = bytes.iter().skip(from).take_while(|b| b.is_ascii_digit());
        from + count.count()
    };
    let exponent = |at: usize| {
        let e = bytes.get(at).filter(|b| b.eq_ignore_ascii_case(&b'e'))?;
        let signed = matches!(bytes.get(at + 1), Some(b'+' | b'-'));
        let from = at + usize::from(e.is_ascii()) + usize::from(signed);
        Some(digits(from)).filter(|end| *end > from)
    };
    let whole = digits(0);
    let float = match (whole, bytes.get(whole)) {
        (_, Some(b'.')) => {
            let end = digits(whole + 1);
            // A point alone is no number.
            (whole > 0 || end > 1).then(|| exponent(end).unwrap_or(end))
        }
        (1.., _) => exponent(whole),
        _ => None,
    };
    if let Some(end) = float {
        return Some((Token::Float(text[..end].to_owned()), end));
    }
    match bytes.first()? {
        b'0' => Some((Token::Decimal("0".to_owned()), 1)),
        b'1'..=b'9' => {
            let suffixed = matches!(bytes.get(whole), Some(b'l' | b'L'));
            Some((
                Token::Decimal(text[..whole].to_owned()),
                whole + usize::from(suffixed),
            ))
        }
        _ => None,
    }
}
