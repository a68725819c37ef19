//! Looking for a byte in short texts. Most names and values of a header have a dozen bytes: there `memchr`, which is made for
//! long ones, takes longer to start than to search.

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// The place of the first byte that is `a` or `b`.
#[inline]
pub(crate) fn first_of(a: u8, b: u8, bytes: &[u8]) -> Option<usize> {
    let (a_s, b_s) = (u64::from(a) * ONES, u64::from(b) * ONES);
    let (words, rest) = bytes.as_chunks::<8>();
    for (i, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let hits = zeros(word ^ a_s) | zeros(word ^ b_s);
        if hits != 0 {
            return Some(i * 8 + hits.trailing_zeros() as usize / 8);
        }
    }
    let at = rest.iter().position(|&byte| byte == a || byte == b)?;
    Some(words.len() * 8 + at)
}

/// The place of the first byte that is `a`.
#[inline]
pub(crate) fn first(a: u8, bytes: &[u8]) -> Option<usize> {
    first_of(a, a, bytes)
}

/// Marks the bytes that are zero, exactly up to the first one.
fn zeros(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGHS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_finds_what_a_loop_finds(bytes in proptest::collection::vec(prop_oneof![0u8..=4, 0x7Fu8..=0x82, 0xFEu8..=0xFF], 0..40), a in 0u8..=4, b in 0x7Fu8..=0x82) {
            prop_assert_eq!(first_of(a, b, &bytes), bytes.iter().position(|&x| x == a || x == b));
            prop_assert_eq!(first(b, &bytes), bytes.iter().position(|&x| x == b));
        }
    }
}
