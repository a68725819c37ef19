//! The extension fields of a command: RocketMQ's `extFields`, where the typed header travels as strings.
//!
//! All names and values of a decoded header lie in one string and are addressed by spans, so that decoding allocates
//! twice whatever the number of fields. Fields set later go to a second string. Order is kept; a name occurs once.

use std::fmt::{self, Write};

use crate::bytestr::ByteStr;

/// A header with more fields is refused: the largest stock header has about thirty, and looking a field up is linear.
pub const MAX_EXT_FIELDS: usize = 1024;

/// Marks a span that lies in `own` and not in `shared`. Frames are limited to 16 MiB, far below this bit.
const OWN: u32 = 1 << 31;

#[derive(Clone, Copy)]
struct Span {
    start: u32,
    len: u32,
}

#[derive(Clone, Copy)]
struct Entry {
    key: Span,
    value: Span,
    mark: u64,
}

/// The first eight bytes of a name: tells most names apart without looking at their text, and short ones (the letters of the
/// send header) entirely.
fn mark(name: &[u8]) -> u64 {
    let mut first = [0; 8];
    let n = name.len().min(8);
    first[..n].copy_from_slice(&name[..n]);
    u64::from_le_bytes(first)
}

/// Ordered name/value pairs of one command.
#[derive(Clone, Default)]
pub struct ExtFields {
    shared: ByteStr,
    own: String,
    entries: Vec<Entry>,
}

impl ExtFields {
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes room for fields that are set next, `text` bytes of names and values together.
    pub fn reserve(&mut self, fields: usize, text: usize) {
        self.entries.reserve(fields);
        self.own.reserve(text);
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn text(&self, span: Span) -> &str {
        let start = (span.start & !OWN) as usize;
        let range = start..start + span.len as usize;
        if span.start & OWN == 0 {
            &self.shared[range]
        } else {
            &self.own[range]
        }
    }

    fn find(&self, key: &str) -> Option<usize> {
        let mark = mark(key.as_bytes());
        self.entries.iter().position(|e| {
            e.mark == mark
                && e.key.len as usize == key.len()
                && (key.len() <= 8 || self.text(e.key) == key)
        })
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.find(key).map(|i| self.text(self.entries[i].value))
    }

    /// The value of `key` as a shared string: no copy when the field was decoded from a frame.
    pub fn get_shared(&self, key: &str) -> Option<ByteStr> {
        let value = self.entries[self.find(key)?].value;
        if value.start & OWN == 0 {
            let start = value.start as usize;
            Some(self.shared.slice(start..start + value.len as usize))
        } else {
            Some(ByteStr::from(self.text(value)))
        }
    }

    pub fn contains(&self, key: &str) -> bool {
        self.find(key).is_some()
    }

    fn append(&mut self, value: impl fmt::Display) -> Span {
        let start = self.own.len();
        // Writing to a String cannot fail; a Display that reports an error leaves a shorter value.
        let _ = write!(self.own, "{value}");
        Span {
            start: start as u32 | OWN,
            len: (self.own.len() - start) as u32,
        }
    }

    fn append_str(&mut self, value: &str) -> Span {
        let start = self.own.len();
        self.own.push_str(value);
        Span {
            start: start as u32 | OWN,
            len: value.len() as u32,
        }
    }

    fn put(&mut self, key: &str, value: Span) {
        match self.find(key) {
            Some(i) => self.entries[i].value = value,
            None => {
                let mark = mark(key.as_bytes());
                let key = self.append_str(key);
                self.entries.push(Entry { key, value, mark });
            }
        }
    }

    /// Sets `key`, replacing an older value.
    pub fn set(&mut self, key: &str, value: impl AsRef<str>) {
        let value = self.append_str(value.as_ref());
        self.put(key, value);
    }

    /// Sets `key` to the digits of a whole number.
    pub fn set_integer(&mut self, key: &str, value: impl itoa::Integer) {
        self.set(key, itoa::Buffer::new().format(value));
    }

    /// Sets `key` to the text of any displayable value.
    pub fn set_display(&mut self, key: &str, value: impl fmt::Display) {
        let value = self.append(value);
        self.put(key, value);
    }

    /// Removes `key` and returns its value.
    pub fn remove(&mut self, key: &str) -> Option<String> {
        let entry = self.entries.remove(self.find(key)?);
        Some(self.text(entry.value).to_owned())
    }

    /// The pairs in wire order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.entries
            .iter()
            .map(|e| (self.text(e.key), self.text(e.value)))
    }
}

impl PartialEq for ExtFields {
    /// Equal when the same names have the same values, whatever their order.
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().all(|(k, v)| other.get(k) == Some(v))
    }
}

impl fmt::Debug for ExtFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K: AsRef<str>, V: AsRef<str>> FromIterator<(K, V)> for ExtFields {
    fn from_iter<T: IntoIterator<Item = (K, V)>>(iter: T) -> Self {
        let mut ext = Self::new();
        for (k, v) in iter {
            ext.set(k.as_ref(), v);
        }
        ext
    }
}

/// Collects the fields of a header that is being decoded.
pub(crate) struct ExtBuilder {
    text: String,
    entries: Vec<Entry>,
}

/// More than [`MAX_EXT_FIELDS`] fields.
#[derive(Debug)]
pub(crate) struct TooManyFields;

impl ExtBuilder {
    /// `text` bounds the bytes of all names and values together.
    pub(crate) fn with_capacity(text: usize) -> Self {
        Self {
            text: String::with_capacity(text),
            entries: Vec::with_capacity(16),
        }
    }

    /// Adds a field whose name and value `write` appends to the string one after the other, returning where the name ends.
    pub(crate) fn add<E: From<TooManyFields>>(
        &mut self,
        write: impl FnOnce(&mut String) -> Result<Option<usize>, E>,
    ) -> Result<(), E> {
        let start = self.text.len();
        let Some(middle) = write(&mut self.text)? else {
            self.text.truncate(start);
            return Ok(());
        };
        let key = Span {
            start: start as u32,
            len: (middle - start) as u32,
        };
        let value = Span {
            start: middle as u32,
            len: (self.text.len() - middle) as u32,
        };
        let name = &self.text.as_bytes()[start..middle];
        let mark = mark(name);
        let same = self.entries.iter().position(|e| {
            e.mark == mark
                && e.key.len == key.len
                && (key.len <= 8
                    || &self.text.as_bytes()[e.key.start as usize..][..key.len as usize] == name)
        });
        match same {
            Some(i) => self.entries[i].value = value,
            None if self.entries.len() == MAX_EXT_FIELDS => return Err(TooManyFields.into()),
            None => self.entries.push(Entry { key, value, mark }),
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> ExtFields {
        ExtFields {
            shared: ByteStr::from(self.text),
            own: String::new(),
            entries: self.entries,
        }
    }
}
