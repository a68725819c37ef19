//! The extension fields of a command: RocketMQ's `extFields`, where the typed header travels as strings.
//!
//! The names and values of a decoded header are spans of its text, so that decoding allocates twice whatever the number of
//! fields. Fields set later go to a second string. Order is kept; a name occurs once.

use std::cell::Cell;
use std::fmt::{self, Write};
use std::ops::Range;

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

impl From<Range<usize>> for Span {
    fn from(range: Range<usize>) -> Self {
        Self {
            start: range.start as u32,
            len: range.len() as u32,
        }
    }
}

#[derive(Clone, Copy)]
struct Entry {
    key: Span,
    value: Span,
    mark: u64,
}

/// The first eight bytes of a name: tells most names apart without looking at their text, and short ones (the letters of the
/// send header) entirely.
const fn mark(name: &[u8]) -> u64 {
    let mut mark = 0;
    let mut i = 0;
    while i < name.len() && i < 8 {
        mark |= (name[i] as u64) << (8 * i);
        i += 1;
    }
    mark
}

/// [`mark`] of a name inside a longer text.
fn mark_at(text: &[u8], name: &Range<usize>) -> u64 {
    let Some(word) = text[name.start..].first_chunk::<8>() else {
        return mark(&text[name.clone()]);
    };
    let unwanted = 8 - name.len().min(8) as u32;
    u64::from_le_bytes(*word)
        .checked_shl(8 * unwanted)
        .map_or(0, |kept| kept >> (8 * unwanted))
}

/// The name of a header's field, with what it is found by.
#[derive(Clone, Copy)]
pub struct Name {
    text: &'static str,
    mark: u64,
}

impl Name {
    pub const fn new(text: &'static str) -> Self {
        let mark = mark(text.as_bytes());
        Self { text, mark }
    }

    pub const fn text(self) -> &'static str {
        self.text
    }
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
        self.find_from(0, key, mark(key.as_bytes()))
    }

    /// The place of `key`, looked for from `start` on and then before it.
    #[inline]
    fn find_from(&self, start: usize, key: &str, mark: u64) -> Option<usize> {
        let is = |e: &Entry| {
            e.mark == mark
                && e.key.len as usize == key.len()
                && (key.len() <= 8 || self.text(e.key) == key)
        };
        let start = start.min(self.entries.len());
        let (before, behind) = self.entries.split_at(start);
        let behind = behind.iter().position(is).map(|i| start + i);
        behind.or_else(|| before.iter().position(is))
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.find(key).map(|i| self.text(self.entries[i].value))
    }

    /// The value of `key` as a shared string: no copy when the field was decoded from a frame.
    pub fn get_shared(&self, key: &str) -> Option<ByteStr> {
        self.find(key).map(|i| self.shared_value(i))
    }

    fn shared_value(&self, i: usize) -> ByteStr {
        let value = self.entries[i].value;
        if value.start & OWN == 0 {
            let start = value.start as usize;
            self.shared.slice(start..start + value.len as usize)
        } else {
            ByteStr::from(self.text(value))
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

/// Reads fields one after the other: each is first looked for where the one before was, since most headers have them in order.
pub struct FieldsReader<'a> {
    ext: &'a ExtFields,
    last: Cell<usize>,
}

impl<'a> FieldsReader<'a> {
    pub fn new(ext: &'a ExtFields) -> Self {
        let last = Cell::new(0);
        Self { ext, last }
    }

    fn find(&self, name: Name) -> Option<usize> {
        let found = self.ext.find_from(self.last.get(), name.text, name.mark)?;
        self.last.set(found);
        Some(found)
    }

    /// As [`ExtFields::get`].
    pub fn get(&self, name: Name) -> Option<&'a str> {
        let i = self.find(name)?;
        Some(self.ext.text(self.ext.entries[i].value))
    }

    /// As [`ExtFields::get_shared`].
    pub fn get_shared(&self, name: Name) -> Option<ByteStr> {
        self.find(name).map(|i| self.ext.shared_value(i))
    }

    /// As [`ExtFields::contains`].
    pub fn contains(&self, name: Name) -> bool {
        self.find(name).is_some()
    }
}

/// Collects the fields of a header that is being decoded.
pub(crate) struct ExtBuilder {
    entries: Vec<Entry>,
    /// No name so far has a greater mark.
    highest: u64,
}

/// More than [`MAX_EXT_FIELDS`] fields.
#[derive(Debug)]
pub(crate) struct TooManyFields;

impl ExtBuilder {
    pub(crate) fn new() -> Self {
        Self {
            entries: Vec::with_capacity(16),
            highest: 0,
        }
    }

    /// Adds a field; `key` and `value` are places in `text`, below 2 GiB.
    pub(crate) fn add(
        &mut self,
        text: &[u8],
        key: Range<usize>,
        value: Range<usize>,
    ) -> Result<(), TooManyFields> {
        let mark = mark_at(text, &key);
        let name = &text[key.clone()];
        let (key, value) = (Span::from(key), Span::from(value));
        let known = if mark > self.highest {
            self.highest = mark;
            None
        } else {
            self.entries.iter().position(|e| {
                e.mark == mark
                    && e.key.len == key.len
                    && (key.len <= 8 || &text[e.key.start as usize..][..key.len as usize] == name)
            })
        };
        match known {
            Some(i) => self.entries[i].value = value,
            None if self.entries.len() == MAX_EXT_FIELDS => return Err(TooManyFields),
            None => self.entries.push(Entry { key, value, mark }),
        }
        Ok(())
    }

    /// The fields, whose places are in `text`.
    pub(crate) fn finish(self, text: ByteStr) -> ExtFields {
        ExtFields {
            shared: text,
            own: String::new(),
            entries: self.entries,
        }
    }
}
