//! Messages of a run: a number each, unique, made of its sender and how many that one sent before; small, for histories hold millions.

/// Senders of a run, at most.
pub const MOST_SENDERS: u64 = 1024;

/// The `number`th message of `sender`.
pub fn of(sender: u32, number: u64) -> u64 {
    number * MOST_SENDERS + u64::from(sender) % MOST_SENDERS
}

/// Who sent it.
pub fn sender(value: u64) -> u32 {
    u32::try_from(value % MOST_SENDERS).unwrap_or(0)
}

/// How many its sender sent before.
pub fn number(value: u64) -> u64 {
    value / MOST_SENDERS
}

/// A body of at least `size` bytes.
pub fn body(value: u64, size: usize) -> Vec<u8> {
    let mut body = value.to_string().into_bytes();
    body.push(b' ');
    body.resize(body.len().max(size), b'.');
    body
}

/// The inverse of [`body`]; None for a message that nobody here sent.
pub fn of_body(body: &[u8]) -> Option<u64> {
    let text = body.split(|b| *b == b' ').next()?;
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_says_who_and_which() {
        let value = of(7, 12);
        assert_eq!((sender(value), number(value)), (7, 12));
        assert_eq!(of_body(&body(value, 64)), Some(value));
        assert_eq!(body(value, 64).len(), 64);
        assert_eq!(of_body(b"something else"), None);
    }
}
