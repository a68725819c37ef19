//! The text of a settings file or request before a parser of properties sees it.
//!
//! Java reads such text as ISO 8859-1. The parser looks for a byte order mark first, and ends the process on a text that breaks
//! off within one, so it gets ASCII alone: every other byte as the escape that means it.

/// The text with every byte outside of ASCII as `\u00XX`.
pub fn ascii(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for byte in text {
        match byte.is_ascii() {
            true => out.push(*byte),
            false => out.extend_from_slice(format!("\\u00{byte:02x}").as_bytes()),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_ascii_is_escaped() {
        assert_eq!(ascii(b"a=b\n"), b"a=b\n");
        assert_eq!(ascii(b"\xef\xbb"), b"\\u00ef\\u00bb");
        assert_eq!(ascii("k=\u{e9}".as_bytes()), b"k=\\u00c3\\u00a9");
    }
}
