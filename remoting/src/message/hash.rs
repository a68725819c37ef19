//! The hashes the protocol shares with Java: string hash codes, tag codes, body checksums.

/// Java's `String.hashCode`, over UTF-16 units.
pub fn java_hash(text: &str) -> i32 {
    let step = |hash: i32, unit: i32| hash.wrapping_mul(31).wrapping_add(unit);
    if text.is_ascii() {
        return text.bytes().fold(0, |hash, b| step(hash, i32::from(b)));
    }
    text.encode_utf16()
        .fold(0, |hash, unit| step(hash, i32::from(unit)))
}

/// The consume queue's tags code of a message: the hash of its tag, 0 without one.
pub fn tags_code(tags: Option<&str>) -> i64 {
    tags.map_or(0, |t| i64::from(java_hash(t)))
}

/// CRC-32 of a body without the top bit, as stored in a record.
pub fn body_crc(body: &[u8]) -> u32 {
    crc32fast::hash(body) & 0x7FFF_FFFF
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_java_s() {
        assert_eq!(java_hash(""), 0);
        assert_eq!(java_hash("TagA"), 2_598_919);
        assert_eq!(java_hash("polygenelubricants"), i32::MIN);
        assert_eq!(java_hash("\u{20AC}"), 8364);
        // Two UTF-16 units.
        assert_eq!(java_hash("\u{1F600}"), 0xD83D_i32 * 31 + 0xDE00);
        assert_eq!(tags_code(Some("polygenelubricants")), i64::from(i32::MIN));
        assert_eq!(tags_code(None), 0);
    }

    #[test]
    fn body_crc_has_31_bits() {
        assert_eq!(body_crc(b"123456789"), 0xCBF4_3926 & 0x7FFF_FFFF);
        assert_eq!(body_crc(b""), 0);
    }
}
